"""SIGTERM, SIGINT and SIGHUP ask a long stage to save and stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # the last one: the terminal was closed


class StopRequest:
    """True once a signal has arrived."""

    def __init__(self) -> None:
        self.requested = False

    def __bool__(self) -> bool:
        return self.requested


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Sets the request on each of ``STOPS`` instead of ending the process; a second SIGINT interrupts.

    `nohup` ignores SIGHUP, and then it stays ignored.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield request
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if request.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.requested = True

    ignored = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else []
    before = {number: signal.signal(number, handle) for number in STOPS if number not in ignored}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
