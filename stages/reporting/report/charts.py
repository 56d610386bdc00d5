"""Curves as SVG with the colours of the page: sharp in print, and readable in dark mode."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

CHART_WIDTH, CHART_HEIGHT = 720, 430
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 16, 58
STYLES = 7  # colours of the page, called s0, s1, ...; markers and dashes change with them
MARKER_SHAPES = ("circle", "square", "triangle", "diamond", "down", "plus", "cross")
DASHES = ("", "7 4", "2 3")  # the next one each time the colours repeat
LOGARITHMIC_FROM = 40  # ratio of highest to lowest cost; beyond it, a linear axis squeezes all but one run to its edge
LABEL_GAP = 17


@dataclass(frozen=True)
class Series:
    """A line with a marker per point; `band` (x, lowest, highest) is drawn behind it, `thin` lines are single runs."""

    name: str
    style: int
    points: list[tuple[float, float]]
    band: list[tuple[float, float, float]] = field(default_factory=list)
    thin: list[list[tuple[float, float]]] = field(default_factory=list)


@dataclass(frozen=True)
class Axis:
    """Maps values to pixels."""

    ticks: list[float]
    place: Callable[[float], float]
    logarithmic: bool = False


def line_chart(
    series: Sequence[Series], lines: Sequence[tuple[str, float]], x_label: str, y_label: str, told: str
) -> Markup:
    """Curves and horizontal target ``lines`` as an SVG element; ``told`` is the label for screen readers."""
    drawn = [*(each.points for each in series), *(line for each in series for line in each.thin)]
    xs = [x for line in drawn for x, _ in line]
    ys = [y for line in drawn for _, y in line] + [y for _, y in lines]
    ys += [y for each in series for _, low, high in each.band for y in (low, high)]
    across = x_axis(xs)
    up = linear_axis(max(0, min(ys)), min(100, max(ys)), CHART_HEIGHT - BOTTOM, TOP, zero=False)
    logarithmic = " (logarithmic)" if across.logarithmic else ""
    parts = [
        f'<svg class="chart" viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}" role="img" aria-label="{escape(told)}">',
        *grid_lines(across, up),
        f'<text class="label" x="{(LEFT + CHART_WIDTH - RIGHT) / 2:.0f}" y="{CHART_HEIGHT - 10}" text-anchor="middle">'
        f"{escape(x_label + logarithmic)}</text>",
        f'<text class="label" transform="rotate(-90)" x="{-(TOP + CHART_HEIGHT - BOTTOM) / 2:.0f}" y="16" '
        f'text-anchor="middle">{escape(y_label)}</text>',
        *goals(lines, up),
    ]
    for each in series:
        parts += curve(each, across, up)
    return Markup("\n".join([*parts, "</svg>"]))


def x_axis(xs: Sequence[float]) -> Axis:
    low, high = min(xs), max(xs)
    if low > 0 and high / low > LOGARITHMIC_FROM:
        least, most = math.floor(math.log10(low)), math.ceil(math.log10(high))
        within = [10.0**power for power in range(least, most + 1) if low <= 10.0**power <= high]
        times = (1, 2, 5) if len(within) < 4 else (1,)
        ticks = [factor * 10.0**power for power in range(least, most + 1) for factor in times]
        first, last = math.log10(low) - 0.1, math.log10(high) + 0.1
        scale = (CHART_WIDTH - RIGHT - LEFT) / (last - first)
        inside = [tick for tick in ticks if first <= math.log10(tick) <= last]
        return Axis(inside, lambda x: LEFT + (math.log10(x) - first) * scale, logarithmic=True)
    return linear_axis(0, high or 1, LEFT, CHART_WIDTH - RIGHT, zero=True)


def linear_axis(low: float, high: float, start: float, end: float, zero: bool) -> Axis:
    """An axis from pixel ``start`` to ``end`` that covers ``low`` to ``high`` and begins and ends at a tick."""
    span = (high - low) or 1
    step = nice(span / 5)
    first = 0 if zero else math.floor((low - 0.04 * span) / step)
    first = max(first, 0)
    last = math.ceil((high + 0.02 * span) / step)
    ticks = [number * step for number in range(first, last + 1)]
    scale = (end - start) / ((last - first) * step)
    return Axis(ticks, lambda value: start + (value - first * step) * scale)


def nice(step: float) -> float:
    """``step`` rounded up to 1, 2 or 5 times a power of ten."""
    power: float = 10 ** math.floor(math.log10(step))
    return next(times * power for times in (1, 2, 5, 10) if times * power >= step * 0.999)


def grid_lines(across: Axis, up: Axis) -> list[str]:
    left, right, top, bottom = LEFT, CHART_WIDTH - RIGHT, TOP, CHART_HEIGHT - BOTTOM
    parts = []
    for tick in up.ticks:
        y = up.place(tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 8}" y="{y + 5:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in across.ticks:
        x = across.place(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 21}" text-anchor="middle">{short(tick)}</text>')
    return [*parts, f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>']


def short(value: float) -> str:
    """A short form of a number, such as 25k."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= 10 * size or (value >= size and value % size == 0):
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def goals(lines: Sequence[tuple[str, float]], up: Axis) -> list[str]:
    """Horizontal lines with their names above, or below if another line is close above."""
    parts, above = [], -math.inf
    for number, (name, value) in enumerate(sorted(lines, key=lambda line: -line[1])):
        y = up.place(value)
        below = y - above < 2 * LABEL_GAP
        above = y
        parts.append(f'<line class="goal g{number}" x1="{LEFT}" x2="{CHART_WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        text = y + LABEL_GAP if below else y - 5
        parts.append(f'<text class="goal-name" x="{LEFT + 6}" y="{text:.1f}">{escape(name)} {value:.1f}</text>')
    return parts


def curve(series: Series, across: Axis, up: Axis) -> list[str]:
    def path(points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{across.place(x):.1f},{up.place(y):.1f}" for x, y in points)

    colour, dash = series.style % STYLES, DASHES[series.style // STYLES % len(DASHES)]
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    parts = [f'<g class="s{colour}">']
    if len(series.band) > 1:
        outline = [(x, high) for x, _, high in series.band] + [(x, low) for x, low, _ in reversed(series.band)]
        parts.append(f'<polygon class="band" points="{path(outline)}"/>')
    parts += [f'<polyline class="thin" points="{path(line)}"/>' for line in series.thin if len(line) > 1]
    if len(series.points) > 1:
        parts.append(f'<polyline class="curve"{dashes} points="{path(series.points)}"/>')
    for x, y in series.points:
        hint = escape(f"{series.name}: {y:.2f} % at {x:g}")
        parts.append(f"<g>{marker(series.style, across.place(x), up.place(y))}<title>{hint}</title></g>")
    return [*parts, "</g>"]


def marker(style: int, x: float, y: float, size: float = 5) -> str:
    """The marker of a series, centred at (x, y)."""

    def polygon(*corners: tuple[float, float]) -> str:
        points = " ".join(f"{x + size * across:.1f},{y + size * down:.1f}" for across, down in corners)
        return f'<polygon class="mark" points="{points}"/>'

    match MARKER_SHAPES[style % STYLES]:
        case "square":
            return polygon((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9))
        case "triangle":
            return polygon((0, -1.2), (1.15, 0.9), (-1.15, 0.9))
        case "down":
            return polygon((0, 1.2), (1.15, -0.9), (-1.15, -0.9))
        case "diamond":
            return polygon((0, -1.3), (1.1, 0), (0, 1.3), (-1.1, 0))
        case "plus":
            return polygon(
                *((-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4)),
                *((0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4)),
            )
        case "cross":
            return polygon(
                *((0, -0.6), (0.7, -1.3), (1.3, -0.7), (0.6, 0), (1.3, 0.7), (0.7, 1.3)),
                *((0, 0.6), (-0.7, 1.3), (-1.3, 0.7), (-0.6, 0), (-1.3, -0.7), (-0.7, -1.3)),
            )
        case _:
            return f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="{size}"/>'


def swatch(style: int) -> Markup:
    """The line and marker of a series, for legends and tables."""
    dash = DASHES[style // STYLES % len(DASHES)]
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    parts = [
        f'<svg class="swatch s{style % STYLES}" viewBox="0 0 30 16" aria-hidden="true">',
        f'<line class="curve"{dashes} x1="1" x2="29" y1="8" y2="8"/>{marker(style, 15, 8)}</svg>',
    ]
    return Markup("".join(parts))
