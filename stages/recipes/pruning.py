"""`alseg prune`: removes what no stage of a run reads any more, and leaves headers so that nothing becomes stale."""

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from stages.artifacts.header import Header
from stages.artifacts.locks import is_locked
from stages.artifacts.model import Model
from stages.artifacts.opening import is_artifact, read_any_header
from stages.artifacts.pruned import DROPPED, prune_file, pruned_content
from stages.artifacts.publish import parts_folder, work_folder
from stages.artifacts.resume import remove_files, resume_files
from stages.artifacts.rounds import round_folders
from stages.recipes.targets import PlannedRun, Target, planned_runs
from stages.runtime.errors import BadInput, StageFailed

Keep = Literal["last", "best", "models"]
VALIDATED = "best_val_miou"  # what `train` counts if it validated by mIoU
KEPT_TENSORS = re.compile(r"[0-9a-f]{32}(?:\.safetensors)?")
LINKED = "; other hard links keep the bytes until they are pruned too"


@dataclass(frozen=True)
class Removal:
    """A file to prune, or files to remove, with the bytes that they take less than before."""

    path: Path
    what: str
    bytes: int
    remove: Callable[[], object] = field(compare=False)


@dataclass
class Pruning:
    """What may be removed from a run, and sentences about what may not."""

    removals: list[Removal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def prune_runs(folders: Sequence[Path], keep: Keep, dry_run: bool) -> None:
    """Prunes the runs in ``folders``; with ``dry_run`` only says what it would do.

    BadInput for folders without a plan, and for ``keep`` best without validated models; nothing is removed then.
    """
    found = prunings(planned_runs(folders), keep)
    removals = [removal for pruning in found for removal in pruning.removals]
    freed = {each.path: count for each, count in zip(removals, freed_bytes(removals), strict=True)}
    total, files = 0, 0
    for removal in removals:
        if not dry_run:
            try:
                removal.remove()
            except (BadInput, StageFailed) as error:
                print(f"kept {removal.path}: {error}", flush=True)
                continue
        total, files = total + freed[removal.path], files + 1
        told = in_units(freed[removal.path]) if freed[removal.path] else f"0 bytes{LINKED}"
        print(f"{'would prune' if dry_run else 'pruned'} {removal.path}: {removal.what}, {told}", flush=True)
    for note in (note for pruning in found for note in pruning.notes):
        print(f"note: {note}")
    print(f"{'would free' if dry_run else 'freed'} {in_units(total)} of {files} {'file' if files == 1 else 'files'}")


def in_units(size: int) -> str:
    """A number of bytes for people."""
    return f"{size} bytes" if size < 1000 else f"{size / 1e3:.1f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"


def prunings(runs: Sequence[PlannedRun], keep: Keep) -> list[Pruning]:
    """What may be removed from each of ``runs``; BadInput with all runs that ``keep`` does not apply to."""
    found, faults = [], []
    seen: set[Path] = set()  # a folder of features may belong to several runs
    for run in runs:
        try:
            pruning = pruning_of(run, keep)
        except BadInput as error:
            faults += error.faults
            continue
        pruning.removals = [each for each in pruning.removals if each.path not in seen]
        seen |= {each.path for each in pruning.removals}
        found.append(pruning)
    if faults:
        raise BadInput(faults)
    return found


def pruning_of(run: PlannedRun, keep: Keep) -> Pruning:
    """What may be removed from ``run``.

    A file may be pruned if its round is finished, all targets of the plan that read it were made from it as it is, and
    no process writes one of them. Ledgers, queries, evaluations, datasets and regions are never touched.
    """
    found = Pruning()
    headers = {target.path: header for target in run.targets if (header := header_of(target.path)) is not None}
    kept = kept_round(run, headers, keep)
    for target in run.targets:
        header = headers.get(target.path)
        if header is None:
            continue
        if not is_locked(target.path):
            found.removals += resume_removals(target.path)
        wanted = header.kind in DROPPED or (
            header.kind == Model.kind and kept is not None and target.round not in (None, kept)
        )
        if not wanted or header.pruned:
            continue
        if reason := still_needed(run, target, header):
            found.notes.append(f"{target.path} is kept: {reason}")
            continue
        try:
            content = pruned_content(target.path)
        except BadInput as error:
            found.notes += [f"{target.path} is kept: {fault}" for fault in error.faults]
            continue
        before = target.path.stat().st_size
        if content is not None and len(content) < before:
            removal = Removal(target.path, header.kind, before - len(content), partial(prune_file, target.path))
            found.removals.append(removal)
    found.removals += kept_tensors(run)
    return found


def header_of(path: Path) -> Header | None:
    """The header of an artifact; None if there is none that can be read."""
    try:
        return read_any_header(path) if path.is_file() and is_artifact(path) else None
    except BadInput:
        return None


def still_needed(run: PlannedRun, target: Target, header: Header) -> str | None:
    """Why ``target`` has to stay whole; None if nothing reads it any more."""
    if not is_finished(each for each in run.targets if each.round == target.round):
        return f"{'its run' if target.round is None else f'round {target.round}'} is not finished"
    for reader in run.every:
        if target.path not in reader.needs:
            continue
        if not reader.path.exists():
            return f"{reader.path} is not made yet"
        if is_locked(reader.path):
            return f"a process writes {reader.path}, which reads it"
        made = header_of(reader.path)
        used = made is None or reader.stage == "link" or header.digest in {ref.digest for ref in made.inputs.values()}
        if not used:
            return f"{reader.path} was made from another one and is made again"
    return None


def kept_round(run: PlannedRun, headers: dict[Path, Header], keep: Keep) -> int | None:
    """The round whose models stay; None: those of all rounds. BadInput if no round is the best."""
    if keep == "models":
        return None
    models = [
        (target.round, headers[target.path])
        for target in run.targets
        if target.round is not None and target.path in headers and headers[target.path].kind == Model.kind
    ]
    if not models:
        return None
    if keep == "last":
        return max(number for number, _ in models)
    validated = [
        (float(value), number) for number, header in models if (value := header.counts.get(VALIDATED)) is not None
    ]
    if not validated:
        raise BadInput(
            f"{run.folder}: no model records a validation mIoU, so none is the best. Pass --keep last or models."
        )
    return max(validated)[1]


def resume_removals(output: Path) -> Iterable[Removal]:
    """The resume files of a finished output."""
    for folder in (parts_folder(output), work_folder(output)):
        files = [path for found in resume_files(folder).values() for path in found]
        if files:
            size = sum(path.stat().st_size for path in files)
            yield Removal(folder, "resume files", size, partial(remove_all, folder, files))


def remove_all(folder: Path, content: Sequence[Path]) -> None:
    """Removes ``content``, files and folders in ``folder``, and ``folder`` if nothing else is in it."""
    remove_files(path for path in content if not path.is_dir())
    for path in content:
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        folder.rmdir()


def kept_tensors(run: PlannedRun) -> Iterable[Removal]:
    """Folders with predictions and features that are kept between stages, once all that could read them is made."""
    shared = [run.folder.parent / "features"] if run.others and is_finished(run.every) else []
    predictions = [folder / "predictions" for folder in round_folders(run.folder)]
    own = [run.folder / "features", *predictions] if is_finished(run.targets) else []
    for folder in (*own, *shared):
        if folder.is_dir() and not folder.is_symlink():
            content = [path for path in folder.iterdir() if KEPT_TENSORS.fullmatch(path.name)]
            size = sum(path.stat().st_size for top in content for path in (top, *top.rglob("*")) if path.is_file())
            if content:
                yield Removal(folder, f"kept {folder.name}", size, partial(remove_all, folder, content))


def is_finished(targets: Iterable[Target]) -> bool:
    """Whether all ``targets`` are made, and no process makes one again."""
    return all(target.path.exists() and not is_locked(target.path) for target in targets)


def freed_bytes(removals: Sequence[Removal]) -> list[int]:
    """The bytes that each removal frees if all of them are made: those of hard links with the last link alone."""
    linked: Counter[tuple[int, int]] = Counter()
    freed = []
    for removal in removals:
        found = removal.path.stat()
        place = found.st_dev, found.st_ino
        linked[place] += 1
        last = removal.path.is_dir() or linked[place] == found.st_nlink
        freed.append(removal.bytes if last else 0)
    return freed
