"""Reads answers from painted images, by the pixels of each query."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np

from stages.answering.clicks import precise_clicks
from stages.answering.exchange.values import OPEN, SKIP, UNPAINTED
from stages.answering.questions import EXACT, Questions
from stages.answering.rows import answer_rows
from stages.artifacts import answers as states
from stages.artifacts.answers import Answers
from stages.pixels.grids import Size, map_on_grid
from stages.pixels.resize import resize_mask
from stages.pixels.void import VOID
from stages.runtime.console import Progress
from stages.runtime.errors import BadInput
from stages.settings.annotate_simulate import ClickCost, MaskCost
from stages.settings.base import existing

VALUES = 256
MOST_PIXELS = 1 << 28  # of a painted image that is resized


@dataclass(frozen=True)
class Strokes:
    """The painted pixels of one image; later ones lie on top of earlier ones.

    size (height, width); index (P,) i64 of the row-major flat image, each pixel as often as it was painted; value (P,)
    u8.
    """

    size: Size
    index: np.ndarray
    value: np.ndarray

    def above(self) -> np.ndarray:
        """(H,W) u8 the topmost value of each pixel."""
        seen = np.full(self.size, UNPAINTED, dtype=np.uint8)
        seen.ravel()[self.index] = self.value  # for a pixel that occurs twice, the last value wins
        return seen

    def apart(self) -> Iterator[np.ndarray]:
        """For each value, a map (H,W) u8 of where it was painted, even if others lie on top."""
        for value in np.unique(self.value).tolist():
            alone = self.value == value
            yield Strokes(self.size, self.index[alone], self.value[alone]).above()


@dataclass(frozen=True)
class Painting:
    """A painted image: its size, and a function that reads its strokes."""

    size: Size
    read: Callable[[], Strokes]


@dataclass(frozen=True)
class Imported:
    """Answers in the order of their queries, exact labels (H,W) u8 per image, number of partly painted queries."""

    answers: Answers
    masks: dict[str, np.ndarray]
    unfinished: int = 0


class Named(NamedTuple):
    """Answers to Q queries: classes (Q,C) bool; void, don't know, partly painted but open (Q,) bool."""

    named: np.ndarray
    void: np.ndarray
    skip: np.ndarray
    unfinished: np.ndarray


class Finished(NamedTuple):
    """Which of Q queries have exact labels, were skipped, or are partly painted but open: (Q,) bool each."""

    done: np.ndarray
    skip: np.ndarray
    unfinished: np.ndarray


def require_paintable(questions: Questions) -> None:
    """BadInput for queries of image classes, which cannot be painted."""
    queries = questions.queries
    if queries.answer in ("image-class", "image-classes"):
        raise BadInput(f"{queries.path} contains queries of image classes, which cannot be painted. Use .csv or .json.")


def require_size(size: Size, right: Size, image: str, resize: bool) -> None:
    """BadInput if ``size``, in which ``image`` was painted, is not the ``right`` one, unless it may be resized."""
    if size != right and (not resize or size[0] * size[1] > MOST_PIXELS):
        sizes = " and ".join(f"{width}x{height}" for height, width in (size, right))
        raise BadInput(
            f"The answer about image {image} and the image differ in size ({sizes}). Paint the dataset's images "
            "(export-queries --images writes them), or pass --resize."
        )


def painted_answers(
    questions: Questions,
    painted: Mapping[str, Painting],
    click: ClickCost | None,
    mask: MaskCost | None,
    resize: bool = False,
) -> Imported:
    """The answers in ``painted`` (by image id) to the queries of these images.

    One class: the class that covers most of the query. Class sets: all classes that cover a pixel of it. A query stays
    open while more of it is open than any class covers, or than all classes of a set cover together. Exact labels are
    used as they are once no pixel of the query is open; unpainted pixels are void. An unpainted query stays open.
    ``mask`` is the cost of a full mask, ``click`` that of a click in any other answer. BadInput for images painted in
    another size, unless ``resize`` is set.
    """
    require_paintable(questions)
    found = {image: painted[image] for image in questions.rows if image in painted}
    for image, painting in found.items():
        require_size(painting.size, questions.data.sizes[image], image, resize)
    if questions.queries.answer in EXACT:
        return exact_answers(questions, found, click, mask)
    return named_answers(questions, found, existing(click).seconds_per_click)


def on_grid(seen: np.ndarray, image: str, questions: Questions) -> np.ndarray:
    """A map (H,W) of ``image`` on the grid of its queries; a map of another size is first resized to the image."""
    return map_on_grid(resize_mask(seen, *questions.data.sizes[image]), questions.queries.sizes[image])


@dataclass(frozen=True)
class Below:
    """The pixels of the Q queries of an image: flat index on their grid and number of the query, (P,) i64 each."""

    index: np.ndarray
    owner: np.ndarray
    queries: int

    @classmethod
    def of(cls, questions: Questions, image: str) -> Self:
        queries = len(questions.rows[image])
        return cls(*questions.areas(image).pixels(np.arange(queries)), queries)

    def counted(self, seen: np.ndarray) -> np.ndarray:
        """(Q,256) i64 pixels of each value in each query; seen (H,W) u8 on the grid."""
        codes = self.owner * VALUES + seen.ravel()[self.index]
        return np.bincount(codes, minlength=self.queries * VALUES).reshape(self.queries, VALUES)


def named_answers(questions: Questions, painted: Mapping[str, Painting], seconds_per_click: float) -> Imported:
    """Answers that name classes."""
    count, classes = len(questions.queries), len(questions.classes)
    every = Named(np.zeros((count, classes), dtype=bool), *(np.zeros(count, dtype=bool) for _ in range(3)))
    with Progress("reading answers", len(painted)) as bar:
        for image, painting in painted.items():
            strokes, below = painting.read(), Below.of(questions, image)
            above = below.counted(on_grid(strokes.above(), image, questions))
            if questions.of_sets:
                apart = [below.counted(on_grid(seen, image, questions)) for seen in strokes.apart()]
                named = all_classes(above, np.sum(apart, axis=0), classes)
            else:
                named = one_class(above, classes)
            for whole, part in zip(every, named, strict=True):
                whole[questions.rows[image]] = part
            bar.advance()
    answered = np.flatnonzero(every.named.any(1) | every.void | every.skip)
    new = answer_rows(questions, answered, every.named[answered], every.void[answered], every.skip[answered])
    new = replace(new, seconds=new.clicks * np.float32(seconds_per_click))
    return Imported(new, {}, int(every.unfinished.sum()))


def one_class(above: np.ndarray, classes: int) -> Named:
    """The value that covers most of each query; above (Q,256) counts the topmost values, see `Below.counted`."""
    votes = np.column_stack([above[:, :classes], above[:, [VOID, SKIP, OPEN]]])
    best = np.where(votes.any(1), votes.argmax(1), -1)  # ties: the smallest class
    void, skip, still_open = (best == classes + place for place in range(3))
    return Named(best[:, None] == np.arange(classes), void, skip, still_open & votes[:, :-1].any(1))


def all_classes(above: np.ndarray, painted: np.ndarray, classes: int) -> Named:
    """All classes with a pixel in the query; above (Q,256) as in `one_class`, painted (Q,256) counts all values."""
    named, void = painted[:, :classes] > 0, painted[:, VOID] > 0
    answered = named.any(1) | void
    still_open = above[:, OPEN] > above[:, :classes].sum(1) + above[:, VOID]
    skip = (painted[:, SKIP] > 0) & ~answered & ~still_open
    return Named(named & ~still_open[:, None], void & ~still_open, skip, still_open & answered)


def exact_answers(
    questions: Questions, painted: Mapping[str, Painting], click: ClickCost | None, mask: MaskCost | None
) -> Imported:
    """Answers that label each pixel of their query; ``mask`` is the cost of an image, ``click`` a click in a region."""
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
            votes[rows[labelled]] = np.column_stack([counts[:, :classes], counts[:, classes:].sum(1)])[labelled]
            exact = exact_mask(below, seen, labelled, classes)
            if exact is not None:
                masks[image] = exact
            clicks[rows[labelled]] = exact_clicks(questions, image, seen, mask)[labelled]
            bar.advance()
    answered = np.flatnonzero(every.done)
    columns: dict[str, Any] = {
        "clicks": clicks[answered],
        "purpose": queries.purpose[answered],
        "state": np.where(every.skip, states.SKIPPED, states.ANSWERED)[answered],
    }
    if queries.unit == "region":
        columns |= {
            "region": queries.region[answered],
            "areas": questions.every_area().taken(answered),
            "votes": votes[answered],
            "seconds": clicks[answered] * np.float32(existing(click).seconds_per_click),
        }
    else:
        columns["seconds"] = existing(mask).seconds_per_mask
    new = Answers.of(len(answered), classes, image=queries.image[answered], round=queries.round, **columns)
    return Imported(new, masks, int(every.unfinished.sum()))


def finished(counts: np.ndarray, classes: int, unit: str) -> Finished:
    """Which queries have exact labels; counts (Q,256) of the topmost values, see `Below.counted`."""
    every, still_open, nothing = counts.sum(1), counts[:, OPEN], counts[:, UNPAINTED]
    done = (still_open == 0) & (nothing < every)
    skip = done & (counts[:, SKIP] + nothing == every)
    if unit == "image":  # a mask must contain a class
        done, skip = done & counts[:, :classes].any(1), np.zeros_like(skip)
    return Finished(done, skip, ~done & (still_open + nothing < every))


def exact_mask(below: Below, seen: np.ndarray, done: np.ndarray, classes: int) -> np.ndarray | None:
    """The labels (H,W) u8 in the queries that are ``done`` (Q,); None if they contain only void."""
    labelled = below.index[done[below.owner] & (seen.ravel()[below.index] < classes)]
    if not len(labelled):
        return None
    mask = np.full(seen.shape, VOID, dtype=np.uint8)
    mask.ravel()[labelled] = seen.ravel()[labelled]
    return mask


def exact_clicks(questions: Questions, image: str, seen: np.ndarray, mask: MaskCost | None) -> np.ndarray:
    """(Q,) clicks of exact labels: those of a mask, or of the polygons that outline the classes in a region."""
    if questions.regions is None:
        return np.full(len(questions.rows[image]), existing(mask).clicks_per_mask)
    wanted = questions.queries.region[questions.rows[image]] - np.int32(questions.regions.rows[image].start)
    known = np.where(seen < len(questions.classes), seen, np.uint8(VOID))
    return precise_clicks(known, questions.regions.labels(image), wanted, None)
