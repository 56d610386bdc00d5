"""Atomic publishing: a file is either complete or absent."""

import errno
import glob
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from stages.runtime.errors import BadInput, StageFailed

MARGIN_BYTES = 4 << 20  # room for companion files (history, plots) and file-system overhead


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
