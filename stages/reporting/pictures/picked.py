"""Plots of queried pixels that were chosen in regions and represent them."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from stages.artifacts.dataset import Dataset
from stages.artifacts.opening import open_input
from stages.artifacts.queries import Queries
from stages.artifacts.superpixels import Superpixels
from stages.pixels.grids import Size, map_on_grid
from stages.reporting.pictures.curves import to_png
from stages.reporting.pictures.panels import WHITE, Canvas, axes_of, figure_for, legend, panel_width
from stages.reporting.pictures.regions import at_pixels, outline

# Paul Tol's muted scheme, distinguishable with any colour vision
CLUSTER_COLOURS = (
    *("#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE"),
    *("#882255", "#44AA99", "#999933", "#AA4499", "#DDDDDD"),
)
NO_CLUSTER = "#E69F00"  # same as for pixels chosen without regions
POINTS = (7.0, 9.0)  # across, typographic


def draw_picked_pixels(queries: Queries, data: Dataset, image: str) -> bytes:
    """The queried pixels in the colours of their clusters, with the regions they represent outlined.

    The pixels may be on a coarser grid than the image, which is drawn at its own size.
    """
    regions = open_input(queries, "superpixels", Superpixels)
    pixels = data.rgb(image)
    labels = map_on_grid(regions.labels(image), data.sizes[image])
    rows = np.flatnonzero(queries.image == queries.ids.index(image))
    chosen = np.zeros(regions.number(image), dtype=bool)
    chosen[queries.region[rows] - regions.rows[image].start] = True
    canvas = Canvas(pixels)
    canvas.line(labels, WHITE, 0.5, share=0.4)
    outline(canvas, np.where(at_pixels(chosen, labels, False), labels, -1), width=0.8, closed=True)
    figure = figure_for(pixels)
    (axes,) = axes_of(figure, 1)
    canvas.show(axes)
    side = np.sqrt(regions.region_sizes[queries.region[rows]].mean()) / queries.sizes[image][1]  # of the image's
    across = float(np.clip(side * panel_width(pixels) * 72 / 3, *POINTS))  # a third of a region
    numbered = mark_clusters(axes, queries, rows, data.sizes[image], across)
    axes.set_title(f"{image}: {len(rows)} pixels queried for their regions in round {queries.round}", fontsize=9)
    clusters = np.unique(queries.cluster[rows])
    if numbered:
        legend(figure, [Patch(facecolor="none", edgecolor="none", label="numbers beside the pixels: clusters")])
    elif clusters[-1] >= 0:
        handles = [
            Patch(facecolor=colour_of(number), edgecolor="0.5", linewidth=0.5, label=f"cluster {number}")
            for number in clusters.tolist()
        ]
        legend(figure, handles)
    return to_png(figure)


def colour_of(cluster: int) -> str:
    """The same in all plots of a run; colours repeat if there are more clusters."""
    return NO_CLUSTER if cluster < 0 else CLUSTER_COLOURS[cluster % len(CLUSTER_COLOURS)]


def mark_clusters(axes: Axes, queries: Queries, rows: np.ndarray, size: Size, across: float) -> bool:
    """Draws the pixels of ``rows`` on an image of ``size`` as dots of ``across`` points in their cluster colours.

    True if there are more clusters than colours: then the cluster numbers are beside the dots.
    """
    grid, cluster = queries.sizes[queries.ids[queries.image[rows[0]]]], queries.cluster[rows].tolist()
    y, x = (
        (place[rows] + 0.5) * side / cells - 0.5
        for place, side, cells in zip((queries.y, queries.x), size, grid, strict=True)
    )
    axes.scatter(x, y, s=across**2, c="black", linewidths=0, clip_on=False)
    colours = [colour_of(number) for number in cluster]
    axes.scatter(x, y, s=(0.75 * across) ** 2, c=colours, edgecolors="white", linewidths=across / 7, clip_on=False)
    if queries.cluster.max() < len(CLUSTER_COLOURS):
        return False
    for point_y, point_x, number in zip(y.tolist(), x.tolist(), cluster, strict=True):
        right, below = point_x < size[1] / 2, point_y < size[0] / 2  # of the point: where the image goes on
        axes.annotate(
            str(number),
            (point_x, point_y),
            (0.6 * across * (1 if right else -1), 0.6 * across * (-1 if below else 1)),
            textcoords="offset points",
            ha="left" if right else "right",
            va="top" if below else "bottom",
            fontsize=8,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )
    return True
