"""Programs that tests start: real `alseg` processes, and forks of one that has imported everything.

`run` and `start` are real processes; `Preloaded` forks one that has imported everything and calls the same `main`.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHARD_IMAGES = 2
# `python -m alseg_cli`, but with shards so small that a tiny dataset has several
ALSEG = [
    sys.executable,
    "-c",
    "from stages.commands import cluster_regions, extract_superpixels, prepare, pseudo_label, score\n"
    "from stages.evaluating import on_masks\n"
    "for stage in (cluster_regions, extract_superpixels, on_masks, prepare, pseudo_label, score):\n"
    f"    stage.SHARD_IMAGES = {SHARD_IMAGES}\n"
    "from alseg_cli.app import main; main()",
]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
PATIENCE = 300


@dataclass(frozen=True)
class Done:
    """How a command ended: exit code (negative: the signal), standard output, standard error."""

    code: int
    out: str
    err: str

    def expect(self, code: int, out: str = "", err: str = "") -> "Done":
        """Fails the test unless the command ended this way, and without a traceback."""
        told = f"exit {self.code}\n{self.out}\n{self.err}"
        assert self.code == code, told
        assert out in self.out, told
        assert err in self.err, told
        assert "Traceback" not in self.out + self.err, told
        return self


def start(*words: object, cwd: Path, program: list[str] = ALSEG) -> subprocess.Popen:
    """A real `alseg` process in a group of its own."""
    return subprocess.Popen(
        [*program, *map(str, words)],
        cwd=cwd,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen) -> Done:
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return Done(process.returncode, out, err)


def run(*words: object, cwd: Path, **how: object) -> Done:
    """Runs a real `alseg` process to its end."""
    return finish(start(*words, cwd=cwd, **how))


def job_of(words: Iterable[object], cwd: Path, out: Path, err: Path, **how: object) -> dict[str, object]:
    """What `fork_server.py` is told to start a command."""
    job = {"words": [str(word) for word in words], "cwd": str(cwd), "out": str(out), "err": str(err)}
    plain = {"signal_at": None, "stop_after": None, "unchecked": False, "forked_workers": False}
    return job | plain | {"shard_images": None, "program": None, "environment": {}} | how


class Server:
    """A running `fork_server.py`."""

    def __init__(self, *imports: str) -> None:
        program = Path(__file__).with_name("fork_server.py")
        self.process = subprocess.Popen(
            [sys.executable, program, str(PATIENCE), *imports],
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, job: dict[str, object]) -> int:
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(PATIENCE)


WITHOUT_TORCH = (
    "prepare", "extract-superpixels", "select", "annotate-simulate", "export-queries", "import-answers", "plan",
)  # fmt: skip


class Preloaded:
    """Runs commands in forks of processes that have imported everything; one of them no torch, which forks faster."""

    def __init__(self) -> None:
        self.heavy, self.light = Server("torch"), Server()
        self.logs = tempfile.TemporaryDirectory(prefix="alseg-commands-")
        self.number = 0

    def start(
        self,
        *words: object,
        cwd: Path,
        signal_at: tuple[int, int] | None = None,
        stop_after: int | None = None,
        unchecked: bool = False,
        forked_workers: bool = False,
        shard_images: int | None = SHARD_IMAGES,
        program: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> "Forked":
        """A forked `alseg` command.

        ``signal_at`` (n, signal): the signal comes just before the n-th change of a file or folder (1: the
        output's folder is made, 2: its lock is opened, 3: locked). ``stop_after``:
        SIGTERM comes after so many training steps. ``unchecked``: the command never asks how much room the disk has,
        as if another process took the room after the question. ``forked_workers``: its worker processes are forked
        too, which saves them the import of torch. ``shard_images``: None for as many as the stages have themselves.
        ``program``: a Python file to run instead of `alseg`.
        """
        self.number += 1
        out, err = (Path(self.logs.name) / f"{self.number}.{name}" for name in ("out", "err"))
        how = {"signal_at": signal_at, "stop_after": stop_after, "unchecked": unchecked}
        how |= {"forked_workers": forked_workers, "environment": environment or {}}
        how |= {"program": program and str(program), "shard_images": shard_images}
        light = program is None and words[0] in WITHOUT_TORCH and "--model" not in words
        server = self.light if light else self.heavy
        return Forked(server, server.ask(job_of(words, cwd, out, err, **how)), out, err)

    def run(self, *words: object, cwd: Path, **how: object) -> Done:
        return self.start(*words, cwd=cwd, **how).finish()

    def launch(self, size: int, *words: object, cwd: Path, program: Path | None = None) -> list["Forked"]:
        """``size`` forked processes that join as those of torchrun do, by the same variables of the environment."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        ranks = [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
        return [self.start(*words, cwd=cwd, program=program, environment=rank) for rank in ranks]

    def close(self) -> None:
        self.heavy.close()
        self.light.close()
        self.logs.cleanup()


@dataclass(frozen=True)
class Forked:
    """A command under way in a fork."""

    server: Server
    pid: int
    out: Path
    err: Path

    def send(self, number: int) -> None:
        """Sends it a signal, which does nothing if it has ended already."""
        os.kill(self.pid, number)

    def sleeps(self) -> bool:
        """Whether SIGSTOP has reached it."""
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(self.pid)], capture_output=True, text=True, check=True)
        return state.stdout.startswith("T")

    def finish(self) -> Done:
        code = self.server.ask({"wait": self.pid})
        return Done(code, self.out.read_text(), self.err.read_text())


class Piped:
    """A forked command with pipes, used as a Popen is; it is a process of its own to signals."""

    def __init__(self, server: Server, words: Sequence[object], cwd: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="alseg-pipes-") as folder:
            paths = [Path(folder, name) for name in ("out", "err")]
            for path in paths:
                os.mkfifo(path)
            self.server, self.returncode = server, None
            self.pid = server.ask(job_of(words, cwd, *paths))
            self.stdout, self.stderr = (path.open() for path in paths)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def poll(self) -> int | None:
        if self.returncode is None and Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2][0] == "Z":
            self.wait()
        return self.returncode

    def wait(self, timeout: float = PATIENCE) -> int:
        if self.returncode is None:
            self.returncode = self.server.ask({"wait": self.pid})
        return self.returncode

    def communicate(self, timeout: float = PATIENCE) -> tuple[str, str]:
        """The rest of both streams; little enough to be in a pipe is expected of the second."""
        said = self.stdout.read(), self.stderr.read()
        self.wait()
        return said


def at_work(folder: Path) -> dict[int, str]:
    """The processes whose working folder is ``folder`` (commands and all that they started) and their command lines."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder:
                found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it has just ended, or is not ours
            continue
    return found


def workers_at_work(folder: Path) -> list[int]:
    return [number for number, words in at_work(folder).items() if "spawn_main" in words]


def wait_until(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)
