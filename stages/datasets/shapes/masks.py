"""Masks of images that were labelled by shapes: the class of each pixel, and what the rest is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from threading import Lock

import numpy as np

from stages.datasets.description import DatasetDescription, mask_values
from stages.datasets.image_names import image_of, is_image, known_names
from stages.datasets.shapes.drawing import Drawing, painted, pixels_of
from stages.datasets.shapes.files import read_drawings
from stages.pixels.grids import Size
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput
from stages.settings.common import Overlap

KEPT_FILES = 4
NAMED_LABELS = 5  # unknown labels listed per image


class ShapeMasks:
    """Reads masks from files of shapes; a file with the shapes of many images is parsed once.

    values: label -> class or `VOID`. others_are_void: whether that holds for all other labels; otherwise they are
    faults. rest: the class of pixels without a shape, or `VOID`.
    """

    def __init__(self, values: Mapping[str, int], others_are_void: bool, overlap: Overlap, rest: int):
        self.values = {name.casefold(): value for name, value in values.items()} | dict(values)
        self.others_are_void, self.overlap, self.rest = others_are_void, overlap, rest
        self.kept: dict[Path, dict[str, Drawing]] = {}
        self.lock = Lock()

    def mask(self, path: Path, image: Path, size: Size) -> np.ndarray:
        """(H,W) u8 classes of the file ``image`` of ``size``, as the shapes in ``path`` have them, 255 = void.

        BadInput if the file has no shapes of this image, or of another size, or with labels that nobody knows.
        """
        drawing = self.drawing(path, image)
        if drawing.size not in (None, size):
            height, width = drawing.size
            raise BadInput(
                f"{drawing.where} is for an image of {width}x{height}, but {image} is {size[1]}x{size[0]}. Use the "
                "shapes of this image."
            )
        labels = [self.value(shape.label) for shape in drawing.shapes]
        unknown = Counter(shape.label for shape, value in zip(drawing.shapes, labels, strict=True) if value is None)
        if unknown:
            raise BadInput(unknown_labels(drawing.where, unknown))
        above = painted([pixels_of(shape.form, size, size) for shape in drawing.shapes], size, self.overlap)
        table = np.array([value for value in labels if value is not None] + [self.rest], dtype=np.uint8)
        return table[above]

    def value(self, label: str) -> int | None:
        found = self.values.get(label, self.values.get(label.casefold()))
        return VOID if found is None and self.others_are_void else found

    def drawing(self, path: Path, image: Path) -> Drawing:
        """The shapes on ``image``: those that name it, or those in a file called like it."""
        with self.lock:
            if path not in self.kept:
                found = by_name(read_drawings(path))
                while len(self.kept) >= KEPT_FILES:
                    del self.kept[next(iter(self.kept))]
                self.kept[path] = found
            drawings = self.kept[path]
        known = known_names(drawings)
        if is_image(image.as_posix(), known):
            return drawings[image_of(image.as_posix(), known, str(path))]
        if len(drawings) == 1 and path.stem == image.stem:
            return next(iter(drawings.values()))
        raise BadInput(f"{path} has no shapes of {image}. Add the image there, or leave it out.")


def shape_masks(description: DatasetDescription) -> ShapeMasks:
    """The masks of a dataset that was labelled by shapes."""
    masks = description.masks
    values = {
        label: index
        for index, item in enumerate(description.classes)
        for label in mask_values(index, item, masks.encoding)
        if isinstance(label, str)
    }
    others = masks.ignore == "others"
    values |= {label: VOID for label in (() if others else masks.ignore) if isinstance(label, str)}
    rest = VOID if masks.rest in (None, "void") else description.class_names.index(masks.rest)
    return ShapeMasks(values, others, masks.overlap or "later", rest)


def by_name(drawings: Sequence[Drawing]) -> dict[str, Drawing]:
    """Name of the image, without ending -> its shapes; BadInput for an image that is listed twice."""
    found: dict[str, Drawing] = {}
    for each in drawings:
        name = PurePosixPath(each.names[0].replace("\\", "/")).with_suffix("").as_posix()
        if name in found:
            raise BadInput(f"{each.where} has the image {each.names[0]} twice. Keep one of them.")
        found[name] = each
    return found


def unknown_labels(where: str, unknown: Counter[str]) -> str:
    listed = ", ".join(f"{name!r} ({count})" for name, count in unknown.most_common(NAMED_LABELS))
    more = f" and {len(unknown) - NAMED_LABELS} more" if len(unknown) > NAMED_LABELS else ""
    return (
        f"{where} has labels that are no class, with their number of shapes: {listed}{more}. Add them to labels of a "
        "class, or to masks.ignore."
    )
