"""Recipes of a leaderboard beside their random partners, and the page that shows it."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from stages.recipes.leaderboard_file import Board, Round, complete_seeds
from stages.reporting.equal_cost import Curve, curve
from stages.reporting.report.groups import Spread, mean_and_spread
from stages.reporting.verdict import Lead, image_draws, lead

COSTS = ("clicks", "seconds")


@dataclass(frozen=True)
class Pair:
    """A recipe beside its random partner at each of `COSTS`; None if they share none. ``seeds``: those of both."""

    recipe: str
    random: str
    seeds: list[int]
    leads: dict[str, Lead | None]


def pairs_of(board: Board) -> list[Pair]:
    """Each recipe whose random partner is there too, over the seeds that both have completed."""
    found = []
    for name, results in board.written.recipes.items():
        other = board.written.recipes.get(results.random or "")
        if results.random is None or other is None or results.random == name:
            continue
        seeds = sorted({*complete_seeds(results.rounds)} & {*complete_seeds(other.rounds)})
        leads = {cost: beside(board, name, results.random, seeds, cost) for cost in COSTS} if seeds else {}
        found.append(Pair(name, results.random, seeds, leads))
    return found


def beside(board: Board, name: str, other: str, seeds: list[int], cost: str) -> Lead | None:
    """``name`` beside ``other`` over ``seeds`` at equal ``cost``; None if no cost is covered by all."""
    images = len(next(iter(board.counts.values())).images)
    draws = image_draws(images) if images > 1 else None
    ours, theirs = ({seed: curve_of(board, recipe, seed, cost, draws) for seed in seeds} for recipe in (name, other))
    return lead(name, other, ours, theirs, 0 if draws is None else images)


def curve_of(board: Board, recipe: str, seed: int, cost: str, draws: np.ndarray | None) -> Curve:
    """mIoU on the reported split over ``cost``, also on ``draws`` (B,I) of its images."""
    rows = [row for row in board.written.recipes[recipe].rounds if row.seed == seed]
    counts = [board.counts[recipe, seed, row.round] for row in rows]
    points = [(float(getattr(row, cost)), row.miou_test) for row in rows]
    return curve(points, None if draws is None else [100 * each.resampled(draws) for each in counts])


def verdict_of(found: Lead | None) -> str:
    """better, worse or undecided, from the interval of the difference."""
    if found is None or not found.difference.beyond_chance:
        return "undecided"
    return "better" if found.difference.mean > 0 else "worse"


def told(pair: Pair) -> str:
    """A pair in a line."""
    parts = [f"{verdict_of(found)} at equal {cost} ({difference_text(found)})" for cost, found in pair.leads.items()]
    return f"{pair.recipe} against {pair.random}, {len(pair.seeds)} seeds: {', '.join(parts) or 'undecided'}"


def difference_text(found: Lead | None) -> str:
    """The mean difference with its interval."""
    if found is None:
        return "no shared cost"
    text = f"{found.difference.mean:+.1f}"
    if found.difference.interval is None:
        return text
    low, high = found.difference.interval
    return f"{text} [{low:+.1f}, {high:+.1f}]"


def page(board: Board, pairs: list[Pair], file: str) -> str:
    """The leaderboard in ``file`` with the ``pairs`` of its recipes as Markdown."""
    return "\n".join([*head(board, file), *recipe_table(board), "", *pair_table(pairs), "", *METHOD]) + "\n"


def head(board: Board, file: str) -> Iterator[str]:
    images = len(next(iter(board.counts.values())).images)
    measured = board.written.measured
    yield "# Leaderboard"
    yield ""
    yield (
        f"mIoU in % on {measured.split} ({images} images), {measured.checkpoint} epoch. Written by `alseg compare "
        f"--leaderboard`; [{file}]({file}) has every round of every seed."
    )
    yield ""
    yield f"![mIoU of each recipe, and its lead over its random partner]({file.removesuffix('.json')}.png)"
    yield ""


def recipe_table(board: Board) -> Iterator[str]:
    """A line per recipe, the highest first: means over its seeds at their last round."""
    yield "| recipe | seeds | round | clicks | seconds | mIoU | mIoU on val |"
    yield "|---|---|---|---|---|---|---|"
    for name, rows in standings(board):
        validated = [row.miou_val for row in rows if row.miou_val is not None]
        cells = [
            name,
            str(len(rows)),
            str(rows[0].round),
            f"{fmean(row.clicks for row in rows):.0f}",
            f"{fmean(row.seconds for row in rows):.0f}",
            spread_text(mean_and_spread([row.miou_test for row in rows])),
            spread_text(mean_and_spread(validated)) if validated else "",
        ]
        yield f"| {' | '.join(cells)} |"


def standings(board: Board) -> list[tuple[str, list[Round]]]:
    """Each recipe with the last round of its seeds, the highest mean mIoU first."""
    ends = {name: last_rounds(each.rounds) for name, each in board.written.recipes.items()}
    return sorted(ends.items(), key=lambda each: -fmean(row.miou_test for row in each[1]))


def last_rounds(rows: list[Round]) -> list[Round]:
    """The last round of each seed that has completed it."""
    seeds = complete_seeds(rows)
    return [max((row for row in rows if row.seed == seed), key=lambda row: row.round) for seed in seeds]


def spread_text(value: Spread) -> str:
    return f"{value.mean:.1f}" + ("" if value.deviation is None else f" ± {value.deviation:.1f}")


def pair_table(pairs: list[Pair]) -> Iterator[str]:
    """A line per recipe and kind of cost."""
    yield "## Against chance"
    yield ""
    if not pairs:
        yield "No recipe is here together with its random partner."
        return
    yield "| recipe | random partner | seeds | at equal | from | to | area | partner's | difference [95 %] | verdict |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for pair in pairs:
        for cost, found in pair.leads.items():
            cells = [pair.recipe, pair.random, str(len(pair.seeds)), cost]
            if found is None:
                cells += ["", "", "", "", difference_text(found)]
            else:
                cells += [f"{found.low:.0f}", f"{found.high:.0f}", *(f"{each:.1f}" for each in found.areas)]
                cells.append(difference_text(found))
            yield f"| {' | '.join([*cells, verdict_of(found)])} |"


METHOD = [
    "The area is the mean mIoU over the costs that both cover, linear between rounds: the integral of mIoU over cost",
    "divided by their range. The difference is of the areas of equal seeds, in points. Its 95 % interval covers the",
    "choice of seeds (Student's t of the paired differences) and of images (1000 bootstrap draws, the same for both",
    "recipes); the variances are added. A recipe is better or worse if the interval excludes 0, otherwise undecided.",
    "One pair in twenty excludes 0 by chance. With two or three seeds only large differences are decided. Costs that",
    "differ by 1 % or less count as equal.",
]
