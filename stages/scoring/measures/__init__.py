'''Measures: how uncertain a network is about a pixel. One file per measure; the decorator `measure` registers it.

A measure is a function of logits (B,C,H,W) f32, one channel per class, that returns (B,H,W) f32. Higher values are
queried first. A complete one, usable as ``alseg score --plugin gini.py --measure gini ...``:

    # gini.py
    from stages.scoring.measures import measure

    @measure("gini")
    def gini(logits):
        """1 - sum p^2, in [0, 1 - 1/C]."""
        return 1 - logits.softmax(1).square().sum(1)

A measure of several stochastic passes reads the logits of one pass after another:

    from stages.scoring.logits import means_over, softmax

    @measure("spread", passes=True)
    def spread(passes):
        """Largest standard deviation of a class's probability over passes."""
        mean, square = means_over(passes, softmax, lambda logits: softmax(logits) ** 2)
        return (square - mean**2).clamp(min=0).sqrt().amax(1)

Settings of its own are a subclass of `CommitteeSettings` (or `PassesSettings`); the function takes them second:

    class Renyi(CommitteeSettings):
        order: float = Field(2.0, gt=1, description="Order of the entropy.")

    @measure("renyi", settings=Renyi)
    def renyi(logits, settings):
        """Renyi entropy in nats."""
        return (logits.softmax(1) ** settings.order).sum(1).log() / (1 - settings.order)

Shipped measures import torch inside the function, because ``alseg --help`` lists them and must not load it.
'''

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from pydantic import Field

from stages.runtime.errors import BadInput
from stages.runtime.parts import MEASURES
from stages.settings.base import Not, PartSettings, Settings, group

Function = TypeVar("Function", bound=Callable[..., Any])


class HardVoteSettings(Settings):
    """Settings of a hard vote."""

    votes_per_pass: int = Field(10, ge=1, description="Pixels per image that each pass votes for.")


class VoteSettings(Settings):
    """How the passes of a committee become one score."""

    vote: Literal["soft", "hard"] = Field(
        "soft", description="Mean of the passes' scores, or number of passes that rank a pixel among their best."
    )
    hard: HardVoteSettings | None = group(vote="hard")


class CommitteeSettings(PartSettings):
    """Settings of every measure of one prediction."""

    committee: int = Field(0, ge=0, description="Passes with dropout; 0: one plain pass.")
    voting: VoteSettings | None = group(committee=Not("0"))


class PassesSettings(PartSettings):
    """Settings of every measure of several passes."""

    committee: int = Field(20, ge=2, description="Passes with dropout.")


def measure(
    name: str,
    *,
    of: Literal["classes", "presence"] = "classes",
    passes: bool = False,
    settings: type[PartSettings] | None = None,
) -> Callable[[Function], Function]:
    """Decorator: registers a measure.

    of: exclusive classes (softmax), or the presence of each class (sigmoid), as predicted by classifiers that name all
    classes of an image. passes: whether the function takes an iterable of logits, one per stochastic pass, instead of
    logits. settings: the model of its own settings, which the function then takes as second argument.
    """
    usual = PassesSettings if passes else CommitteeSettings
    if passes and settings is not None and not issubclass(settings, PassesSettings):
        raise BadInput(f"measure {name!r} reads several passes; derive {settings.__name__} from PassesSettings.")
    return MEASURES.register(name, settings=settings or usual, of=of, passes=passes)
