"""Which device and which precision a network runs with."""

from contextlib import AbstractContextManager, nullcontext

import torch

from stages.runtime.errors import BadInput


def choose_device(name: str) -> torch.device:
    """The device called ``name`` (auto, cpu, cuda); BadInput if CUDA is requested but not available."""
    if name == "cuda" and not torch.cuda.is_available():
        raise BadInput("No CUDA device is available. Use --device auto or --device cpu.")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda")


def chosen_precision(name: str, device: torch.device) -> str:
    """float32 or bfloat16, by the precision called ``name`` (auto, float32, bfloat16)."""
    automatic = name == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    return "bfloat16" if automatic or name == "bfloat16" else "float32"


def forward_precision(name: str, device: torch.device) -> AbstractContextManager[object]:
    """Autocast for the forward pass; losses, softmax and reductions are computed in float32 outside of it."""
    if chosen_precision(name, device) == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
