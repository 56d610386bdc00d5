"""Dominant classes of regions, without the pixels where the model disagrees (adaptive_superpixel.md 2.8)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer
from stages.artifacts.model import Model
from stages.artifacts.shards import Fill
from stages.pixels.grids import Size
from stages.pixels.void import VOID
from stages.pseudo_labelling.labeller import record
from stages.pseudo_labelling.sieve import sieve
from stages.runtime.errors import BadInput
from stages.settings.common import Checkpoint, NetworkUse
from stages.settings.pseudo_label import SieveSettings

if TYPE_CHECKING:
    from torch import Tensor


def require_dominant(ledger: Annotations) -> None:
    """BadInput if no answer names the dominant class of a region, unless all labels are imported and so exact."""
    if (
        ledger.header.stage != "import-labels"
        and not (ledger.answers.of_regions & (ledger.answers.label != VOID) & ~ledger.drawn).any()
    ):
        raise BadInput(
            f"{ledger.path} contains no regions with a class, so there is nothing to sieve. Train on the ledger itself."
        )


def smallest_sieved(ledger: Annotations, min_pixels: int | None) -> int:
    """Regions of fewer pixels are kept whole; by default twice the mean size of the regions that were queried first."""
    if min_pixels is not None or not ledger.cut_files:
        return min_pixels or 0
    return round(2 * ledger.cut_files[0].mean_size)


def sieve_images(
    data: Dataset, ledger: Annotations, model: Model, settings: SieveSettings, checkpoint: Checkpoint, use: NetworkUse
) -> Fill:
    """Labels regions with their dominant class, except pixels where the model is not confident enough of it."""
    from stages.networks.predictions import load_image_predictor
    from stages.pixels.maps import lookup

    predictor = load_image_predictor(model, checkpoint, use, settings, data)
    answers, least = ledger.answers, smallest_sieved(ledger, settings.min_pixels)
    samples = 1 if settings.knee is None else settings.knee.samples  # unused without a knee
    min_delta = 0.0 if settings.largest is None else settings.largest.min_delta

    def confidence(logits: "Tensor", size: Size, index: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """(P,) f32 probability of the class ``labels`` (P,) at the flat pixels ``index`` (P,); logits (C,h,w)."""
        import torch

        flat = lookup(logits.softmax(0), size).flatten(1)
        classes, pixels = (torch.from_numpy(values.astype(np.int64)).to(logits.device) for values in (labels, index))
        return flat[classes, pixels].cpu().numpy()

    def fill(writer: Writer, part: Sequence[str]) -> dict[str, Any]:
        labelled: dict[str, int] = {}
        for image, logits in predictor.of_images(data, part, use.batch):
            size = ledger.sizes[image]
            rows = ledger.rows_of(image)
            rows = rows[answers.of_regions[rows] & (answers.label[rows] != VOID) & ~ledger.drawn[rows]]
            index, owner = answers.areas.pixels(rows)
            named = answers.label[rows][owner]
            confident = confidence(logits, size, index, named)
            kept, threshold = sieve(confident, owner, len(rows), settings.sieve, samples, least, min_delta)
            labels = np.full(size, VOID, dtype=np.uint8)
            labels.ravel()[index[kept]] = named[kept]  # if a pixel has several answers, the last one counts
            labels = ledger.painted_exactly(image, labels)
            sizes = (np.bincount(pixels, minlength=len(rows)) for pixels in (owner, owner[kept]))
            labelled[image] = record(writer, image, labels, (rows, *sizes, threshold))
        return {"labelled": labelled}

    return fill
