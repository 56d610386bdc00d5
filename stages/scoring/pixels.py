"""Score maps: the units pixel and image."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer
from stages.artifacts.model import Model
from stages.artifacts.shards import Fill, Parts
from stages.pixels.grids import Size
from stages.runtime.randomness import stream
from stages.selecting.ranking import highest
from stages.settings.score import ScoreSettings

Maps = Callable[[Sequence[str]], Iterator[tuple[str, dict[str, np.ndarray]]]]
"""Ids -> each id with its maps by folder of the file: scores (H,W) f32, and predicted and features if they are kept."""


def score_pixels(data: Dataset, model: Model | None, grids: dict[str, Size], settings: ScoreSettings) -> Fill:
    """Scores by a measure, or at random without a ``model``."""
    return write_maps(
        random_maps(grids, settings) if model is None else network_maps(data, model, grids, settings), settings
    )


def write_maps(make: Maps, settings: ScoreSettings) -> Fill:
    """Writes the maps to the file; per-image means and extremes are kept for `finish_pixels`."""
    stored = settings.pixel
    share = 1.0 if stored is None or stored.kept is None else stored.kept.keep_share

    def fill(writer: Writer, part: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        pixels: dict[str, Any] = {}
        for image, maps in make(part):
            scores = maps["scores"] if stored is None else maps["scores"].astype(stored.dtype)
            if stored is not None:
                for folder, values in (maps | {"scores": only_highest(scores, share)}).items():
                    writer.array(f"{folder}/{image}", values)
            if "predicted" in maps:
                pixels[image] = np.bincount(maps["predicted"].ravel()).tolist()
            found[image] = [float(scores.mean(dtype=np.float64)), float(scores.min()), float(scores.max())]
        return {"statistics": found, "pixels": pixels}

    return fill


def only_highest(scores: np.ndarray, share: float) -> np.ndarray:
    """(H,W) ``scores`` with -inf in place of all but the highest ``share``, rounded up; of equals the first stay."""
    if share >= 1:
        return scores
    kept = np.full(scores.size, -np.inf, dtype=scores.dtype)
    stay = highest(scores.ravel(), math.ceil(scores.size * share))
    kept[stay] = scores.ravel()[stay]
    return kept.reshape(scores.shape)


def finish_pixels(
    writer: Writer, parts: Parts, ids: Sequence[str], classes: Sequence[str], settings: ScoreSettings
) -> dict[str, Any]:
    """Writes the means of the images; counts, with the predicted share of each class if the classes are kept."""
    statistics = parts.merged("statistics")
    writer.array("images/score", np.array([statistics[image][0] for image in ids]))
    counts: dict[str, Any] = {}
    if settings.keeps_classes:
        pixels = np.zeros(len(classes))
        for found in parts.merged("pixels").values():
            pixels[: len(found)] += found
        counts["share"] = dict(zip(classes, (pixels / pixels.sum()).tolist(), strict=True))
    return counts | {
        "mean": float(np.mean([values[0] for values in statistics.values()])),
        "minimum": min(values[1] for values in statistics.values()),
        "maximum": max(values[2] for values in statistics.values()),
    }


def random_maps(grids: dict[str, Size], settings: ScoreSettings) -> Maps:
    """Uniform scores in [0,1), with one random stream per image."""

    def score(ids: Sequence[str]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        for image in ids:
            size = grids[image] if settings.unit == "pixel" else (1, 1)
            yield image, {"scores": random_scores(settings.seed, image, size)}

    return score


def random_scores(seed: int, image: str, size: int | Size) -> np.ndarray:
    """``size`` uniform numbers in [0,1), f32: for the pixels of an image, or for its regions."""
    return stream(seed, "score", image).random(size, dtype=np.float32)


def network_maps(data: Dataset, model: Model, grids: dict[str, Size], settings: ScoreSettings) -> Maps:
    """Scores (H,W) f32 by a measure of the network's predictions, and what is kept of these."""
    from stages.scoring.maps import score_maps

    def score(ids: Sequence[str]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        for maps in score_maps(data, model, ids, grids, len(data.classes), settings):
            found = {"scores": maps.scores.cpu().numpy()}
            if settings.keeps_classes:
                found["predicted"] = maps.predicted.cpu().numpy().astype(np.uint8)
            if maps.features is not None:
                found["features"] = maps.features.cpu().numpy().astype(np.float16)
            yield maps.image, found

    return score
