"""Applies a rule to pools, with its settings and random streams; checks its result and puts it in rank order."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from stages.runtime.errors import BadInput
from stages.runtime.parts import RULES, Part
from stages.runtime.randomness import stream
from stages.selecting.candidates import Candidates
from stages.settings.base import PartSettings


@dataclass(frozen=True)
class Chooser:
    """A rule that is ready to choose in a round.

    legacy: one NumPy stream over all images in order instead of one per image. In round 0 it is that of the seed, as
    published (pixelpick.md 1.3); in later rounds it is seeded by the seed and the round together, so that no two rounds
    of any seeds share a stream.
    """

    rule: Part
    settings: PartSettings | None
    round: int
    seed: int = 0
    legacy: bool = False

    @cached_property
    def _shared(self) -> np.random.RandomState:
        return np.random.RandomState([self.seed, self.round] if self.round else self.seed)

    @property
    def keeps_to_budget(self) -> bool:
        return bool(self.rule.facts["budget"])

    def generator(self, name: str) -> np.random.Generator:
        """The random stream for the image ``name``, or for the whole "dataset"."""
        if self.legacy:
            return self._shared  # type: ignore[return-value,unused-ignore]
        return stream(self.seed, "select", self.round, name)

    def positions(self, pool: Candidates, budget: int, name: str) -> np.ndarray:
        """(n,) i64 positions in ``pool`` in rank order: score descending, ties by position, or the rule's own order.

        n is the budget, or all of a smaller pool; a rule without a budget decides for itself. BadInput if the rule
        chose anything else.
        """
        budget = min(budget, len(pool)) if self.keeps_to_budget else len(pool)
        if not budget:
            return np.zeros(0, dtype=np.int64)
        if pool.kept < 1:
            self.require_kept(pool, budget)
        found = np.asarray(self.rule(pool, budget, self.settings, self.generator(name)), dtype=np.int64)
        once = len(np.unique(found)) == len(found)
        inside = bool(np.all((found >= 0) & (found < len(pool))))
        if not (once and inside and (len(found) == budget or not self.keeps_to_budget)):
            raise BadInput(
                f"Rule {self.rule.name} chose {len(found)} positions; it must choose {budget} of {len(pool)}, each "
                "once. Correct the rule."
            )
        if self.rule.facts["orders"]:
            return found
        found = np.sort(found)
        return found[np.argsort(-pool.scores[found], kind="stable")]

    def require_kept(self, pool: Candidates, budget: int) -> None:
        """BadInput if the rule reads scores that were not stored."""
        reads = self.rule.facts["reads"]
        if reads is None:
            able = [part.name for part in RULES.parts() if part.facts["reads"] and pool.unit in part.facts["units"]]
            raise BadInput(
                f"Rule {self.rule.name} reads all scores, but the highest {pool.kept:.0%} alone were kept."
                f" Score again without --keep-share, or use the rule {' or '.join(able)}."
            )
        wanted, known = min(reads(pool, budget, self.settings), len(pool)), int(np.isfinite(pool.scores).sum())
        if wanted > known:
            raise BadInput(
                f"Rule {self.rule.name} reads the {wanted} highest scores, but {known} were kept of those that are not "
                f"queried yet. Score again with a larger --keep-share than {pool.kept:g}."
            )

    def described(self, pool: Candidates, budget: int) -> dict[str, Any]:
        """What the rule adds to the header."""
        describe = self.rule.facts["describe"]
        return {} if describe is None else describe(pool, budget, self.settings)
