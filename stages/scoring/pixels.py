"""Score maps: the units pixel and image."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer
from stages.artifacts.model import Model
from stages.artifacts.shards import Fill, Parts
from stages.pixels.grids import Size
from stages.runtime.randomness import stream
from stages.settings.score import ScoreSettings

Maps = Callable[[Sequence[str]], Iterator[tuple[str, np.ndarray]]]


def score_pixels(data: Dataset, model: Model | None, grids: dict[str, Size], settings: ScoreSettings) -> Fill:
    """Scores by a measure, or at random without a ``model``."""
    return write_maps(
        random_maps(grids, settings) if model is None else network_maps(data, model, grids, settings), settings
    )


def write_maps(make: Maps, settings: ScoreSettings) -> Fill:
    """Writes the maps to the file; per-image means and extremes are kept for `finish_pixels`."""
    stored = settings.pixel

    def fill(writer: Writer, part: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for image, scores in make(part):
            if stored is not None:
                scores = scores.astype(stored.dtype)
                writer.array(f"scores/{image}", scores)
            found[image] = [float(scores.mean(dtype=np.float64)), float(scores.min()), float(scores.max())]
        return {"statistics": found}

    return fill


def finish_pixels(writer: Writer, parts: Parts, ids: Sequence[str]) -> dict[str, Any]:
    statistics = parts.merged("statistics")
    writer.array("images/score", np.array([statistics[image][0] for image in ids]))
    return {
        "mean": float(np.mean([values[0] for values in statistics.values()])),
        "minimum": min(values[1] for values in statistics.values()),
        "maximum": max(values[2] for values in statistics.values()),
    }


def random_maps(grids: dict[str, Size], settings: ScoreSettings) -> Maps:
    """Uniform scores in [0,1), with one random stream per image."""

    def score(ids: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        for image in ids:
            size = grids[image] if settings.unit == "pixel" else (1, 1)
            yield image, random_scores(settings.seed, image, size)

    return score


def random_scores(seed: int, image: str, size: int | Size) -> np.ndarray:
    """``size`` uniform numbers in [0,1), f32: for the pixels of an image, or for its regions."""
    return stream(seed, "score", image).random(size, dtype=np.float32)


def network_maps(data: Dataset, model: Model, grids: dict[str, Size], settings: ScoreSettings) -> Maps:
    """Scores (H,W) f32 by a measure of the network's predictions."""
    from stages.scoring.maps import score_maps

    def score(ids: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        for maps in score_maps(data, model, ids, grids, len(data.classes), settings):
            yield maps.image, maps.scores.cpu().numpy()

    return score
