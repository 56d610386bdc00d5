"""The folders of a run: what a round makes lies in round-0, round-1, ...; what is made once lies beside them."""

import re
from pathlib import Path, PurePath

ROUND_FOLDERS = "round-*"  # as a pattern for glob and match
NAME = re.compile(r"round-(\d+)")


def round_folder(number: int) -> str:
    return f"round-{number}"


def round_folders(run: Path) -> list[Path]:
    """The folders of a run's rounds, by name."""
    return sorted(run.glob(ROUND_FOLDERS))


def round_of(file: PurePath) -> int | None:
    """The round in whose folder ``file`` lies; None for what lies elsewhere."""
    found = NAME.fullmatch(file.parent.name)
    return int(found[1]) if found else None
