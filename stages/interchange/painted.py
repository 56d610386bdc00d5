"""Answers that were painted: what the pixels of every query say."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from stages.annotation.regions import precise_clicks
from stages.artifacts import answers as states
from stages.artifacts.answers import Answers
from stages.artifacts.dataset import VOID
from stages.console import Progress
from stages.datasets.resize import resize_mask
from stages.errors import BadInput
from stages.interchange.values import OPEN, SKIPPED, UNPAINTED
from stages.people.outcome import answer_rows
from stages.people.questions import EXACT, Questions
from stages.regions.grid import Size, map_on_grid
from stages.settings.stages import ImportSettings

VALUES = 256


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


Painted = Mapping[str, Callable[[], Strokes]]  # image id -> what is painted there, read when asked for


@dataclass(frozen=True)
class Outcome:
    """Answers in the order of their queries, exact labels (H,W) u8 per image, and the queries left half painted."""

    answers: Answers
    masks: dict[str, np.ndarray]
    unfinished: int = 0


def require_paintable(questions: Questions) -> None:
    """BadInput for queries whose answers are no matter of pixels."""
    queries = questions.queries
    if queries.answer in ("image-class", "image-classes"):
        raise BadInput(f"{queries.path} asks for classes of whole images, which nobody paints; use .csv or .json.")


def painted_answers(questions: Questions, painted: Painted, settings: ImportSettings) -> Outcome:
    """The answers in ``painted`` to those queries whose images are there.

    Where a class is asked for it is the one that covers most of the query, where sets are asked for all that cover a
    pixel of it. Exact labels are taken as they are, once no pixel of the query is open; what nobody painted is void.
    A query without any paint stays open. Raises BadInput for images painted in another size than they have.
    """
    require_paintable(questions)
    exact = questions.queries.answer in EXACT
    counts = np.zeros((len(questions.queries), VALUES), dtype=np.int32)
    clicks = np.ones(len(questions.queries), dtype=np.float32)
    masks: dict[str, np.ndarray] = {}
    images = [image for image in questions.rows if image in painted]
    with Progress("reading answers", len(images)) as bar:
        for image in images:
            rows, strokes = questions.rows[image], painted[image]()
            if questions.of_sets:
                maps = (on_grid(seen, image, questions, settings.resize) for seen in strokes.apart())
                counts[rows] = counted(questions, image, maps)
            else:
                above = on_grid(strokes.above(), image, questions, settings.resize)
                counts[rows] = counted(questions, image, [above])
                if exact:
                    done = finished(counts[rows], questions).done
                    masks |= exact_mask(questions, image, above, done)
                    clicks[rows[done]] = exact_clicks(questions, image, above, settings)[done]
            bar.advance()
    if exact:
        return exact_answers(questions, counts, clicks, masks, settings)
    return Outcome(named_answers(questions, counts, settings), {})


def on_grid(seen: np.ndarray, image: str, questions: Questions, resize: bool) -> np.ndarray:
    """A map (H,W) of ``image`` on the grid of its queries."""
    size = questions.data.sizes[image]
    if seen.shape != size:
        if not resize:
            told = " and ".join(f"{width}x{height}" for height, width in (seen.shape, size))
            raise BadInput(
                f"The answer about image {image} and the image differ in size ({told}); paint the dataset's images "
                "(export-queries --images writes them), or give --resize."
            )
        seen = resize_mask(seen, *size)
    return map_on_grid(seen, questions.queries.sizes[image])


def counted(questions: Questions, image: str, maps: Iterable[np.ndarray]) -> np.ndarray:
    """(Q,256) i64 pixels of every value in each query of ``image``, over all ``maps`` (H,W) u8."""
    rows = len(questions.rows[image])
    index, owner = questions.areas(image).pixels(np.arange(rows))
    total = np.zeros(rows * VALUES, dtype=np.int64)
    for values in maps:
        total += np.bincount(owner * VALUES + values.ravel()[index], minlength=len(total))
    return total.reshape(rows, VALUES)


def named_answers(questions: Questions, counts: np.ndarray, settings: ImportSettings) -> Answers:
    """Answers that name classes; counts (Q,256) as `counted` has them."""
    classes = len(questions.classes)
    told = counts[:, :classes]
    if questions.of_sets:
        named, void = told > 0, counts[:, VOID] > 0
        skip = (counts[:, SKIPPED] > 0) & ~named.any(1) & ~void
    else:
        every = np.column_stack([told, counts[:, VOID], counts[:, SKIPPED]])
        best = np.where(every.any(1), every.argmax(1), -1)  # ties: the smallest class
        named, void, skip = best[:, None] == np.arange(classes), best == classes, best == classes + 1
    answered = np.flatnonzero(named.any(1) | void | skip)
    new = answer_rows(questions, answered, named[answered], void[answered], skip[answered])
    return replace(new, seconds=new.clicks * np.float32(settings.seconds_per_click))


def exact_clicks(questions: Questions, image: str, seen: np.ndarray, settings: ImportSettings) -> np.ndarray:
    """(Q,) clicks of exact answers: those of a mask, or of the polygons that outline what is in a region."""
    if questions.regions is None:
        return np.full(len(questions.rows[image]), settings.clicks_per_mask)
    classes = len(questions.classes)
    wanted = questions.queries.region[questions.rows[image]] - np.int32(questions.regions.rows[image].start)
    known = np.where(seen < classes, seen, np.uint8(VOID))
    return precise_clicks(known, questions.regions.labels(image), wanted, None)


class Finished(NamedTuple):
    """Per query (Q,) bool: it is answered, nobody could answer it, it is painted in part."""

    done: np.ndarray
    skip: np.ndarray
    unfinished: np.ndarray


def finished(counts: np.ndarray, questions: Questions) -> Finished:
    """Which queries have exact answers; counts (Q,256) as `counted` has them."""
    every, still_open, nothing = counts.sum(1), counts[:, OPEN], counts[:, UNPAINTED]
    done = (still_open == 0) & (nothing < every)
    skip = done & (counts[:, SKIPPED] + nothing == every)
    if questions.queries.unit == "image":  # a mask is there or not
        done, skip = done & ~skip, np.zeros_like(skip)
    return Finished(done, skip, (still_open > 0) & (still_open + nothing < every))


def exact_mask(questions: Questions, image: str, seen: np.ndarray, done: np.ndarray) -> dict[str, np.ndarray]:
    """The labels (H,W) u8 in the queries of ``image`` that are ``done`` (Q,); none where regions hold only void."""
    index, owner = questions.areas(image).pixels(np.arange(len(done)))
    labelled = index[done[owner] & (seen.ravel()[index] < len(questions.classes))]
    if not len(labelled) and not (questions.queries.unit == "image" and done.any()):
        return {}
    mask = np.full(seen.shape, VOID, dtype=np.uint8)
    mask.ravel()[labelled] = seen.ravel()[labelled]
    return {image: mask}


def exact_answers(
    questions: Questions, counts: np.ndarray, clicks: np.ndarray, masks: dict[str, np.ndarray], settings: ImportSettings
) -> Outcome:
    """Answers that label every pixel of their query; counts (Q,256), clicks (Q,), masks (H,W) u8 per image."""
    queries, classes = questions.queries, len(questions.classes)
    done, skip, unfinished = finished(counts, questions)
    asked = np.flatnonzero(done)
    columns: dict[str, Any] = {
        "clicks": np.where(skip, 1, clicks)[asked],
        "state": np.where(skip, states.SKIPPED, states.ANSWERED)[asked],
        "seconds": settings.seconds_per_mask,
    }
    if queries.unit == "region":
        named = counts[asked, :classes]
        votes = np.column_stack([named, counts[asked].sum(1) - named.sum(1)])
        columns |= {
            "region": queries.region[asked],
            "areas": questions.every_area().taken(asked),
            "votes": np.where(skip[asked, None], 0, votes).astype(np.int32),
            "seconds": columns["clicks"] * np.float32(settings.seconds_per_click),
        }
    new = Answers.of(len(asked), classes, image=queries.image[asked], round=queries.round, **columns)
    return Outcome(new, masks, int(unfinished.sum()))
