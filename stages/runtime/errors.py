"""Exceptions that stages raise on purpose. The command line turns each into a message and an exit code."""

from collections.abc import Sequence


class BadInput(Exception):
    """An input or setting cannot be used: exit code 2.

    ``faults`` holds one sentence per fault, each with its remedy, so that all of them can be corrected at once.
    """

    def __init__(self, faults: str | Sequence[str]):
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        super().__init__("\n".join(self.faults))


class Undecided(BadInput):
    """What the input leaves open and ``option`` (a name such as `classes`) decides; on a terminal a person is asked."""

    def __init__(self, fault: str, option: str):
        super().__init__(fault)
        self.option = option


NOTHING_LEFT = 3
RUN_ENDS = "The run ends here."
"""The exit code of `NothingLeft`, and what is said where a run ends by it."""


class NothingLeft(BadInput):
    """No unit is left to query: exit code 3. A planned run ends there, with the rounds that it has."""


class StageFailed(Exception):
    """The stage could not finish for a reason outside its input (disk, another process): exit code 1."""


class Stopped(Exception):
    """A signal stopped the stage after it saved its state; the same command continues: exit code 75."""
