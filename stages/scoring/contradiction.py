"""How far a model contradicts answers: 1 - the probability that it gives the class that was named.

Answers with a low one, called self-confidence, are the likeliest errors (Northcutt, Jiang, Chuang: Confident Learning,
JAIR 70, 2021, which wants the probabilities of a model that did not learn from these answers). Answers that name no
class contradict nothing, and neither does what was not answered: 0.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import ANSWERED
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer
from stages.artifacts.model import Model
from stages.artifacts.shards import Fill
from stages.artifacts.superpixels import Superpixels
from stages.pixels.grids import Size
from stages.scoring.pixels import Maps
from stages.settings.base import existing
from stages.settings.score import ScoreSettings

if TYPE_CHECKING:
    from torch import Tensor


def contradicted_pixels(
    data: Dataset, model: Model, ledger: Annotations, grids: dict[str, Size], settings: ScoreSettings
) -> Maps:
    """Maps (H,W) f32 of the contradiction of the answers about pixels, per image."""

    def rows_of(image: str) -> np.ndarray:
        rows = ledger.rows_of(image)
        return rows[(ledger.answers.y[rows] >= 0) & (ledger.answers.state[rows] == ANSWERED)]

    def score(ids: Sequence[str]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        for image, rows, probability in with_predictions(data, model, ids, rows_of, grids, settings):
            found = np.zeros(grids[image], dtype=np.float32)
            if probability is not None:
                y, x, label = (column[rows] for column in (ledger.answers.y, ledger.answers.x, ledger.answers.label))
                found[y, x] = contradicted(probability, label, y * np.int64(found.shape[1]) + x)
            yield image, {"scores": found}

    return score


def contradicted_regions(
    data: Dataset, model: Model, ledger: Annotations, regions: Superpixels, settings: ScoreSettings
) -> Fill:
    """Per region the mean contradiction over its pixels; of a class set, 1 - the probability of all its classes."""
    answers = ledger.answers
    files = [file.digest for file in ledger.region_files]
    number = files.index(regions.digest) if regions.digest in files else -1

    def rows_of(image: str) -> np.ndarray:
        rows = ledger.rows_of(image)
        named = answers.class_sets[rows, :-1].any(1) | (answers.label[rows] < len(data.classes))
        mine = answers.of_regions[rows] & (answers.superpixels[rows] == number)
        return rows[mine & (answers.state[rows] == ANSWERED) & named]

    def fill(writer: Writer, part: Sequence[str]) -> dict[str, Any]:
        for image, rows, probability in with_predictions(data, model, part, rows_of, regions.sizes, settings):
            score = np.zeros(regions.number(image), dtype=np.float32)
            if probability is not None:
                score[answers.region[rows] - regions.rows[image].start] = mean_contradicted(ledger, rows, probability)
            writer.rows("score", score)
            writer.rows("left", regions.region_sizes[regions.rows[image]])
        return {}

    return fill


def with_predictions(
    data: Dataset,
    model: Model,
    ids: Sequence[str],
    rows_of: Callable[[str], np.ndarray],
    grids: dict[str, Size],
    settings: ScoreSettings,
) -> "Iterator[tuple[str, np.ndarray, Tensor | None]]":
    """Each of ``ids`` with its answers and, if there are any, the probabilities (C,H*W) f32 on its grid."""
    from stages.networks.predictions import load_image_predictor
    from stages.pixels.maps import lookup, not_finer

    network = existing(settings.network)
    predictor = load_image_predictor(model, network.checkpoint, network.use, network, data)
    rows = {image: rows_of(image) for image in ids}
    answered = [image for image in ids if len(rows[image])]
    predictions = predictor.of_images(data, answered, network.use.batch)
    for image in ids:
        if not len(rows[image]):
            yield image, rows[image], None
            continue
        _, logits = next(predictions)
        size = grids[image]
        probability = not_finer(logits[: len(data.classes)], size).softmax(0)
        yield image, rows[image], lookup(probability, size).flatten(1)


def contradicted(probability: "Tensor", label: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """(n,) f32: 1 - probability (C,P) of the class label (n,) at each pixel (n,)."""
    import torch

    classes, pixels = (torch.from_numpy(values.astype(np.int64)).to(probability.device) for values in (label, pixel))
    return (1 - probability[classes, pixels]).cpu().numpy()


def mean_contradicted(ledger: Annotations, rows: np.ndarray, probability: "Tensor") -> np.ndarray:
    """(n,) f64: the mean over the pixels of the answered regions ``rows`` of 1 - the probability of what was named."""
    import torch

    answers = ledger.answers
    named = answers.class_sets[rows, :-1].astype(np.float32)
    single = np.flatnonzero(~named.any(1))
    named[single, answers.label[rows[single]]] = 1
    index, owner = answers.areas.pixels(rows)
    within = probability[:, torch.from_numpy(index).to(probability.device)].cpu().numpy()
    believed = (within * named[owner].T).sum(0)
    return 1 - np.bincount(owner, believed, len(rows)) / answers.areas.sizes()[rows]
