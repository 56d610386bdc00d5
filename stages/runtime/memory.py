"""Lack of memory, whichever library reports it."""

import errno
import sys

# What libraries say that raise a RuntimeError or an error of their own for it
SAID = (
    "can't allocate memory",  # torch on the CPU
    "not enough memory",
    "out of memory",  # CUDA
    "ALLOC_FAILED",  # cuBLAS and cuDNN
    "Insufficient memory",  # OpenCV
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, of the machine or of a GPU."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    own = type(error).__module__ in ("cv2", "torch")
    return isinstance(error, MemoryError) or (
        (own or isinstance(error, RuntimeError)) and any(words in str(error) for words in SAID)
    )


def is_of_gpu(error: BaseException) -> bool:
    """Whether it was the memory of a GPU."""
    torch = sys.modules.get("torch")
    return "CUDA" in str(error) or (torch is not None and isinstance(error, torch.OutOfMemoryError))


def free_device_memory() -> int | None:
    """Free bytes of the GPU; None without one."""
    import torch

    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else None
