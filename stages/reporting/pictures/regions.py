"""Plots of regions: borders, scores and queries."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from stages.artifacts.dataset import Dataset
from stages.artifacts.opening import open_input
from stages.artifacts.queries import Queries
from stages.artifacts.scores import Scores
from stages.artifacts.superpixels import Superpixels
from stages.reporting.colours import Colour
from stages.reporting.pictures.curves import to_png
from stages.reporting.pictures.panels import (
    BLACK,
    VOID_STRIPES,
    WHITE,
    YELLOW,
    Canvas,
    axes_of,
    class_legend,
    colourise,
    figure_for,
    legend,
    stripes,
)

MARKED = 10  # best pixels marked per image: more would hide the map


def draw_superpixels(regions: Superpixels, data: Dataset, image: str) -> bytes:
    """Borders over the image; for merged regions, the base regions beside them. Pixels in no region are striped."""
    pixels, labels = data.rgb(image, regions.sizes[image]), regions.labels(image)
    canvas = Canvas(pixels)
    if regions.method == "adaptive":
        base = open_input(regions, "superpixels", Superpixels)
        figure = figure_for(pixels, 2)
        left, right = axes_of(figure, 2)
        outline(canvas, base.labels(image), YELLOW, 0.8)
        canvas.show(left)
        left.set_title(f"{image}, base ({base.method}): {base.number(image)} regions", fontsize=9)
        merged = Canvas(pixels)
        merged.line(base.labels(image), YELLOW, 0.5)
        outline(merged, labels)
        merged.show(right)
        epsilon = regions.header.settings["epsilon"]
        right.set_title(f"merged below {epsilon:g}: {regions.number(image)} regions", fontsize=9)
        return to_png(figure)
    figure = figure_for(pixels)
    (axes,) = axes_of(figure, 1)
    title = f"{image}, {regions.method}: {regions.number(image)} regions"
    outside = labels < 0
    canvas.hatch(outside, VOID_STRIPES)
    outline(canvas, labels, YELLOW, 0.8)
    canvas.show(axes)
    if outside.any():
        title += f", {100 * outside.mean():.1f} % of the pixels in no region"
        legend(figure, [stripes(VOID_STRIPES, "in no region")])
    axes.set_title(title, fontsize=9)
    return to_png(figure)


def outline(
    canvas: Canvas, labels: np.ndarray, colour: Colour = WHITE, width: float = 1.0, closed: bool = False
) -> None:
    """Draws borders of ``labels`` (H,W) int in a light colour with black rims, which are visible on any image."""
    canvas.line(labels, BLACK, width + 0.8, closed)
    canvas.line(labels, colour, width, closed)


def at_pixels(values: np.ndarray, labels: np.ndarray, nothing: Any) -> np.ndarray:
    """Values (K,...) of regions at their pixels (H,W,...), ``nothing`` where labels (H,W) i32 are negative."""
    found = values[np.maximum(labels, 0)]
    found[labels < 0] = nothing
    return found


def draw_region_scores(scores: Scores, data: Dataset, image: str) -> bytes:
    """Image, heat map of the regions' scores, and the predicted class of each if the scores come from a model."""
    regions = open_input(scores, "superpixels", Superpixels)
    pixels, labels, rows = data.rgb(image, regions.sizes[image]), regions.labels(image), regions.rows[image]
    predicted = "regions/predicted" in scores
    panels = 3 if predicted else 2
    figure = figure_for(pixels, panels, bars=1)
    left, middle, *right = axes_of(figure, panels)
    left.imshow(pixels)
    left.set_title(f"{image}: {regions.number(image)} regions", fontsize=9)
    values = at_pixels(scores.region_scores()[rows], labels, np.nan)
    middle.set_facecolor("0.8")
    heat = middle.imshow(values, cmap="inferno", interpolation="nearest")
    title = f"{scores.attributes['measure']}: brighter is queried first"
    if scores.has_best_pixels:
        title += f"; dots: best pixels of the {mark_best_pixels(middle, scores, rows)} highest"
    middle.set_title(title, fontsize=9)
    figure.colorbar(heat, ax=middle, shrink=0.75)
    for axes in right:
        classes = scores.read("regions/predicted", rows)
        shown = at_pixels(classes, labels, 255)
        canvas = Canvas(colourise(shown, data.palette))
        canvas.paint_classes(shown, labels >= 0, data.palette, 1)
        canvas.line(labels, WHITE, 0.4)
        canvas.show(axes)
        axes.set_title("predicted class", fontsize=9)
        class_legend(figure, data, np.unique(classes))
    return to_png(figure)


def mark_best_pixels(axes: Axes, scores: Scores, rows: slice) -> int:
    """Marks the best pixels of the highest-scored regions among ``rows``; returns their number."""
    first = np.argsort(-scores.region_scores()[rows], kind="stable")[:MARKED]
    first = first[scores.read("regions/size", rows)[first] > 0]
    y, x = (scores.read(f"regions/{name}", rows)[first] for name in ("y", "x"))
    axes.scatter(x, y, s=24, c="#56B4E9", edgecolors="black", linewidths=0.8)
    return len(first)


def draw_region_queries(queries: Queries, data: Dataset, image: str) -> bytes:
    """The queried regions in the colour of their score, outlined; the rest of the image faded."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    regions = open_input(queries, "superpixels", Superpixels)
    pixels, labels = data.rgb(image, regions.sizes[image]), regions.labels(image)
    rows = np.flatnonzero(queries.image == queries.ids.index(image))
    every = queries.read("queries/score")
    norm, cmap = Normalize(every.min(), every.max()), colormaps["viridis"]
    place = np.full(regions.number(image), -1, dtype=np.int32)  # rank among the image's queries, -1: not queried
    place[queries.region[rows] - regions.rows[image].start] = np.arange(len(rows))
    asked = at_pixels(place, labels, -1)
    colours = (cmap(norm(every[rows]))[:, :3] * 255).round().astype(np.uint8)
    canvas = Canvas(pixels)
    canvas.fade(asked < 0)
    canvas.paint(asked >= 0, at_pixels(colours, asked, 0), 0.5)
    outline(canvas, asked, closed=True)
    figure = figure_for(pixels, bars=1)
    (axes,) = axes_of(figure, 1)
    canvas.show(axes)
    figure.colorbar(ScalarMappable(norm, cmap), ax=axes, shrink=0.75, label="score")
    axes.set_title(
        f"{image}: {len(rows)} of {len(queries)} regions queried in round {queries.round}, answer: {queries.answer}",
        fontsize=9,
    )
    return to_png(figure)
