"""Atomic publishing: a file is either complete or absent, and a lock keeps two processes apart."""

import errno
import fcntl
import glob
import hashlib
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from stages.artifacts.header import now
from stages.runtime.console import progress_told_to
from stages.runtime.errors import BadInput, StageFailed
from stages.runtime.shares import Share

GLANCE_SECONDS = 0.1  # `status` holds the lock for less while it looks whether somebody else does
MARGIN_BYTES = 4 << 20  # room for companion files (history, plots) and file-system overhead
LOCKED = "Wait for it to end, then run again."
NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK)


def require_space(folder: Path, needed: int, what: str) -> None:
    """StageFailed when ``folder`` has no room for ``needed`` bytes.

    HDF5 may crash or fail silently on a full disk, so the space is checked before anything is written.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + MARGIN_BYTES:
        raise StageFailed(
            f"{what} needs about {(needed + MARGIN_BYTES) / 1e6:.0f} MB, but {folder} has only {free / 1e6:.0f} MB "
            "free. Free some space and run the same command again."
        )


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def destination(path: Path) -> Path:
    """The file that ``path`` leads to, so that a link is followed instead of replaced.

    BadInput if there is something that is neither a file nor a folder (a device, a pipe), or if the name is too long.
    """
    try:
        found = Path(os.path.realpath(path)) if path.is_symlink() else path
        if found.is_symlink():
            raise BadInput(f"{path} is a symbolic link that leads to itself. Choose another output.")
        if found.exists() and not found.is_file() and not found.is_dir():
            raise BadInput(f"{path} is not a regular file. Choose another output.")
    except OSError as error:
        raise refusal(f"Cannot write {path}", error) from error
    return found


def partial_path(path: Path) -> Path:
    """A temporary name in the same folder, so that the final rename is atomic."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def lock_path(output: Path) -> Path:
    return output.with_name(f".{output.name}.lock")


def error_path(output: Path) -> Path:
    """The file with the last failure of ``output`` in a run; the next process that works on it removes it."""
    return output.with_name(f".{output.name}.error")


def parts_folder(output: Path) -> Path:
    """The folder of the finished shards of ``output`` until they are joined."""
    return output.with_name(output.name + ".parts")


def work_folder(output: Path) -> Path:
    """The folder of the resume checkpoints of ``output``."""
    return output.with_name(output.name + ".work")


def find_partials(path: Path) -> list[Path]:
    """The temporary files of ``path``: in use by a running process, or left by dead ones."""
    named = re.compile(rf"\.{re.escape(path.name)}\.\d+\.partial")
    return [found for found in path.parent.glob(f".{glob.escape(path.name)}.*.partial") if named.fullmatch(found.name)]


def remove_partials(path: Path) -> None:
    """Removes the temporary files that dead processes left for ``path``."""
    for leftover in find_partials(path):
        remove_leftover(leftover)


def remove_leftover(path: Path) -> None:
    """Removes a file, or a folder with its content."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Creates ``folder``; BadInput if that fails, StageFailed if the disk is full."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refusal(f"Cannot create the folder {folder}", error) from error


def refusal(what: str, error: OSError) -> BadInput | StageFailed:
    """The exception for a failed write: StageFailed if the disk is full, which is no bad input; otherwise BadInput."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StageFailed(f"{what}: {error.strerror}. Free some space and run the same command again.")
    return BadInput(f"{what}: {error.strerror}. Choose another output.")


def unwritten(path: Path, error: OSError) -> BadInput | StageFailed:
    """The exception for an output that could not be published."""
    if error.errno == errno.ENAMETOOLONG:
        return refusal(f"Could not write {path}", error)
    return StageFailed(f"Could not write {path}: {error.strerror}. Nothing was published.")


@contextmanager
def publishing(path: Path) -> Iterator[Path]:
    """Yields a temporary path; on success flushes it and renames it to ``path``, on failure removes it."""
    partial = partial_path(path)
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def publish_bytes(path: Path, content: bytes | memoryview) -> None:
    """Publishes ``content`` as ``path``; StageFailed if the disk is full."""
    publish_together({path: content})


def publish_together(contents: dict[Path, bytes | memoryview]) -> None:
    """Publishes files of one folder, renaming the last one last.

    StageFailed if the disk is full; then none of them is published.
    """
    *_, last = contents
    require_space(last.parent, sum(map(len, contents.values())), f"Writing {last.name}")
    try:
        with ExitStack() as renames:
            for path in reversed(contents):  # the stack unwinds from the end
                partial = renames.enter_context(publishing(path))
                with partial.open("wb") as file:
                    file.write(contents[path])
                    file.flush()
                    os.fsync(file.fileno())
    except OSError as error:
        raise unwritten(last, error) from error


def publish_folder(path: Path, files: Iterable[tuple[str, bytes]]) -> bool:
    """Publishes ``files`` (relative name, content) as the new folder ``path``; False if it already has this content.

    BadInput if ``path`` has other content, StageFailed if the disk is full; in both cases nothing is published.
    """
    partial = partial_path(path)
    try:
        for name, content in files:
            file = partial / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as opened:
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
        for folder in (partial, *(entry for entry in partial.rglob("*") if entry.is_dir())):
            sync_folder(folder)
        if path.exists():
            if path.is_dir() and bytes_digest(path) == bytes_digest(partial):
                return False
            raise BadInput(f"{path} exists and may hold answers. Remove it or choose another output.")
        os.rename(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        raise unwritten(path, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def bytes_digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of the PNG, text and pickle files below a folder."""
    if not path.is_dir():
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    files = sorted(file for file in path.rglob("*") if file.suffix in (".png", ".txt", ".pkl") and file.is_file())
    told = "".join(f"{file.relative_to(path)}\0{bytes_digest(file)}\n" for file in files)
    return hashlib.sha256(told.encode()).hexdigest()


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
        with suppress(OSError), lock.open("r+") as file:  # OSError: it has just ended
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                index, _, number = lock.name.removesuffix(".lock").rpartition(".")[2].split("-")
                held.append(f"shard {index}/{number} ({signature(file)})")
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
