"""Answers: the rows of a ledger, and how they are extended by a round and written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer, build_in_memory
from stages.artifacts.header import Header
from stages.artifacts.images_table import require_same_grid, rows_by_image, write_images
from stages.artifacts.publish import publish_bytes
from stages.artifacts.superpixels import Superpixels
from stages.pixels.grids import Size
from stages.pixels.runs import Areas, empty_areas
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput
from stages.selecting.statistics import distinct_classes, mean_defined

if TYPE_CHECKING:
    from stages.artifacts.annotations import Annotations
    from stages.artifacts.request import Request

STATES = ("open", "answered", "void", "skipped")
ANSWERED, ANSWERED_VOID, SKIPPED = (STATES.index(state) for state in ("answered", "void", "skipped"))
# Column -> (type, value where nothing else is said); `label` is stored as `class`
COLUMNS: dict[str, tuple[type[np.generic], int]] = {
    "image": (np.int32, 0), "y": (np.int32, -1), "x": (np.int32, -1), "region": (np.int32, -1),
    "superpixels": (np.int32, -1), "round": (np.int32, 0), "label": (np.uint8, VOID), "state": (np.uint8, ANSWERED),
    "clicks": (np.float32, 1), "seconds": (np.float32, 0), "annotator": (np.uint8, 0), "image_level": (np.uint8, 0),
}  # fmt: skip
MOST_ANNOTATORS = 256


@dataclass(frozen=True)
class Answers:
    """The rows of a ledger, one array (A,) per column, with what only regions have.

    A pixel has y and x, a region its global index `region` in the file `superpixels`; a whole image neither, and where
    its class was named and not its mask drawn `image_level` is 1 (`label` then is a class of images). `areas`
    are the pixels of the regions; `votes` (A,C+1) i32 counts the true classes below a region, void last, where the
    simulation knows them; `class_sets` (A,C+1) u8 marks the classes that were named together, void last.
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

    def followed_by(self, other: Self) -> Self:
        joined = {
            f.name: np.concatenate([getattr(self, f.name), getattr(other, f.name)])
            for f in fields(self)
            if f.name != "areas"
        }
        return type(self)(**joined, areas=self.areas.followed_by(other.areas))

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
        for name, (dtype, _) in COLUMNS.items():
            writer.array(f"answers/{stored_name(name)}", getattr(self.answers, name).astype(dtype))
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

    def publish(self, request: "Request", data: Dataset, counts: dict[str, Any]) -> None:
        """Publishes it as the output of ``request``, with the classes that answers about ``data`` may name."""

        def fill(writer: Writer) -> Header:
            self.write(writer)
            return request.header({"classes": data.classes, "image_classes": data.image_level_classes}, counts)

        publish_bytes(request.output, build_in_memory(fill))


def append_answers(
    before: "Annotations | None",
    ids: Sequence[str],
    sizes: dict[str, Size],
    new: Answers,
    annotators: Sequence[str],
    masks: Mapping[str, np.ndarray] | None = None,
    superpixels: Superpixels | None = None,
) -> Ledger:
    """The ledger ``before`` with the rows of ``new`` behind its own.

    The columns image and annotator of ``new`` index ``ids`` and ``annotators``, which may hold what the ledger does not
    know yet. ``masks`` are exact labels (H,W) u8 that came with the answers, ``superpixels`` the file of their regions.
    BadInput where an image was asked about on another grid before.
    """
    if before is not None:
        require_same_grid(before, before.sizes, sizes)
    old = Ledger([], {}, Answers.of(0, new.votes.shape[1] - 1), []) if before is None else before.ledger()
    known, numbers = extended(old.ids, ids)
    people, people_numbers = extended(old.annotators, annotators)
    if len(people) > MOST_ANNOTATORS:
        raise BadInput(f"The answers come from {len(people)} annotators; a ledger takes {MOST_ANNOTATORS}.")
    files = list(old.region_files)
    if superpixels is not None:
        mean_size = float(superpixels.region_sizes.mean(dtype=np.float64))
        files, (place,) = extended(files, [RegionFile(superpixels.digest, superpixels.method, mean_size)])
        new = replace(new, superpixels=np.where(new.of_regions, place, -1).astype(np.int32))
    new = replace(
        new,
        image=np.array(numbers, dtype=np.int32)[new.image],
        annotator=np.array(people_numbers, dtype=np.uint8)[new.annotator],
    )
    exact = dict(old.masks)
    for image, mask in (masks or {}).items():
        exact[image] = np.where(mask == VOID, exact[image], mask) if image in exact else mask
    return Ledger(known, old.sizes | sizes, old.answers.followed_by(new), people, exact, files)


def extended(known: Sequence[Any], names: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """``known`` with those of ``names`` added that are new, and the place of each of ``names``."""
    every = list(dict.fromkeys([*known, *names]))
    place = {name: number for number, name in enumerate(every)}
    return every, [place[name] for name in names]


def ledger_counts(ledger: Ledger, new: Answers, classes: list[str]) -> dict[str, Any]:
    """What the header of a ledger tells: cost so far, and what the last round brought."""
    answers = ledger.answers
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
