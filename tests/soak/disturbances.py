"""What may happen to a run. Each leaves it as it was afterwards: no process of ours lives on, the disk has room."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.soak.world import World

Disturbance = Callable[[World, random.Random], int]
"""Disturbs a run; returns the exit status of make (several: the largest)."""


def interrupt(world: World, draw: random.Random, number: int) -> int:
    """Sends a signal to make and all that it started, at a random moment."""
    process = world.start()
    try:
        return process.wait(draw.uniform(0.2, 15))  # it may be done before
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, number)
        status = process.wait(60)
        end_of_group(process.pid)
        return status


def end_of_group(group: int) -> None:
    """Waits for the stages that make left behind."""
    for _ in range(600):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise SystemExit("a stage lives on long after its make")


def kill(world: World, draw: random.Random) -> int:
    return interrupt(world, draw, signal.SIGKILL)


def stop(world: World, draw: random.Random) -> int:
    return interrupt(world, draw, draw.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP]))


def fill(world: World, draw: random.Random) -> int:
    """The disk has little or no room, while make runs to its end."""
    world.resize(world.used() + int(draw.uniform(4 << 10, 12 << 20)))
    try:
        return world.make()
    finally:
        world.resize(256 << 20)


def flip(world: World, draw: random.Random) -> int:
    """One bit of one file changes while nobody looks: an artifact, a shard or a checkpoint; then all is checked."""
    files = [path for path in world.files() if path.stat().st_size]
    if not files:
        return world.make("-B")
    chosen = draw.choice(files)
    flip_bit(chosen, draw)
    status = world.make("-B")
    if status and chosen.exists():  # it may hold people's answers, or is no HDF5 any more: make says to move it away
        chosen.unlink()
        status = world.make("-B")
    return status


def flip_bit(path: Path, draw: random.Random) -> None:
    status = path.stat()
    content = bytearray(path.read_bytes())
    place = draw.randrange(len(content))
    content[place] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def unlock(world: World, draw: random.Random) -> int:
    """The file system knows no locks."""
    return world.make("-B", preload=compiled(world.folder))


def compiled(folder: Path) -> Path:
    library = folder / "nolock.so"
    if not library.exists():
        source = Path(__file__).with_name("nolock.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def two(world: World, draw: random.Random) -> int:
    """Two makes at once on one folder, the second a little later."""
    first = world.start()
    time.sleep(draw.uniform(0, 3))
    second = world.start()
    return max(first.wait(600), second.wait(600))


DISTURBANCES: dict[str, tuple[Disturbance, str]] = {
    "kill": (kill, "SIGKILL to make and its stages at a random moment"),
    "stop": (stop, "SIGTERM, SIGINT or SIGHUP likewise"),
    "disk": (fill, "a disk with 4 kB to 12 MB of room"),
    "bit": (flip, "one flipped bit in an artifact, shard or checkpoint"),
    "lock": (unlock, "a file system without locks"),
    "two": (two, "two makes at once on one folder"),
}
