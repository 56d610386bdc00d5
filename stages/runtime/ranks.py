"""The processes of a torchrun launch; a plain launch is one process and does not use torch.distributed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
        """Sum over the processes, in place."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(values)
        return values


def launched_processes() -> int:
    """Number of processes that torchrun started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined_ranks(device: str) -> Iterator[Ranks]:
    """The ranks of this launch, joined by nccl on CUDA and gloo on CPU."""
    size = launched_processes()
    if size == 1:
        yield Ranks()
        return
    import torch
    import torch.distributed as dist

    rank = int(os.environ["RANK"])
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Ranks(rank, size)
    finally:
        dist.destroy_process_group()
