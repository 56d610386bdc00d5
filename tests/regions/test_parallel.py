"""Work in processes: order, bounded memory, errors, dead workers, and nothing left behind."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stages.runtime.errors import BadInput, StageFailed
from stages.runtime.processes import ITEMS_PER_WORKER, core_count, map_in_processes

PARENT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from test_parallel import report_and_sleep
from stages.runtime.processes import map_in_processes
if __name__ == "__main__":
    for _ in map_in_processes(report_and_sleep, [sys.argv[2]] * 4, 2):
        pass
"""


def square(value: int) -> int:
    time.sleep(0.02 * (value % 3))  # later items overtake earlier ones
    return value * value


def size_of(array: np.ndarray) -> int:
    return array.nbytes


def fail_at_two(value: int) -> int:
    if value == 2:
        raise BadInput(["First fault.", "Second fault."])
    return value


def die_at_two(value: int) -> int:
    if value == 2:
        os.kill(os.getpid(), signal.SIGKILL)  # what the kernel does when memory runs out
    return value


def run_out_of_memory(value: int) -> int:
    raise MemoryError("no room")


def surroundings(value: int) -> tuple[int, list[str], str, list[object]]:
    import cv2

    heavy = [name for name in ("torch", "torchvision", "matplotlib") if name in sys.modules]
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    return cv2.getNumThreads(), heavy, os.environ["OMP_NUM_THREADS"], handlers


def report_and_sleep(folder: str) -> None:
    Path(folder, str(os.getpid())).touch()
    time.sleep(60)


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition, seconds: float = 15.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def reported(folder: Path) -> list[int]:
    return [int(file.name) for file in folder.iterdir()]


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items(workers):
    assert list(map_in_processes(square, range(11), workers)) == [value**2 for value in range(11)]


@pytest.mark.parametrize("workers", [1, 2])
def test_no_items_give_no_results(workers):
    assert list(map_in_processes(square, [], workers)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_items_are_read_only_as_results_are_taken(workers):
    read = itertools.count()
    arrays = (np.zeros(1000, dtype=np.uint8) for _ in iter(lambda: next(read), None))  # endless
    results = map_in_processes(size_of, arrays, workers)
    for taken in range(1, 6):
        assert next(results) == 1000
        assert next(read) - (taken - 1) <= taken + ITEMS_PER_WORKER * workers
    results.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_faults_of_the_function_reach_the_caller_in_turn(workers):
    results = map_in_processes(fail_at_two, itertools.count(), workers)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(BadInput) as caught:
        next(results)
    assert caught.value.faults == ["First fault.", "Second fault."]


def test_faults_of_the_items_reach_the_caller():
    def items():
        yield 1
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        list(map_in_processes(square, items(), 2))


def test_a_killed_worker_is_a_failure_and_no_hang():
    start = time.monotonic()
    with pytest.raises(
        StageFailed,
        match=r"^A worker process ended without an answer, most likely for lack of memory\. Lower --workers\.$",
    ):
        list(map_in_processes(die_at_two, itertools.count(), 2))
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    "workers, says",
    [
        (1, r"^Not enough memory, even for one process\. \(no room\)$"),
        (2, r"^Not enough memory for 2 processes \(no room\)\. Lower --workers\.$"),
    ],
)
def test_no_memory_is_a_failure(workers, says):
    with pytest.raises(StageFailed, match=says):
        list(map_in_processes(run_out_of_memory, range(3), workers))


def test_a_worker_has_one_thread_no_torch_and_no_ears():
    threads, heavy, openmp, handlers = next(results := map_in_processes(surroundings, range(2), 2))
    results.close()
    assert (threads, heavy, openmp) == (1, [], "1")
    assert handlers == [signal.SIG_IGN] * 3


def test_closing_early_ends_the_workers_at_once(tmp_path):
    def items():
        yield from [str(tmp_path)] * 2
        assert wait_until(lambda: len(reported(tmp_path)) == 2)  # both are asleep for a minute now
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(map_in_processes(report_and_sleep, items(), 2))
    assert time.monotonic() - start < 20
    assert not any(map(alive, reported(tmp_path)))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_parent_leaves_no_orphan(tmp_path, number):
    script, folder = tmp_path / "parent.py", tmp_path / "reports"
    script.write_text(PARENT)
    folder.mkdir()
    parent = subprocess.Popen([sys.executable, script, str(Path(__file__).parent), str(folder)])
    try:
        assert wait_until(lambda: len(reported(folder)) == 2)
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        family = {*reported(folder), *map(int, children)}
        for worker in reported(folder):
            os.kill(worker, signal.SIGTERM)  # workers do not care
        assert all(map(alive, family))
        parent.send_signal(number)
        parent.wait(10)
        assert wait_until(lambda: not any(map(alive, family)))
    finally:
        parent.kill()
        parent.wait()


def test_cores_are_those_this_process_may_use():
    assert core_count() == len(os.sched_getaffinity(0))
