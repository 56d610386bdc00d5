"""The last failure of an output in a run: a small file beside it, which others show while the output is missing."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from stages.artifacts.header import now
from stages.artifacts.locks import is_locked
from stages.artifacts.publish import error_path, publish_bytes
from stages.artifacts.rounds import ROUND_FOLDERS, round_folders
from stages.runtime.errors import StageFailed


@dataclass(frozen=True)
class Failure:
    """How a command ended: its exit code (None: a traceback), its last sentence, and when."""

    exit: int | None
    error: str
    time: str


def note_failure(output: Path, code: int | None, error: str) -> None:
    """Keeps how the command for ``output`` failed, if that is in the folder of a run and no other process writes it.

    Elsewhere nobody would look for it. It is news, so a disk without room for it is no fault.
    """
    folder = output.parent
    if not (folder.match(ROUND_FOLDERS) or any(round_folders(folder))) or is_locked(output):
        return
    content = json.dumps(asdict(Failure(code, error, now()))) + "\n"
    with suppress(OSError, StageFailed):
        publish_bytes(error_path(output), content.encode())


def last_failure(output: Path) -> Failure | None:
    """How the last command for ``output`` failed; None if it did not."""
    with suppress(OSError, ValueError, TypeError):
        return Failure(**json.loads(error_path(output).read_bytes()))
    return None
