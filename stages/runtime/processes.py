"""Work on many items in several processes, in order and with bounded memory."""

import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from stages.runtime.errors import StageFailed
from stages.runtime.parts import PLUGINS, load_plugin
from stages.runtime.signals import STOPS

Item = TypeVar("Item")
Result = TypeVar("Result")

ITEMS_PER_WORKER = 2  # in flight: one being worked on, one waiting, so that no worker idles
START_METHOD = "spawn"
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")

SENT: dict[str, Any] = {}
"""In a worker: the plug-ins to load and the pickled function, as `start_worker` got them."""


def core_count() -> int:
    """Number of cores that this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_in_processes(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """``function`` of every item, in the order of the items; with one worker, in this process.

    ``function``, items and results must be picklable; ``function`` is sent to each worker once, and workers load the
    plug-ins of this process. ``items`` is read as results are taken, at most ``ITEMS_PER_WORKER`` per worker ahead, so
    it may be endless. An exception in ``function`` reaches the caller at the item's turn; a worker that dies or runs
    out of memory raises StageFailed. Closing the iterator early ends the workers at once, even in the middle of an
    item; they also end when this process dies, even if it is killed.

    Processes are spawned, not forked: the parent holds torch's and HDF5's threads and locks, which do not survive a
    fork, and a fork server would add a process to manage while saving only a few tenths of a second per worker.
    """
    yield from map_here(function, items) if workers <= 1 else map_in_workers(function, items, workers)


def map_in_workers(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """``map_in_processes`` with one worker or more, none of which is this process."""
    context = get_context(START_METHOD)
    theirs, ours = context.Pipe(duplex=False)  # the reading end goes to the workers
    how = (theirs, tuple(PLUGINS), pickle.dumps(function))
    executor = ProcessPoolExecutor(workers, context, initializer=start_worker, initargs=how)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            with deaf():
                waiting.append(executor.submit(work, item))
            if len(waiting) >= ITEMS_PER_WORKER * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise StageFailed(
            "A worker process ended without an answer, most likely for lack of memory. Lower --workers."
        ) from None
    except MemoryError as error:
        raise StageFailed(f"Not enough memory for {workers} processes ({error}). Lower --workers.") from error
    finally:
        # Close the leash first. Otherwise the executor would wait for running items, and after the death of a worker
        # for the other workers, which ignore the SIGTERM that it sends them.
        ours.close()
        theirs.close()
        executor.shutdown(wait=True, cancel_futures=True)


def map_here(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``map_in_processes`` without processes."""
    try:
        for item in items:
            yield function(item)
    except MemoryError as error:
        raise StageFailed(f"Not enough memory, even for one process. ({error})") from error


@contextmanager
def deaf() -> Iterator[None]:
    """Blocks stop signals in this thread inside the context, and permanently in processes started there.

    A terminal sends Ctrl-C and its end to the workers too, even while they start, but only the parent should react.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(leash: Connection, plugins: Sequence[Path], function: bytes) -> None:
    """Initialises a worker: one thread per library, stop signals ignored, exit when the parent closes ``leash``."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    for name in THREAD_LIMITS:  # libraries read them when they are loaded later
        os.environ[name] = "1"
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)
    threading.Thread(target=end_with_parent, args=(leash,), daemon=True).start()
    SENT.update(plugins=plugins, function=function)


def work(item: Any) -> Any:
    """What a worker does with an item; what unpacking the function raises reaches the caller too."""
    return sent_function()(item)


@cache
def sent_function() -> Callable[[Any], Any]:
    for plugin in SENT["plugins"]:
        load_plugin(plugin)
    function = pickle.loads(SENT["function"])
    if "torch" in sys.modules:  # which counts its threads itself once it is loaded
        sys.modules["torch"].set_num_threads(1)
    return function


def end_with_parent(leash: Connection) -> None:
    """Ends this process when the parent closes its end of ``leash``; the kernel closes it if the parent is killed."""
    leash.poll(None)  # nothing is ever sent, so this returns only when the pipe is closed
    os._exit(1)
