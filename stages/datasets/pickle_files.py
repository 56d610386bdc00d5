"""Reading pickles and NumPy files that others wrote: plain values and arrays of numbers or text, and nothing that runs.

A pickle is a program. This reader follows only the instructions that build plain values; of the functions that a
pickle may name it knows those that build arrays, NumPy's numbers and sets, as versions of its own that check what they
are given.
"""

import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stages.runtime.errors import BadInput
from stages.runtime.limited import read_limited

MOST_BYTES = 1 << 28
MOST_DEPTH = 32
PLAIN = (bool, int, float, str, bytes, type(None))
ARRAY_KINDS = "biufUS"
REMEDY = "Only plain values and arrays of numbers or text are read."


class Refused(Exception):
    """What a pickle contains and no plain values do."""


class DataType:
    """A NumPy data type under construction; its byte order comes with its state."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_: Any):
        self.code = code
        self.order: Any = "="

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise Refused("an unknown data type")
        self.order = state[1]

    def made(self) -> np.dtype[Any]:
        if not isinstance(self.code, str) or self.code[:1] not in ARRAY_KINDS or not self.code[1:].isdecimal():
            raise Refused(f"an array of {self.code!r}")
        return np.dtype(self.code).newbyteorder(self.order)


class Array:
    """A NumPy array under construction; everything comes with its state."""

    __slots__ = ("values",)

    def __init__(self, *_: Any):
        self.values: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        try:
            _, shape, kind, by_columns, content = state
            flat = np.frombuffer(content, kind.made())
            self.values = flat.reshape(shape, order="F" if by_columns else "C").copy()
        except (TypeError, ValueError, AttributeError) as error:
            raise Refused("an array that is damaged or holds objects") from error


def from_buffer(content: Any, kind: Any, shape: Any, order: Any = "C") -> np.ndarray:
    """An array as protocol 5 stores it."""
    made = Array()
    made.__setstate__((1, shape, kind, order == "F", content))
    assert made.values is not None
    return made.values


def number(kind: Any, content: Any = None) -> Any:
    """A NumPy number as one of Python."""
    if not isinstance(kind, DataType) or not isinstance(content, bytes) or len(content) != kind.made().itemsize:
        raise Refused("a NumPy value that is no number")
    return np.frombuffer(content, kind.made())[0].item()


def encoded(text: Any, coding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or coding not in ("latin1", "latin-1"):
        raise Refused("an unknown encoding")
    return text.encode("latin1")


def empty() -> bytes:
    return b""


def listed(values: Any = ()) -> list[Any]:
    """The values of a set."""
    if not isinstance(values, list | tuple):
        raise Refused("a set of something else than a list")
    return list(values)


# Module and name as a pickle may state them, after numpy.core became numpy._core
KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): number for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): from_buffer for core in ("core", "_core")},
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): DataType,
    ("_codecs", "encode"): encoded,
    **{(module, "bytes"): empty for module in ("builtins", "__builtin__")},  # how old pickles store no bytes
    **{(module, name): listed for module in ("builtins", "__builtin__") for name in ("set", "frozenset")},
}


class Callee:
    """What a pickle gets for a name it states: callable, but without attributes that it could change."""

    __slots__ = ("known",)
    known: Callable[..., Any]

    def __init__(self, known: Callable[..., Any]):
        object.__setattr__(self, "known", known)

    def __call__(self, *arguments: Any) -> Any:
        return self.known(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise Refused("a change of a function")


class Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise Refused(f"{module}.{name}")
        return Callee(KNOWN[module, name])

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("a reference to another file")


def read_pickle(path: Path) -> Any:
    """The value in a pickle: dicts, lists, tuples, sets as lists, plain values, and arrays of numbers or text.

    Raises BadInput for anything else, without running any of it, and for files of more than 256 MiB.
    """
    content = read_limited(path, MOST_BYTES)
    try:
        for step, argument, _ in pickletools.genops(content):
            if "PUT" in step.name and int(argument or 0) > len(content):
                raise Refused("a note that no pickle of this size needs")
        return plain(Reader(io.BytesIO(content)).load(), {})
    except Refused as error:
        raise BadInput(f"{path} contains {error}, which was not run. {REMEDY}") from error
    except (BadInput, MemoryError):
        raise
    except RecursionError:
        raise BadInput(f"{path} nests values more than {MOST_DEPTH} deep. {REMEDY}") from None
    except Exception as error:  # damaged bytes make the reader fail in any way
        raise BadInput(f"{path} is not a pickle, or is damaged ({type(error).__name__}: {error}). {REMEDY}") from error


def plain(value: Any, known: dict[int, Any], depth: int = 0) -> Any:
    """``value`` with finished arrays; ``known`` holds what was finished before, since values may occur many times."""
    if depth > MOST_DEPTH:
        raise RecursionError
    if isinstance(value, PLAIN):
        return value
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, Array):
        if value.values is None:
            raise Refused("an array without values")
        made: Any = value.values
    elif isinstance(value, dict):
        made = {plain(key, known, depth + 1): plain(each, known, depth + 1) for key, each in value.items()}
    elif isinstance(value, list | tuple | set | frozenset):
        made = [plain(each, known, depth + 1) for each in value]
        made = tuple(made) if isinstance(value, tuple) else made
    else:
        raise Refused(f"a value of type {type(value).__name__}")
    known[id(value)] = made
    return made


def read_array(path: Path) -> np.ndarray:
    """The array in a NumPy file; BadInput for objects, which only a pickle holds, and for damaged or large files."""
    content = read_limited(path, MOST_BYTES)
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # as above
        raise BadInput(f"{path} is not a NumPy file, or is damaged ({error}). {REMEDY}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in ARRAY_KINDS:
        raise BadInput(f"{path} contains no array of numbers or text. {REMEDY}")
    return array
