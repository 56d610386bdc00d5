"""What was measured in a run: its evaluations, read from HDF5 and checked. The JSON beside them is for people."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from stages.artifacts.evaluation import COSTS, Evaluation
from stages.artifacts.rounds import round_folders, round_of
from stages.artifacts.verify import content_faults
from stages.evaluating.counts import ImageCounts
from stages.runtime.errors import BadInput
from stages.runtime.numbers import defined

CHECKPOINTS = ("last", "best")


@dataclass(frozen=True)
class Measured:
    """One evaluated set of weights; `miou` and `iou` in %, None for a class that is not in the split.

    `round` is None if it was evaluated at the end, outside the rounds.
    """

    round: int | None
    clicks: float
    seconds: float
    answers: int
    asked: float | None  # answers per queried image; None without any
    miou: float
    iou: dict[str, float | None]
    epoch: int
    split: str
    image_sizes: str  # empty in files that older versions wrote
    model: str  # digest
    counts: ImageCounts | None = field(default=None, repr=False, compare=False)  # None in files of older versions


def measured_in(run: Path, checkpoint: str, evaluation: str) -> tuple[list[Measured], dict[Path, list[str]]]:
    """The evaluations of a run sorted by clicks, and the faults of those that cannot be used, per file.

    BadInput for a checkpoint that does not exist.
    """
    if checkpoint not in CHECKPOINTS:
        raise BadInput(f"--checkpoint must be last or best, not {checkpoint!r}.")
    found: list[Measured] = []
    faults: dict[Path, list[str]] = {}
    for folder in (*round_folders(run), run):
        path = folder / f"{evaluation}.h5"
        if path.is_file():
            try:
                found += measured(path, checkpoint)
            except BadInput as error:
                faults[path] = error.faults
    return sorted(found, key=lambda entry: entry.clicks), faults


def measured(path: Path, checkpoint: str) -> list[Measured]:
    """The rows of one evaluation with the weights ``checkpoint``; BadInput when it is damaged or was changed."""
    if wrong := content_faults(Evaluation(path)):
        raise BadInput(wrong)
    with Evaluation(path) as file:
        digests, checkpoints = file.strings("models/digest"), file.strings("models/checkpoint")
        epochs, miou, iou = (file.read(name) for name in ("models/epoch", "miou", "iou"))
        cost = {name: file.read(f"cost/{name}") for name in COSTS}
        classes, split = list(file.attributes["classes"]), str(file.attributes["split"])
        image_sizes = str(file.attributes.get("image_sizes", ""))
        counts = counts_in(file, len(digests))
    return [
        Measured(
            round=round_of(path),
            clicks=float(cost["clicks"][row]),
            seconds=float(cost["seconds"][row]),
            answers=int(cost["answers"][row]),
            asked=float(cost["answers"][row] / cost["asked_images"][row]) if cost["asked_images"][row] else None,
            miou=100 * float(miou[row]),
            iou={name: in_percent(float(value)) for name, value in zip(classes, iou[row], strict=True)},
            epoch=int(epochs[row]),
            split=split,
            image_sizes=image_sizes,
            model=digests[row],
            counts=counts[row],
        )
        for row in range(len(digests))
        if checkpoints[row] == checkpoint and not math.isnan(miou[row])
    ]


def counts_in(file: Evaluation, rows: int) -> list[ImageCounts] | list[None]:
    """The counts per image of each row, if the file has them."""
    if "images/id" not in file:
        return [None] * rows
    images, truth = tuple(file.strings("images/id")), file.read("images/truth")
    hits, predicted = file.read("images/hits"), file.read("images/predicted")
    undefined = file.header.settings.get("undefined", "skip")
    return [ImageCounts(images, hits[row], truth, predicted[row], undefined) for row in range(rows)]


def in_percent(value: float) -> float | None:
    known = defined(value)
    return None if known is None else 100 * known
