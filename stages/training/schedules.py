"""Learning-rate schedules as pure functions of the step, so that a resumed training needs no scheduler state."""

import math
from collections.abc import Callable

from stages.settings.train import OptimisationSettings

Factor = Callable[[int], float]  # optimiser step from 0 -> factor on the peak rate


def constant() -> Factor:
    return lambda step: 1.0


def poly(steps: int, power: float) -> Factor:
    """(1 - t/T)^power."""
    return lambda step: (1 - step / steps) ** power


def milestones(steps_per_epoch: int, epochs: tuple[int, ...], factor: float) -> Factor:
    """``factor`` to the power of the number of ``epochs`` passed: with (21, 41), epochs 1 to 21 have the full rate."""
    return lambda step: factor ** sum(step // steps_per_epoch >= epoch for epoch in epochs)


def one_cycle(steps: int, warm_up: float = 0.3, start: float = 1 / 25, end: float = 4e-6) -> Factor:
    """Cosine from ``start`` to 1 over the first ``warm_up`` share, then cosine down to ``end`` (Smith & Topin 2017)."""
    rising = max(1, round(steps * warm_up))

    def factor(step: int) -> float:
        if step < rising:
            low, high, position = start, 1.0, step / rising
        else:
            low, high, position = 1.0, end, (step - rising) / max(1, steps - 1 - rising)
        return low + (high - low) * (1 - math.cos(math.pi * min(position, 1.0))) / 2

    return factor


def build_schedule(settings: OptimisationSettings, steps_per_epoch: int) -> Factor:
    """The schedule of ``settings`` over all epochs."""
    steps = steps_per_epoch * settings.epochs
    match settings.schedule:
        case "poly":
            assert settings.poly is not None
            return poly(steps, settings.poly.poly_power)
        case "milestones":
            assert settings.drops is not None
            return milestones(steps_per_epoch, settings.drops.milestones, settings.drops.milestone_factor)
        case "one-cycle":
            return one_cycle(steps)
        case _:
            return constant()
