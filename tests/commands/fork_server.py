"""The program behind `commands_support.Preloaded`: imports once, then forks a child per `alseg` command.

Jobs come as lines of JSON on standard input: a command to start, answered by the child's process id, or a child to wait
for, answered by its exit code. Arguments: images per shard, seconds of patience, and `torch` to import that too.
"""

import importlib
import json
import os
import pkgutil
import signal
import sys
import traceback

from alseg_cli.app import main
from stages.artifacts import publish, shards
from stages.commands import cluster_regions, extract_superpixels, prepare, pseudo_label, score

CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
ROOMS = ("evaluating", "networks", "pseudo_labelling", "regions", "reporting.pictures", "scoring", "training")
LATE = ("matplotlib.pyplot", "sklearn.cluster", "torch._dynamo")  # torch imports the last with the first optimiser


def import_with_torch() -> None:
    """Imports the rooms that use torch, and what they import late: it takes seconds."""
    for name in LATE:
        importlib.import_module(name)
    for room in ROOMS:
        package = importlib.import_module(f"stages.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


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
    os.chdir(job["cwd"])
    sys.argv = ["alseg", *job["words"]]
    del sys.modules["__main__"].__file__  # or every worker process that the command starts would import this program
    if job["unchecked"]:
        never_ask_for_room()
    if job["signal_at"]:
        signal_at(*job["signal_at"], job["cwd"])
    if job["stop_after"]:
        stop_after(job["stop_after"])
    code = 1
    try:
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
    for stage in (cluster_regions, extract_superpixels, prepare, pseudo_label, score):
        stage.SHARD_IMAGES = int(sys.argv[1])
    import cv2  # noqa: F401

    if "torch" in sys.argv[3:]:
        import_with_torch()
    print("ready", flush=True)
    serve(int(sys.argv[2]))
