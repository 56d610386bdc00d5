"""Pruned artifacts: the header and the small tables of a file whose large arrays were removed to free space.

The header keeps the digest of the whole content, and the file keeps its name and time, so nothing made from it becomes
stale. Reading what was removed raises BadInput.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py

from stages.artifacts.hdf5 import LIBVER, Artifact, write_header
from stages.artifacts.header import Header, canonical, digest_of
from stages.artifacts.locks import output_lock
from stages.artifacts.model import Model
from stages.artifacts.opening import open_any, read_any_header
from stages.artifacts.publish import destination, publishing

DROPPED = {
    "scores": ("scores", "predicted", "features", "regions", "histogram", "images/features"),
    "pseudo_labels": ("labels", "regions", "prototypes"),
}
"""The folders of arrays that pruning removes, by kind; of a model it removes all weights."""


def pruned_content(path: Path) -> bytes | None:
    """What is left of the artifact in ``path`` once it is pruned; None if nothing in it can be removed.

    BadInput if it cannot be read.
    """
    header = read_any_header(path)
    if header.pruned:
        return None
    if header.kind == Model.kind:
        return pruned_model(header)
    if header.kind not in DROPPED:
        return None
    with open_any(path) as artifact:  # type: ignore[union-attr]
        assert isinstance(artifact, Artifact)
        return pruned_tables(artifact)


def pruned_model(header: Header) -> bytes:
    from safetensors.numpy import save

    values: dict[str, Any] = marked(header, ["last", "best"]).to_json()
    return save({}, {"alseg": canonical(values), "header_sha256": digest_of(values)})


def pruned_tables(artifact: Artifact) -> bytes | None:
    """An HDF5 file with the arrays that are kept, their checksums and the header; None if all arrays are kept."""
    folders = DROPPED[artifact.header.kind]
    arrays = dict(artifact.arrays())
    gone = {path: folder for path in arrays for folder in folders if path.startswith(f"{folder}/") or path == folder}
    if not gone:
        return None
    with h5py.File("memory", "w", driver="core", backing_store=False, libver=LIBVER) as file:
        for path in arrays.keys() - gone.keys():
            folder, _, name = path.rpartition("/")
            artifact.file.copy(arrays[path], file.require_group(folder) if folder else file, name=name)
        write_header(file, marked(artifact.header, sorted(set(gone.values()))), artifact.digest)
        file.flush()
        return file.id.get_file_image()


def marked(header: Header, gone: list[str]) -> Header:
    return replace(header, attributes=header.attributes | {"pruned": gone})


def prune_file(path: Path) -> int:
    """Replaces the artifact in ``path`` by what is left of it once pruned; returns by how many bytes it is smaller.

    Its time stays, so that make does not take what was made from it for old. Other hard links keep the whole content.
    BadInput if it cannot be read, StageFailed if another process writes it.
    """
    path = destination(path)
    with output_lock(path):
        content = pruned_content(path)
        if content is None:
            return 0
        before = path.stat()
        with publishing(path) as partial:
            partial.write_bytes(content)
            partial.chmod(before.st_mode & 0o777)
            os.utime(partial, ns=(before.st_atime_ns, before.st_mtime_ns))
        return before.st_size - len(content)
