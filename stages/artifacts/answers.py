"""Answers: the rows of a ledger, and how they are written."""

from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np

from stages.artifacts.hdf5 import Writer
from stages.artifacts.images_table import write_images
from stages.pixels.grids import Size
from stages.pixels.runs import Areas, empty_areas, joined
from stages.pixels.void import VOID

STATES = ("open", "answered", "void", "skipped")
ANSWERED, ANSWERED_VOID, SKIPPED = (STATES.index(state) for state in ("answered", "void", "skipped"))
# Column -> (type, default); `label` is stored as `class`
COLUMNS: dict[str, tuple[type[np.generic], int]] = {
    "image": (np.int32, 0), "y": (np.int32, -1), "x": (np.int32, -1), "region": (np.int32, -1),
    "superpixels": (np.int32, -1), "round": (np.int32, 0), "label": (np.uint8, VOID), "state": (np.uint8, ANSWERED),
    "clicks": (np.float32, 1), "seconds": (np.float32, 0), "annotator": (np.uint8, 0), "image_level": (np.uint8, 0),
    "purpose": (np.uint8, 0), "suggested": (np.uint8, VOID),
}  # fmt: skip
OPTIONAL = ("purpose", "suggested")  # columns that are stored unless they have their default throughout
MOST_ANNOTATORS = 256
DRAWN = "drawn"  # method of the "file" whose regions are shapes that people drew, not cut by any program


@dataclass(frozen=True)
class Answers:
    """The rows of a ledger, one array (A,) per column, and further arrays for regions and class sets.

    A pixel has y and x, a region its global index `region` in the file `superpixels`; a whole image neither. If
    the class of an image was named instead of drawing its mask, `image_level` is 1 and `label` is a class of images.
    `areas` are the pixels of the regions; `votes` (A,C+1) i32 counts the true classes in a region, void last, if the
    simulation knows them; `class_sets` (A,C+1) u8 marks the classes that were named together, void last.
    `suggested` is the class that a model suggested to the annotator, 255 = none.
    """

    image: np.ndarray
    y: np.ndarray
    x: np.ndarray
    region: np.ndarray
    superpixels: np.ndarray
    round: np.ndarray
    label: np.ndarray
    state: np.ndarray
    clicks: np.ndarray
    seconds: np.ndarray
    annotator: np.ndarray
    image_level: np.ndarray
    purpose: np.ndarray
    suggested: np.ndarray
    areas: Areas
    votes: np.ndarray
    class_sets: np.ndarray

    @classmethod
    def of(cls, count: int, classes: int, **given: Any) -> Self:
        """``count`` answers with the columns ``given`` (arrays or single values), the others at their defaults."""
        columns = {
            name: np.array(np.broadcast_to(given.pop(name, default), count), dtype=dtype)
            for name, (dtype, default) in COLUMNS.items()
        }
        areas = given.pop("areas", None) or empty_areas(count)
        votes = given.pop("votes", np.zeros((count, classes + 1), dtype=np.int32))
        sets = given.pop("class_sets", np.zeros((count, classes + 1), dtype=np.uint8))
        assert not given, given
        return cls(**columns, areas=areas, votes=votes, class_sets=sets)

    def followed_by(self, *others: Self) -> Self:
        columns = {
            f.name: np.concatenate([getattr(each, f.name) for each in (self, *others)])
            for f in fields(self)
            if f.name != "areas"
        }
        return type(self)(**columns, areas=joined([each.areas for each in (self, *others)]))

    @property
    def of_regions(self) -> np.ndarray:
        """(A,) bool."""
        return self.region >= 0

    @property
    def of_images(self) -> np.ndarray:
        """(A,) bool: answered with a full mask."""
        return (self.region < 0) & (self.y < 0) & (self.image_level == 0)

    def __len__(self) -> int:
        return len(self.image)


def stored_name(column: str) -> str:
    return "class" if column == "label" else column


@dataclass(frozen=True)
class RegionFile:
    """A file of regions that answers refer to."""

    digest: str
    method: str
    mean_size: float


@dataclass(frozen=True)
class Ledger:
    """Everything an annotations artifact holds, in memory. ``masks`` maps image id to exact labels (H,W) u8."""

    ids: list[str]
    sizes: dict[str, Size]
    answers: Answers
    annotators: list[str]
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    region_files: list[RegionFile] = field(default_factory=list)

    def write(self, writer: Writer) -> None:
        write_images(writer, self.ids, self.sizes)
        for name, (dtype, default) in COLUMNS.items():
            column = getattr(self.answers, name)
            if name not in OPTIONAL or (column != default).any():
                writer.array(f"answers/{stored_name(name)}", column.astype(dtype))
        writer.strings("annotators/name", self.annotators)
        if self.region_files:
            for column in ("digest", "method"):
                writer.strings(f"superpixels/{column}", [getattr(file, column) for file in self.region_files])
            writer.array("superpixels/mean_size", np.array([file.mean_size for file in self.region_files]))
            for column in ("offsets", "start", "length"):
                writer.array(f"areas/{column}", getattr(self.answers.areas, column))
            writer.array("votes", self.answers.votes)
        if self.answers.class_sets.any():
            writer.array("class_sets", self.answers.class_sets)
        for image, mask in self.masks.items():
            writer.array(f"masks/{image}", mask)


def ledger_cost(answers: Answers) -> dict[str, float]:
    """Queries answered, clicks and annotation seconds spent so far."""
    return {
        "answers": len(answers),
        "clicks": float(answers.clicks.sum(dtype=np.float64)),
        "seconds": float(answers.seconds.sum(dtype=np.float64)),
    }
