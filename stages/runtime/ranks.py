"""The processes of a torchrun launch; a plain launch is one process and does not use torch.distributed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.runtime.errors import StageFailed

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """Rank of this process and number of processes."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def broadcast(self, value: Any) -> Any:
        """The main process's ``value``, in every process."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def barrier(self) -> None:
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()

    def sum(self, values: "Tensor") -> "Tensor":
        """Sum over the processes; ``values`` stay as they are, and a gradient is not passed on."""
        if self.size == 1:
            return values.detach()
        import torch.distributed as dist

        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    def gather(self, value: Any) -> list[Any]:
        """The ``value`` of each process, in every process."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values


def launched_processes() -> int:
    """Number of processes that torchrun started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined_ranks(device: str) -> Iterator[Ranks]:
    """The ranks of this launch; within another call those that it joined.

    They are joined by gloo, and tensors on CUDA by nccl: numbers on the CPU are summed without waiting for the GPU.
    StageFailed when another of the processes ends meanwhile.
    """
    size = launched_processes()
    if size == 1:
        yield Ranks()
        return
    import torch
    import torch.distributed as dist

    rank = int(os.environ["RANK"])
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if dist.is_initialized():
        yield Ranks(rank, size)
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    try:
        yield Ranks(rank, size)
    except RuntimeError as error:
        if not is_of_another_process(error):
            raise
        raise StageFailed("Another process of this launch ended. Run the same command to continue.") from error
    finally:
        dist.destroy_process_group()


def is_of_another_process(error: RuntimeError) -> bool:
    """Whether ``error`` is of the connection to another process, and not of this one's work."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or "gloo" in str(error)  # gloo raises none of the former
