"""Registered measures as plain functions, with their own settings filled in and their result checked."""

from collections.abc import Callable, Iterable

from torch import Tensor

from stages.runtime.errors import BadInput
from stages.runtime.parts import MEASURES, Part
from stages.scoring.measures import CommitteeSettings, PassesSettings
from stages.settings.base import PartSettings

Measure = Callable[[Tensor], Tensor]
"""(B,C,H,W) f32 logits -> (B,H,W) f32, higher = more uncertain."""


def plain_measure(name: str, settings: PartSettings | None = None) -> Measure:
    """The measure called ``name`` of one prediction; BadInput for one of several passes."""
    part = MEASURES[name]
    if part.facts["passes"]:
        plain = ", ".join(each.name for each in MEASURES.parts() if not each.facts["passes"])
        raise BadInput(f"Measure {name} reads several passes, but there is only one prediction. Use {plain}.")
    return lambda logits: checked(part, called(part, logits, settings), logits)


def measure_of_passes(name: str, passes: Iterable[Tensor], settings: PartSettings | None = None) -> Tensor:
    """(B,H,W) f32 by the measure ``name`` of the logits (B,C,H,W) of several passes."""
    part = MEASURES[name]
    seen: list[Tensor] = []

    def watched() -> Iterable[Tensor]:
        for logits in passes:
            seen[:] = [logits]
            yield logits

    scores = called(part, watched(), settings)
    return checked(part, scores, seen[0])


def called(part: Part, logits: Tensor | Iterable[Tensor], settings: PartSettings | None) -> Tensor:
    if part.settings in (CommitteeSettings, PassesSettings):
        return part(logits)
    assert part.settings is not None
    return part(logits, part.settings() if settings is None else settings)


def checked(part: Part, scores: Tensor, logits: Tensor) -> Tensor:
    """``scores``; BadInput unless they are one number per pixel, which a plug-in may get wrong."""
    shape = (logits.shape[0], *logits.shape[2:])
    found = tuple(getattr(scores, "shape", ()))
    if found != shape:
        raise BadInput(
            f"Measure {part.name} returned {found} for logits {tuple(logits.shape)}; it must return {shape}."
        )
    return scores
