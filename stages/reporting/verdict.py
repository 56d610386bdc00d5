"""Which of several recipes is ahead at equal cost, by how much, and whether that is more than chance."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from stages.evaluating.samples import resamples
from stages.reporting.equal_cost import (
    Curve,
    MeanDifference,
    OnDraws,
    curve,
    first_cost,
    mean_difference,
    shared_range,
)
from stages.reporting.measured import Measured
from stages.reporting.report.collect import Run
from stages.reporting.report.groups import Group, Spread, mean_and_spread
from stages.runtime.randomness import stream

AXES = ("clicks", "seconds", "answers")
"""Costs of `Measured` that runs can be compared at."""
MOST_RIVALS = 5  # that a verdict has sentences about; the closest ones
LEVEL = 0.05  # points; what is printed as 0.0


@dataclass(frozen=True)
class Lead:
    """The leading group beside another one, over the costs from ``low`` to ``high`` that all their runs cover.

    ``difference`` is of the means of the curves over these costs, in points. ``ours`` and ``theirs`` are the mIoU in %
    at ``high``. ``ahead`` of ``costs`` measured costs have the leading group above. ``cheaper``: the costs at which
    both first have ``theirs``; None if the leading group does not. ``areas``: mean heights of the curves of both.
    """

    name: str
    other: str
    low: float
    high: float
    difference: MeanDifference
    runs: tuple[int, int]
    ours: float
    theirs: float
    ahead: int
    costs: int
    cheaper: tuple[float, float] | None
    areas: tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """One sentence on top, sentences with the numbers, and notes on what limits them."""

    headline: str
    facts: list[str]
    notes: list[str]

    @property
    def lines(self) -> list[str]:
        return [self.headline, *self.facts, *(f"note: {note}" for note in self.notes)]


def judge(groups: Sequence[Group], full: Measured | None = None, cost: str = "clicks") -> Verdict:
    """The verdict on groups of runs that differ only by seed; ``full`` is what full masks reach."""
    measured = [group for group in groups if group.points]
    notes = limits(groups)
    if not measured:
        return Verdict("Nothing was evaluated: mIoU takes held-out images with masks and a finished round.", [], notes)
    if len(datasets_of(measured)) > 1:
        return Verdict("The runs were made on different datasets, so their mIoU cannot be compared.", [], notes)
    if len(measured) == 1:
        facts = [of_full(measured[0], full)] if full is not None else []
        return Verdict(reached(measured[0], cost), facts, notes)
    leads = leads_of(measured, cost)
    apart = [group.name for group in measured if group.name not in {name for lead in leads for name in names(lead)}]
    if apart:
        notes.append(
            f"No {cost} are covered by both {' or '.join(apart)} and the leading recipe; nothing is extrapolated."
            if leads
            else f"The recipes were measured at {cost} that do not overlap; nothing is extrapolated."
        )
    if not leads:
        return Verdict(f"Nothing can be compared at equal {cost}.", [reached(each, cost) for each in measured], notes)
    facts = [average(leads[0], cost), *at_the_end(leads[0], cost)]
    facts += [average(lead, cost) for lead in leads[1:MOST_RIVALS]]
    if len(leads) > MOST_RIVALS:
        facts.append(f"{len(leads) - MOST_RIVALS} others are further behind.")
    if full is not None:
        facts.append(of_full(next(group for group in measured if group.name == leads[0].name), full))
    if len(leads) > 1:
        notes.append("Each interval is of one comparison alone; of many, one in twenty excludes 0 by chance.")
    return Verdict(headline(leads[0], cost), facts, notes)


def limits(groups: Sequence[Group]) -> list[str]:
    """What makes the numbers less comparable than they look."""
    runs = [run for group in groups for run in group.runs]
    notes = [] if (note := sizes_note(runs)) is None else [note]
    missing = [group.name for group in groups if not group.points]
    if missing and len(missing) < len(groups):
        notes.append(f"{', '.join(missing)} was not evaluated.")
    return notes


def sizes_note(runs: Sequence[Run]) -> str | None:
    """The sizes of the images that runs were evaluated on, if they differ."""
    sizes = {run.name: {entry.image_sizes for entry in run.measured} - {""} for run in runs if run.measured}
    if len(set().union(*sizes.values())) < 2:
        return None
    told = ", ".join(f"{name} {' and '.join(sorted(own)) or 'unknown'}" for name, own in sizes.items())
    return f"the runs were evaluated at different sizes: {told}"


def datasets_of(groups: Sequence[Group]) -> set[str]:
    """The digests of the datasets of the runs, where they are known."""
    return {run.dataset_digest for group in groups for run in group.runs} - {""}


def seed_curves(group: Group, cost: str, draws: np.ndarray | None = None) -> dict[tuple[int, ...], Curve]:
    """The curve of each evaluated run of a group, by its seed, also on ``draws`` (B,I) of the images."""
    runs = [run for run in group.runs if run.measured]
    # what is made of the dataset alone, such as superpixels, has the same seed in all runs
    highest = [(max(run.seeds, default=0),) for run in runs]
    seeds = highest if len(set(highest)) == len(runs) else [tuple(run.seeds) for run in runs]
    return {seed: measured_curve(run.measured, cost, draws) for seed, run in zip(seeds, runs, strict=True)}


def measured_curve(measured: Sequence[Measured], cost: str, draws: np.ndarray | None = None) -> Curve:
    """mIoU over ``cost``, also on ``draws`` (B,I) of the images."""
    points = [(float(getattr(entry, cost)), entry.miou) for entry in measured]
    counts = [] if draws is None else [entry.counts for entry in measured if entry.counts is not None]
    return curve(points, None if draws is None else [100 * each.resampled(draws) for each in counts])


def draws_for(measured: Iterable[Measured]) -> np.ndarray | None:
    """Draws (B,I) of the images that all were evaluated on; None if these differ, are unknown, or a single one."""
    images = {None if entry.counts is None else entry.counts.images for entry in measured}
    found = images.pop() if len(images) == 1 else None
    return None if found is None or len(found) < 2 else image_draws(len(found))


@lru_cache(maxsize=4)
def image_draws(images: int) -> np.ndarray:
    """(B,I): how often each image is in a draw of as many with replacement, the same draws in every comparison."""
    return np.array(list(resamples(images, stream(0, "compare", "images", images))))


def mean_curve(group: Group, cost: str) -> tuple[Curve, Curve | None]:
    """The mean over the runs of a group after each round, and the standard deviation; None for a single run.

    Both are means over cost and mIoU of a round, over the rounds that all runs have reached.
    """
    points = group.whole_points
    mean = curve((float(getattr(point, cost)), point.miou.mean) for point in points)
    if any(point.miou.deviation is None for point in points):
        return mean, None
    return mean, curve((float(getattr(point, cost)), point.miou.deviation or 0.0) for point in points)


def areas(groups: Sequence[Group], cost: str) -> tuple[tuple[float, float], dict[str, Spread]] | None:
    """The costs that all runs cover, and per group the mean height of its curves over them; None without such costs."""
    curves = {group.name: seed_curves(group, cost) for group in groups}
    found = shared_range([each for own in curves.values() for each in own.values()])
    if found is None:
        return None
    return found, {name: mean_and_spread([each.area(*found) for each in own.values()]) for name, own in curves.items()}


def leads_of(groups: Sequence[Group], cost: str) -> list[Lead]:
    """The group ahead of most others beside each of those it shares costs with, the closest first."""
    draws = draws_for(entry for group in groups for run in group.runs for entry in run.measured)
    curves = {group.name: seed_curves(group, cost, draws) for group in groups}

    def beside(one: str, other: str) -> Lead | None:
        return lead(one, other, curves[one], curves[other], 0 if draws is None else draws.shape[1])

    everything = {one: [found for other in curves if other != one and (found := beside(one, other))] for one in curves}

    def rank(name: str) -> tuple[int, float]:
        means = [each.difference.mean for each in everything[name]]
        return sum(mean > 0 for mean in means), sum(means)

    best = max(everything, key=rank)
    return sorted(everything[best], key=lambda each: each.difference.mean)


def lead(one: str, other: str, ours: Mapping[Any, Curve], theirs: Mapping[Any, Curve], images: int = 0) -> Lead | None:
    """``one`` beside ``other``, given their curves by seed; None if no cost is covered by all.

    ``images``: how many the draws of the curves are of; 0 if they have none.
    """
    every = [*ours.values(), *theirs.values()]
    shared = shared_range(every)
    if shared is None:
        return None
    low, high = shared
    both = ours, theirs
    heights = [{seed: each.area(low, high) for seed, each in curves.items()} for curves in both]
    on_draws = [{seed: each.areas_of_draws(low, high) for seed, each in curves.items()} for curves in both]
    difference = mean_difference(heights[0], heights[1], OnDraws(images, *on_draws) if images else None)
    within = [each.cost[(each.cost >= low) & (each.cost <= high)] for each in every]
    costs = np.unique(np.concatenate([*within, np.array([low, high])]))
    mine = np.mean([each.at(costs) for each in ours.values()], axis=0)
    rival = np.mean([each.at(costs) for each in theirs.values()], axis=0)
    final = float(rival[-1])
    cheaper = first_cost(Curve(costs, mine), final), first_cost(Curve(costs, rival), final)
    return Lead(
        name=one,
        other=other,
        low=low,
        high=high,
        difference=difference,
        runs=(len(ours), len(theirs)),
        ours=float(mine[-1]),
        theirs=final,
        ahead=int((mine > rival).sum()),
        costs=len(costs),
        cheaper=None if cheaper[0] is None or cheaper[1] is None else (cheaper[0], cheaper[1]),
        areas=(float(np.mean(list(heights[0].values()))), float(np.mean(list(heights[1].values())))),
    )


def names(lead: Lead) -> tuple[str, str]:
    return lead.name, lead.other


def headline(lead: Lead, cost: str) -> str:
    """Who is ahead of the closest other recipe, and whether that is more than chance."""
    by = abs(lead.difference.mean)
    if by < LEVEL:
        return f"{lead.name} and {lead.other} are level at equal {cost}."
    ahead = f"{by:.1f} points of mIoU {'ahead of' if lead.difference.mean > 0 else 'behind'} {lead.other}"
    if lead.difference.interval is None:
        few = " and ".join(name for name, runs in zip(names(lead), lead.runs, strict=True) if runs == 1)
        return f"{lead.name} is {ahead} at equal {cost}; one seed of {few} cannot tell whether that is chance."
    if lead.difference.beyond_chance:
        return f"{lead.name} is {ahead} at equal {cost}, more than chance explains."
    return f"{lead.name} is {ahead} at equal {cost}, which chance alone can explain."


def average(lead: Lead, cost: str) -> str:
    """The mean difference with its interval, in a sentence."""
    found = lead.difference
    where = f"at {amount(lead.high, cost)}"
    if lead.low < lead.high:
        where = f"on average between {lead.low:.0f} and {amount(lead.high, cost)}"
    told = f"Against {lead.other}: {found.mean:+.1f} points {where}"
    if found.interval is not None:
        low, high = found.interval
        how = f"{found.pairs} pairs of seeds" if found.pairs else f"{lead.runs[0]} and {lead.runs[1]} seeds, not paired"
        how += f", {found.images} images" if found.images else ""
        told += f" (95 % interval {low:+.1f} to {high:+.1f}; {how})"
    return f"{told}, ahead at {lead.ahead} of {lead.costs} measured costs."


def at_the_end(lead: Lead, cost: str) -> list[str]:
    """What both have at the highest cost that they share, and what the leading group saves, in sentences."""
    told = [f"At {amount(lead.high, cost)}: {lead.ours:.1f} %; {lead.other} has {lead.theirs:.1f} %."]
    if lead.cheaper is not None and lead.cheaper[0] < lead.cheaper[1]:
        ours, theirs = lead.cheaper
        told.append(
            f"{lead.name} reaches the {lead.theirs:.1f} % of {lead.other} with {amount(ours, cost)} instead of "
            f"{theirs:.0f}: {100 * (1 - ours / theirs):.0f} % less."
        )
    return told


def reached(group: Group, cost: str) -> str:
    """The last mIoU of a group, in a sentence."""
    last = group.points[-1]
    spread = "" if last.miou.deviation is None else f" ± {last.miou.deviation:.1f}"
    return f"{group.name} reached {last.miou.mean:.1f}{spread} % mIoU with {amount(float(getattr(last, cost)), cost)}."


def of_full(group: Group, full: Measured) -> str:
    """The last mIoU of a group as a share of full supervision, in a sentence."""
    last = group.points[-1].miou.mean
    share = f"{100 * last / full.miou:.0f} % of" if full.miou else "against"
    return f"The last {last:.1f} % of {group.name} are {share} the {full.miou:.1f} % of full supervision."


def amount(value: float, cost: str) -> str:
    return f"{value:.0f} {cost}"
