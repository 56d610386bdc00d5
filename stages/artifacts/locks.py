"""The lock of an output keeps two processes apart, and tells which one works on it, since when and how far it is."""

import errno
import fcntl
import glob
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from stages.artifacts.header import now
from stages.artifacts.publish import (
    error_path,
    make_folder,
    partial_path,
    parts_folder,
    refusal,
    remove_partials,
    work_folder,
)
from stages.runtime.console import progress_told_to
from stages.runtime.errors import BadInput, StageFailed
from stages.runtime.shares import Share

GLANCE_SECONDS = 0.1  # `status` holds the lock for less while it looks whether somebody else does
LOCKED = "Wait for it to end, then run again."
NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK)
HOLDER = re.compile(r"process (\d+) on (\S+)(?: since (\S+))?")


def lock_path(output: Path) -> Path:
    return output.with_name(f".{output.name}.lock")


@contextmanager
def output_lock(path: Path, beside: Iterable[Path] = ()) -> Iterator[None]:
    """Holds the advisory lock of the output ``path`` and the files published ``beside`` it.

    StageFailed if another process holds it, or one of its shares (`share_lock`); BadInput if the file system has no
    locks, or if `OUTPUT.parts` or `OUTPUT.work` is not a folder of our own.

    The kernel releases the lock when its process ends, so a dead process never blocks the next one. The lock file is
    removed on release; a process that locked a removed file tries again with the new one.
    """
    targets = [path, *beside]
    require_lockable(path, targets)
    lock = lock_path(path)
    file = locked_file(lock)
    if isinstance(file, str):
        raise StageFailed(f"{path} is being written by {running_shares(path) or file}. {LOCKED}")
    try:
        with signed(file):
            for target in targets:  # this process holds the lock, so these were left by processes that died
                remove_partials(target)
            for left in (*share_locks(path), error_path(path)):
                left.unlink(missing_ok=True)
            yield
    finally:
        lock.unlink(missing_ok=True)
        file.close()


@contextmanager
def share_lock(path: Path, share: Share, beside: Iterable[Path] = ()) -> Iterator[None]:
    """Holds the lock of one ``share`` of the output ``path``, while others may hold those of other shares.

    Raises what `output_lock` does. Both exclude each other, because each share also holds the lock of the output, as
    one of several. That file stays for whoever joins the shares: another share may be about to lock it.
    """
    require_lockable(path, [path, *beside])
    whole = locked_file(lock_path(path), shared=True)
    if isinstance(whole, str):
        raise StageFailed(f"{path} is being written by {whole}. {LOCKED}")
    with whole:
        lock = path.with_name(f".{path.name}.{share.index}-of-{share.number}.lock")
        own = locked_file(lock)
        if isinstance(own, str):
            raise StageFailed(f"Shard {share} of {path} is being written by {own}. {LOCKED}")
        try:
            with signed(own):
                error_path(path).unlink(missing_ok=True)
                yield
        finally:
            lock.unlink(missing_ok=True)
            own.close()


def locked_file(lock: Path, shared: bool = False) -> TextIO | str:
    """The file ``lock``, created if needed and locked until it is closed; or the process that holds it, in words.

    ``shared``: others may hold it too, if they all share it.
    """
    until = time.monotonic() + GLANCE_SECONDS
    while True:
        try:  # a link in the place of the lock would be written to
            file = os.fdopen(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+")
        except OSError as error:
            raise refusal(f"Cannot write {lock}", error) from error
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < until:
                file.close()
                time.sleep(GLANCE_SECONDS / 10)
                continue
            with file:
                return signature(file)
        except OSError as error:
            file.close()  # the file stays: it may be the lock of a process that got one
            raise no_lock(lock.parent, error) from error
        try:
            if os.stat(lock).st_ino == os.fstat(file.fileno()).st_ino:
                return file
        except FileNotFoundError:
            pass
        file.close()


@contextmanager
def signed(file: TextIO) -> Iterator[None]:
    """Writes into a locked file which process holds it, since when, and in a second line how far it is."""
    own = f"process {os.getpid()} on {socket.gethostname()} since {now()}"

    def write(progress: str) -> None:
        with suppress(OSError):  # only news: a full disk must not end the work
            file.seek(0)
            file.truncate()
            file.write(f"{own}\n{progress}\n" if progress else own)
            file.flush()

    write("")
    with progress_told_to(write):
        yield


def signature(file: TextIO) -> str:
    """The process that holds the lock ``file``, in words."""
    return next(iter(file.read().splitlines()), "") or "another process"


def share_locks(path: Path) -> list[Path]:
    """The lock files of shares of ``path``: of running processes, or left by dead ones."""
    named = re.compile(rf"\.{re.escape(path.name)}\.\d+-of-\d+\.lock")
    return [found for found in path.parent.glob(f".{glob.escape(path.name)}.*.lock") if named.fullmatch(found.name)]


def running_shares(path: Path) -> str:
    """The shares of ``path`` that processes are working on, in words; "" if there are none."""
    held = []
    for lock in share_locks(path):
        holder = read_lock(lock)
        if holder is not None and holder.alive:
            index, _, number = lock.name.removesuffix(".lock").rpartition(".")[2].split("-")
            held.append(f"shard {index}/{number} ({holder.told})")
    return " and ".join([held[0], *([f"{len(held) - 1} more"] if held[1:] else [])]) if held else ""


def require_lockable(path: Path, targets: Iterable[Path]) -> None:
    """Creates the folder of ``path``; BadInput if ``targets`` cannot be named, or a folder beside it is not ours."""
    make_folder(path.parent)
    for target in targets:
        require_nameable(target)
    for folder in (parts_folder(path), work_folder(path)):
        require_plain_folder(folder)


def require_nameable(path: Path) -> None:
    """BadInput if the temporary name of ``path``, longer than its own, is too long: now instead of after the work."""
    try:
        partial_path(path).lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise refusal(f"Cannot write {path}", error) from error


def require_plain_folder(folder: Path) -> None:
    """BadInput if ``folder`` exists but is a link or a file: what is in a folder elsewhere is not ours to remove."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        what = "a symbolic link" if folder.is_symlink() else "not a folder"
        raise BadInput(f"{folder} is {what}, but resume files are kept there. Remove it or choose another output.")


def no_lock(folder: Path, error: OSError) -> BadInput | StageFailed:
    """The exception for a lock that the file system refuses."""
    if error.errno not in NO_LOCKS:
        return refusal(f"Cannot lock files in {folder}", error)
    return BadInput(
        f"{folder} is on a file system without file locks (flock: {error.strerror}), and without a lock two processes "
        "could damage each other's output. Choose an output on a local disk, or mount that file system with locks "
        "(Lustre: -o flock; NFS: with its lock service)."
    )


@dataclass(frozen=True)
class Holder:
    """The process that a lock file names. ``alive`` is False if it ended without removing the file."""

    pid: int | None
    host: str | None
    since: str
    progress: str
    alive: bool

    @property
    def told(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}" if self.pid else "another process"

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
