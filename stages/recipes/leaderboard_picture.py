"""The picture of a leaderboard: what each recipe reaches, and how far it is from chance."""

from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.recipes.leaderboard_file import Board, Round
from stages.recipes.leaderboard_page import Pair, standings, verdict_of
from stages.reporting.pictures.curves import LINE_COLOURS, plain, to_png
from stages.reporting.report.groups import mean_and_spread

VERDICT_COLOURS = {"better": LINE_COLOURS[0], "worse": LINE_COLOURS[1], "undecided": "0.55"}
COST = "clicks"


def picture(board: Board, pairs: list[Pair]) -> bytes:
    """PNG with a line per recipe, the highest first: mIoU in its last round, and its lead over its random partner."""
    lines = standings(board)[::-1]  # from the bottom
    figure = Figure(figsize=(11, 1.2 + 0.3 * len(lines)), layout="constrained")
    left, right = (plain(axes) for axes in figure.subplots(1, 2, sharey=True))
    draw_reached(left, [rows for _, rows in lines])
    left.set_yticks(range(len(lines)), [label(name, rows) for name, rows in lines])
    left.set_xlabel(f"mIoU on {board.written.measured.split} (%)\nmean and standard deviation over seeds")
    draw_leads(right, [name for name, _ in lines], {pair.recipe: pair for pair in pairs})
    right.set_xlabel(f"points ahead of the random partner\nat equal {COST}, 95 % interval")
    return to_png(figure)


def label(name: str, rows: list[Round]) -> str:
    seeds = "1 seed" if len(rows) == 1 else f"{len(rows)} seeds"
    return f"{name} ({fmean(row.clicks for row in rows):.0f} clicks, {seeds})"


def draw_reached(axes: Axes, ends: list[list[Round]]) -> None:
    for place, rows in enumerate(ends):
        reached = mean_and_spread([row.miou_test for row in rows])
        axes.errorbar(reached.mean, place, xerr=reached.deviation, fmt="o", ms=5, capsize=3, color=LINE_COLOURS[6])


def draw_leads(axes: Axes, names: list[str], pairs: dict[str, Pair]) -> None:
    """Differences with their intervals, in the colour of the verdict; hollow where one seed has no interval."""
    axes.axvline(0, color="0.3", lw=1)
    for verdict, colour in VERDICT_COLOURS.items():
        axes.plot([], [], "o", ms=5, color=colour, label=verdict)
    for place, name in enumerate(names):
        found = pairs[name].leads.get(COST) if name in pairs else None
        if found is None:
            continue
        colour, mean, interval = VERDICT_COLOURS[verdict_of(found)], found.difference.mean, found.difference.interval
        error = None if interval is None else [[mean - interval[0]], [interval[1] - mean]]
        face = "white" if interval is None else colour
        axes.errorbar(mean, place, xerr=error, fmt="o", ms=5, capsize=3, color=colour, markerfacecolor=face)
    axes.plot([], [], "o", ms=5, color=VERDICT_COLOURS["undecided"], markerfacecolor="white", label="one seed")
    axes.legend(fontsize=8, loc="upper left")  # the best recipes come first and lie to the right
