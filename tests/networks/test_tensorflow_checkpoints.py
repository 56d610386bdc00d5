"""Checkpoints of TensorFlow are read without it. The tiny one below was written by TensorFlow 2.21 (tf.train.Saver)."""

from base64 import b64decode
from contextlib import suppress

import numpy as np
import pytest

from stages.networks.foreign.tensorflow import read_checkpoint
from stages.runtime.errors import BadInput

INDEX = b64decode(
    "AAAGCAEaAggBAAsLZ2xvYmFsX3N0ZXAICRIAKAg1u9efEQAYEW5ldC9jb252L0JhdGNoTm9ybS9nYW1tYQgBEgQSAggCIAgoCDWa"
    "JRrGCQcdd2VpZ2h0cwgBEhASAggBEgIIAhICCAISAggDIBAoMDXXplXcAAAAAAEAAAAA6eO8/gAAAAABAAAAAMDyobAAAQJvAH0A"
    "AAAAAQAAAAAfDCN2ggEIjwEOAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAFf7gIskdUfb"
)
DATA = b64decode("BwAAAAAAAAAAAAA/AADAvwAAAAAAAIA/AAAAQAAAQEAAAIBAAACgQAAAwEAAAOBAAAAAQQAAEEEAACBBAAAwQQ==")


def write(folder, index=INDEX, data=DATA):
    (folder / "m.data-00000-of-00001").write_bytes(data)
    (folder / "m.index").write_bytes(index)
    return folder / "m.index"


def test_names_types_shapes_and_values(tmp_path):
    found = read_checkpoint(write(tmp_path))
    assert [*found] == ["global_step", "net/conv/BatchNorm/gamma", "net/conv/weights"]
    assert (found["global_step"].dtype, found["global_step"].shape, found["global_step"].item()) == (np.int64, (), 7)
    np.testing.assert_array_equal(found["net/conv/BatchNorm/gamma"], np.float32([0.5, -1.5]))
    expected = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3)
    np.testing.assert_array_equal(found["net/conv/weights"], expected)
    assert found["net/conv/weights"].dtype == np.float32


def test_tables_of_several_blocks(tmp_path):
    """A table of three blocks, written here from the format: keys of one block share their beginnings."""

    def varint(value):
        return bytes([value & 0x7F | 0x80]) + varint(value >> 7) if value > 0x7F else bytes([value])

    def block(entries):
        found, before = b"", b""
        for key, value in entries:
            shared = 0
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
            found += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
            before = key
        return found + bytes(4) + (1).to_bytes(4, "little")

    tensors = {f"layer_{number:03d}/weights": np.full(number % 3 + 1, number, np.float64) for number in range(200)}
    data, entries = b"", [(b"", b"\x08\x01")]
    for name, array in tensors.items():
        size = b"\x08" + varint(array.size)
        shape = b"\x12" + varint(len(size)) + size
        value = (
            b"\x08\x02\x12" + varint(len(shape)) + shape + b"\x20" + varint(len(data)) + b"\x28" + varint(array.nbytes)
        )
        entries.append((name.encode(), value))
        data += array.tobytes()
    table, handles = b"", []
    for start in range(0, len(entries), 80):
        content = block(entries[start : start + 80])
        handles.append((entries[min(start + 79, len(entries) - 1)][0], varint(len(table)) + varint(len(content))))
        table += content + bytes(5)
    places = []
    for content in (block([]), block(handles)):
        places.append(varint(len(table)) + varint(len(content)))
        table += content + bytes(5)
    table += (places[0] + places[1]).ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")
    found = read_checkpoint(write(tmp_path, table, data))
    assert len(handles) == 3
    assert [*found] == [*tensors]
    assert all(np.array_equal(found[name], array) for name, array in tensors.items())


def test_other_and_damaged_files(tmp_path):
    with pytest.raises(
        BadInput, match=r"m\.index is not the index of a TensorFlow checkpoint\. Pass the file that ends"
    ):
        read_checkpoint(write(tmp_path, b"PK" + INDEX[:-1]))
    with pytest.raises(BadInput, match=r"m\.index: the data of net/conv/weights is incomplete\. Copy all files"):
        read_checkpoint(write(tmp_path, data=DATA[:-5]))
    (path := write(tmp_path)).with_suffix(".data-00000-of-00001").unlink()
    with pytest.raises(BadInput, match=r"m\.data-00000-of-00001 cannot be read: No such file or directory\. Copy all"):
        read_checkpoint(path)


def test_every_changed_byte_of_the_index_is_read_or_refused(tmp_path):
    """No value of a byte makes the reader fail otherwise, or end in a loop."""
    path = write(tmp_path)
    for place in range(len(INDEX)):
        for value in (0, 0x7F, 0xFF, INDEX[place] ^ 1):
            changed = bytearray(INDEX)
            changed[place] = value
            path.write_bytes(bytes(changed))
            with suppress(BadInput):
                read_checkpoint(path)
