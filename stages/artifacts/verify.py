"""Checking artifacts: checksums, schema, freshness against their inputs."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.artifacts.computing import AUTO, computed_otherwise
from stages.artifacts.hdf5 import Artifact, Checksums
from stages.artifacts.header import content_digest
from stages.artifacts.model import Model
from stages.artifacts.opening import open_any, read_any_header
from stages.artifacts.publish import bytes_digest
from stages.runtime.errors import BadInput

SMALL_FILE = 64 << 20  # bytes


def verify_files(paths: Sequence[Path], device: str = AUTO, precision: str = AUTO, same_device: bool = False) -> None:
    """Reports whether each file is undamaged and up to date; BadInput lists those that are not.

    What a network computed on another ``device`` or in another ``precision`` is only reported, unless ``same_device``.
    """
    faults: list[str] = []
    for path in paths:
        try:
            found, notes = verify_one(path)
        except BadInput as error:
            found, notes = error.faults, []
        else:
            otherwise = network_otherwise(path, device, precision)
            if same_device:
                found += [f"{path} is stale: {each}. Run the stage again with --same-device." for each in otherwise]
            else:
                notes += otherwise
        faults += found
        if not found:
            print(f"{path}: undamaged" + (f"; {'; '.join(notes)}" if notes else " and up to date"), flush=True)
    if faults:
        raise BadInput(faults)


def verify_one(path: Path) -> tuple[list[str], list[str]]:
    """Faults and notes about one artifact."""
    stale, notes = freshness(path)
    artifact = open_any(path)
    attached = [fault for each in attached_files(artifact) for fault in content_faults(each)]
    return content_faults(artifact) + attached + stale, notes


def attached_files(artifact: Artifact | Model) -> Sequence[Artifact]:
    """The open files that belong to ``artifact``; BadInput if one is missing or another."""
    return () if isinstance(artifact, Model) else artifact.attached()


def damage(path: Path) -> str | None:
    """What is wrong with the artifact in ``path``, at a cost that does not grow with its pixels; None: nothing found.

    Models, and files up to `SMALL_FILE`, are checked like by `verify_one`. Of larger ones the header, the tables and
    the list of arrays with their checksums are read, but not the pixels; HDF5 compares the size of the file. Files that
    belong to the artifact must be there, with the digests that it records.
    """
    try:
        artifact = open_any(path)
        attached_files(artifact)
        if isinstance(artifact, Model) or path.stat().st_size <= SMALL_FILE:
            faults = content_faults(artifact)
        else:
            with artifact:
                faults = digest_faults(artifact, artifact.checksums())
    except BadInput as error:
        faults = error.faults
    return faults[0] if faults else None


def content_faults(artifact: Artifact | Model) -> list[str]:
    """Arrays that do not match their checksum, and a digest that does not match the arrays; closes the file."""
    faults = []
    try:
        if isinstance(artifact, Model):
            from safetensors.numpy import load_file

            if not artifact.header.pruned:
                artifact.whole(load_file)
            return []
        with artifact:
            arrays = artifact.checksums()
            for path, (_, _, recorded) in arrays.items():
                if hashlib.sha256(np.ascontiguousarray(artifact.read(path)).tobytes()).hexdigest() != recorded:
                    faults.append(f"{artifact.path} is damaged at {path}: its checksum does not match. Rebuild it.")
            return faults or digest_faults(artifact, arrays)
    except BadInput as error:
        return error.faults


def digest_faults(artifact: Artifact, arrays: Checksums) -> list[str]:
    """A digest that does not match the arrays with these checksums; that of a pruned file is of arrays it lacks."""
    header = artifact.header
    if header.pruned or content_digest(header.kind, header.attributes, arrays) == header.digest:
        return []
    return [f"{artifact.path} was changed: its arrays do not match its digest. Rebuild it."]


def network_otherwise(path: Path, device: str, precision: str) -> list[str]:
    """How ``path`` was computed if a network did it on another device or in another precision."""
    header = read_any_header(path)
    by_network = "device" in header.versions or "precision" in header.settings  # as earlier versions recorded it
    return computed_otherwise(header.versions, device, precision) if by_network else []


def freshness(path: Path) -> tuple[list[str], list[str]]:
    """Faults for inputs that changed since the artifact was written, notes for inputs that are missing."""
    header = read_any_header(path)
    faults, notes = [], ["pruned: only its header is left"] if header.pruned else []
    for role, ref in header.inputs.items():
        source = ref.path(path)
        small = role in ("answers", "selection") and source.is_dir()  # other folders are too large
        if not (source.is_file() or small):
            lacking = "is a folder, which is not" if source.is_dir() else "is missing, so it cannot be"
            notes.append(f"{role} {ref.file} {lacking} compared")
            continue
        try:
            digest = read_any_header(source).digest
        except BadInput:
            digest = bytes_digest(source)  # weights or answers not written by alseg
        if digest != ref.digest:
            faults.append(f"{path} is stale: its {role} {ref.file} changed since. Run the stage again.")
    return faults, notes
