'''Rules: how scores become queries. One file per rule; the decorator `rule` registers it.

A rule is a function of a pool of candidates (`stages.selecting.candidates.Candidates`), a budget, its settings (None if
it has none) and a random generator. It returns the positions in the pool that it chooses, (n,) integers, each once;
n is the budget, which is at least 1 and at most the size of the pool. A complete one, usable as
``alseg select --plugin tempered.py --rule tempered ...``:

    # tempered.py
    import numpy as np
    from pydantic import Field

    from stages.selecting.rules import rule
    from stages.settings.base import PartSettings

    class Tempered(PartSettings):
        temperature: float = Field(0.1, gt=0, description="Higher: closer to a uniform draw.")

    @rule("tempered", settings=Tempered)
    def tempered(pool, budget, settings, generator):
        """Draw with weights exp(score / temperature), without replacement."""
        noise = generator.gumbel(size=len(pool))
        return np.argsort(-(pool.scores / settings.temperature + noise), kind="stable")[:budget]

The pool is the pixels of an image or of the dataset, the regions of an image or of the dataset, or the images; a rule
accepts all of them unless the decorator says otherwise. Queries are put in rank order afterwards.
'''

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import Field

from stages.runtime.parts import RULES
from stages.settings.base import PartSettings

Function = TypeVar("Function", bound=Callable[..., Any])


class FractionSettings(PartSettings):
    """Settings of rules that choose from a share of the pool."""

    fraction: float = Field(0.05, gt=0, le=1, description="Share of all units that the choice is made from.")


def rule(
    name: str,
    *,
    units: tuple[str, ...] = ("pixel", "region", "image"),
    needs: tuple[str, ...] = (),
    budget: bool = True,
    orders: bool = False,
    describe: Callable[..., dict[str, Any]] | None = None,
    reads: Callable[..., int] | None = None,
    settings: type[PartSettings] | None = None,
) -> Callable[[Function], Function]:
    """Decorator: registers a rule.

    units: the kinds of candidates it accepts. needs: what else it reads of them: features, clusters, answered. budget:
    whether it keeps to the budget. orders: whether the order of its positions is the rank order, instead of descending
    scores. describe: a function (pool, budget, settings) -> entries for the header of the queries, in addition to their
    counts; the budget is that of the first pool. reads: a function (pool, budget, settings) -> how many of the highest
    scores it reads, for scores of which only a share was stored (``score --keep-share``); without it, all.
    settings: the model of its own settings.
    """
    return RULES.register(
        name,
        settings=settings,
        units=units,
        needs=needs,
        budget=budget,
        orders=orders,
        describe=describe,
        reads=reads,
    )
