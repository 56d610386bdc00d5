"""Requests for artifacts, and the steps that all stages share: check whether up to date, lock, build, publish."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stages.artifacts.computing import asked, computed_otherwise, computed_with, device_type
from stages.artifacts.header import SCHEMA_VERSION, Header, InputRef, digest_of, now, recorded_versions
from stages.artifacts.journals import find_journals, stage_attribute
from stages.artifacts.locks import lock_path, output_lock, share_lock
from stages.artifacts.opening import is_artifact, read_any_header
from stages.artifacts.publish import (
    bytes_digest,
    destination,
    error_path,
    find_partials,
    make_folder,
    parts_folder,
    publish_bytes,
    work_folder,
)
from stages.artifacts.resume import remove_resume_files
from stages.artifacts.verify import damage
from stages.runtime.console import say
from stages.runtime.errors import BadInput, StageFailed
from stages.runtime.ranks import Ranks
from stages.runtime.shares import Share
from stages.settings.base import StageSettings, fields_of

ALONE = Ranks()


@dataclass(frozen=True)
class Request:
    """One artifact to be made: ``stage`` writes ``kind`` to ``output`` from ``inputs`` (role -> file, digest).

    With a ``share`` its shards are published, as far as they belong to that, and not the artifact.
    """

    stage: str
    kind: str
    output: Path
    settings: StageSettings
    inputs: Mapping[str, InputRef]
    beside: tuple[str, ...] = ()  # endings of the files published beside the output
    share: Share | None = None

    def path_beside(self, ending: str) -> Path:
        """The file beside the output that ends in ``ending``, one of ``beside``."""
        return destination(self.output.with_name(self.output.stem + self.beside[self.beside.index(ending)]))

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", destination(self.output))
        object.__setattr__(self, "inputs", {**self.inputs, **self.plugins()})

    def plugins(self) -> dict[str, InputRef]:
        """Source files of the plug-ins whose parts the settings name; changing one makes the output stale."""
        origins = {part.origin.name: part.origin for part in self.settings.parts() if part.origin is not None}
        return {
            f"plugin {name}": reference(self.output, origin.file, origin.digest) for name, origin in origins.items()
        }

    @cached_property
    def computing(self) -> dict[str, str]:
        """What the network of the stage runs with, if it runs one."""
        return computed_with(self.settings)

    def computed_otherwise(self, old: Header) -> list[str]:
        """How an existing output was computed, in words, if that is not what is asked for."""
        device, precision = (asked(self.settings, name) for name in ("device", "precision"))
        return computed_otherwise(old.versions, device, precision)

    def versions(self) -> dict[str, str]:
        """Versions of everything that affects the result, including plug-ins, and what a network ran with."""
        origins = [part.origin for part in self.settings.parts() if part.origin is not None]
        plugins = {f"plugin {origin.name}": origin.version or "file" for origin in origins}
        return recorded_versions() | self.computing | plugins

    def result_settings(self) -> dict[str, Any]:
        settings = self.settings.result_settings()
        settings.pop("seed")
        return settings

    def key(self) -> str:
        """Identifies the request, so shards and checkpoints of another request are never reused.

        Another device or precision is another request, otherwise an output could be a mixture of both.
        """
        digests = {role: ref.digest for role, ref in self.inputs.items()}
        made = [self.stage, self.kind, SCHEMA_VERSION, self.result_settings(), self.settings.seed, digests]
        network = [device_type(self.computing["device"]), self.computing["precision"]] if self.computing else []
        network += ["compiled"] if "compiled" in self.computing else []
        return digest_of([*made, *network])

    def header(self, attributes: dict[str, Any] | None = None, counts: dict[str, Any] | None = None) -> Header:
        """The header of the artifact to write, without its digest."""
        return Header(
            kind=self.kind,
            stage=self.stage,
            settings=self.result_settings(),
            inputs=dict(self.inputs),
            seed=self.settings.seed,
            attributes=attributes or {},
            counts=counts or {},
            versions=self.versions(),
            created=now(),
        )

    def require_own_output(self) -> None:
        """BadInput if the output would overwrite an input, another kind of artifact, or any other file."""
        for role, ref in self.inputs.items():
            if ref.path(self.output).resolve() == self.output.resolve():
                raise BadInput(f"{self.output} is the {role} input of this stage. Choose another output.")
        if self.output.is_dir():
            raise BadInput(f"{self.output} is a folder. Choose a file name for the output.")
        if self.output.is_file():
            if not is_artifact(self.output):
                raise BadInput(
                    f"{self.output} exists and is not an alseg artifact. Remove it or choose another output."
                )
            try:
                kind = read_any_header(self.output).kind
            except BadInput:
                return  # a damaged artifact may be rebuilt
            if kind != self.kind:
                raise BadInput(f"{self.output} holds {kind}, not {self.kind}. Remove it or choose another output.")

    def differences(self) -> list[str] | None:
        """How an existing output differs from the request, in words; empty: up to date; None: no output."""
        if not self.output.exists():
            return None
        try:
            old = read_any_header(self.output)
        except BadInput:
            return ["the existing file is damaged"]
        differences = [] if old.stage == self.stage else [f"it was written by {old.stage}"]
        if old.schema_version != SCHEMA_VERSION:
            differences.append(f"schema {old.schema_version} is now {SCHEMA_VERSION}")
        if old.seed != self.settings.seed:
            differences.append(f"seed {old.seed} is now {self.settings.seed}")
        new, defaults = self.result_settings(), self.settings.defaults()
        for name, after in sorted(new.items()):
            before = old.settings.get(name, defaults[name])  # settings newer than the file count as default
            if before != after:
                differences.append(f"setting {name} {before} is now {after}")
        unknown = sorted(old.settings.keys() - fields_of(type(self.settings)).keys())
        differences += [f"setting {name} no longer exists" for name in unknown]
        for role in sorted(old.inputs.keys() | self.inputs.keys()):
            was, given = old.inputs.get(role), self.inputs.get(role)
            if was is None or given is None:
                differences.append(f"input {role} {'was not' if was is None else 'is no longer'} given")
            elif was.digest != given.digest:
                differences.append(f"input {role} changed ({given.file})")
        if asked(self.settings, "same_device"):
            differences += self.computed_otherwise(old)
        if not differences and not self.settings.trust:
            found = damage(self.output)
            differences = [] if found is None else [f"the existing file is damaged ({found})"]
        return differences


def reference(output: Path, path: Path, digest: str) -> InputRef:
    """The reference of ``output`` to its input ``path``; links of folders are resolved, as "../" leads to real ones."""
    return InputRef(os.path.relpath(path.parent.resolve() / path.name, destination(output).parent.resolve()), digest)


def files_reference(output: Path, path: Path, files: Sequence[Path]) -> InputRef:
    """The reference of ``output`` to the file ``path``, or to those of ``files`` that are in the folder ``path``."""
    if not path.is_dir():
        return reference(output, path, bytes_digest(path))
    inside = [file for file in files if path in file.parents]
    return reference(
        output, path, digest_of([[file.relative_to(path).as_posix(), bytes_digest(file)] for file in inside])
    )


def refer(output: Path, inputs: Mapping[str, Any]) -> dict[str, InputRef]:
    """References to opened artifacts (anything with ``path`` and ``header``); None: input not given."""
    return {
        role: reference(output, artifact.path, artifact.header.digest)
        for role, artifact in inputs.items()
        if artifact is not None
    }


def produce(
    request: Request, build: Callable[[], str], force: bool = False, ranks: Ranks = ALONE, edits: bool = False
) -> Path:
    """Runs ``build`` unless the output is up to date. ``build`` publishes the artifact and returns a one-line summary.

    With ``edits`` it also runs if the output holds answers of people: ``build`` has all of them from their journal.

    Under torchrun every process builds, but only the main one decides, holds the lock and publishes. Once the output
    is published, an interruption is no failure any more: only leftovers remain to be removed, by the next run.
    With a share of the request, ``build`` publishes shards only, while other processes publish those of other shares.
    """
    if ranks.broadcast(request.key()) != request.key():
        raise BadInput(f"{request.output}: the processes of this launch read different inputs. Run the command again.")
    request.require_own_output()
    if request.share is not None:
        return produce_share(request, request.share, build, force)
    anyway = force or edits
    if ranks.is_main and request.differences() == [] and not anyway:
        clear_up(request)
        return ranks.broadcast(up_to_date(request))
    if ranks.is_main and not edits:
        require_replaceable(request)
    before = file_identity(request.output)
    try:
        with output_lock(request.output, map(request.path_beside, request.beside)) if ranks.is_main else nullcontext():
            # another process may have finished it before the lock was taken
            differences = request.differences() if ranks.is_main else None
            done = ranks.broadcast(up_to_date(request) if differences == [] and not anyway else None)
            if done is not None:
                return done
            if differences:
                say(f"rebuilding {request.output}: {'; '.join(differences)}")
            summary = build()
            ranks.barrier()
    except KeyboardInterrupt:
        if file_identity(request.output) == before:
            raise
        summary = "interrupted after that"
    say(f"wrote {request.output}: {summary}")
    return request.output


def produce_share(request: Request, share: Share, build: Callable[[], str], force: bool) -> Path:
    """Runs ``build``, which publishes the shards of ``share``, unless the output is up to date; nothing is removed."""
    if request.differences() == [] and not force:
        return up_to_date(request)
    require_replaceable(request)
    with share_lock(request.output, share, map(request.path_beside, request.beside)):
        if request.differences() == [] and not force:  # joined by another process before the lock was taken
            return up_to_date(request)
        summary = build()
    say(f"wrote shard {share} of {request.output}: {summary}")
    return request.output


def file_identity(path: Path) -> tuple[int, int] | None:
    """Tells whether a file was replaced; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def require_replaceable(request: Request) -> None:
    """BadInput if the output holds, or may hold, answers that people gave on the page: no command can recreate them.

    A damaged ledger may hold them, unless its stage attribute says that the stage that is run now wrote it.
    """
    output, stage, damaged = request.output, None, False
    if output.exists():
        try:
            stage = read_any_header(output).stage
        except BadInput:
            stage, damaged = stage_attribute(output), True
    if stage == "annotate":
        raise BadInput(
            f"{output} holds answers given by people, which no command can recreate. Move it or choose another output."
        )
    if damaged and request.kind == "annotations" and stage != request.stage:
        raise BadInput(
            f"{output} is damaged and may hold answers given by people, which no command can recreate. Restore it "
            "from a copy, or move it and run the command again."
        )
    journals = find_journals(output)
    if journals and request.stage != "annotate":
        raise BadInput(
            f"{journals[0]} holds answers that people gave for {output}. Run `alseg annotate` to write them, remove "
            "the journal, or choose another output."
        )


def publish_extra(path: Path, content: bytes) -> None:
    """Publishes a file that is not an artifact (a plot, a Makefile); BadInput if it would replace an artifact."""
    target = extra_destination(path)
    make_folder(target.parent)
    publish_bytes(target, content)


def extra_destination(path: Path) -> Path:
    """Where `publish_extra` writes ``path``; BadInput if there is an artifact or anything but a file."""
    target = destination(path)
    if target.is_dir() or (target.is_file() and is_artifact(target)):
        raise BadInput(f"{path} is {'a folder' if target.is_dir() else 'an artifact'}. Choose another output.")
    return target


def clear_up(request: Request) -> None:
    """Removes the leftovers of a process that was killed after publishing the output."""
    outputs = [request.output, *map(request.path_beside, request.beside)]
    folders = [parts_folder(request.output), work_folder(request.output)]
    files = (lock_path(request.output), error_path(request.output))
    leftovers = [path for path in (*files, *folders) if path.exists()]
    if not leftovers and not any(map(find_partials, outputs)):
        return
    # if another process holds the lock, it is running and these are not leftovers
    with suppress(BadInput, StageFailed, OSError), output_lock(request.output, outputs[1:]):
        for folder in folders:
            remove_resume_files(folder, request.key())


def up_to_date(request: Request) -> Path:
    notes = request.computed_otherwise(read_any_header(request.output))
    remedy = f"; {'; '.join(notes)}. Pass --same-device to rebuild it" if notes else ""
    say(f"{request.output} is up to date{remedy}")
    return request.output
