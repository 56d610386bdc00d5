"""Tensors of images kept in a folder, which other stages and trainings read instead of running a network again.

One safetensors file per name. Each file names what it was made with and has a checksum; one that is damaged or was made
otherwise is computed again. Files are whole or absent, so that processes may read and write the same folder. The folder
can be removed at any time.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from stages.artifacts.header import digest_of
from stages.artifacts.publish import MARGIN_BYTES, make_folder, partial_path
from stages.runtime.console import say


@dataclass
class KeptTensors:
    """The files of ``folder``; ``key`` identifies all that decides their content but the name.

    ``what`` they are, in words, and how many a file holds (``each``).
    """

    folder: Path
    key: str
    what: str
    each: str = "per image"
    told: set[str] = field(default_factory=set)

    def path(self, name: str) -> Path:
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.safetensors"

    def made(self, name: str, arrays: Sequence[np.ndarray]) -> str:
        """What a file with these arrays records."""
        return digest_of([self.key, name, *map(array_digest, arrays)])

    def read(self, name: str) -> list[Tensor] | None:
        """The tensors of ``name``, or None if there are none, or others, or damaged ones."""
        path = self.path(name)
        arrays: list[np.ndarray] = []
        try:
            with safe_open(path, "numpy") as file:
                recorded = (file.metadata() or {}).get("made")
                arrays = [file.get_tensor(each) for each in sorted(file.keys())]
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, ValueError):
            recorded = None
        if recorded is None or recorded != self.made(name, arrays):
            self.tell(f"computing {self.what} again: those in {self.folder} are damaged or of another model")
            return None
        return [torch.from_numpy(array) for array in arrays]

    def write(self, name: str, tensors: Sequence[Tensor]) -> int:
        """Keeps the tensors of ``name``, at most ten; on a full disk it does not, since they can be computed again.

        Returns the bytes that were written.
        """
        arrays = [np.ascontiguousarray(tensor.cpu().numpy()) for tensor in tensors]
        named = {str(number): array for number, array in enumerate(arrays)}
        content = save(named, {"made": self.made(name, arrays)})
        path, partial = self.path(name), partial_path(self.path(name))
        if not self.folder.is_dir():
            make_folder(self.folder)
            self.tell(f"keeping {self.what} in {self.folder}: {len(content) / 1e6:.1f} MB {self.each}")
        try:
            if shutil.disk_usage(self.folder).free < len(content) + MARGIN_BYTES:
                self.tell(f"not keeping all {self.what} in {self.folder}: the disk is full")
                return 0
            partial.write_bytes(content)
            os.replace(partial, path)
        except OSError as error:
            self.tell(f"not keeping all {self.what} in {self.folder}: {error.strerror}")
            partial.unlink(missing_ok=True)
            return 0
        return len(content)

    def tell(self, text: str) -> None:
        """Says each thing once."""
        if text not in self.told:
            self.told.add(text)
            say(text)


def array_digest(values: np.ndarray) -> str:
    return hashlib.sha256(repr((values.dtype.str, values.shape)).encode() + values.tobytes()).hexdigest()
