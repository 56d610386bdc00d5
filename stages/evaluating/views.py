"""The images and masks that predictions are compared on: whole or a central crop, as stored or at their own size."""

import numpy as np

from stages.artifacts.dataset import Dataset
from stages.pixels.grids import Size
from stages.pixels.resize import centre_crop, resize_image, resize_mask, short_side_size
from stages.runtime.errors import BadInput
from stages.settings.common import EvaluationSize


class EvaluationView:
    """Images and masks of a ``split`` that has masks, ``at`` a size, whole or as a central square of side ``crop``.

    The square is the centre of the image resized so that its shorter side is ``crop``: images bilinearly, masks by the
    nearest pixel (multi_class_query.md 10). Raises BadInput if the split is not kept at that size.
    """

    def __init__(self, data: Dataset, split: str, at: EvaluationSize = "dataset", crop: int | None = None):
        self.data, self.crop = data, crop
        self.ids = data.ids(split)
        self.kept_apart = at == "original" and (data.is_resized or bool(data.evaluation_sizes))
        fault = evaluation_size_fault(data, split) if self.kept_apart else None
        if fault is not None:
            raise BadInput(fault)
        sizes = data.evaluation_sizes if self.kept_apart else data.sizes
        self.sizes = {image: sizes[image] if crop is None else (crop, crop) for image in self.ids}

    def image(self, image: str) -> np.ndarray:
        """(H,W,3) u8 RGB."""
        pixels = self.data.evaluation_image(image) if self.kept_apart else self.data.image(image)
        if self.crop is None:
            return pixels
        return centre_crop(resize_image(pixels, *short_side_size(pixels.shape[:2], self.crop)), self.crop)

    def mask(self, image: str) -> np.ndarray:
        """(H,W) u8 ground truth, 255 = void."""
        mask = self.data.evaluation_mask(image) if self.kept_apart else self.data.mask(image)
        if self.crop is None:
            return mask
        height, width = mask.shape
        return centre_crop(resize_mask(mask, *short_side_size((height, width), self.crop)), self.crop)

    @property
    def size_range(self) -> str:
        """The sizes as text: height x width, or those of the images with the fewest and the most pixels."""
        ordered: list[Size] = sorted(set(self.sizes.values()), key=lambda size: (size[0] * size[1], size))
        return " to ".join(f"{height}x{width}" for height, width in dict.fromkeys((ordered[0], ordered[-1])))


def evaluation_size_fault(data: Dataset, split: str) -> str | None:
    """Why ``split`` of ``data`` has no images and masks at the size to evaluate at, with the remedy; None if it has."""
    ids = data.ids(split)
    if not data.is_resized and not data.evaluation_sizes:
        return None
    if all(image in data.evaluation_sizes for image in ids):
        return None
    if data.evaluation_sizes:
        return (
            f"{data.path} keeps split {split!r} only as resized: it is the pool, or has images without a mask. Choose "
            "another split or set --at dataset (train: --validate-at dataset)."
        )
    return (
        f"{data.path} keeps its images only as resized. Prepare it with --evaluation-scale (1: the original size), or "
        "set --at dataset (train: --validate-at dataset)."
    )
