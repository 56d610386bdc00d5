"""Resume files: finished shards in `OUTPUT.parts/` and checkpoints in `OUTPUT.work/`, from which a request goes on.

A file's name contains the key of its request. Files with other names, and what is in subfolders, are never removed.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from stages.runtime.console import say

KEPT = 2  # other requests whose files are kept, such as a longer training that was stopped
KEY_LENGTH = 16
NAME = re.compile(rf"\.?(?:\d{{5,}}|step-\d{{9,}})-([0-9a-f]{{{KEY_LENGTH}}})\.(?:h5|pt)(\.\d+\.partial)?")


def resume_path(folder: Path, name: str, key: str, ending: str) -> Path:
    """The resume file ``name`` of the request ``key``; both must fit into `NAME`."""
    return folder / f"{name}-{key[:KEY_LENGTH]}{ending}"


def resume_files(folder: Path) -> dict[str, list[Path]]:
    """The resume files in ``folder``, finished or temporary, by the start of their request's key."""
    found: dict[str, list[Path]] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = NAME.fullmatch(path.name)
        if match and path.is_file() and not path.is_symlink():
            found.setdefault(match[1], []).append(path)
    return found


def remove_resume_files(folder: Path, key: str) -> None:
    """Removes the resume files of the request ``key``, and ``folder`` if nothing else is in it."""
    remove_files(resume_files(folder).get(key[:KEY_LENGTH], []))
    with suppress(OSError):  # not empty, or absent
        folder.rmdir()


def remove_other_resume_files(folder: Path, key: str, alone: bool = True) -> None:
    """Removes temporary files of dead processes, and the files of other requests but for the `KEPT` used last.

    Only the holder of the output's lock calls it. ``alone``: no other process works on the request ``key``.
    """
    found = resume_files(folder)
    own = found.pop(key[:KEY_LENGTH], [])
    others = sorted(found.values(), key=last_used, reverse=True)
    left = [*(own if alone else []), *(path for files in others for path in files)]
    remove_files(path for path in left if path.name.endswith(".partial"))
    for files in others[KEPT:]:
        remove_files(files)
    if others[KEPT:]:
        say(f"removed the files of all but the {KEPT} latest runs with other settings from {folder}")
    if others:
        say(
            f"note: {folder} keeps files of runs with other settings ({len(others[:KEPT])}), which their own command "
            "resumes; remove the folder if they are not wanted"
        )


def last_used(files: Iterable[Path]) -> int:
    """When the newest of ``files`` was written."""
    return max(path.stat().st_mtime_ns for path in files)


def remove_files(files: Iterable[Path]) -> None:
    """Removes ``files`` as far as possible: what stays is removed by a later run, and is no reason to fail."""
    for path in files:
        with suppress(OSError):
            path.unlink()
