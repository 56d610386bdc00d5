"""How much memory this process can still get, and the refusal of work that needs more.

The limit of a job or container counts if it is lower than what the computer has left: Slurm's ``--mem`` and the limits
of Docker and Kubernetes are those of control groups, which MemAvailable does not know and which end a process without a
sentence. https://docs.kernel.org/admin-guide/cgroup-v2.html and, of version 1, .../cgroup-v1/memory.html
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from stages.runtime.errors import StageFailed

MEMINFO = Path("/proc/meminfo")
OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")
SMALL_BYTES = 64 << 20  # allocated without asking how much memory is free
MORE_MEMORY = "Use a computer with more memory, or ask for more with --mem in a job of Slurm."


class Version(NamedTuple):
    """The files of a control group with its limit and its use, and what of that use the kernel gives back."""

    limit: str
    used: str
    reclaimable: tuple[str, ...]


FIRST = Version("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))
SECOND = Version("memory.max", "memory.current", ("inactive_file", "active_file"))


def free_memory() -> int:
    """Bytes that this process can still get, as files in the page cache make room; all memory if no system tells."""
    known = [*available(), *left_in_groups()]
    return max(0, min(known)) if known else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def available() -> Iterator[int]:
    """What the computer has left (Linux)."""
    with suppress(OSError, ValueError, StopIteration):
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
        yield 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])


def left_in_groups() -> Iterator[int]:
    """What is left in each limited control group that this process is in."""
    lines = []
    with suppress(OSError):
        lines = OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory") or "memory" in controllers.split(","):
            version = FIRST if controllers else SECOND
            roots = [GROUPS / "memory"] if controllers else [GROUPS, GROUPS / "unified"]
            for root in roots:
                for folder in folders_up(root, path):
                    with suppress(OSError, ValueError):
                        yield left_in(folder, version)


def folders_up(root: Path, path: str) -> list[Path]:
    """The folder of the group ``path`` and of those around it; in a container the root is its own group."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [root.joinpath(*parts[:number]) for number in range(len(parts), -1, -1)]


def left_in(folder: Path, version: Version) -> int:
    """Bytes left in one group; ValueError without a limit, OSError without such a group."""
    limit, used = (int((folder / name).read_text(encoding="ascii")) for name in (version.limit, version.used))
    pairs = (line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    return limit - used + sum(int(value) for name, value in pairs if name in version.reclaimable)


def require_memory(needed: int, what: str, why: str = "", remedy: str = MORE_MEMORY, device: str = "cpu") -> None:
    """StageFailed if ``needed`` bytes, which ``what`` needs at least, exceed the free memory of the ``device``.

    ``why`` follows "needs at least 31.0 GB of memory".
    """
    if needed <= SMALL_BYTES:
        return
    free, kind = free_memory_of(device), "GPU memory" if device == "cuda" else "memory"
    if needed > free:
        reason = f" {why}" if why else ""
        raise StageFailed(
            f"{what} needs at least {needed / 1e9:.1f} GB of {kind}{reason}, but only {free / 1e9:.1f} GB are free. "
            f"{remedy}"
        )


def free_memory_of(device: str) -> int:
    """Free bytes of the GPU for cuda, otherwise of the computer or job."""
    if device != "cuda":
        return free_memory()
    import torch

    return int(torch.cuda.mem_get_info()[0])
