"""Which device and which precision a network runs with."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch

from stages.runtime.errors import BadInput


def choose_device(name: str) -> torch.device:
    """The device called ``name`` (auto, cpu, cuda); BadInput if CUDA is requested but not available."""
    if name == "cuda" and not torch.cuda.is_available():
        raise BadInput("No CUDA device is available. Use --device auto or --device cpu.")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda")


def tune_convolutions(sizes: Iterable[tuple[int, int]]) -> None:
    """Lets cuDNN try its algorithms on the next inputs if all of them have one size; it tries again for each other."""
    torch.backends.cudnn.benchmark = len(set(sizes)) == 1


def has_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` computes in bfloat16 itself; older GPUs emulate it, slowly."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def chosen_precision(name: str, device: torch.device) -> str:
    """float32 or bfloat16, by the precision called ``name`` (auto, float32, bfloat16)."""
    return "bfloat16" if name == "bfloat16" or (name == "auto" and has_bfloat16(device)) else "float32"


def forward_precision(name: str, device: torch.device) -> AbstractContextManager[object]:
    """Autocast for the forward pass; losses, softmax and reductions are computed in float32 outside of it."""
    if chosen_precision(name, device) == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
