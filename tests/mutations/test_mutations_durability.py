"""Guards the syncs to disk: each file before it gets its name, its folder after that, removals last.

No test can cut the power, so these record each fsync (with what the file held at that moment), rename and removal, and
check their order.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from worlds import ScoreSettings, SelectSettings, random_masks, random_round, write_dataset, write_superpixels

from stages.answering.answer import Answer
from stages.answering.journal import Journal
from stages.answering.questions import Questions
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer
from stages.artifacts.header import Header
from stages.artifacts.publish import publish_bytes, publish_folder, publish_together
from stages.artifacts.queries import Queries
from stages.artifacts.request import Request
from stages.artifacts.shards import Parts, build_shards, join_shards
from stages.commands import score, select
from stages.training.checkpoints import Checkpoints


def content(path: Path) -> str:
    """A digest of what a file holds; of a folder, "folder"."""
    return "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Synced:
    path: Path
    held: str


@dataclass(frozen=True)
class Renamed:
    """``held`` maps what was below ``source``, itself included (`.`), to what it held."""

    source: Path
    target: Path
    held: dict[str, str]


@dataclass(frozen=True)
class Removed:
    path: Path


@dataclass
class Disk:
    """What was done to files, in order."""

    events: list[Synced | Renamed | Removed] = field(default_factory=list)

    def renames(self) -> list[Renamed]:
        return [event for event in self.events if isinstance(event, Renamed)]

    def first(self, after: int, wanted: Callable[[Any], bool]) -> int:
        """Index of the first event that is ``wanted`` from ``after`` on; the number of events if there is none."""
        return next((i for i in range(after, len(self.events)) if wanted(self.events[i])), len(self.events))

    def synced_before(self, path: Path, held: str, stop: int) -> bool:
        """Whether the last sync of ``path`` before the event ``stop`` found it as it was then."""
        found = [event for event in self.events[:stop] if isinstance(event, Synced) and event.path == path]
        return bool(found) and found[-1].held == held

    def require_durable(self, renamed: Renamed) -> int:
        """Checks the order of events around a rename, and returns the index of the sync of its folder."""
        place = self.events.index(renamed)
        for name, held in renamed.held.items():
            path = renamed.source / name
            assert self.synced_before(path, held, place), f"{path} was renamed before it was synced"
        folder = Synced(renamed.target.parent, "folder")
        synced = self.first(place, lambda event: event == folder)
        assert synced < len(self.events), f"{renamed.target.parent} was not synced after {renamed.target} got its name"
        return synced

    def require_all_durable(self, *targets: Path) -> None:
        """The same of all renames, ``targets`` (at least one) among them."""
        assert {*targets} <= {renamed.target for renamed in self.renames()}
        for renamed in self.renames():
            self.require_durable(renamed)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()

    def syncing(sync: Callable[[Any], None]) -> Callable[[Any], None]:
        def synced(file: Any) -> None:
            sync(file)
            number = file if isinstance(file, int) else file.fileno()
            path = Path(os.readlink(f"/proc/self/fd/{number}"))
            disk.events.append(Synced(path, content(path)))

        return synced

    def renaming(rename: Callable[..., None]) -> Callable[..., None]:
        def renamed(source: Any, target: Any, **values: Any) -> None:
            path = Path(source).absolute()
            held = {str(each.relative_to(path)): content(each) for each in (path, *path.rglob("*"))}
            rename(source, target, **values)
            disk.events.append(Renamed(path, Path(target).absolute(), held))

        return renamed

    def removing(remove: Callable[..., None]) -> Callable[..., None]:
        def removed(path: Any, *values: Any, **named: Any) -> None:
            remove(path, *values, **named)
            disk.events.append(Removed(Path(path).absolute()))

        return removed

    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, syncing(getattr(os, name)))
    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, renaming(getattr(os, name)))
    monkeypatch.setattr(os, "unlink", removing(os.unlink))
    monkeypatch.setattr(shutil, "rmtree", removing(shutil.rmtree))
    return disk


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path.resolve()  # as /proc tells it


@pytest.mark.parametrize("replaced", [False, True], ids=["new", "replaced"])
def test_one_file(place: Path, disk: Disk, replaced: bool) -> None:
    path = place / "a.h5"
    if replaced:
        path.write_bytes(b"before")
    publish_bytes(path, b"content" * 1000)
    assert path.read_bytes() == b"content" * 1000
    assert len(disk.renames()) == 1
    disk.require_all_durable(path)


def test_files_that_belong_together(place: Path, disk: Disk) -> None:
    """All of them are on the disk before the first gets its name: a disk that fails to write one leaves none."""
    contents = {place / name: name.encode() * 1000 for name in ("m.history.csv", "m.curve.png", "m.safetensors")}
    publish_together(contents)
    assert [renamed.target for renamed in disk.renames()] == list(contents)  # the last one last
    first = disk.first(0, lambda event: isinstance(event, Renamed))
    for renamed in disk.renames():
        disk.require_durable(renamed)
        assert disk.synced_before(renamed.source, renamed.held["."], first), f"{renamed.target} was synced too late"
    assert {path: path.read_bytes() for path in contents} == contents


def test_a_folder(place: Path, disk: Disk) -> None:
    files = {"a.png": b"a" * 9000, "below/b.png": b"b" * 9000, "below/deep/c.txt": b"c"}
    assert publish_folder(place / "out", files.items())
    (renamed,) = disk.renames()
    assert {*renamed.held} == {".", "below", "below/deep", *files}
    disk.require_all_durable(place / "out")
    assert {name: (place / "out" / name).read_bytes() for name in files} == files


def test_shards_and_what_is_joined_of_them(place: Path, disk: Disk) -> None:
    """The shards stay until the output is on the disk."""
    output = place / "s.h5"
    request = Request("score", "scores", output, ScoreSettings(measure="random"), {})

    def build(writer: Writer, part: Any) -> dict[str, Any]:
        for number in part:
            writer.array(f"scores/{number}", np.full((50, 50), number))
        return {"sum": sum(part)}

    def finish(writer: Writer, parts: Parts) -> Header:
        return request.header(counts={"sum": sum(sums["sum"] for sums in parts.sums)})

    shards = build_shards(request, [1, 2, 3, 4, 5], 2, build, "working")
    assert len(disk.renames()) == 3
    disk.require_all_durable(*map(shards.path, range(3)))
    before = len(disk.events)
    assert join_shards(shards, finish).counts == {"sum": 15}
    disk.require_all_durable(output)
    synced = disk.require_durable(disk.renames()[-1])
    of_shards = {shards.folder, *map(shards.path, range(3))}
    removed = disk.first(before, lambda event: isinstance(event, Removed) and event.path in of_shards)
    assert synced < removed < len(disk.events)


def test_checkpoints(place: Path, disk: Disk) -> None:
    """An old checkpoint is removed after the new one is on the disk."""
    checkpoints = Checkpoints(place / "m.safetensors", "0123456789abcdef0123456789abcdef")
    for step in (1, 2, 3):
        checkpoints.save(step, {"weights": torch.full((100,), step)})
    assert len(disk.renames()) == 3
    *_, last = disk.renames()
    disk.require_all_durable(*checkpoints.paths())
    oldest = disk.renames()[0].target
    assert not oldest.exists()
    removed = disk.first(0, lambda event: event == Removed(oldest))
    assert disk.require_durable(last) < removed < len(disk.events)


def test_the_journal_of_answers(place: Path, disk: Disk) -> None:
    """Its name is on the disk once it is open, and each answer once `append` returns."""
    dataset = write_dataset(place / "d.h5", random_masks(["a", "b"], (16, 16), 3), 3)
    scores = score.run(dataset, place / "s.h5", ScoreSettings(measure="random"))
    queries = select.run(dataset, scores, place / "q.h5", SelectSettings(budget=3))
    path = place / "l.h5.work" / "journal-0.jsonl"
    with Dataset(dataset) as data, Queries(queries) as asked:
        questions = Questions(data, asked, None)
        disk.events.clear()
        journal = Journal(path, questions)
        assert {Synced(path.parent, "folder"), Synced(place, "folder")} <= {*disk.events}
        for query in range(3):
            answer = Answer(query=query, **questions.place(query), classes=(1,), seconds=1.0, annotator="somebody")
            size = path.stat().st_size
            disk.events.clear()
            journal.append([answer])
            assert path.stat().st_size > size
            assert disk.synced_before(path, content(path), len(disk.events)), "the answer was not synced"
        journal.close()
        again = Journal(path, questions)
        assert [given.query for given in again.answers] == [0, 1, 2]
        again.close()


def test_what_stages_write(place: Path, disk: Disk) -> None:
    dataset = write_dataset(place / "d.h5", random_masks(["a", "b"], (16, 16), 3), 3)
    superpixels = write_superpixels(place, dataset)
    ledger = random_round(place, dataset, 0)
    disk.require_all_durable(dataset, superpixels, place / "scores0.h5", place / "queries0.h5", ledger)
