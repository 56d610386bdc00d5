"""Who is asked what: leases, answers, undo, progress. All of it outlives nothing but the journal."""

import statistics
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from stages.answering.browser.journal import Journal
from stages.answering.browser.masks import MaskFiles
from stages.answering.given import Given, Refused, fault, name_fault
from stages.answering.questions import Questions
from stages.artifacts.answers import MOST_ANNOTATORS
from stages.settings.annotate import PeopleSettings
from stages.settings.keys import class_keys

FEWEST_TIMES = 3  # answers of one's own before they and not everybody's tell what is left
RECENT_TIMES = 200


@dataclass
class Lease:
    """A query that a browser shows, until a moment of the clock."""

    client: str
    annotator: str
    until: float


class Session:
    """The state that all browsers share; every method may be called from any thread.

    A ``client`` is one open page, an annotator the name that its answers carry.
    """

    def __init__(
        self,
        questions: Questions,
        journal: Journal,
        settings: PeopleSettings,
        known_annotators: Collection[str] = (),
        masks: MaskFiles | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.questions, self.journal, self.settings, self.clock = questions, journal, settings, clock
        self.masks = masks
        classes = questions.classes
        keys = class_keys(settings.keys, settings.commands(), classes) if masks is None else [None] * len(classes)
        self.keys: list[str | None] = list(keys)  # of every class; masks name no class by a key
        self.order = questions.order
        self.position = {query: place for place, query in enumerate(self.order)}
        self.given: dict[int, Given] = {}  # the last answer to each query
        self.revisions: dict[int, int] = {}  # answers to each query so far, corrections included
        self.seconds: dict[int, float] = {}  # over all of them, for that time was spent
        self.times: dict[str, list[float]] = {}
        self.names = set(known_annotators)
        self.leases: dict[int, Lease] = {}
        self.pages: set[str] = set()  # the clients that are there, and do not know yet how it came out
        self.aside: dict[str, set[int]] = {}  # what a client put off
        self.place: dict[str, int] = {}  # where in the order a client is
        self.closed = False
        self.touched = clock()
        self.outcome = ""
        self.ended = threading.Event()  # once there is an outcome
        self.lock = threading.RLock()
        for given in journal.answers:
            self.count(given)

    # --- what a page asks for ----------------------------------------------------------------------------------------

    def ask(self, client: str, annotator: str, told: str = "") -> dict[str, Any]:
        """The next query for a client; the one it has already, where that is still open."""
        with self.lock:
            self.require_open()
            self.require_name(annotator)
            self.pages.add(client)
            for held in [query for query, lease in self.leases.items() if lease.client == client]:
                if held in self.given:  # looked at again, and left as it was
                    del self.leases[held]
            query = self.next_query(client, annotator)
            if query is not None:
                self.lease(query, client, annotator)
                self.place[client] = self.position[query]
            return self.situation(client, annotator, query, told)

    def answer(self, client: str, given: Given, revision: int) -> dict[str, Any]:
        """Takes an answer to what ``revision`` answers were known of, and asks the next query. The first one wins."""
        with self.lock:
            self.require_open()
            wrong = fault(given, self.questions)
            if wrong is not None:
                raise Refused(422, wrong)
            if given.mask and not (self.masks and self.masks.has(given.query, given.mask)):
                raise Refused(422, "There is no such mask; choose the file again.")
            self.require_name(given.annotator)
            known, last = self.revisions.get(given.query, 0), self.given.get(given.query)
            if last is not None and revision == known - 1 and same_answer(last, given):
                return self.ask(client, given.annotator)  # sent twice because our word got lost
            if revision != known or (last is not None and last.annotator != given.annotator):
                who = f"“{last.annotator}”" if last is not None else "Somebody"
                raise Conflict(f"{who} answered that query meanwhile, so your answer to it was not taken.")
            given = given.model_copy(
                update={
                    "seconds": round(min(given.seconds, self.settings.most_seconds), 3),
                    "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                }
            )
            self.journal.append(given)
            self.count(given)
            self.touched = self.clock()
            self.leases.pop(given.query, None)
            for aside in self.aside.values():
                aside.discard(given.query)
            return self.ask(client, given.annotator)

    def back(self, client: str, annotator: str, query: int | None) -> dict[str, Any]:
        """The query that the annotator answered before ``query``, or last of all, to be answered again."""
        with self.lock:
            self.require_open()
            self.require_name(annotator)
            mine = [asked for asked, given in self.given.items() if given.annotator == annotator]
            if query in mine:
                mine = mine[: mine.index(query)]
            if not mine:
                raise Refused(409, "There is no earlier answer of yours to change.")
            holder = self.leases.get(mine[-1])
            if holder is not None and self.is_held(mine[-1], client):
                raise Refused(409, f"“{holder.annotator}” is looking at that answer in another window.")
            self.touched = self.clock()
            self.lease(mine[-1], client, annotator)
            return self.situation(client, annotator, mine[-1], "")

    def put_off(self, client: str, annotator: str, query: int) -> dict[str, Any]:
        """Asks ``query`` again only when nothing else is left."""
        with self.lock:
            self.require_open()
            self.require_name(annotator)
            if query not in self.position:
                raise Refused(422, f"There is no query {query}; reload the page.")
            lease = self.leases.get(query)
            if lease is not None and lease.client == client:
                del self.leases[query]
            if query not in self.given:
                self.aside.setdefault(client, set()).add(query)
            return self.ask(client, annotator)

    def leave(self, client: str) -> None:
        """Frees what a page showed that was closed, or knows that it is over."""
        with self.lock:
            self.pages.discard(client)
            self.leases = {query: lease for query, lease in self.leases.items() if lease.client != client}

    def finish(self) -> None:
        """Ends the answering with what there is; the rest stays open."""
        with self.lock:
            self.require_open()
            if not self.given:
                raise Refused(409, "Nothing is answered yet, so there is no ledger to write.")
            self.closed = True

    # --- what the stage asks for -------------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        return len(self.given) == len(self.order)

    def close_when_complete(self) -> None:
        """Ends the answering when all is answered, nobody looks at an answer again, and the time to do so is over."""
        with self.lock:
            if self.complete and not self.live_leases() and self.clock() - self.touched >= self.settings.grace:
                self.closed = True

    def close(self) -> None:
        with self.lock:
            self.closed = True

    def end(self, outcome: str) -> None:
        """Tells the pages that wait how it came out."""
        self.outcome = outcome
        self.ended.set()

    # --- how it is done; the lock is held ----------------------------------------------------------------------------

    def require_open(self) -> None:
        if self.closed:
            raise Refused(410, "The answering has ended.")

    def require_name(self, annotator: str) -> None:
        wrong = name_fault(annotator)
        if wrong is None and annotator not in self.names and len(self.names) >= MOST_ANNOTATORS:
            wrong = f"A ledger takes {MOST_ANNOTATORS} annotators; choose one of the names used before."
        if wrong is not None:
            raise Refused(422, wrong)

    def count(self, given: Given) -> None:
        query = given.query
        self.given.pop(query, None)  # so that the answers stay in the order in which they were given last
        self.given[query] = given
        self.revisions[query] = self.revisions.get(query, 0) + 1
        self.seconds[query] = self.seconds.get(query, 0.0) + given.seconds
        self.times.setdefault(given.annotator, []).append(given.seconds)
        self.names.add(given.annotator)

    def lease(self, query: int, client: str, annotator: str) -> None:
        minutes = self.settings.lease_minutes
        if self.masks is not None:  # while it is painted elsewhere nothing is heard of it
            minutes = max(minutes, 2 * self.settings.seconds_per_mask / 60)
        self.leases[query] = Lease(client, annotator, self.clock() + 60 * minutes)

    def live_leases(self) -> dict[int, Lease]:
        now = self.clock()
        return {query: lease for query, lease in self.leases.items() if lease.until > now}

    def is_held(self, query: int, client: str) -> bool:
        """Whether another page shows the query."""
        lease = self.leases.get(query)
        return lease is not None and lease.client != client and lease.until > self.clock()

    def next_query(self, client: str, annotator: str) -> int | None:
        """What the client has already; else what follows, where nobody else is at work in the image; else anything.

        What was put off comes last, and at the very end what another window of the same name shows: most likely it
        was lost.
        """
        for query, lease in self.leases.items():
            if lease.client == client and query not in self.given:
                return query
        aside = self.aside.get(client, set())
        own = self.questions.image(self.order[self.place[client]]) if client in self.place else None
        others = {self.questions.image(query) for query, lease in self.live_leases().items() if lease.client != client}
        for query in self.left(client):
            image = self.questions.image(query)
            if query not in aside and (image == own or image not in others):
                return query
        left = list(self.left(client))
        left = [query for query in left if query not in aside] or left
        if left:
            aside.difference_update(left)
            return left[0]
        mine = [query for query, lease in self.leases.items() if lease.annotator == annotator]
        return next((query for query in mine if query not in self.given), None)

    def left(self, client: str) -> Iterator[int]:
        """What is open and shown to nobody else, from where the client is and then round."""
        here = self.place.get(client, 0)
        for place in chain(range(here, len(self.order)), range(here)):
            query = self.order[place]
            if query not in self.given and not self.is_held(query, client):
                yield query

    def situation(self, client: str, annotator: str, query: int | None, told: str) -> dict[str, Any]:
        """Everything that the page shows."""
        state = "open" if query is not None else "complete" if self.complete else "waiting"
        last = self.given.get(query) if query is not None else None
        return {
            "state": state,
            "told": told,
            "question": None if query is None else self.questions.shown(query),
            "revision": 0 if query is None else self.revisions.get(query, 0),
            "answer": None if last is None else last.model_dump(include={"classes", "void", "skip", "mask"}),
            "ahead": None if query is None else self.ahead(query),
            "progress": self.progress(client, annotator),
            "grace": self.settings.grace,
        }

    def ahead(self, query: int) -> dict[str, Any] | None:
        """The first open query of the next image, whose picture the page may fetch already."""
        image = self.questions.image(query)
        for following in self.order[self.position[query] :]:
            if following not in self.given and self.questions.image(following) != image:
                return {"query": following, "image": self.questions.image(following)}
        return None

    def progress(self, client: str, annotator: str) -> dict[str, Any]:
        own = self.times.get(annotator, [])
        times = (
            own[-RECENT_TIMES:]
            if len(own) >= FEWEST_TIMES
            else [seconds for every in self.times.values() for seconds in every[-RECENT_TIMES:]]
        )
        left = len(self.order) - len(self.given)
        others = {lease.annotator for lease in self.live_leases().values() if lease.client != client}
        return {
            "answered": len(self.given),
            "all": len(self.order),
            "put_off": len(self.aside.get(client, ())),
            "minutes_left": statistics.median(times) * left / 60 if times else None,
            "others": sorted(others),
        }


class Conflict(Exception):
    """Somebody else answered first."""


def same_answer(one: Given, other: Given) -> bool:
    parts = {"query", "classes", "void", "skip", "mask", "annotator"}
    return one.model_dump(include=parts) == other.model_dump(include=parts)
