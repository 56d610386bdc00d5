"""A small world for tests of `predict`, and the command as a function."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.commands import predict
from stages.settings.predict import PredictSettings


class World(NamedTuple):
    """Four images in train, two in test."""

    dataset: Path
    model: Path
    images: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]


def predicted(
    world: World,
    folder: Path,
    images: Sequence[Path] = (),
    model: Path | None = None,
    annotations: Path | None = None,
    **settings: Any,
) -> Path:
    """The folder with the masks of ``images``, or of all images of the dataset."""
    found = PredictSettings.load({"device": "cpu"} | settings)
    return predict.run(model or world.model, list(images) or [world.dataset], folder, found, annotations)
