"""Writing and reading the arrays of an HDF5 artifact: checksums for all arrays, clear errors for damage."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import h5py
import numpy as np

from stages.artifacts.attributes import from_stored, has_text_of_any_length, read_attributes, to_stored
from stages.artifacts.header import SCHEMA_VERSION, Header, InputRef, canonical, content_digest, digest_of
from stages.artifacts.structure import Array, Attribute, Extents, pattern_of
from stages.artifacts.time_limit import answers_in_time, has_old_format
from stages.runtime.errors import BadInput
from stages.runtime.free_memory import SMALL_BYTES, require_memory

Checksums = dict[str, tuple[str, tuple[int, ...], str]]  # type, shape and SHA-256 of each array, by path
# The HDF5 1.10 format checksums its own metadata and is read by all current HDF5 tools.
LIBVER = ("v110", "v110")
# What h5py raises on damaged bytes.
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeDecodeError)
PLAIN = ("alseg_kind", "schema_version", "stage", "digest", "seed", "created")
JSON = ("settings", "inputs", "versions", "counts")
CHUNK_SIDE = 256
ROWS = "rows/"
MOST_COMPRESSION = 1100  # gzip makes nothing more than about 1032 times smaller


class Writer:
    """Adds arrays to an open HDF5 file and remembers the checksum of each."""

    def __init__(self, file: h5py.File):
        self.file = file
        self.arrays: Checksums = {}
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
        dataset.attrs["sha256"] = to_stored(checksum)
        self.arrays[path.strip("/")] = (dataset.dtype.str, dataset.shape, checksum)

    def rows(self, path: str, values: np.ndarray) -> None:
        """In a shard: adds rows to a table that spans all shards and is assembled when they are joined."""
        self.collected.setdefault(path, []).append(values)

    def adopt(self, source: h5py.File, wanted: Callable[[str], bool] = lambda path: True) -> None:
        """Copies the ``wanted`` arrays of ``source`` except parts of tables, with chunks and checksums unchanged."""
        for path, dataset in walk(source):
            if path.startswith(ROWS) or not wanted(path):
                continue
            folder, _, name = path.rpartition("/")
            group = self.file.require_group(folder) if folder else self.file
            source.copy(dataset, group, name=name)
            self.arrays[path] = described(dataset)

    def finish(self, header: Header) -> str:
        """Writes ``header`` with the content's digest, which is returned, and the rows that were collected."""
        for path, parts in self.collected.items():
            self.array(ROWS + path, np.concatenate(parts), compress=False)
        digest = content_digest(header.kind, header.attributes, self.arrays)
        write_header(self.file, header, digest)
        return digest


def walk(group: h5py.Group, prefix: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, h5py.Dataset]]:
    """Each array below ``group`` with its path, sorted by name; BadInput for links, and for a folder seen before."""
    seen = set() if seen is None else seen
    seen.add(h5py.h5o.get_info(group.id).addr)
    for name in group:
        path = f"{prefix}{name}"
        require_held(group, name)
        item = group[name]
        if isinstance(item, h5py.Group):
            if h5py.h5o.get_info(item.id).addr in seen:
                raise BadInput(f"{group.file.filename} has one folder twice, at {path}. Pass a file written by alseg.")
            yield from walk(item, f"{path}/", seen)
        else:
            require_own_bytes(item)
            yield path, item


def require_held(group: h5py.Group, name: str) -> None:
    """BadInput for a soft or external link, which could lead to any file of this computer."""
    if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        where = f"{group.name}/{name}".strip("/")
        raise BadInput(
            f"{group.file.filename} has a link at {where} instead of data, and links are not followed. Copy the data "
            "into the file."
        )


def require_own_bytes(dataset: h5py.Dataset) -> None:
    """BadInput for an array whose bytes are in other files, or that declares more than its bytes can hold."""
    where = f"{dataset.file.filename}: {str(dataset.name).strip('/')}"
    if dataset.dtype.hasobject:
        raise BadInput(
            f"{where} has values of variable length, which no checksum protects. Pass a file written by alseg."
        )
    plist = dataset.id.get_create_plist()
    if plist.get_layout() == h5py.h5d.VIRTUAL or plist.get_external_count():
        raise BadInput(f"{where} is stored in other files, which are not opened. Copy the data into the file.")
    if dataset.nbytes > SMALL_BYTES and dataset.nbytes > MOST_COMPRESSION * dataset.id.get_storage_size():
        raise BadInput(
            f"{where} declares {dataset.nbytes / 1e9:.1f} GB but stores {dataset.id.get_storage_size() / 1e9:.1f} GB. "
            "The file is incomplete; rebuild it."
        )


def described(dataset: h5py.Dataset) -> tuple[str, tuple[int, ...], str]:
    """Type, shape and recorded checksum of an array, as they enter the digest."""
    return dataset.dtype.str, dataset.shape, from_stored(dataset.attrs["sha256"])


def write_header(file: h5py.File, header: Header, digest: str) -> None:
    """Writes the header fields and the attributes of the kind as root attributes, readable in any HDF5 tool."""
    values = header.to_json() | {"digest": digest, "alseg_kind": header.kind}
    attributes = {name: values[name] for name in PLAIN} | {name: canonical(values[name]) for name in JSON}
    attributes |= header.attributes
    for name, value in attributes.items():
        file.attrs[name] = to_stored(value)
    file.attrs["header_sha256"] = to_stored(digest_of(attributes))


def read_header(file: h5py.File) -> Header:
    """The header of an open artifact; ValueError if the file is not an artifact or its header was changed."""
    values = read_attributes(file)
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
    """An HDF5 artifact open for reading. Subclasses say what their kind holds, which is checked here and in `read`."""

    kind = ""
    holds: ClassVar[tuple[Attribute | Array, ...]] = ()
    sizes: dict[str, tuple[int, int]]  # (height, width) of each image, in subclasses with images

    def __init__(self, path: Path | str):
        self.path = Path(path)
        if not self.path.is_file():
            raise BadInput(f"There is no file {self.path}. Run the stage that writes it first.")
        if has_old_format(self.path):
            self.require_time_limit("everything")
        try:
            # published files never change, so reading needs no lock (which some network file systems refuse)
            self.file = h5py.File(self.path, "r", locking=False)
        except DAMAGE as error:
            raise BadInput(not_an_artifact(self.path)) from error
        try:
            self.open_header()
            if self.kind:
                self.require_structure()
        except BaseException:
            self.file.close()
            raise

    def open_header(self) -> None:
        try:
            self.has_old_text = has_text_of_any_length(self.file)
            if self.has_old_text:
                self.require_time_limit("root")
            if "alseg_kind" not in self.file.attrs:
                raise BadInput(f"{self.path} is HDF5 but not an alseg artifact. Pass a file written by alseg.")
            self.header = read_header(self.file)
        except DAMAGE as error:
            raise BadInput(f"{self.path} is damaged: its header does not match. Rebuild it.") from error
        check_schema(self.path, self.header)
        if self.kind and self.header.kind != self.kind:
            raise BadInput(f"{self.path} holds {self.header.kind}, not {self.kind}.")

    def require_time_limit(self, what: str) -> None:
        """BadInput if HDF5 does not come back from reading the attributes of ``what``; see `time_limit`."""
        if not answers_in_time(self.path, what):
            raise BadInput(f"{self.path} is damaged: HDF5 did not return from reading its attributes. Rebuild it.")

    def require_structure(self) -> None:
        """BadInput unless the attributes, and the types and shapes of the tables, are those of the kind."""
        self.extents: Extents = {}
        self.described_arrays: dict[str, Array] = {}
        for held in self.holds:
            if isinstance(held, Attribute):
                fault = held.fault(self.attributes)
                if fault is not None:
                    raise self.invalid(f"attribute {held.name}", fault)
                self.extents |= held.size(self.attributes)
                continue
            self.described_arrays[held.path] = held
            if held.path.endswith("/*") or self.header.lacks(held.path) or (held.optional and held.path not in self):
                continue
            dataset = self.item(held.path)
            fault = held.shape_fault(dataset.dtype, dataset.shape, self.extents)
            if fault is not None:
                raise self.invalid(held.path, fault)

    def invalid(self, where: str, fault: str) -> BadInput:
        """The refusal of a file that is whole but does not hold what its kind holds."""
        return BadInput(
            f"{self.path} is not a valid {self.kind} file: {where} {fault}. Run {self.header.stage} again, or restore "
            "the file from a copy."
        )

    def image_extents(self, image: str) -> Extents:
        """The extents that arrays of ``image`` have beside those of the file."""
        height, width = self.sizes[image]
        return {"H": height, "W": width}

    def item(self, path: str) -> h5py.Dataset:
        """The array at ``path``, which is in this file; BadInput for links, other files, and damage."""
        try:
            parts = path.strip("/").split("/")
            for number in range(1, len(parts) + 1):
                require_held(self.file, "/".join(parts[:number]))
            dataset = self.file[path]
            if not isinstance(dataset, h5py.Dataset):
                raise self.invalid(path, "is not an array")
            require_own_bytes(dataset)
        except DAMAGE as error:
            raise self.damaged(path) from error
        return dataset

    @property
    def digest(self) -> str:
        return self.header.digest

    @property
    def attributes(self) -> dict[str, Any]:
        return self.header.attributes

    def __contains__(self, path: str) -> bool:
        if self.header.lacks(path.strip("/")):
            raise BadInput(self.header.pruned_fault(self.path))
        try:
            parts = path.strip("/").split("/")
            for number in range(1, len(parts) + 1):
                if not self.file.id.links.exists("/".join(parts[:number]).encode()):
                    return False
                require_held(self.file, "/".join(parts[:number]))
        except DAMAGE as error:
            raise self.damaged(path) from error
        return True

    def arrays(self, folder: str = "/") -> list[tuple[str, h5py.Dataset]]:
        """Each array below ``folder`` with its path relative to it; BadInput if the list of arrays is damaged."""
        try:
            if folder.strip("/"):
                require_held(self.file, folder)
            return list(walk(self.file[folder]))
        except DAMAGE as error:
            raise self.damaged(folder) from error

    def checksums(self) -> Checksums:
        """Type, shape and recorded checksum of every array, by path; BadInput if they cannot be read."""
        if self.has_old_text:
            self.require_time_limit("everything")
        try:
            return {path: described(dataset) for path, dataset in walk(self.file)}
        except DAMAGE as error:
            raise self.damaged("/") from error

    def read(self, path: str, window: Any = ()) -> np.ndarray:
        """The array at ``path`` (or a window of it); BadInput when its bytes are damaged or not what the kind holds."""
        dataset = self.item(path)
        expected, extents = self.expected(path, dataset) if self.kind else (None, {})
        share = (window.stop - window.start) / max(len(dataset), 1) if isinstance(window, slice) else 1
        require_memory(int(share * dataset.nbytes), f"Reading {self.path}")
        try:
            values: np.ndarray = dataset[window]
        except DAMAGE as error:
            raise self.damaged(path) from error
        fault = None if expected is None else expected.value_fault(values, extents, window == ())
        if fault is not None:
            raise self.invalid(path, fault)
        return values

    def expected(self, path: str, dataset: h5py.Dataset) -> tuple[Array | None, Extents]:
        """What the kind says about the array at ``path``, and the extents that count there."""
        if path in self.described_arrays:
            return self.described_arrays[path], self.extents
        expected, image = self.described_arrays.get(pattern_of(path)), path.partition("/")[2]
        if expected is None:
            return None, {}
        if image not in self.sizes:
            raise self.damaged(path)
        extents = self.extents | self.image_extents(image)
        fault = expected.shape_fault(dataset.dtype, dataset.shape, extents)
        if fault is not None:
            raise self.invalid(path, fault)
        return expected, extents

    def damaged(self, path: str) -> BadInput:
        header = self.header
        if header.lacks(path.strip("/")):
            return BadInput(header.pruned_fault(self.path))
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

    def attached(self) -> Sequence["Artifact"]:
        """Open files that belong to this one, which records their digests; BadInput if one is missing or another."""
        return ()

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
