"""The annotations artifact: the cumulative ledger of answers.

Every row of the ledger before is kept unchanged and in place; a round appends its rows in a new file.
`/answers/{image,y,x,round,class,state,clicks,seconds,annotator}` (A,), `/masks/<id>` (H,W) u8 for full masks,
`/annotators/name`, `/images/{id,height,width}` (the grid of y and x). `class` is 255 where the answer labels nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from stages.acquisition.statistics import distinct_classes, mean_defined
from stages.artifacts.dataset import VOID
from stages.artifacts.hdf5 import Artifact, Writer
from stages.artifacts.images_table import Size, read_images, rows_by_image, write_images
from stages.errors import BadInput

STATES = ("open", "answered", "void", "skipped")
ANSWERED, ANSWERED_VOID, SKIPPED = (STATES.index(state) for state in ("answered", "void", "skipped"))
COLUMNS = {
    "image": np.int32, "y": np.int32, "x": np.int32, "round": np.int32, "label": np.uint8, "state": np.uint8,
    "clicks": np.float32, "seconds": np.float32, "annotator": np.uint8,
}  # fmt: skip
MOST_ANNOTATORS = 256


@dataclass(frozen=True)
class Answers:
    """The rows of a ledger, one array (A,) per column; `label` is stored as `class`."""

    image: np.ndarray
    y: np.ndarray
    x: np.ndarray
    round: np.ndarray
    label: np.ndarray
    state: np.ndarray
    clicks: np.ndarray
    seconds: np.ndarray
    annotator: np.ndarray

    def followed_by(self, other: Self) -> Self:
        return type(self)(
            **{f.name: np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)}
        )

    def __len__(self) -> int:
        return len(self.image)


class Annotations(Artifact):
    """A ledger, open for reading."""

    kind = "annotations"

    def __init__(self, path: Path | str):
        super().__init__(path)
        self.ids, self.sizes = read_images(self)
        self.answers = Answers(**{name: self.read(f"answers/{stored_name(name)}") for name in COLUMNS})
        self.annotators = self.strings("annotators/name")
        self.rows = rows_by_image(self.answers.image, self.ids)

    @property
    def next_round(self) -> int:
        return int(self.answers.round.max()) + 1 if len(self.answers) else 0

    def mask_ids(self) -> set[str]:
        """Images answered with a full mask."""
        return {image for image, _ in self.arrays("masks")} if "masks" in self else set()

    def queried_pixels(self, image: str) -> tuple[np.ndarray, np.ndarray]:
        """(y, x) of every pixel asked so far in ``image``, void and skipped ones included."""
        rows = self.rows.get(image, np.zeros(0, dtype=np.int64))
        rows = rows[self.answers.y[rows] >= 0]
        return self.answers.y[rows], self.answers.x[rows]

    def labelled_ids(self) -> list[str]:
        """Sorted ids of the images with at least one label."""
        labelled = np.unique(self.answers.image[self.answers.label != VOID])
        return sorted({self.ids[index] for index in labelled} | self.mask_ids())

    def label_map(self, image: str) -> np.ndarray:
        """(H,W) u8 labels of ``image`` on the ledger's grid, 255 = none."""
        if image in self.mask_ids():
            return self.read(f"masks/{image}")
        labels = np.full(self.sizes[image], VOID, dtype=np.uint8)
        rows = self.rows.get(image, np.zeros(0, dtype=np.int64))
        rows = rows[self.answers.y[rows] >= 0]
        labels[self.answers.y[rows], self.answers.x[rows]] = self.answers.label[rows]
        return labels

    def cost(self) -> dict[str, float]:
        return ledger_cost(self.answers)


def stored_name(column: str) -> str:
    return "class" if column == "label" else column


def append_answers(
    before: Annotations | None, ids: Sequence[str], sizes: dict[str, Size], new: Answers
) -> tuple[list[str], dict[str, Size], Answers]:
    """The ledger ``before`` with the rows of ``new`` behind its own: its images, their sizes, its rows.

    The image column of ``new`` indexes ``ids``, which may hold images that the ledger does not know yet.
    """
    if before is None:
        return list(ids), sizes, new
    known = [*before.ids, *(image for image in ids if image not in before.sizes)]
    place = {image: number for number, image in enumerate(known)}
    numbers = np.array([place[image] for image in ids], dtype=np.int32)
    return known, before.sizes | sizes, before.answers.followed_by(replace(new, image=numbers[new.image]))


def number_annotators(before: Annotations | None, names: Sequence[str]) -> tuple[list[str], list[int]]:
    """The ledger's annotators with ``names`` added where they are new, and the number of each of ``names``."""
    known = [] if before is None else list(before.annotators)
    known += [name for name in dict.fromkeys(names) if name not in known]
    if len(known) > MOST_ANNOTATORS:
        raise BadInput(f"The answers come from {len(known)} annotators; a ledger takes {MOST_ANNOTATORS}.")
    return known, [known.index(name) for name in names]


def ledger_counts(answers: Answers, new: Answers, classes: list[str]) -> dict[str, Any]:
    """What the header of a ledger tells: cost so far, and what the last round brought."""
    histogram = np.bincount(new.label, minlength=256)
    groups = rows_by_image(new.image, [str(number) for number in range(new.image.max(initial=-1) + 1)])
    return ledger_cost(answers) | {
        "rounds": int(answers.round.max(initial=-1)) + 1,
        "images": len(np.unique(answers.image)),
        "void": int((answers.state == ANSWERED_VOID).sum()),
        "last_round": {
            "answers": len(new),
            "void": int((new.state == ANSWERED_VOID).sum()),
            "per_class": {name: int(histogram[index]) for index, name in enumerate(classes)},
            "mean_distinct_classes": mean_defined([distinct_classes(new.label[rows]) for rows in groups.values()]),
        },
    }


def ledger_cost(answers: Answers) -> dict[str, float]:
    """Queries answered, clicks and annotation seconds spent so far."""
    return {
        "answers": len(answers),
        "clicks": float(answers.clicks.sum(dtype=np.float64)),
        "seconds": float(answers.seconds.sum(dtype=np.float64)),
    }


def write_ledger(
    writer: Writer,
    ids: list[str],
    sizes: dict[str, Size],
    answers: Answers,
    annotators: list[str],
    masks: dict[str, np.ndarray],
) -> None:
    """Writes the tables of a ledger; ``masks`` maps image id to (H,W) u8."""
    write_images(writer, ids, sizes)
    for name, dtype in COLUMNS.items():
        writer.array(f"answers/{stored_name(name)}", getattr(answers, name).astype(dtype))
    writer.strings("annotators/name", annotators)
    for image, mask in masks.items():
        writer.array(f"masks/{image}", mask)
