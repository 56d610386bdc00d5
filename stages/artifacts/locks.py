"""What the lock of an output tells others: which process works on it, since when, and how far it is."""

import fcntl
import os
import re
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from stages.artifacts.publish import lock_path, share_locks

HOLDER = re.compile(r"process (\d+) on (\S+)(?: since (\S+))?")


@dataclass(frozen=True)
class Holder:
    """The process that a lock file names. ``alive`` is False if it ended without removing the file."""

    pid: int | None
    host: str | None
    since: str
    progress: str
    alive: bool

    @property
    def here(self) -> bool:
        """Whether it ran on this computer."""
        return self.host == socket.gethostname()


def holder_of(output: Path) -> Holder | None:
    """Who works, or worked, on ``output`` or a share of it; None if nobody does and no dead process left a lock."""
    found = [held for lock in (lock_path(output), *share_locks(output)) if (held := read_lock(lock)) is not None]
    return next((held for held in found if held.alive), found[0] if found else None)


def read_lock(lock: Path) -> Holder | None:
    """The process that the file ``lock`` names; None if there is none, or if nobody holds or signed it."""
    try:
        with lock.open("rb") as file:
            lines = file.read().decode(errors="replace").splitlines()
            since = os.fstat(file.fileno()).st_mtime
            alive = False
            try:  # nobody else can take a lock that is held, so looking disturbs nobody
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                alive = True
            except OSError:  # a file system without locks: then nobody can have got one
                pass
    except OSError:
        return None
    named = HOLDER.match(lines[0]) if lines else None
    if named is None and not alive:
        return None
    began = (named and named[3]) or datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds")
    return Holder(
        int(named[1]) if named else None, named[2] if named else None, began, " ".join(lines[1:2]).strip(), alive
    )


def is_locked(output: Path) -> bool:
    """Whether a process holds the lock of ``output``."""
    found = holder_of(output)
    return found is not None and found.alive
