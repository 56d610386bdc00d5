"""Evaluated weights as an artifact and as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.artifacts.evaluation import COSTS
from stages.artifacts.hdf5 import Writer
from stages.artifacts.model import Model
from stages.runtime.numbers import defined
from stages.settings.common import Undefined


@dataclass(frozen=True)
class Entry:
    """One evaluated set of weights; confusion (C,C) i64.

    counts (I,3,C) i64, if it was evaluated on masks: pixels of each image in the truth, predicted, and right.
    """

    model: Model
    checkpoint: str
    epoch: int
    confusion: np.ndarray
    counts: np.ndarray | None = None

    @property
    def cost(self) -> dict[str, float]:
        return {name: self.model.header.counts[name] for name in COSTS}


def write_results(writer: Writer, entries: Sequence[Entry], miou: np.ndarray, accuracy: np.ndarray) -> None:
    """The tables of `stages.artifacts.evaluation`; miou and accuracy (M,) f64."""
    from stages.evaluating.confusion import intersection_over_union

    writer.strings("models/file", [entry.model.path.name for entry in entries])
    writer.strings("models/digest", [entry.model.digest for entry in entries])
    writer.strings("models/checkpoint", [entry.checkpoint for entry in entries])
    writer.array("models/epoch", np.array([entry.epoch for entry in entries], dtype=np.int32))
    writer.array("confusion", np.array([entry.confusion for entry in entries]))
    writer.array("iou", np.array([intersection_over_union(entry.confusion) for entry in entries]))
    writer.array("miou", miou)
    writer.array("pixel_accuracy", accuracy)
    for name in COSTS:
        writer.array(f"cost/{name}", np.array([entry.cost[name] for entry in entries], dtype=np.float64))


def write_counts(writer: Writer, images: Sequence[str], entries: Sequence[Entry]) -> None:
    """The pixel counts of each image; the truth is the same for all weights."""
    counts = np.array([entry.counts for entry in entries])
    writer.strings("images/id", images)
    writer.array("images/truth", counts[0, :, 0])
    writer.array("images/predicted", counts[:, :, 1])
    writer.array("images/hits", counts[:, :, 2])


def entry_report(entry: Entry, classes: Sequence[str], undefined: Undefined, accuracy: float) -> dict[str, Any]:
    """An entry as JSON values."""
    from stages.evaluating.confusion import (
        frequency_weighted_iou,
        intersection_over_union,
        mean_accuracy,
        mean_iou,
        mean_iou_present,
    )

    iou = intersection_over_union(entry.confusion)
    return {
        "file": str(entry.model.path),
        "digest": entry.model.digest,
        "checkpoint": entry.checkpoint,
        "epoch": entry.epoch,
        "miou": defined(mean_iou(entry.confusion, undefined)),
        "miou_present": defined(mean_iou_present(entry.confusion)),
        "miou_all": defined(mean_iou(entry.confusion, "zero")),
        "pixel_accuracy": defined(accuracy),
        "mean_accuracy": defined(mean_accuracy(entry.confusion)),
        "frequency_weighted_iou": defined(frequency_weighted_iou(entry.confusion)),
        "iou": {name: defined(value) for name, value in zip(classes, iou, strict=True)},
        "confusion": entry.confusion.tolist(),
        "cost": entry.cost,
    }
