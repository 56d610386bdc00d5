"""A contact sheet of clusters: what the encoder saw of some regions of each."""

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from stages.artifacts.clusters import Clusters
from stages.artifacts.dataset import Dataset
from stages.artifacts.opening import open_input
from stages.artifacts.superpixels import Superpixels
from stages.regions.patches import BOX, cut_patches
from stages.reporting.pictures.curves import to_png
from stages.runtime.randomness import stream

COLUMNS = 16
TILE, GAP = 48, 4  # pixels
LEFT, TOP = 190, 32  # pixels for what is written
DOTS = 120  # per inch, as `to_png` writes them


def draw_clusters(clusters: Clusters, data: Dataset, image: str | None) -> bytes:
    """A row of random patches per cluster with its number, regions and share; of one image where it is given."""
    regions = open_input(clusters, "superpixels", Superpixels)
    rows = slice(0, regions.count) if image is None else regions.rows[image]
    of_regions = clusters.of_regions[rows]
    chosen = [
        np.sort(sample(np.flatnonzero(of_regions == number), clusters.header.seed, number)) + rows.start
        for number in range(clusters.number)
    ]
    tiles = tiles_of(np.concatenate(chosen), regions, data, clusters.header.settings["patch"])
    sheet = np.full((clusters.number * (TILE + GAP), COLUMNS * (TILE + GAP), 3), 255, dtype=np.uint8)
    for row, members in enumerate(chosen):
        for column, region in enumerate(members.tolist()):
            y, x = row * (TILE + GAP), column * (TILE + GAP)
            sheet[y : y + TILE, x : x + TILE] = tiles[region]
    where = f"{len(regions.ids)} images" if image is None else image
    by = "at random" if clusters.method == "random" else f"by {clusters.attributes['encoder']}"
    title = f"{clusters.number} clusters {by} of {len(of_regions)} regions in {where}"
    counts = np.bincount(of_regions, minlength=clusters.number)
    shares = 100 * counts / max(len(of_regions), 1)
    labels = [
        f"cluster {number}\n{count} regions, {share:.1f} %"
        for number, (count, share) in enumerate(zip(counts.tolist(), shares.tolist(), strict=True))
    ]
    return drawn(sheet, title, labels)


def sample(members: np.ndarray, seed: int, cluster: int) -> np.ndarray:
    """At most COLUMNS of ``members`` (n,), at random."""
    draw = stream(seed, "contact sheet", cluster)
    return draw.choice(members, COLUMNS, replace=False) if len(members) > COLUMNS else members


def tiles_of(chosen: np.ndarray, regions: Superpixels, data: Dataset, side: int) -> dict[int, np.ndarray]:
    """The patches of the regions ``chosen`` (global indices) as the encoder sees them: (TILE,TILE,3) u8 each."""
    tiles = {}
    images = regions.images_of(chosen)
    for index in np.unique(images):
        image = regions.ids[index]
        rows = regions.rows[image]
        boxes = {name: regions.read(f"regions/{name}", rows) for name in BOX}
        patches = cut_patches(data.image(image, regions.sizes[image]), regions.labels(image), boxes, side)
        for region in chosen[images == index].tolist():
            colours = (patches[region - rows.start].transpose(1, 2, 0) * 255).round().astype(np.uint8)
            kind = Image.Resampling.NEAREST if side <= TILE else Image.Resampling.BICUBIC
            tiles[region] = np.array(Image.fromarray(colours).resize((TILE, TILE), kind))
    return tiles


def drawn(sheet: np.ndarray, title: str, labels: list[str]) -> bytes:
    """The sheet pixel by pixel, a label left of every row."""
    height, width = sheet.shape[:2]
    figure = Figure(figsize=((LEFT + width) / DOTS, (TOP + height) / DOTS), dpi=DOTS)
    axes = figure.add_axes((LEFT / (LEFT + width), 0, width / (LEFT + width), height / (TOP + height)))
    axes.set_axis_off()
    axes.imshow(sheet, interpolation="nearest", aspect="auto")
    for row, label in enumerate(labels):
        middle = row * (TILE + GAP) + TILE / 2
        axes.text(-10, middle, label, ha="right", va="center", fontsize=7)
    axes.set_title(title, fontsize=9, loc="left")
    return to_png(figure)
