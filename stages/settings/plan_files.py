"""The Makefiles and Snakefiles that `alseg plan` wrote."""

from pathlib import Path

PLAN_MARK = "Written by `alseg plan`"
"""What the first line of them says."""

FOLDERS_ABOVE = 2
"""How far above a folder its plan is looked for."""

SHARD = ".shard"
"""The ending of a target of a plan that stands for a shard: no file of a run."""

NAMES = ("*.mk", "[Mm]akefile", "Snakefile", "*.smk")


def plan_files(folder: Path) -> list[Path]:
    """The plans in ``folder`` and above it, the newest first."""
    here = folder.resolve()
    found = [
        path
        for place in [here, *here.parents[:FOLDERS_ABOVE]]
        for name in NAMES
        for path in place.glob(name)
        if path.is_file() and PLAN_MARK in read_plan_file(path).partition("\n")[0]
    ]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def read_plan_file(path: Path) -> str:
    """The text of a plan with its broken lines joined; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").replace("\\\n", " ")
    except (OSError, UnicodeDecodeError):
        return ""
