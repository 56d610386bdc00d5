"""Long stages write shards: each complete or absent, missing ones are built on resume, all are joined at the end."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stages.artifacts.attributes import read_attributes
from stages.artifacts.hdf5 import LIBVER, ROWS, Artifact, Writer, build_in_memory
from stages.artifacts.header import Header, canonical
from stages.artifacts.publish import make_folder, parts_folder, publish_bytes, publishing, require_space
from stages.artifacts.request import ALONE, Request
from stages.artifacts.resume import remove_other_resume_files, remove_resume_files, resume_path
from stages.artifacts.verify import content_faults
from stages.runtime.console import Progress, say
from stages.runtime.errors import BadInput, StageFailed, Stopped
from stages.runtime.ranks import Ranks
from stages.runtime.shares import Share
from stages.runtime.signals import stop_on_signal

# Writes the arrays of some items and returns their partial sums
Fill = Callable[[Writer, Sequence[str]], dict[str, Any]]

DIGITS = 5


@dataclass(frozen=True)
class Shards:
    """The shards of one request, in the folder ``<output>.parts``: one for the items of each of ``parts``.

    ``build(writer, some items)``, ``work`` and ``digits`` as for `build_shards`.
    """

    request: Request
    parts: Sequence[Sequence[Any]]
    build: Callable[[Writer, Any], dict[str, Any]]
    progress: str
    work: Callable[[Sequence[Any]], Iterator[Any]] | None = None
    digits: int = DIGITS

    @property
    def folder(self) -> Path:
        return parts_folder(self.request.output)

    @property
    def number(self) -> int:
        return len(self.parts)

    def path(self, index: int) -> Path:
        return resume_path(self.folder, f"{index:0{self.digits}d}", self.request.key(), ".h5")

    def open_folder(self, ranks: Ranks) -> None:
        """Creates the folder and removes what dead processes and other requests left, unless others share the work."""
        make_folder(self.folder)
        if ranks.is_main and self.request.share is None:
            remove_other_resume_files(self.folder, self.request.key(), alone=ranks.size == 1)

    def remove(self) -> None:
        remove_resume_files(self.folder, self.request.key())

    def own(self, indices: Sequence[int], ranks: Ranks) -> Sequence[int]:
        """Those of ``indices`` that this process builds first, as one of the ``ranks`` or one share of the request."""
        share = self.request.share or Share(ranks.rank, ranks.size)
        return [indices[place] for place in share.of(len(indices))]

    def told_share(self) -> str:
        """What this process built of them, in words."""
        share = self.request.share
        assert share is not None
        own = len(share.of(self.number))
        return f"{own} of {self.number} parts" if own else f"nothing, because there are only {self.number} parts"

    def complete(self, indices: Sequence[int]) -> None:
        """Publishes those of the shards ``indices`` that are missing or damaged."""
        missing = [index for index in indices if not is_whole(self.path(index))]
        if 0 < len(missing) < len(indices):
            finished = f"{len(indices) - len(missing)} of {len(indices)} parts of {self.request.output.name}"
            say(f"{finished} are finished; building the others")
        given = [sum(len(self.parts[index]) for index in each) for each in (indices, missing)]
        with stop_on_signal() as stop, Progress(self.progress, given[0]) as bar, ExitStack() as stack:
            results: Iterator[Any] | None = None
            if self.work is not None:
                results = self.work([item for index in missing for item in self.parts[index]])
                stack.callback(getattr(results, "close", lambda: None))  # ends its processes
            bar.advance(given[0] - given[1])

            def obey() -> None:
                if stop:
                    raise Stopped(f"stopped after {bar.done} of {bar.total} images; run the same command to continue")

            def pairs(part: Sequence[Any], results: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
                for pair in zip(part, results, strict=False):
                    obey()
                    yield pair

            obey()
            for index in missing:
                part = self.parts[index]
                self.publish(index, part if results is None else pairs(part, results))
                bar.advance(len(part))
                obey()

    def publish(self, index: int, part: Iterable[Any]) -> None:
        def fill(writer: Writer) -> Header:
            return self.request.header(attributes={"partial": canonical(self.build(writer, part))})

        try:
            content = build_in_memory(fill)
        except BadInput:
            if self.request.share is None:
                self.remove()
            raise
        publish_bytes(self.path(index), content)


def build_shards(
    request: Request,
    items: Sequence[Any],
    size: int,
    build: Callable[[Writer, Any], dict[str, Any]],
    progress: str,
    ranks: Ranks = ALONE,
    work: Callable[[Sequence[Any]], Iterator[Any]] | None = None,
    digits: int = DIGITS,
) -> Shards:
    """Publishes the shards of ``items`` that are missing or damaged.

    ``build(writer, some items)`` writes the arrays of some items and returns partial sums (JSON) for `join_shards`.
    If ``work`` is given, it computes results for all missing items, ahead of the shard that is being written, and
    ``build`` gets pairs (item, result). A signal then stops between two items, otherwise between two shards. Each of
    several ``ranks`` takes every ``ranks.size``-th shard, and a share of the request likewise. Shards that the same
    request builds before others, and reads, have names with another number of ``digits``; they are removed with the
    others. If ``build`` raises BadInput, the finished shards are removed too, because they can never be joined; a share
    leaves that to the process that joins them.
    """
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    shards = Shards(request, parts, build, progress, work, digits)
    shards.open_folder(ranks)
    shards.complete(shards.own(range(shards.number), ranks))
    return shards


def is_whole(shard: Path) -> bool:
    """Whether ``shard`` exists and all in it matches its checksums; says so when it does not."""
    if not shard.is_file():
        return False
    try:
        artifact = Artifact(shard)
        whole = not artifact.has_old_text and not content_faults(artifact)
    except BadInput:
        whole = False
    if not whole:
        say(f"{shard} is damaged or of an older version; building it again")
    return whole


@contextmanager
def quiet_hdf5() -> Iterator[None]:
    """Hides the tracebacks that h5py prints for each object of a file that cannot be closed on a full disk."""
    hooks = sys.excepthook, sys.unraisablehook
    sys.excepthook = lambda *details: None
    sys.unraisablehook = lambda details: None
    try:
        yield
    finally:
        sys.excepthook, sys.unraisablehook = hooks


@dataclass(frozen=True)
class Parts:
    """What is left to combine from the shards: their partial sums, and their rows of tables that span all shards."""

    paths: list[Path]
    sums: list[dict[str, Any]]

    def merged(self, name: str) -> dict[str, Any]:
        """The partial sums ``name``, each a mapping (image -> value), merged into one mapping."""
        return {key: value for sums in self.sums for key, value in sums[name].items()}

    def column(self, path: str) -> np.ndarray:
        """The rows that the shards wrote at ``path``, concatenated in shard order."""
        parts = []
        for shard in self.paths:
            with h5py.File(shard, "r", locking=False) as file:
                parts.append(file[ROWS + path][()])
        return np.concatenate(parts)


def join_shards(
    shards: Shards,
    finish: Callable[[Writer, Parts], Header],
    apart: Callable[[Sequence[Path]], Sequence[str]] = lambda paths: (),
) -> Header:
    """Joins the shards into the output and removes them; ``finish`` adds the tables and returns the header.

    What was damaged since it was built is built again before. ``apart`` publishes the arrays of the groups whose names
    it returns in other files; the output has none of them.
    """
    shards.complete(range(shards.number))
    output = shards.request.output
    paths = [shards.path(index) for index in range(shards.number)]
    require_space(output.parent, sum(path.stat().st_size for path in paths), f"Joining {output.name}")
    try:
        with quiet_hdf5(), publishing(output) as partial, h5py.File(partial, "w", libver=LIBVER) as file:
            writer = Writer(file)
            elsewhere = apart(paths)
            sums = []
            for path in paths:
                with h5py.File(path, "r") as shard:
                    writer.adopt(shard, lambda array: array.partition("/")[0] not in elsewhere)
                    sums.append(json.loads(read_attributes(shard)["partial"]))
            header = finish(writer, Parts(paths, sums))
            digest = writer.finish(header)
    except (OSError, RuntimeError) as error:
        cause = re.search(r"error message = '(.*?)'", str(error))  # the system's message within that of HDF5
        reason = cause[1] if cause else str(error)
        raise StageFailed(
            f"Could not write {output}: {reason}. Finished shards are kept; run the same command again."
        ) from error
    shards.remove()
    return Header.from_json(header.to_json() | {"digest": digest})
