"""What a stage raises on purpose. The command line turns each into one sentence and an exit code."""

from collections.abc import Sequence


class BadInput(Exception):
    """Something the user gave cannot be used: exit code 2.

    ``faults`` holds one sentence per fault, each with its remedy, so that all of them can be corrected at once.
    """

    def __init__(self, faults: str | Sequence[str]):
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        super().__init__("\n".join(self.faults))


class StageFailed(Exception):
    """The stage could not finish for a reason outside its input (disk, another process): exit code 1."""


class Stopped(Exception):
    """A signal asked the stage to stop; its state is saved and run the same command to continue: exit code 75."""
