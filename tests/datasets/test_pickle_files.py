"""Pickles of others: plain values and arrays are read as written, and nothing that a pickle names is run."""

import collections
import datetime
import os
import pickle

import numpy as np
import pytest

from stages.datasets.pickle_files import MOST_BYTES, read_array, read_pickle
from stages.runtime.errors import BadInput

VALUES = {
    "plain": [1, 2.5, "x", None, True, b"y", (1, 2)],
    "table": np.arange(6, dtype=np.int16).reshape(2, 3),
    "by columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "big-endian": np.array([1, 2], ">i4"),
    "mask": np.array([[True, False]]),
    "text": np.array(["ab", "c"]),
    "none": np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize("protocol", range(6))
def test_values_and_arrays_are_read_as_written(protocol, tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(VALUES | {"numbers": [np.int64(7), np.float32(1.5)], "set": {3}}, protocol))
    found = read_pickle(path)
    assert found["plain"] == VALUES["plain"]
    assert found["numbers"] == [7, 1.5]
    assert found["set"] == [3]
    for name in VALUES.keys() - {"plain"}:
        assert found[name].dtype == VALUES[name].dtype
        assert np.array_equal(found[name], VALUES[name]), name


def test_names_of_numpy_before_2_are_known(tmp_path):
    content = pickle.dumps(np.arange(3), 2)
    assert b"numpy._core.multiarray" in content
    (tmp_path / "a.pkl").write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_pickle(tmp_path / "a.pkl").tolist() == [0, 1, 2]


class Runs:
    """What runs a command when it is unpickled."""

    def __init__(self, call: object, *arguments: object):
        self.made = call, arguments

    def __reduce__(self) -> object:
        return self.made


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def in_itself() -> list:
    value: list = []
    value.append(value)
    return value


TOUCH = "touch pwned"
HOSTILE = {
    "a command": (pickle.dumps(Runs(os.system, TOUCH)), rf"contains {os.system.__module__}.system, which was not run"),
    "a command within": (pickle.dumps({"a": [Runs(os.system, TOUCH)]}), r"posix.system, which was not run"),
    "a nested call": (pickle.dumps(Runs(eval, Runs(str, TOUCH))), r"which was not run"),
    "an attribute": (b"cbuiltins\ngetattr\n.", r"builtins.getattr"),
    "text of old": (b"cos\nsystem\n(S'touch pwned'\ntR.", r"contains os.system, which was not run"),
    "an instance": (b"(S'touch pwned'\nios\nsystem\n.", r"contains os.system"),
    "objects in an array": (pickle.dumps(np.array([Runs(os.system, TOUCH)], object)), r"which was not run"),
    "an array of records": (pickle.dumps(np.zeros(3, [("a", int)])), r"which was not run"),
    "a change of a function": (b"cnumpy\nndarray\n}S'x'\nI1\nsb.", r"contains|is not a pickle"),
    "another file": (b"Pother\n.", r"contains a reference to another file"),
    "a date": (pickle.dumps(datetime.date(2000, 1, 1)), r"datetime.date"),
    "an ordered dict": (pickle.dumps(collections.OrderedDict()), r"collections.OrderedDict"),
    "a huge note": (b"\x80\x04Nr\xff\xff\xff\xff.", r"a note that no pickle of this size needs"),
    "a huge array": (pickle.dumps(np.zeros(1, np.uint8)).replace(b"K\x01\x85", b"J\xff\xff\xff\x7f\x85"), r"damaged"),
    "depth": (pickle.dumps(nested(60)), r"more than 32 deep"),
    "itself": (pickle.dumps(in_itself()), r"more than 32 deep"),
    "nothing": (b"", r"is not a pickle, or is damaged"),
    "no pickle": (b"PK\x03\x04 something", r"is not a pickle, or is damaged"),
    "half": (pickle.dumps(VALUES)[:-100], r"is not a pickle, or is damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_and_damaged_pickles_are_refused_in_one_sentence(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, sentence = HOSTILE[name]
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(BadInput, match=sentence) as caught:
        read_pickle(tmp_path / "a.pkl")
    assert len(caught.value.faults) == 1
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "pwned").exists()


def test_shared_values_take_no_time(tmp_path):
    value: object = [1]
    for _ in range(30):
        value = [value, value]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
    found = read_pickle(tmp_path / "a.pkl")
    for _ in range(30):
        found = found[1]
    assert found == [1]


def test_files_that_are_missing_or_too_large(tmp_path):
    with pytest.raises(BadInput, match=r"cannot be read \(No such file"):
        read_pickle(tmp_path / "a.pkl")
    with (tmp_path / "a.pkl").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(BadInput, match="larger than 256 MiB"):
        read_pickle(tmp_path / "a.pkl")


def test_numpy_files_of_objects_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([Runs(os.system, TOUCH)], object), allow_pickle=True)
    with pytest.raises(BadInput, match="is not a NumPy file, or is damaged"):
        read_array(tmp_path / "a.npy")
    np.savez(tmp_path / "b.npz", a=np.zeros(2))
    with pytest.raises(BadInput, match="contains no array"):
        read_array(tmp_path / "b.npz")
    np.save(tmp_path / "c.npy", np.eye(2, dtype=bool))
    assert read_array(tmp_path / "c.npy").tolist() == [[True, False], [False, True]]
