"""What all simulated answers share."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.artifacts.answers import ANSWERED, ANSWERED_VOID, Answers
from stages.pixels.void import VOID

ANNOTATORS = ["oracle", "oracle, in error"]
ORACLE, IN_ERROR = 0, 1


@dataclass(frozen=True)
class Answered:
    """New rows of the ledger, the exact labels (H,W) u8 per image that come with them, and counts for the header."""

    answers: Answers
    masks: dict[str, np.ndarray]
    counts: dict[str, Any]


def within_budget(clicks: np.ndarray, budget: int | None, stop: str = "reached") -> np.ndarray:
    """(Q,) bool: the queries answered until ``budget`` clicks are reached or exceeded; the last answer may overshoot.

    clicks (Q,) in rank order; budget None: all. ``stop`` is "reached" or "exceeded".
    """
    if budget is None:
        return np.ones(len(clicks), dtype=bool)
    before = np.cumsum(clicks) - clicks
    return before < budget if stop == "reached" else before <= budget


def states(labels: np.ndarray) -> np.ndarray:
    """States (Q,) of answers with labels (Q,) u8: void costs a click but adds no label."""
    return np.where(labels == VOID, ANSWERED_VOID, ANSWERED)
