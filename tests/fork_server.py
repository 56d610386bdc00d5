"""The program behind `programs.Preloaded`: imports once, then forks a child per `alseg` command.

Jobs come as lines of JSON on standard input: a command to start, answered by the child's process id, or a child to wait
for, answered by its exit code. Arguments: seconds of patience, and `torch` to import that too.
"""

import contextlib
import importlib
import io
import json
import os
import pkgutil
import runpy
import signal
import sys
import traceback
from collections.abc import Sequence

from alseg_cli.app import app, main
from stages.artifacts import publish, shards
from stages.commands import cluster_regions, extract_superpixels, prepare, pseudo_label, score
from stages.evaluating import on_masks
from stages.registry import STAGES
from stages.runtime import processes

SHARDED = (cluster_regions, extract_superpixels, on_masks, prepare, pseudo_label, score)
CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
ROOMS = ("answering", "datasets")
ROOMS_WITH_TORCH = (
    "evaluating",
    "networks",
    "pseudo_labelling",
    "regions",
    "reporting.pictures",
    "scoring",
    "training",
)
LATE = ("matplotlib.pyplot", "sklearn.cluster", "torch._dynamo")  # torch imports the last with the first optimiser


def import_rooms(rooms: Sequence[str]) -> None:
    for room in rooms:
        package = importlib.import_module(f"stages.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def warm_up() -> None:
    """Asks every stage for its help and for an option that is none: imports and caches that each child would make."""
    for stage in STAGES:
        for option in ("--help", "--no-such-option"):
            silent = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
            with silent[0], silent[1], contextlib.suppress(SystemExit):
                app([stage, option])


def warm_up_torch() -> None:
    """Builds and trains the network of the tests by one step, and draws one curve."""
    import torch

    from stages.networks.build import build_network
    from stages.reporting.pictures.curves import training_curve
    from stages.settings.network import NetworkSettings

    small = {"weights": "none", "backbone": "mobilenetv3_small_050", "head_width": 16, "low_level_width": 8}
    network = build_network(NetworkSettings.load(small), 9).to(memory_format=torch.channels_last)
    images = torch.zeros(2, 3, 48, 64).contiguous(memory_format=torch.channels_last)
    network(images).sum().backward()
    training_curve([{"epoch": 1, "loss": 1.0, "val_miou": 0.5}])


def signal_at(point: int, number: int, folder: str) -> None:
    """Sends itself a signal just before the point-th change of a file or folder below ``folder``, or lock of a file."""
    left = point

    def changes(event: str, arguments: tuple) -> bool:
        if event == "fcntl.flock":
            return True
        if event not in CHANGES or not isinstance(arguments[0], str | bytes):
            return False
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return False
        return os.path.abspath(os.fsdecode(arguments[0])).startswith(folder)

    def watch(event: str, arguments: tuple) -> None:
        nonlocal left
        if changes(event, arguments):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), number)

    sys.addaudithook(watch)


def stop_after(steps: int) -> None:
    """Sends itself SIGTERM as soon as ``steps`` training steps are taken."""
    from stages.training.loop import Training

    take = Training.descend
    left = steps

    def descend(*arguments: object) -> None:
        nonlocal left
        take(*arguments)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGTERM)

    Training.descend = descend


def never_ask_for_room() -> None:
    for module in (publish, shards, prepare):
        module.require_space = lambda *arguments: None


def child(job: dict) -> None:
    """Runs one command and ends the process."""
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # New ones, since the old ones may take a pipe for a file
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(job["cwd"])
    os.environ.update(job["environment"])
    sys.argv = [job["program"] or "alseg", *job["words"]]
    del sys.modules["__main__"].__file__  # or every worker process that the command starts would import this program
    if job["shard_images"]:
        for stage in SHARDED:
            stage.SHARD_IMAGES = job["shard_images"]
    if job["forked_workers"]:
        processes.START_METHOD = "fork"
    if job["unchecked"]:
        never_ask_for_room()
    if job["signal_at"]:
        signal_at(*job["signal_at"], job["cwd"])
    if job["stop_after"]:
        stop_after(job["stop_after"])
    code = 1
    try:
        if job["program"]:
            runpy.run_path(job["program"], run_name="__main__")
        else:
            main()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int, patience: int) -> int:
    """The exit code of a child, which is killed when patience is at an end."""
    signal.signal(signal.SIGALRM, lambda *arguments: os.kill(pid, signal.SIGKILL))
    signal.alarm(patience)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    signal.alarm(0)
    return code


def serve(patience: int) -> None:
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            print(wait(job["wait"], patience), flush=True)
        else:
            pid = os.fork()
            if pid == 0:
                child(job)
            print(pid, flush=True)


if __name__ == "__main__":
    os.fsync = lambda descriptor: None  # a kill leaves what was written; only a power cut does not
    import cv2  # noqa: F401

    patience, with_torch = int(sys.argv[1]), "torch" in sys.argv[2:]
    warm_up()
    import_rooms(ROOMS)
    if with_torch:
        for name in LATE:
            importlib.import_module(name)
        import_rooms(ROOMS_WITH_TORCH)
        warm_up_torch()
    print("ready", flush=True)
    serve(patience)
