"""Features of a frozen backbone, computed once per view of an image and kept for later epochs, rounds and runs.

They are kept in 16 bits, in memory as far as it goes and in a folder if one is given, and rounded so whether they are
read or were just computed: both give the same bytes.
"""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from stages.artifacts.model import tensor_digest
from stages.networks.kept import KeptTensors
from stages.networks.layers import SplitNetwork
from stages.networks.predictor import in_parts
from stages.runtime.devices import forward_precision
from stages.runtime.errors import BadInput

RECOUNT = 64  # files written between two looks at what other processes have written
OURS = re.compile(r"[0-9a-f]{32}")
FILES = re.compile(r"[0-9a-f]{32}\.safetensors|\.[0-9a-f]{32}\.safetensors\.\d+\.partial")


def backbone_digest(network: SplitNetwork) -> str:
    """Identifies the weights of the backbone."""
    tensors = network.get_submodule("backbone").state_dict()
    return tensor_digest({}, {name: tensor.detach().cpu() for name, tensor in tensors.items()})


class FeatureFolder:
    """The folder ``root``, of at most ``limit`` bytes: a folder for each key, and in it a file per view of an image.

    If it is full, the folders of other keys are removed, that which was unused for longest first; if that is not
    enough, no more is kept. BadInput if it contains anything that alseg did not write.
    """

    def __init__(self, root: Path, key: str, limit: float):
        require_own(root)
        self.root, self.limit = root, limit
        self.kept = KeptTensors(root / key[:32], key, "features", "per view of an image")
        if self.kept.folder.is_dir():
            os.utime(self.kept.folder)
        self.size, self.written = folder_size(root), 0

    def read(self, name: str) -> list[Tensor] | None:
        return self.kept.read(name)

    def write(self, name: str, tensors: Sequence[Tensor]) -> None:
        needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        if self.written % RECOUNT == RECOUNT - 1:
            self.size = folder_size(self.root)
        if self.has_room(needed):
            self.size += self.kept.write(name, tensors)
            self.written += 1
        else:
            self.kept.tell(f"not keeping all features: {self.root} has reached --features-gb")

    def has_room(self, needed: int) -> bool:
        """Whether ``needed`` bytes more fit, after removing what is in the way."""
        if self.size + needed > self.limit:
            others = [path for path in subfolders(self.root) if path != self.kept.folder]
            for unused in sorted(others, key=lambda path: path.stat().st_mtime):
                self.kept.tell(f"removing features of other images or weights: {self.root} has reached --features-gb")
                shutil.rmtree(unused, ignore_errors=True)
                self.size = folder_size(self.root)
                if self.size + needed <= self.limit:
                    break
        return self.size + needed <= self.limit


def subfolders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


def folder_size(root: Path) -> int:
    """Bytes of the files in the folders of ``root``; those that another process removes meanwhile count nothing."""
    total = 0
    for folder in subfolders(root):
        try:
            total += sum(file.stat().st_size for file in folder.iterdir())
        except FileNotFoundError:
            continue
    return total


def require_own(root: Path) -> None:
    """BadInput unless ``root`` is a folder of features, or can become one."""
    if root.exists() and not root.is_dir():
        raise BadInput(f"{root} is a file. Pass a folder for features.")
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        own = path.is_dir() and not path.is_symlink() and OURS.fullmatch(path.name)
        foreign = next((each for each in path.iterdir() if not FILES.fullmatch(each.name)), None) if own else path
        if foreign is not None:
            raise BadInput(f"{foreign} is in the folder of features, but is none. Pass an empty or new --features.")


@dataclass
class KeptFeatures:
    """The features of ``network``'s frozen backbone by the name of a view; ``folder``: where they are kept, if any.

    ``room``: bytes of memory that they may take.
    """

    network: SplitNetwork
    device: torch.device
    precision: str
    folder: FeatureFolder | None
    room: float
    memory: dict[str, list[Tensor]] = field(default_factory=dict)

    def of(self, names: Sequence[str], inputs: Callable[[list[int]], Tensor]) -> tuple[Tensor, ...]:
        """The features of the views ``names``, each (B,...) f32 on the device.

        ``inputs`` returns the normalised images (n,3,H,W) at positions in ``names``; it is called for those whose
        features are not kept yet. BadInput if they are not finite in 16 bits.
        """
        found = [self.kept(name) for name in names]
        missing = [place for place, each in enumerate(found) if each is None]
        if missing:
            for place, each in zip(missing, self.computed(inputs(missing)), strict=True):
                found[place] = each
                self.keep(names[place], each)
                if self.folder is not None:
                    self.folder.write(names[place], each)
        maps = zip(*(each for each in found if each is not None), strict=True)
        return tuple(in_layout(torch.stack(each).to(self.device).float()) for each in maps)

    def kept(self, name: str) -> list[Tensor] | None:
        if name in self.memory:
            return self.memory[name]
        found = None if self.folder is None else self.folder.read(name)
        if found is not None:
            self.keep(name, found)
        return found

    def keep(self, name: str, features: list[Tensor]) -> None:
        """Keeps them in memory if there is room."""
        needed = sum(tensor.numel() * tensor.element_size() for tensor in features)
        if needed <= self.room:
            self.memory[name] = features
            self.room -= needed

    def computed(self, images: Tensor) -> list[list[Tensor]]:
        """The features of each of the images (n,3,H,W), f16 on the CPU."""
        self.network.get_submodule("backbone").eval()
        found: list[list[Tensor]] = []
        with torch.no_grad(), forward_precision(self.precision, self.device):
            for part in in_parts(images):
                maps = [each.half().cpu() for each in self.network.encoded(part)]
                found += [[each[place].contiguous() for each in maps] for place in range(len(part))]
        if not all(bool(each.isfinite().all()) for maps in found for each in maps):
            raise BadInput(
                "The features of the frozen backbone are not finite in 16 bits. Set --views 0, or pass other --weights."
            )
        return found


def in_layout(features: Tensor) -> Tensor:
    """``features`` in the layout of what a network returns, on which the last bits of the next layer depend."""
    return features.contiguous(memory_format=torch.channels_last) if features.ndim == 4 else features
