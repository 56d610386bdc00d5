"""Journals of the answers that people give, beside the ledger that they are for.

A journal is written while people answer. It stays until a later ledger contains its answers too, so that a damaged or
missing ledger can be rebuilt.
"""

import contextlib
import os
import shutil
from pathlib import Path

import h5py

from stages.artifacts.hdf5 import DAMAGE
from stages.artifacts.publish import work_folder


def journal_path(output: Path, key: str) -> Path:
    """The journal for the ledger ``output``; ``key`` identifies what is asked."""
    return work_folder(output) / f"journal-{key[:16]}.jsonl"


def find_journals(output: Path) -> list[Path]:
    """The journals with answers for the ledger ``output``, sorted by name."""
    folder = work_folder(output)
    found = folder.glob("journal-*.jsonl") if os.path.isdir(folder) else ()  # not with a name that is too long
    return sorted(path for path in found if path.is_file() and path.stat().st_size)


def masks_folder(journal: Path) -> Path:
    """The folder of the masks that the answers in ``journal`` refer to."""
    return journal.with_suffix(".masks")


def remove_journal(journal: Path) -> None:
    """Removes a journal and its masks, and their folder if it is empty."""
    journal.unlink(missing_ok=True)
    shutil.rmtree(masks_folder(journal), ignore_errors=True)
    with contextlib.suppress(OSError):
        journal.parent.rmdir()


def stage_attribute(ledger: Path) -> str | None:
    """The stage that a damaged file names as its own, if that can still be read."""
    try:
        with h5py.File(ledger, "r", locking=False) as file:
            return str(file.attrs["stage"])
    except DAMAGE:
        return None
