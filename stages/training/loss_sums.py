"""The losses of an epoch, added up on the device: reading them there would wait for it at every step."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from stages.runtime.ranks import Ranks

NONE = -1  # no step


class LossSums:
    """Sums of the losses by column of the history, and the first step with a loss that is not finite.

    They go on from ``sums``, those of a checkpoint.
    """

    def __init__(self, sums: Mapping[str, float]):
        self.sums = {name: torch.tensor(value, dtype=torch.float64) for name, value in sums.items()}
        self.failed = torch.tensor(NONE)

    def add(self, losses: Iterable[tuple[str, Tensor]], step: int) -> None:
        for column, loss in losses:
            value = loss.detach()
            total = self.sums.get(column, torch.zeros((), dtype=torch.float64))
            self.sums[column] = total.to(value.device) + value
            failed = self.failed.to(value.device)
            self.failed = torch.where((failed == NONE) & ~torch.isfinite(value), step, failed)

    def read(self, ranks: Ranks) -> dict[str, float]:
        """Mean over the processes of their sums; the sums themselves go on as they are."""
        if not self.sums:
            return {}
        found = ranks.sum(torch.stack([total.cpu() for total in self.sums.values()])) / ranks.size
        return dict(zip(self.sums, found.tolist(), strict=True))

    def failed_step(self) -> int | None:
        """The first step with a loss of this process that is not finite."""
        step = int(self.failed)
        return None if step == NONE else step


def all_finite(sums: Mapping[str, float]) -> bool:
    return all(map(math.isfinite, sums.values()))
