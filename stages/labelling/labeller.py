"""What every way of making pseudo-labels gives to the stage."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stages.artifacts.dataset import VOID
from stages.artifacts.hdf5 import Writer

REGION_COLUMNS = ("answer", "pixels", "kept", "threshold")
PROTOTYPE_COLUMNS = ("prototypes/answer", "prototypes/class", "prototypes/y", "prototypes/x")
# Writes `labels/<id>` of some images and the rows answer, pixels, kept, threshold of their region answers; returns
# {"labelled": {image: labelled pixels}}
Fill = Callable[[Writer, Sequence[str]], dict[str, Any]]


def record(writer: Writer, image: str, labels: np.ndarray, columns: Sequence[np.ndarray]) -> int:
    """Writes the labels (H,W) u8 of ``image`` and the rows of its region answers; returns the labelled pixels.

    columns: answer, pixels, kept, threshold, each (A,).
    """
    writer.array(f"labels/{image}", labels)
    for name, values in zip(REGION_COLUMNS, columns, strict=True):
        writer.rows(name, values)
    return int((labels != VOID).sum())
