"""Checkpoints of TensorFlow, read without TensorFlow.

A checkpoint is an index, ``NAME.index``, and shards ``NAME.data-00000-of-00001``. The index is a sorted table: blocks
of keys and values, found through an index block that the footer points to. A key is the name of a tensor; its value is
a protocol buffer with type, shape, shard, offset and size. The shards hold the bytes of the tensors, little-endian.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.runtime.errors import BadInput

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER = 48  # bytes: two block handles, padding, the magic number
TRAILER = 5  # bytes after each block: its compression and checksum

TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 19: "<f2"}
"""NumPy types by their number in TensorFlow."""

VARINT, BITS64, BYTES, BITS32 = 0, 1, 2, 5
"""Wire types of protocol buffers."""


def read_checkpoint(index: Path) -> dict[str, np.ndarray]:
    """The numeric tensors of a checkpoint by name; others, such as text, are left out.

    Args:
        index: the file ``NAME.index``; the shards lie beside it.

    Raises:
        BadInput: the file is no such index, is damaged or compressed, or a shard is missing or too short.
    """
    content = index.read_bytes()
    if len(content) < FOOTER or content[-len(MAGIC) :] != MAGIC:
        raise BadInput(f"{index} is not the index of a TensorFlow checkpoint. Pass the file that ends in .index.")
    try:
        entries = dict(table_entries(content))
        shards = message(entries.pop(b"", b"")).get(1, [1])[0]
        found = {name.decode(): entry(value) for name, value in entries.items()}
    except (IndexError, ValueError, KeyError, AttributeError, TypeError) as error:  # wrong bytes break any step
        raise BadInput(f"{index} is damaged or compressed. Save the checkpoint again without compression.") from error
    files = {
        number: shard_content(index.with_suffix(f".data-{number:05d}-of-{shards:05d}"))
        for number in {shard for _, _, shard, _, _ in found.values()}
    }
    return {
        name: tensor(index, name, kind, shape, files[shard][offset : offset + size])
        for name, (kind, shape, shard, offset, size) in found.items()
        if kind in TYPES
    }


def shard_content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}. Copy all files of the checkpoint.") from error


def tensor(index: Path, name: str, kind: int, shape: tuple[int, ...], content: bytes) -> np.ndarray:
    """The bytes of one tensor as an array."""
    array = np.frombuffer(content[: len(content) - len(content) % np.dtype(TYPES[kind]).itemsize], TYPES[kind])
    if array.size != np.prod(shape, dtype=np.int64):
        raise BadInput(f"{index}: the data of {name} is incomplete. Copy all files of the checkpoint again.")
    return array.reshape(shape)


def entry(value: bytes) -> tuple[int, tuple[int, ...], int, int, int]:
    """Type, shape, shard, offset and size of a tensor."""
    fields = message(value)
    sizes = (message(size).get(1, [0])[0] for size in message(fields.get(2, [b""])[0]).get(2, []))
    shape = tuple(int(size) for size in sizes)
    kind, shard, offset, size = (int(fields.get(number, [0])[0]) for number in (1, 3, 4, 5))
    return kind, shape, shard, offset, size


def table_entries(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a sorted table."""
    _, place = block_handle(content, len(content) - FOOTER)  # of the block about the table, which is empty here
    (offset, size), _ = block_handle(content, place)
    for _, value in block_entries(block(content, offset, size)):
        (offset, size), _ = block_handle(value, 0)
        yield from block_entries(block(content, offset, size))


def block(content: bytes, offset: int, size: int) -> bytes:
    if content[offset + size]:
        raise ValueError("compressed block")
    if offset + size + TRAILER > len(content):
        raise ValueError("block beyond the file")
    return content[offset : offset + size]


def block_handle(content: bytes, place: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and where the handle ends."""
    offset, place = varint(content, place)
    size, place = varint(content, place)
    return (offset, size), place


def block_entries(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a block; each key shares its first bytes with the one before."""
    restarts = int.from_bytes(content[-4:], "little")
    end, place, key = len(content) - 4 * (restarts + 1), 0, b""
    if end < 0:
        raise ValueError("more restarts than bytes")
    while place < end:
        shared, place = varint(content, place)
        own, place = varint(content, place)
        size, place = varint(content, place)
        if place + own + size > end:
            raise ValueError("entry beyond its block")
        key = key[:shared] + content[place : place + own]
        yield key, content[place + own : place + own + size]
        place += own + size


def message(content: bytes) -> dict[int, list]:
    """The fields of a protocol buffer by number: integers, or bytes for text and inner messages."""
    fields: dict[int, list] = {}
    place = 0
    while place < len(content):
        tag, place = varint(content, place)
        number, wire = tag >> 3, tag & 7
        value: int | bytes
        if wire == VARINT:
            value, place = varint(content, place)
        elif wire == BYTES:
            size, place = varint(content, place)
            value, place = content[place : place + size], place + size
        elif wire in (BITS64, BITS32):
            size = 8 if wire == BITS64 else 4
            value, place = int.from_bytes(content[place : place + size], "little"), place + size
        else:
            raise ValueError(f"wire type {wire}")
        if place > len(content):
            raise ValueError("field beyond its message")
        fields.setdefault(number, []).append(value)
    return fields


def varint(content: bytes, place: int) -> tuple[int, int]:
    """An integer of seven bits a byte, lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
        if shift > 63:
            raise ValueError("integer too long")
