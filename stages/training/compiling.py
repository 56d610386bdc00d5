"""Compiling what learns with torch.compile, if there is a compiler."""

import torch
from torch import nn

from stages.runtime.errors import BadInput


def compiled(module: nn.Module, device: torch.device) -> nn.Module:
    """``module``, compiled at its first batch; its parameters and state stay those of ``module``.

    Each size of a batch is compiled on its own, so that the bytes do not depend on which sizes came before: a training
    that is resumed ends with those of one that was not. BadInput if nothing can be compiled here.
    """
    try:
        torch.compile(torch.add)(torch.ones(2, device=device), 1)
    except Exception as error:  # compilers and their wrappers raise any kind of exception
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInput(
            f"--compile needs a compiler, and none works here ({reason}). Install g++ (on CUDA also Triton), or leave "
            "out --compile."
        ) from error
    return torch.compile(module, dynamic=False)  # type: ignore[return-value]
