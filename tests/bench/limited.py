"""Commands in a control group with little memory, as a scheduler or a container starts them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from stages.runtime.free_memory import FIRST, GROUPS, SECOND

ENTER = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


@contextmanager
def memory_group(limit: int) -> Iterator[Path | None]:
    """A control group of at most ``limit`` bytes; None where none can be made, which takes root."""
    for root, version in ((GROUPS, SECOND), (GROUPS / "memory", FIRST)):
        folder = root / f"alseg-bench-{os.getpid()}"
        if not (root / "cgroup.procs").is_file():
            continue
        try:
            folder.mkdir()
            (folder / version.limit).write_text(str(limit))
        except OSError:  # no root, or memory is not counted here
            with suppress(OSError):
                folder.rmdir()
            continue
        try:
            yield folder
        finally:
            folder.rmdir()
        return
    yield None


def inside(group: Path, command: Sequence[str]) -> list[str]:
    """``command``, to be started in ``group``."""
    return ["sh", "-c", ENTER, str(group), *command]
