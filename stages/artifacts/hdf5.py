"""Writing and reading the arrays of an HDF5 artifact: checksums for all arrays, clear errors for damage."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from stages.artifacts.header import SCHEMA_VERSION, Header, InputRef, canonical, content_digest, digest_of
from stages.runtime.errors import BadInput

# The HDF5 1.10 format checksums its own metadata and is read by all current HDF5 tools.
LIBVER = ("v110", "v110")
# What h5py raises on damaged bytes.
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeDecodeError)
PLAIN = ("alseg_kind", "schema_version", "stage", "digest", "seed", "created")
JSON = ("settings", "inputs", "versions", "counts")
CHUNK_SIDE = 256
ROWS = "rows/"


class Writer:
    """Adds arrays to an open HDF5 file and remembers the checksum of each."""

    def __init__(self, file: h5py.File):
        self.file = file
        self.arrays: dict[str, tuple[str, tuple[int, ...], str]] = {}
        self.collected: dict[str, list[np.ndarray]] = {}

    def array(self, path: str, values: np.ndarray, compress: bool = True) -> None:
        """Stores ``values`` at ``path``, chunked with fletcher32, gzip 4 unless ``compress`` is off."""
        values = np.ascontiguousarray(values)
        options: dict[str, Any] = {}
        if values.size and values.ndim:
            most = CHUNK_SIDE if values.ndim > 1 else 1 << 16
            # equal parts per side: HDF5 stores the padding of the last chunk
            chunks = tuple(math.ceil(side / math.ceil(side / most)) for side in values.shape)
            options = {"chunks": chunks, "fletcher32": True}
            if compress:
                options |= {"compression": "gzip", "compression_opts": 4, "shuffle": values.dtype.itemsize > 1}
        dataset = self.file.create_dataset(path, data=values, **options)
        self._record(path, dataset, hashlib.sha256(values.data if values.size else b"").hexdigest())

    def strings(self, path: str, values: Sequence[str]) -> None:
        """Stores text as fixed-length UTF-8, which fletcher32 protects (it does not cover variable-length text)."""
        encoded = [value.encode() for value in values]
        width = max([len(value) for value in encoded] + [1])
        array = np.array(encoded, dtype=h5py.string_dtype("utf-8", width))
        options: dict[str, Any] = {"chunks": True, "fletcher32": True} if values else {}
        dataset = self.file.create_dataset(path, data=array, **options)
        self._record(path, dataset, hashlib.sha256(array.tobytes()).hexdigest())

    def _record(self, path: str, dataset: h5py.Dataset, checksum: str) -> None:
        dataset.attrs["sha256"] = checksum
        self.arrays[path.strip("/")] = (dataset.dtype.str, dataset.shape, checksum)

    def rows(self, path: str, values: np.ndarray) -> None:
        """In a shard: adds rows to a table that spans all shards and is assembled when they are joined."""
        self.collected.setdefault(path, []).append(values)

    def adopt(self, source: h5py.File) -> None:
        """Copies all arrays of ``source`` except parts of tables, with chunks and checksums unchanged."""
        for path, dataset in walk(source):
            if path.startswith(ROWS):
                continue
            folder, _, name = path.rpartition("/")
            group = self.file.require_group(folder) if folder else self.file
            source.copy(dataset, group, name=name)
            self.arrays[path] = (dataset.dtype.str, dataset.shape, dataset.attrs["sha256"])

    def finish(self, header: Header) -> str:
        """Writes ``header`` with the content's digest, which is returned, and the rows that were collected."""
        for path, parts in self.collected.items():
            self.file.create_dataset(ROWS + path, data=np.concatenate(parts))
        digest = content_digest(header.kind, header.attributes, self.arrays)
        write_header(self.file, header, digest)
        return digest


def walk(group: h5py.Group, prefix: str = "") -> Iterator[tuple[str, h5py.Dataset]]:
    """Each array below ``group`` with its path, sorted by name."""
    for name in group:
        item = group[name]
        path = f"{prefix}{name}"
        if isinstance(item, h5py.Group):
            yield from walk(item, f"{path}/")
        else:
            yield path, item


def write_header(file: h5py.File, header: Header, digest: str) -> None:
    """Writes the header fields and the attributes of the kind as root attributes, readable in any HDF5 tool."""
    values = header.to_json() | {"digest": digest, "alseg_kind": header.kind}
    attributes = {name: values[name] for name in PLAIN} | {name: canonical(values[name]) for name in JSON}
    attributes |= header.attributes
    for name, value in attributes.items():
        file.attrs[name] = np.array(value, dtype=object) if is_text_list(value) else value
    file.attrs["header_sha256"] = digest_of(attributes)


def is_text_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], str)


def read_header(file: h5py.File) -> Header:
    """The header of an open artifact; ValueError if the file is not an artifact or its header was changed."""
    values = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in file.attrs.items()}
    if values.pop("header_sha256") != digest_of(values):
        raise ValueError("header checksum")
    parts = {name: values.pop(name) for name in PLAIN} | {name: json.loads(values.pop(name)) for name in JSON}
    parts["kind"] = parts.pop("alseg_kind")
    return Header.from_json(parts | {"attributes": values})


def check_schema(path: Path, header: Header) -> None:
    """BadInput when ``header`` was written by a newer major version of the contract."""
    if int(header.schema_version.split(".")[0]) > int(SCHEMA_VERSION.split(".")[0]):
        raise BadInput(
            f"{path} has schema {header.schema_version}, newer than the {SCHEMA_VERSION} known here. Update alseg."
        )


class Artifact:
    """An HDF5 artifact open for reading. Subclasses add what their kind holds."""

    kind = ""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        if not self.path.is_file():
            raise BadInput(f"There is no file {self.path}. Run the stage that writes it first.")
        try:
            # published files never change, so reading needs no lock (which some network file systems refuse)
            self.file = h5py.File(self.path, "r", locking=False)
        except DAMAGE as error:
            raise BadInput(not_an_artifact(self.path)) from error
        try:
            if "alseg_kind" not in self.file.attrs:
                raise BadInput(f"{self.path} is HDF5 but not an alseg artifact. Pass a file written by alseg.")
            self.header = read_header(self.file)
        except DAMAGE as error:
            self.file.close()
            raise BadInput(f"{self.path} is damaged: its header does not match. Rebuild it.") from error
        except BadInput:
            self.file.close()
            raise
        check_schema(self.path, self.header)
        if self.kind and self.header.kind != self.kind:
            self.file.close()
            raise BadInput(f"{self.path} holds {self.header.kind}, not {self.kind}.")

    @property
    def digest(self) -> str:
        return self.header.digest

    @property
    def attributes(self) -> dict[str, Any]:
        return self.header.attributes

    def __contains__(self, path: str) -> bool:
        try:
            return path in self.file
        except DAMAGE as error:
            raise self.damaged(path) from error

    def arrays(self, folder: str = "/") -> list[tuple[str, h5py.Dataset]]:
        """Each array below ``folder`` with its path relative to it; BadInput if the list of arrays is damaged."""
        try:
            return list(walk(self.file[folder]))
        except DAMAGE as error:
            raise self.damaged(folder) from error

    def read(self, path: str, window: Any = ()) -> np.ndarray:
        """The array at ``path`` (or a window of it); BadInput when its bytes are damaged."""
        try:
            return self.file[path][window]
        except DAMAGE as error:
            raise self.damaged(path) from error

    def damaged(self, path: str) -> BadInput:
        header = self.header
        with suppress(*DAMAGE):
            if header.schema_version != SCHEMA_VERSION and path not in self.file:
                return BadInput(
                    f"{self.path} has no {path}: it was written under schema {header.schema_version}, and this is "
                    f"{SCHEMA_VERSION}; run {header.stage} again."
                )
        return BadInput(f"{self.path} is damaged at {path}. Check it with `alseg verify` and rebuild it.")

    def strings(self, path: str) -> list[str]:
        return [value.decode() for value in self.read(path)]

    def input_ref(self, role: str) -> InputRef | None:
        return self.header.inputs.get(role)

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def not_an_artifact(path: Path) -> str:
    return f"{path} is not a readable HDF5 file (truncated, damaged or of another format). Rebuild it."


def require_made_from(artifact: Any, role: str, given: Any) -> None:
    """BadInput unless ``artifact`` was made from exactly the file ``given`` in ``role``."""
    recorded = artifact.header.inputs.get(role)
    if recorded is not None and recorded.digest != given.header.digest:
        raise BadInput(
            f"{artifact.path} was made from another {role} ({recorded.file}, digest {recorded.digest[:12]}) than "
            f"{given.path} (digest {given.header.digest[:12]}). Pass the one it was made from, or rebuild it."
        )


def build_in_memory(fill: Callable[[Writer], Header]) -> bytes:
    """The bytes of an HDF5 file filled by ``fill``; nothing touches the disk."""
    with h5py.File("memory", "w", driver="core", backing_store=False, libver=LIBVER) as file:
        writer = Writer(file)
        writer.finish(fill(writer))
        file.flush()
        return file.id.get_file_image()
