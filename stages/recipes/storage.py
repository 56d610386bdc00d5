"""`alseg du`: how many bytes the files of runs take, by kind and round, and what `prune` would free."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from stages.artifacts.opening import is_artifact, read_any_header
from stages.artifacts.rounds import round_of
from stages.recipes.pruning import Keep, freed_bytes, in_units, prunings
from stages.recipes.targets import PlannedRun, planned_runs
from stages.runtime.console import print_table
from stages.runtime.errors import BadInput

PICTURES = (".png", ".jpg", ".html")
KEPT = ("predictions", "features")
PRUNED = "pruned"
KEEPS: tuple[Keep, ...] = ("models", "best", "last")


@dataclass(frozen=True)
class Stored:
    """A file: its kind, its round (None: outside rounds) and the bytes that it adds, 0 for a further hard link."""

    kind: str
    round: int | None
    bytes: int


def show_storage(folders: Sequence[Path], as_json: bool) -> None:
    """Prints what the runs in ``folders`` take; as JSON if asked for. BadInput for folders without a plan."""
    runs = planned_runs(folders)
    found = stored_files(folders)
    freed = {keep: freed_by(runs, keep) for keep in KEEPS}
    if as_json:
        print(json.dumps({"runs": [str(run.folder) for run in runs], **as_values(found, freed)}, indent=1))
        return
    rounds = sorted({each.round for each in found if each.round is not None})
    for title, groups in (
        ("kind", {kind: [each for each in found if each.kind == kind] for kind in by_size(found)}),
        ("round", {str(number): [each for each in found if each.round == number] for number in rounds}),
    ):
        table = Table(title, "files", "bytes", box=None, pad_edge=False)
        for name, files in {**groups, **({"total": found} if title == "kind" else {})}.items():
            table.add_row(name, str(len(files)), in_units(sum(each.bytes for each in files)))
        print_table(table)
    for keep, value in freed.items():
        told = value if isinstance(value, str) else in_units(value)
        print(f"prune --keep {keep} would free: {told}")


def as_values(found: Sequence[Stored], freed: dict[Keep, int | str]) -> dict[str, Any]:
    files: Counter[tuple[str, int | None]] = Counter()
    sizes: Counter[tuple[str, int | None]] = Counter()
    for each in found:
        files[each.kind, each.round] += 1
        sizes[each.kind, each.round] += each.bytes
    rows = [
        {"kind": kind, "round": number, "files": count, "bytes": sizes[kind, number]}
        for (kind, number), count in files.items()
    ]
    return {
        "stored": rows,
        "files": len(found),
        "bytes": sum(sizes.values()),
        "freed": {keep: value if isinstance(value, int) else None for keep, value in freed.items()},
    }


def by_size(found: Sequence[Stored]) -> list[str]:
    """The kinds, that with most bytes first."""
    sizes: Counter[str] = Counter()
    for each in found:
        sizes[each.kind] += each.bytes
    return [kind for kind, _ in sizes.most_common()]


def freed_by(runs: Sequence[PlannedRun], keep: Keep) -> int | str:
    """The bytes that `prune` would free, or why it would refuse."""
    try:
        removals = [removal for pruning in prunings(runs, keep) for removal in pruning.removals]
    except BadInput as error:
        return error.faults[0]
    return sum(freed_bytes(removals))


def stored_files(folders: Sequence[Path]) -> list[Stored]:
    """All files below ``folders``, each once; of hard links to the same bytes the first counts them."""
    seen: set[tuple[int, int]] = set()
    found = []
    for top in sorted({folder.resolve() for folder in folders}):
        for place, inner, names in os.walk(top):
            inner.sort()
            for name in sorted(names):
                path = Path(place, name)
                if path.is_symlink() or not path.is_file():
                    continue
                state = path.stat()
                linked = (state.st_dev, state.st_ino) in seen
                seen.add((state.st_dev, state.st_ino))
                found.append(Stored(kind_of(path, top), round_within(path, top), 0 if linked else state.st_size))
    return found


def round_within(path: Path, top: Path) -> int | None:
    """The round in whose folder, or in a folder of which, the file lies."""
    inner = path.relative_to(top.parent)
    return next((number for each in (inner, *inner.parents) if (number := round_of(each)) is not None), None)


def kind_of(path: Path, top: Path) -> str:
    """What a file is, in a word or two: the kind of an artifact, or what it is beside artifacts."""
    folders = path.relative_to(top).parts[:-1]
    if any(folder.endswith((".work", ".parts")) for folder in folders):
        return "journals" if any("journal-" in part for part in path.parts) else "resume files"
    kept = next((folder for folder in folders if folder in KEPT), None)
    if kept is not None:
        return f"kept {kept}"
    if path.suffix in PICTURES:
        return "pictures"
    try:
        if is_artifact(path):
            header = read_any_header(path)
            return PRUNED if header.pruned else header.kind
    except (BadInput, OSError):
        return "unreadable"
    return "tables and text"
