"""Which annotator answers which query: leases, answers, undo, progress. Only the journal outlives the process."""

import statistics
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from stages.answering.answer import Answer, fault, name_fault
from stages.answering.browser.guide import Guide
from stages.answering.browser.masks import MaskFiles
from stages.answering.browser.originals import Originals
from stages.answering.browser.pins import UNNAMED, Pins
from stages.answering.browser.refused import Refused
from stages.answering.browser.suggestions import Suggestions
from stages.answering.journal import Journal
from stages.answering.questions import Questions
from stages.artifacts.answers import MOST_ANNOTATORS
from stages.settings.annotate import PeopleSettings
from stages.settings.base import existing
from stages.settings.keys import class_keys

GIVEN = {"classes", "void", "skip", "mask"}  # what an answer says
MOST_PINS = 200  # earlier answers shown in an image
MOST_REVIEWED = 1000  # answers in the grid
FEWEST_TIMES = 3  # answers of an annotator from which on they alone estimate the time left, not those of all
RECENT_TIMES = 200


@dataclass(frozen=True)
class Shown:
    """What the page shows beside the question.

    ``pins``: answers of earlier rounds, (y, x, class) by image and annotator. ``answered_before``: who answered the
    queries that are asked again.
    """

    originals: Originals | None = None
    guide: Guide | None = None
    suggestions: Suggestions | None = None
    pins: Pins = field(default_factory=dict)
    answered_before: Mapping[int, Collection[str]] = field(default_factory=dict)


@dataclass
class Lease:
    """A query reserved for the page that shows it, until a time of the session's clock."""

    client: str
    annotator: str
    until: float


class Session:
    """The state that all pages share; all methods may be called from any thread.

    A ``client`` is one open page, an annotator the name that is recorded with its answers.
    """

    def __init__(
        self,
        questions: Questions,
        journal: Journal,
        settings: PeopleSettings,
        known_annotators: Collection[str] = (),
        masks: MaskFiles | None = None,
        clock: Callable[[], float] = time.monotonic,
        shown: Shown | None = None,
        editing: bool = False,
    ):
        self.questions, self.journal, self.settings, self.clock = questions, journal, settings, clock
        self.masks, self.editing = masks, editing
        self.extras = Shown() if shown is None else shown
        self.keys = class_keys(settings.keys, settings.commands(), questions.classes)
        self.order = questions.order
        self.position = {query: place for place, query in enumerate(self.order)}
        self.answers: dict[int, Answer] = {}  # the last answer to each query
        self.pages_of: dict[int, str] = {}  # the page of the last answer to each query, since the server started
        self.revisions: dict[int, int] = {}  # number of answers to each query so far, corrections included
        self.seconds: dict[int, float] = {}  # time spent on each query, corrections included
        self.clicks: dict[int, int | None] = {}  # clicks on the page for each mask; None: a file was chosen
        self.reviewing: dict[str, float] = {}  # until when a page looks at the grid of answers
        self.times: dict[str, list[float]] = {}
        self.names = set(known_annotators)
        self.leases: dict[int, Lease] = {}
        self.pages: set[str] = set()  # open pages that do not know the result yet
        self.working: dict[str, tuple[str, float]] = {}  # of open pages: the annotator, and when it last asked
        self.aside: dict[str, set[int]] = {}  # queries that a client moved to the end
        self.place: dict[str, int] = {}  # position of a client in the order
        self.closed = False
        self.touched = clock()
        self.result = ""
        self.ended = threading.Event()  # set once there is a result
        self.lock = threading.RLock()
        for answer in journal.answers:
            self.count(answer)

    # --- requests of pages -------------------------------------------------------------------------------------------

    def ask(self, client: str, annotator: str, message: str = "") -> dict[str, Any]:
        """The next query for a client, or the one that it holds if that is still open."""
        with self.lock:
            self.require_open()
            self.require_name(annotator)
            self.pages.add(client)
            self.working[client] = annotator, self.clock()
            self.reviewing.pop(client, None)
            for held in [query for query, lease in self.leases.items() if lease.client == client]:
                if held in self.answers:  # shown again, but not changed
                    del self.leases[held]
            query = self.next_query(client, annotator)
            if query is not None:
                self.lease(query, client, annotator)
                self.place[client] = self.position[query]
            return self.situation(client, annotator, query, message)

    def answer(self, client: str, answer: Answer, revision: int) -> dict[str, Any]:
        """Saves an answer; returns the next query.

        ``revision`` is the number of answers to the query that the page knew of. Conflict if there are others by now.
        """
        with self.lock:
            self.require_open()
            wrong = fault(answer, self.questions)
            if wrong is not None:
                raise Refused(422, wrong)
            if answer.mask and not (self.masks and self.masks.has(answer.query, answer.mask)):
                raise Refused(422, "The mask was not found. Choose the file again.")
            self.require_name(answer.annotator)
            known, last = self.revisions.get(answer.query, 0), self.answers.get(answer.query)
            if last is not None and revision == known - 1 and same_answer(last, answer):
                return self.ask(client, answer.annotator)  # sent twice because our response was lost
            if revision != known or (last is not None and last.annotator != answer.annotator):
                who = f"“{last.annotator}”" if last is not None else "Somebody"
                raise Conflict(f"{who} answered this query in the meantime. Your answer was not saved.")
            most = self.settings.most_seconds * (answer.clicks + 1)
            answer = answer.model_copy(
                update={
                    "seconds": round(min(answer.seconds, most), 3),
                    **self.suggested(answer, last),
                    "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                }
            )
            self.journal.append([answer])
            self.count(answer)
            self.pages_of[answer.query] = client
            if self.masks is not None:
                self.masks.remove_all_but([answer], answer.query)
            self.touched = self.clock()
            self.leases.pop(answer.query, None)
            for aside in self.aside.values():
                aside.discard(answer.query)
            return self.ask(client, answer.annotator)

    def back(self, client: str, annotator: str, query: int | None) -> dict[str, Any]:
        """Reopens the query that this page answered before ``query``, or last if it did not answer ``query``.

        Answers of closed pages belong to every page with the same annotator.
        """
        with self.lock:
            self.require_open()
            self.require_name(annotator)
            mine = self.answered_by(client, annotator)
            if query in mine:
                mine = mine[: mine.index(query)]
            if not mine:
                raise Refused(409, "You have no earlier answer to change.")
            return self.reopened(client, annotator, mine[-1])

    def reopen(self, client: str, annotator: str, query: int) -> dict[str, Any]:
        """Reopens a query that this page answered, as `back` does."""
        with self.lock:
            self.require_open()
            self.require_name(annotator)
            if query not in self.answered_by(client, annotator):
                raise Refused(409, "This is not an answer of yours. Reload the page.")
            return self.reopened(client, annotator, query)

    def review(self, client: str, annotator: str) -> dict[str, Any]:
        """The answers that this page may change, the last ones first; the end waits until it has looked at them."""
        with self.lock:
            self.require_open()
            self.require_name(annotator)
            self.pages.add(client)
            self.reviewing[client] = self.clock() + 60 * self.settings.lease_minutes
            mine = self.answered_by(client, annotator)[::-1][:MOST_REVIEWED]
            return {"answers": [self.reviewed(query) for query in mine]}

    def reviewed(self, query: int) -> dict[str, Any]:
        given = self.answers[query].model_dump(include=GIVEN)
        return {**self.questions.place(query), "query": query, "revision": self.revisions[query], "answer": given}

    def put_off(self, client: str, annotator: str, query: int) -> dict[str, Any]:
        """Moves ``query`` to the end, and returns the next one."""
        with self.lock:
            self.require_open()
            self.require_name(annotator)
            if query not in self.position:
                raise Refused(422, f"Unknown query {query}. Reload the page.")
            lease = self.leases.get(query)
            if lease is not None and lease.client == client:
                del self.leases[query]
            if query not in self.answers:
                self.aside.setdefault(client, set()).add(query)
            return self.ask(client, annotator)

    def leave(self, client: str) -> None:
        """Frees the query of a page that was closed or knows the result."""
        with self.lock:
            self.pages.discard(client)
            self.working.pop(client, None)
            self.reviewing.pop(client, None)
            self.leases = {query: lease for query, lease in self.leases.items() if lease.client != client}

    def finish(self) -> None:
        """Ends answering; unanswered queries stay open."""
        with self.lock:
            self.require_open()
            if not self.answers:
                raise Refused(409, "There are no answers yet, so there is no ledger to write.")
            self.closed = True

    @property
    def takes_files(self) -> bool:
        """Whether masks painted in other tools are taken."""
        return self.masks is not None and self.settings.mask is not None

    # --- calls of the stage ------------------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        return len(self.answers) == len(self.order)

    def close_when_complete(self) -> None:
        """Ends answering if all queries are answered, no page shows one, and the time to undo is over.

        Answers that are changed once the ledger was written end when somebody finishes.
        """
        with self.lock:
            if not self.complete or self.editing or self.live_leases():
                return
            reviewed = any(until > self.clock() for until in self.reviewing.values())
            if not reviewed and self.clock() - self.touched >= self.settings.grace:
                self.closed = True

    def close(self) -> None:
        with self.lock:
            self.closed = True

    def end(self, result: str) -> None:
        """Sends the result to the pages that wait for it."""
        self.result = result
        self.ended.set()

    # --- internals; the lock is held ----------------------------------------------------------------------------

    def require_open(self) -> None:
        if self.closed:
            raise Refused(410, "Answering has ended.")

    def require_name(self, annotator: str) -> None:
        wrong = name_fault(annotator)
        if wrong is None and annotator not in self.names and len(self.names) >= MOST_ANNOTATORS:
            wrong = f"A ledger has room for {MOST_ANNOTATORS} annotators. Choose one of the names used before."
        if wrong is not None:
            raise Refused(422, wrong)

    def count(self, answer: Answer) -> None:
        query = answer.query
        self.answers.pop(query, None)  # keeps the answers in the order in which they were last changed
        self.answers[query] = answer
        self.revisions[query] = self.revisions.get(query, 0) + 1
        self.seconds[query] = self.seconds.get(query, 0.0) + answer.seconds
        before = self.clicks.get(query, 0)
        self.clicks[query] = before + answer.clicks if before is not None and answer.clicks else None
        self.times.setdefault(answer.annotator, []).append(answer.seconds)
        self.names.add(answer.annotator)

    def answered_by(self, client: str, annotator: str) -> list[int]:
        """The queries whose answers a page may change, in the order in which they were last changed."""
        others = self.pages - {client}
        return [
            query
            for query, answer in self.answers.items()
            if answer.annotator == annotator and self.pages_of.get(query) not in others
        ]

    def reopened(self, client: str, annotator: str, query: int) -> dict[str, Any]:
        holder = self.leases.get(query)
        if holder is not None and self.is_held(query, client):
            raise Refused(409, f"“{holder.annotator}” has that answer open in another window.")
        self.touched = self.clock()
        self.lease(query, client, annotator)
        return self.situation(client, annotator, query, "")

    def lease(self, query: int, client: str, annotator: str) -> None:
        minutes = self.settings.lease_minutes
        if self.takes_files:  # the page sends nothing while a mask is painted in another tool
            minutes = max(minutes, 2 * existing(self.settings.mask).seconds_per_mask / 60)
        self.leases[query] = Lease(client, annotator, self.clock() + 60 * minutes)

    def live_leases(self) -> dict[int, Lease]:
        now = self.clock()
        return {query: lease for query, lease in self.leases.items() if lease.until > now}

    def is_held(self, query: int, client: str) -> bool:
        """Whether another page holds the query."""
        lease = self.leases.get(query)
        return lease is not None and lease.client != client and lease.until > self.clock()

    def next_query(self, client: str, annotator: str) -> int | None:
        """The query that the client holds; otherwise the next one in an image without other annotators; otherwise any.

        Queries moved to the end come last. If nothing else is left, one that another window of the same annotator
        holds: that window was probably lost.
        """
        for query, lease in self.leases.items():
            if lease.client == client and query not in self.answers:
                return query
        aside = self.aside.get(client, set())
        free = next(self.free(client, annotator), None)
        if free is not None:
            return free
        left = list(self.left(client, annotator))
        left = [query for query in left if query not in aside] or left
        if left:
            aside.difference_update(left)
            return left[0]
        mine = [query for query, lease in self.leases.items() if lease.annotator == annotator]
        return next((query for query in mine if query not in self.answers), None)

    def free(self, client: str, annotator: str) -> Iterator[int]:
        """Open queries that the client did not put off, in its image and in those without other annotators."""
        aside = self.aside.get(client, set())
        own = self.questions.image(self.order[self.place[client]]) if client in self.place else None
        others = {self.questions.image(query) for query, lease in self.live_leases().items() if lease.client != client}
        for query in self.left(client, annotator):
            image = self.questions.image(query)
            if query not in aside and (image == own or image not in others):
                yield query

    def left(self, client: str, annotator: str) -> Iterator[int]:
        """Open queries that no other page holds, from the client's position to the end, then from the start.

        Those that the annotator answered in an earlier round are left to others, if others work.
        """
        here, alone = self.place.get(client, 0), self.works_alone(annotator)
        for place in chain(range(here, len(self.order)), range(here)):
            query = self.order[place]
            known = not alone and annotator in self.extras.answered_before.get(query, ())
            if query not in self.answers and not known and not self.is_held(query, client):
                yield query

    def works_alone(self, annotator: str) -> bool:
        """Whether no open page of another annotator asked for a query lately."""
        since = self.clock() - 60 * self.settings.lease_minutes
        return all(name == annotator or asked < since for name, asked in self.working.values())

    def situation(self, client: str, annotator: str, query: int | None, message: str) -> dict[str, Any]:
        """Everything that the page shows."""
        state = "open" if query is not None else "complete" if self.complete else "waiting"
        last = self.answers.get(query) if query is not None else None
        return {
            "state": state,
            "message": message,
            "question": None if query is None else self.question(query),
            "revision": 0 if query is None else self.revisions.get(query, 0),
            "answer": None if last is None else last.model_dump(include=GIVEN),
            "draft": "" if query is None or self.masks is None or last is not None else self.masks.draft(query),
            "suggestion": None if query is None or last is not None else self.suggestion(query),
            "pins": [] if query is None else self.pins(query, annotator),
            "ahead": None if query is None else self.ahead(query),
            "next": None if query is None or last is not None else self.foreseen(client, annotator, query),
            "progress": self.progress(client, annotator),
            "grace": self.settings.grace,
        }

    def question(self, query: int) -> dict[str, Any]:
        originals, image = self.extras.originals, self.questions.image(query)
        size = None if originals is None else originals.size(image)
        return {**self.questions.shown(query), "original": size, "files": self.takes_files}

    def suggested(self, answer: Answer, before: Answer | None) -> dict[str, Any]:
        """What was suggested for an answer and by which model; who changes an answer has seen what was shown then."""
        if answer.suggested >= 0:
            model = "" if self.extras.suggestions is None else self.extras.suggestions.model.digest
            return {"suggested_by": model}
        return {} if before is None else before.model_dump(include={"suggested", "suggested_by"})

    def suggestion(self, query: int) -> dict[str, Any] | None:
        return None if self.extras.suggestions is None else self.extras.suggestions.of(query)

    def pins(self, query: int, annotator: str) -> list[tuple[float, float, int]]:
        """Where this annotator answered in the image of a query before, and the class, -1 = none: (y, x, class) each.

        Nothing at the place of the query itself: who is asked again is not told what the answer was.
        """
        here, image = self.questions.middle(query), self.questions.image(query)
        if here is None:
            return []
        found = list(self.extras.pins.get((image, annotator), ()))
        for each in self.questions.rows[image].tolist():
            answer = self.answers.get(each)
            if answer is not None and each != query and answer.annotator == annotator:
                place = self.questions.middle(each)
                assert place is not None
                found.append((*place, answer.classes[0] if len(answer.classes) == 1 else UNNAMED))
        return [pin for pin in found if pin[:2] != here][-MOST_PINS:]

    def ahead(self, query: int) -> dict[str, Any] | None:
        """The first open query of the next image, which the page may load in advance."""
        image = self.questions.image(query)
        for following in self.order[self.position[query] :]:
            if following not in self.answers and self.questions.image(following) != image:
                return {"query": following, "image": self.questions.image(following)}
        return None

    def foreseen(self, client: str, annotator: str, query: int) -> dict[str, Any] | None:
        """The query that most likely follows an answer to ``query``, which the page shows while that is being saved.

        Another page may take it before. None for exact labels, and if nothing is free.
        """
        if self.masks is not None:
            return None
        following = next((each for each in self.free(client, annotator) if each != query), None)
        if following is None or following in self.answers:
            return None
        return {
            "question": self.question(following),
            "suggestion": self.suggestion(following),
            "pins": self.pins(following, annotator),
        }

    def progress(self, client: str, annotator: str) -> dict[str, Any]:
        own = self.times.get(annotator, [])
        times = (
            own[-RECENT_TIMES:]
            if len(own) >= FEWEST_TIMES
            else [seconds for every in self.times.values() for seconds in every[-RECENT_TIMES:]]
        )
        left = len(self.order) - len(self.answers)
        others = {lease.annotator for lease in self.live_leases().values() if lease.client != client}
        return {
            "answered": len(self.answers),
            "all": len(self.order),
            "put_off": len(self.aside.get(client, ())),
            "minutes_left": statistics.median(times) * left / 60 if times else None,
            "others": sorted(others),
        }


class Conflict(Exception):
    """Another page answered the query first."""


def same_answer(one: Answer, other: Answer) -> bool:
    parts = {"query", "classes", "void", "skip", "mask", "annotator"}
    return one.model_dump(include=parts) == other.model_dump(include=parts)
