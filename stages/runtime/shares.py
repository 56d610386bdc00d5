"""Shares of a stage's work, each done by a process of its own, such as a task of a Slurm array."""

import re
from dataclasses import dataclass

from stages.runtime.errors import BadInput
from stages.runtime.ranks import launched_processes


@dataclass(frozen=True)
class Share:
    """Share ``index`` of ``number``, counted from 0; typed 3/16, the fourth of sixteen."""

    index: int
    number: int

    def __str__(self) -> str:
        return f"{self.index}/{self.number}"

    def of(self, count: int) -> range:
        """Which of ``count`` parts belong to this share."""
        return range(self.index, count, self.number)


def parse_share(text: str) -> Share:
    """The share that ``text`` names; BadInput if it names none, and under torchrun, which divides the work too."""
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise BadInput(f"--shard must be K/N with K from 0 to N-1, such as 3/16, not {text!r}.")
    if launched_processes() > 1:
        raise BadInput("--shard and torchrun both divide the work. Use only one of them.")
    return Share(int(match[1]), int(match[2]))
