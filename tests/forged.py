"""Artifacts whose checksums fit, whatever they contain."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from stages.artifacts.attributes import read_attributes, to_stored
from stages.artifacts.hdf5 import Artifact, Writer, build_in_memory
from stages.artifacts.header import Header, canonical, digest_of

Contents = dict[str, np.ndarray]
Change = Callable[[dict[str, Any], Contents], None]


def forge(source: Path, target: Path, change: Change) -> Path:
    """A copy of ``source`` after ``change(attributes of the kind, arrays by path)``, as a stage would write it."""
    with Artifact(source) as artifact:
        arrays = {path: dataset[()] for path, dataset in artifact.arrays()}
        header = replace(artifact.header, attributes=json.loads(canonical(artifact.attributes)))
    change(header.attributes, arrays)

    def fill(writer: Writer) -> Header:
        for path, values in arrays.items():
            if values.dtype.kind == "S":
                writer.strings(path, [value.decode() for value in values.tolist()])
            else:
                writer.array(path, values)
        return header

    target.write_bytes(build_in_memory(fill))
    return target


def forge_header(path: Path, **values: Any) -> Path:
    """Gives the header in ``path`` other ``values``; an HDF5 file then has no digest that fits."""
    if path.suffix == ".safetensors":
        with safe_open(path, "numpy") as file:
            header = json.loads(file.metadata()["alseg"]) | values
        save_file(load_file(path), path, {"alseg": json.dumps(header), "header_sha256": digest_of(header)})
        return path
    with h5py.File(path, "r+") as file:
        for name, value in values.items():
            file.attrs[name] = to_stored(value)
        found = read_attributes(file)
        del found["header_sha256"]
        file.attrs["header_sha256"] = to_stored(digest_of(found))
    return path
