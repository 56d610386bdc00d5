"""Tensors by name from files that others wrote; no code in them is run."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from stages.networks.foreign.tensorflow import read_checkpoint
from stages.runtime.errors import BadInput

NESTINGS = ("model", "model_state_dict", "state_dict")
"""Keys under which training scripts store the tensors of a network."""

SCALAR: Any = np.float64(0).__reduce__()[0]
"""The function that NumPy's numbers are read with."""

HARMLESS = [
    *((SCALAR, f"{module}.multiarray.scalar") for module in ("numpy.core", "numpy._core")),
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")},
]
"""What a pickle may name besides tensors: NumPy's numbers, which training scripts store beside the weights."""


def read_tensors(path: Path, what: str, remedy: str) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file by name, and the SHA-256 of the file.

    Reads ``.safetensors``, ``.npz``, the ``.index`` of a TensorFlow checkpoint, and any other file with
    ``torch.load(weights_only=True)``, which runs no code from a pickle.

    Raises:
        BadInput: the file cannot be read, or contains no tensors; the message begins with ``what`` and ends with
            ``remedy``.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{what} {str(path)!r} cannot be read: {error.strerror}. {remedy}") from error
    try:
        content = loaded(path, data)
    except BadInput:
        raise
    except Exception as error:  # damaged bytes can make the readers fail in any way
        raise BadInput(
            f"{what} {str(path)!r} were not loaded: the file is damaged or contains more than plain tensors. {remedy}"
        ) from error
    # Each key is looked up once, so the loop also ends for a file nested in itself.
    for key in NESTINGS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise BadInput(f"{what} {str(path)!r} contain no tensors by name. {remedy}")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    return tensors, hashlib.sha256(data).hexdigest()


def loaded(path: Path, data: bytes) -> Any:
    """The content of a file, by its ending."""
    match path.suffix:
        case ".safetensors":
            return safetensors.torch.load(data)
        case ".npz":
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        case ".index":
            return {name: torch.from_numpy(array.copy()) for name, array in read_checkpoint(path).items()}
        case _:
            with torch.serialization.safe_globals(HARMLESS):  # type: ignore[arg-type]
                return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
