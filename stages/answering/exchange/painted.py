"""Answers that were painted: what the pixels of every query say."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np

from stages.answering.clicks import precise_clicks
from stages.answering.exchange.values import OPEN, SKIP, UNPAINTED
from stages.answering.outcome import answer_rows
from stages.answering.questions import EXACT, Questions
from stages.artifacts import answers as states
from stages.artifacts.answers import Answers
from stages.pixels.grids import Size, map_on_grid
from stages.pixels.resize import resize_mask
from stages.pixels.void import VOID
from stages.runtime.console import Progress
from stages.runtime.errors import BadInput
from stages.settings.import_answers import ImportSettings

VALUES = 256
MOST_PIXELS = 1 << 28  # of an image that somebody painted


@dataclass(frozen=True)
class Strokes:
    """What was painted in one image, one pixel after the other: what comes later lies on top.

    size (height, width); index (P,) i64 of the row-major flat image, a pixel as often as it was painted; value (P,) u8.
    """

    size: Size
    index: np.ndarray
    value: np.ndarray

    def above(self) -> np.ndarray:
        """(H,W) u8 what is seen from above."""
        seen = np.full(self.size, UNPAINTED, dtype=np.uint8)
        seen.ravel()[self.index] = self.value  # of a pixel that comes twice the last one stays
        return seen

    def apart(self) -> Iterator[np.ndarray]:
        """(H,W) u8 for each value, where it was painted, whatever lies on top."""
        for value in np.unique(self.value).tolist():
            alone = self.value == value
            yield Strokes(self.size, self.index[alone], self.value[alone]).above()


@dataclass(frozen=True)
class Painting:
    """An image that somebody painted: its size, and what is read of it when it is asked for."""

    size: Size
    read: Callable[[], Strokes]


@dataclass(frozen=True)
class Outcome:
    """Answers in the order of their queries, exact labels (H,W) u8 per image, and the queries left half painted."""

    answers: Answers
    masks: dict[str, np.ndarray]
    unfinished: int = 0


class Said(NamedTuple):
    """What Q queries got: classes (Q,C) bool; void, nobody knows, painted in part but open (Q,) bool."""

    named: np.ndarray
    void: np.ndarray
    skip: np.ndarray
    unfinished: np.ndarray


class Finished(NamedTuple):
    """Which of Q queries have exact labels, could not be answered, are painted in part but open (Q,) bool."""

    done: np.ndarray
    skip: np.ndarray
    unfinished: np.ndarray


def require_paintable(questions: Questions) -> None:
    """BadInput for queries whose answers are no matter of pixels."""
    queries = questions.queries
    if queries.answer in ("image-class", "image-classes"):
        raise BadInput(f"{queries.path} asks for classes of whole images, which nobody paints; use .csv or .json.")


def require_size(size: Size, image: str, questions: Questions, resize: bool) -> None:
    """BadInput where ``image`` was painted in another ``size`` than it has, unless it may be resized."""
    right = questions.data.sizes[image]
    if size != right and (not resize or size[0] * size[1] > MOST_PIXELS):
        told = " and ".join(f"{width}x{height}" for height, width in (size, right))
        raise BadInput(
            f"The answer about image {image} and the image differ in size ({told}); paint the dataset's images "
            "(export-queries --images writes them), or give --resize."
        )


def painted_answers(questions: Questions, painted: Mapping[str, Painting], settings: ImportSettings) -> Outcome:
    """The answers in ``painted`` (by image id) to those queries whose images are there.

    Where a class is asked for it is the one that covers most of the query, where sets are asked for all that cover a
    pixel of it; a query stays open as long as more of it is open than any class covers, or than all of them in a set.
    Exact labels are taken as they are, once no pixel of the query is open; what nobody painted is void. A query without
    any paint stays open. Raises BadInput for images painted in another size than they have.
    """
    require_paintable(questions)
    exact = questions.queries.answer in EXACT
    answering = exact_answers if exact else named_answers
    images = [image for image in questions.rows if image in painted]
    for image in images:
        require_size(painted[image].size, image, questions, settings.resize)
    return answering(questions, {image: painted[image] for image in images}, settings)


def on_grid(seen: np.ndarray, image: str, questions: Questions) -> np.ndarray:
    """A map (H,W) of ``image`` on the grid of its queries, resized to the image before where it has another size."""
    return map_on_grid(resize_mask(seen, *questions.data.sizes[image]), questions.queries.sizes[image])


@dataclass(frozen=True)
class Below:
    """The pixels of the Q queries of an image: flat index on their grid and number of the query, (P,) i64."""

    index: np.ndarray
    owner: np.ndarray
    queries: int

    @classmethod
    def of(cls, questions: Questions, image: str) -> Self:
        queries = len(questions.rows[image])
        return cls(*questions.areas(image).pixels(np.arange(queries)), queries)

    def counted(self, seen: np.ndarray) -> np.ndarray:
        """(Q,256) i64 pixels of every value in each query; seen (H,W) u8 on the grid."""
        codes = self.owner * VALUES + seen.ravel()[self.index]
        return np.bincount(codes, minlength=self.queries * VALUES).reshape(self.queries, VALUES)


def named_answers(questions: Questions, painted: Mapping[str, Painting], settings: ImportSettings) -> Outcome:
    """Answers that name classes."""
    count, classes = len(questions.queries), len(questions.classes)
    every = Said(np.zeros((count, classes), dtype=bool), *(np.zeros(count, dtype=bool) for _ in range(3)))
    with Progress("reading answers", len(painted)) as bar:
        for image, painting in painted.items():
            strokes, below = painting.read(), Below.of(questions, image)
            above = below.counted(on_grid(strokes.above(), image, questions))
            if questions.of_sets:
                apart = [below.counted(on_grid(seen, image, questions)) for seen in strokes.apart()]
                said = all_classes(above, np.sum(apart, axis=0), classes)
            else:
                said = one_class(above, classes)
            for whole, part in zip(every, said, strict=True):
                whole[questions.rows[image]] = part
            bar.advance()
    answered = np.flatnonzero(every.named.any(1) | every.void | every.skip)
    new = answer_rows(questions, answered, every.named[answered], every.void[answered], every.skip[answered])
    new = replace(new, seconds=new.clicks * np.float32(settings.seconds_per_click))
    return Outcome(new, {}, int(every.unfinished.sum()))


def one_class(above: np.ndarray, classes: int) -> Said:
    """What covers most of each query; above (Q,256) as `Below.counted` has what is seen from above."""
    told = np.column_stack([above[:, :classes], above[:, [VOID, SKIP, OPEN]]])
    best = np.where(told.any(1), told.argmax(1), -1)  # ties: the smallest class
    void, skip, still_open = (best == classes + place for place in range(3))
    return Said(best[:, None] == np.arange(classes), void, skip, still_open & told[:, :-1].any(1))


def all_classes(above: np.ndarray, painted: np.ndarray, classes: int) -> Said:
    """Every class with a pixel in the query; above (Q,256), painted (Q,256) also what lies below something else."""
    named, void = painted[:, :classes] > 0, painted[:, VOID] > 0
    answered = named.any(1) | void
    still_open = above[:, OPEN] > above[:, :classes].sum(1) + above[:, VOID]
    skip = (painted[:, SKIP] > 0) & ~answered & ~still_open
    return Said(named & ~still_open[:, None], void & ~still_open, skip, still_open & answered)


def exact_answers(questions: Questions, painted: Mapping[str, Painting], settings: ImportSettings) -> Outcome:
    """Answers that label every pixel of their query."""
    queries, classes = questions.queries, len(questions.classes)
    every = Finished(*(np.zeros(len(queries), dtype=bool) for _ in range(3)))
    votes = np.zeros((len(queries), classes + 1), dtype=np.int32)
    clicks = np.ones(len(queries), dtype=np.float32)
    masks: dict[str, np.ndarray] = {}
    with Progress("reading answers", len(painted)) as bar:
        for image, painting in painted.items():
            rows, below = questions.rows[image], Below.of(questions, image)
            seen = on_grid(painting.read().above(), image, questions)
            counts = below.counted(seen)
            ended = finished(counts, classes, queries.unit)
            for whole, part in zip(every, ended, strict=True):
                whole[rows] = part
            labelled = ended.done & ~ended.skip
            told = np.column_stack([counts[:, :classes], counts[:, classes:].sum(1)])
            votes[rows[labelled]] = told[labelled]
            mask = exact_mask(below, seen, labelled, classes)
            if mask is not None:
                masks[image] = mask
            clicks[rows[labelled]] = exact_clicks(questions, image, seen, settings)[labelled]
            bar.advance()
    asked = np.flatnonzero(every.done)
    columns: dict[str, Any] = {
        "clicks": clicks[asked],
        "state": np.where(every.skip, states.SKIPPED, states.ANSWERED)[asked],
        "seconds": settings.seconds_per_mask,
    }
    if queries.unit == "region":
        columns |= {
            "region": queries.region[asked],
            "areas": questions.every_area().taken(asked),
            "votes": votes[asked],
            "seconds": clicks[asked] * np.float32(settings.seconds_per_click),
        }
    new = Answers.of(len(asked), classes, image=queries.image[asked], round=queries.round, **columns)
    return Outcome(new, masks, int(every.unfinished.sum()))


def finished(counts: np.ndarray, classes: int, unit: str) -> Finished:
    """Which queries have exact answers; counts (Q,256) as `Below.counted` has them."""
    every, still_open, nothing = counts.sum(1), counts[:, OPEN], counts[:, UNPAINTED]
    done = (still_open == 0) & (nothing < every)
    skip = done & (counts[:, SKIP] + nothing == every)
    if unit == "image":  # a mask shows something, or it is none
        done, skip = done & counts[:, :classes].any(1), np.zeros_like(skip)
    return Finished(done, skip, ~done & (still_open + nothing < every))


def exact_mask(below: Below, seen: np.ndarray, done: np.ndarray, classes: int) -> np.ndarray | None:
    """The labels (H,W) u8 in the queries that are ``done`` (Q,); None where they hold only void."""
    labelled = below.index[done[below.owner] & (seen.ravel()[below.index] < classes)]
    if not len(labelled):
        return None
    mask = np.full(seen.shape, VOID, dtype=np.uint8)
    mask.ravel()[labelled] = seen.ravel()[labelled]
    return mask


def exact_clicks(questions: Questions, image: str, seen: np.ndarray, settings: ImportSettings) -> np.ndarray:
    """(Q,) clicks of exact answers: those of a mask, or of the polygons that outline what is in a region."""
    if questions.regions is None:
        return np.full(len(questions.rows[image]), settings.clicks_per_mask)
    wanted = questions.queries.region[questions.rows[image]] - np.int32(questions.regions.rows[image].start)
    known = np.where(seen < len(questions.classes), seen, np.uint8(VOID))
    return precise_clicks(known, questions.regions.labels(image), wanted, None)
