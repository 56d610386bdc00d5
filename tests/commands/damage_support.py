"""What the tests of bad input share: damaged files, and what a refusal is."""

import json
import random
from pathlib import Path

import h5py
import numpy as np
from commands_support import arrays, listing
from programs import Done, Preloaded
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from stages.artifacts.hdf5 import walk
from stages.artifacts.header import digest_of


def refuse(preloaded: Preloaded, place: Path, *words: object, says: str = "", code: int = 2) -> Done:
    """The command exits 2, or ``code``, says the text, and changes nothing in the folder."""
    before = listing(place)
    done = preloaded.run(*words, cwd=place).expect(code, err=says)
    assert done.err.strip(), "not a word"
    assert done.out == "" or "rebuilding" in done.out or "will take" in done.out
    assert listing(place) == before
    return done


def put(words: list[str], given: object) -> list[str]:
    """The words of a command with ``given`` in the place of INPUT."""
    return [str(given) if word == "INPUT" else word for word in words]


def flipped(content: bytes, position: int, draw: random.Random) -> bytes:
    return content[:position] + bytes([content[position] ^ (1 << draw.randrange(8))]) + content[position + 1 :]


def all_attributes(file: h5py.File) -> dict[str, str]:
    """Every attribute of the file and of its arrays, as text."""
    found = {name: repr(value) for name, value in file.attrs.items()}
    for path, dataset in walk(file):
        found |= {f"{path} {name}": repr(value) for name, value in dataset.attrs.items()}
    return found


def described(found: dict[str, np.ndarray]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (values.dtype.str, values.shape, values.tobytes()) for name, values in found.items()}


def same_content(path: Path, original: Path) -> bool:
    """Whether a reader that trusts the file would find the same header and arrays in it."""
    try:
        mine, theirs = arrays(path), arrays(original)
        if path.suffix == ".safetensors":
            with safe_open(path, "numpy") as one, safe_open(original, "numpy") as two:
                same = one.metadata() == two.metadata()
        else:
            with h5py.File(path) as one, h5py.File(original) as two:
                same = all_attributes(one) == all_attributes(two)
        return same and described(mine) == described(theirs)
    except Exception:
        return False


def write_model_of_other_classes(path: Path, model: Path) -> None:
    """A copy of ``model`` that has another name for a class, with the checksum of its header made to fit."""
    with safe_open(model, "numpy") as file:
        values = json.loads(file.metadata()["alseg"])
    values["attributes"]["classes"][3] = "sidewalk"
    save_file(load_file(model), path, {"alseg": json.dumps(values), "header_sha256": digest_of(values)})
