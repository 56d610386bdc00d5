"""Dominant labels without the pixels of a region of which the model does not believe them."""

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
from stages.settings.pseudo_label import PseudoLabelSettings

if TYPE_CHECKING:
    from torch import Tensor


def require_dominant(ledger: Annotations) -> None:
    """BadInput when no region has a class of its own."""
    if not (ledger.answers.of_regions & (ledger.answers.label != VOID)).any():
        raise BadInput(f"{ledger.path} has no region with a class, so there is nothing to sieve; train on it.")


def smallest_sieved(ledger: Annotations, settings: PseudoLabelSettings) -> int:
    """Regions of fewer pixels are kept whole; by default twice the mean of the regions that were asked about first."""
    if settings.min_pixels is not None:
        return settings.min_pixels
    return round(2 * ledger.region_files[0].mean_size)


def sieve_images(data: Dataset, ledger: Annotations, model: Model, settings: PseudoLabelSettings) -> Fill:
    from stages.networks.predictor import image_logits, load_predictor
    from stages.pixels.maps import lookup
    from stages.runtime.devices import choose_device

    device = choose_device(settings.device)
    predictor = load_predictor(model, settings.checkpoint, device, settings.precision)
    answers, least = ledger.answers, smallest_sieved(ledger, settings)

    def confidence(logits: "Tensor", size: Size, index: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """(P,) f32 probability of the class ``labels`` (P,) at the flat pixels ``index`` (P,); logits (C,h,w)."""
        import torch

        flat = lookup(logits.softmax(0), size).flatten(1)
        classes, pixels = (torch.from_numpy(values.astype(np.int64)).to(device) for values in (labels, index))
        return flat[classes, pixels].cpu().numpy()

    def fill(writer: Writer, part: Sequence[str]) -> dict[str, Any]:
        labelled: dict[str, int] = {}
        for image, logits in image_logits(predictor, data, part, settings.batch, settings.input_scale):
            size = ledger.sizes[image]
            rows = ledger.rows_of(image)
            rows = rows[answers.of_regions[rows] & (answers.label[rows] != VOID)]
            index, owner = answers.areas.pixels(rows)
            given = answers.label[rows][owner]
            kept, threshold = sieve(
                confidence(logits, size, index, given),
                owner,
                len(rows),
                settings.sieve,
                settings.samples,
                least,
                settings.min_delta,
            )
            labels = np.full(size, VOID, dtype=np.uint8)
            labels.ravel()[index[kept]] = given[kept]  # of several answers for a pixel the last one stays
            labels = ledger.painted_exactly(image, labels)
            sizes = (np.bincount(pixels, minlength=len(rows)) for pixels in (owner, owner[kept]))
            labelled[image] = record(writer, image, labels, (rows, *sizes, threshold))
        return {"labelled": labelled}

    return fill
