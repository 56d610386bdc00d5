"""Limits on connections, so that slow or half-open ones cannot keep people from answering.

uvicorn limits the size of a request's head and the pause between two requests. It has no time limit for a head, and
its limit on concurrency answers 503 to everybody once half-open connections reach it. waitress and hypercorn do not
accept anybody either at their limit. What is here is the rest: a new connection is always accepted, and closes the
oldest one without a request if there are too many.
"""

import asyncio
import resource
import time

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_HEAD_BYTES = 1 << 14
HEAD_SECONDS = 10.0  # for the head of a request to arrive
BACKLOG = 32  # connections accepted at once, before any is closed; asyncio reports each one that has no room
MOST_CONNECTIONS = 256


class PatientProtocol(H11Protocol):
    """uvicorn's protocol with a time limit for the head of a request and a limit on the number of connections."""

    since = 0.0
    overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.since = time.monotonic()
        self.watch()
        if len(self.connections) > most_connections():
            idle = [each for each in self.connections if isinstance(each, PatientProtocol) and each.is_idle]
            min(idle, key=lambda each: each.since).hang_up()  # at worst the new one

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self.unwatch()
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether no response is due."""
        return self.cycle is None or self.cycle.response_complete

    def watch(self) -> None:
        """Starts the clock while a head is awaited, and stops it once it is there."""
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self.unwatch()
        elif self.overdue is None:
            self.overdue = self.loop.call_later(HEAD_SECONDS, self.hang_up)

    def unwatch(self) -> None:
        if self.overdue is not None:
            self.overdue.cancel()
            self.overdue = None

    def hang_up(self) -> None:
        self.connections.discard(self)  # now, and not when the loop tells of the loss
        self.transport.abort()


def most_connections() -> int:
    """The limit on connections; fewer if the process may open few files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(MOST_CONNECTIONS, files // 4)
