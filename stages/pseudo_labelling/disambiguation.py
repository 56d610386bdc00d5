"""One class per pixel of regions with class sets (Hwang et al. 2023)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer
from stages.artifacts.model import Model
from stages.artifacts.shards import Fill
from stages.artifacts.superpixels import Superpixels
from stages.pixels.void import VOID
from stages.pseudo_labelling.labeller import PROTOTYPE_COLUMNS, record
from stages.runtime.errors import BadInput
from stages.settings.base import existing
from stages.settings.common import Checkpoint, NetworkUse
from stages.settings.pseudo_label import ArgmaxSettings, PrototypeSettings, ViewSettings


def require_sets(ledger: Annotations, regions: Superpixels | None) -> Superpixels:
    """The regions that were queried; BadInput without them, for other regions, and for a ledger without class sets."""
    if not ledger.answers.class_sets.any():
        raise BadInput(f"{ledger.path} contains no class sets. Use --method sieve.")
    if regions is None:
        raise BadInput("Class sets belong to regions. Pass the queried regions with --superpixels.")
    if {file.digest for file in ledger.cut_files} != {regions.digest}:
        raise BadInput(
            f"{ledger.path} answers queries of other regions than {regions.path}. Pass the superpixels that "
            "were queried."
        )
    return regions


def disambiguate(
    data: Dataset,
    ledger: Annotations,
    regions: Superpixels,
    model: Model,
    method: str,
    settings: PrototypeSettings | None,
    predicted: ArgmaxSettings | None,
    views: ViewSettings,
    checkpoint: Checkpoint,
    use: NetworkUse,
) -> Fill:
    """Labels regions with class sets by prototypes (``settings``), by candidates, or by argmax (``predicted``)."""
    import torch

    from stages.networks.directions import directions, load_direction_predictor
    from stages.pseudo_labelling.prototypes import argmax_in_candidates, naive_argmax, prototypes, pseudo_labels
    from stages.runtime.devices import choose_device

    device = choose_device(use.device)
    predictor = load_direction_predictor(model, checkpoint, device, use.precision)
    answers, classes = ledger.answers, len(data.classes)

    def label(image: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(H,W) u8 labels from the answers ``rows``, and the prototypes (A,C) as flat pixel indices, -1 = none."""
        pixels = torch.from_numpy(data.image(image)).permute(2, 0, 1)
        features, scores = directions(predictor, pixels, views.scales, views.flip, regions.sizes[image])
        labels = torch.from_numpy(regions.labels(image)).long().to(device)
        queried = torch.from_numpy(answers.region[rows].astype(np.int64) - regions.rows[image].start).to(device)
        sets = torch.from_numpy(answers.class_sets[rows].astype(bool))[:, : model.outputs].to(device)
        points = torch.full(sets.shape, -1)
        with torch.inference_mode():
            if settings is not None:
                points = prototypes(scores, labels, queried, sets, settings.prototype_temperature)
                found = pseudo_labels(
                    features,
                    scores,
                    labels,
                    queried,
                    sets,
                    settings.expansion,
                    "median" if settings.spread is None else settings.spread.quantile,
                    settings.prototype_temperature,
                    settings.renormalise,
                )
            elif method == "candidates":
                found = argmax_in_candidates(scores, labels, queried, sets)
            else:
                found = naive_argmax(scores, labels, queried, existing(predicted).extent)
        return found.cpu().numpy(), points.cpu().numpy()

    def fill(writer: Writer, part: Sequence[str]) -> dict[str, Any]:
        labelled: dict[str, int] = {}
        for image in part:
            rows = ledger.rows_of(image)
            rows = rows[answers.of_regions[rows] & ~ledger.drawn[rows]]
            void = classes if model.knows_void else VOID
            labels, points = label(image, rows)
            labels = ledger.painted_exactly(image, labels, void)
            index, owner = answers.areas.pixels(rows)
            kept = labels.ravel()[index] != VOID
            sizes = (np.bincount(pixels, minlength=len(rows)) for pixels in (owner, owner[kept]))
            labelled[image] = record(writer, image, labels, (rows, *sizes, np.full(len(rows), np.nan)))
            region, named = np.nonzero(points >= 0)
            y, x = np.divmod(points[region, named], labels.shape[1])
            for name, values in zip(PROTOTYPE_COLUMNS, (rows[region], named, y, x), strict=True):
                writer.rows(name, values.astype(np.int32))
        return {"labelled": labelled}

    return fill
