"""A contact sheet of clusters: the encoder's input for some regions of each."""

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from stages.artifacts.clusters import Clusters
from stages.artifacts.dataset import Dataset
from stages.artifacts.opening import open_input
from stages.artifacts.superpixels import BOX, Superpixels
from stages.regions.patches import cut_patches
from stages.reporting.pictures.curves import DOTS, to_png
from stages.runtime.randomness import stream
from stages.settings.cluster_regions import KMeansSettings

PATCHES_PER_ROW = 16
SIDE, SPACE = 48, 4  # pixels
LABEL_WIDTH, TITLE_HEIGHT = 190, 32  # pixels for the labels


def draw_clusters(clusters: Clusters, data: Dataset, image: str | None) -> bytes:
    """A row of random patches per cluster with its number, regions and share; with ``image``, of this image only."""
    regions = open_input(clusters, "superpixels", Superpixels)
    rows = slice(0, regions.count) if image is None else regions.rows[image]
    of_regions = clusters.of_regions[rows]
    chosen = [
        np.sort(sample(np.flatnonzero(of_regions == number), clusters.header.seed, number)) + rows.start
        for number in range(clusters.number)
    ]
    default = KMeansSettings.model_fields["patch"].default  # random clusters have no patches of their own
    tiles = tiles_of(np.concatenate(chosen), regions, data, clusters.header.settings.get("patch", default))
    sheet = np.full((clusters.number * (SIDE + SPACE), PATCHES_PER_ROW * (SIDE + SPACE), 3), 255, dtype=np.uint8)
    for row, members in enumerate(chosen):
        for column, region in enumerate(members.tolist()):
            y, x = row * (SIDE + SPACE), column * (SIDE + SPACE)
            sheet[y : y + SIDE, x : x + SIDE] = tiles[region]
    where = f"{len(regions.ids)} images" if image is None else image
    by = "at random" if clusters.method == "random" else f"by {clusters.attributes['encoder']}"
    title = f"{clusters.number} clusters {by} of {len(of_regions)} regions in {where}"
    counts = np.bincount(of_regions, minlength=clusters.number)
    shares = 100 * counts / max(len(of_regions), 1)
    labels = [
        f"cluster {number}\n{count} regions, {share:.1f} %"
        for number, (count, share) in enumerate(zip(counts.tolist(), shares.tolist(), strict=True))
    ]
    return labelled_sheet(sheet, title, labels)


def sample(members: np.ndarray, seed: int, cluster: int) -> np.ndarray:
    """At most COLUMNS of ``members`` (n,), at random."""
    draw = stream(seed, "contact sheet", cluster)
    return draw.choice(members, PATCHES_PER_ROW, replace=False) if len(members) > PATCHES_PER_ROW else members


def tiles_of(chosen: np.ndarray, regions: Superpixels, data: Dataset, side: int) -> dict[int, np.ndarray]:
    """The patches of the regions ``chosen`` (global indices) as the encoder sees them: (TILE,TILE,3) u8 each."""
    tiles = {}
    images = regions.images_of(chosen)
    for index in np.unique(images):
        image = regions.ids[index]
        rows = regions.rows[image]
        boxes = {name: regions.read(f"regions/{name}", rows) for name in BOX}
        patches = cut_patches(data.rgb(image, regions.sizes[image]), regions.labels(image), boxes, side)
        for region in chosen[images == index].tolist():
            colours = (patches[region - rows.start].transpose(1, 2, 0) * 255).round().astype(np.uint8)
            kind = Image.Resampling.NEAREST if side <= SIDE else Image.Resampling.BICUBIC
            tiles[region] = np.array(Image.fromarray(colours).resize((SIDE, SIDE), kind))
    return tiles


def labelled_sheet(sheet: np.ndarray, title: str, labels: list[str]) -> bytes:
    """The sheet at its original size, with a label left of each row."""
    height, width = sheet.shape[:2]
    figure = Figure(figsize=((LABEL_WIDTH + width) / DOTS, (TITLE_HEIGHT + height) / DOTS), dpi=DOTS)
    axes = figure.add_axes(
        (LABEL_WIDTH / (LABEL_WIDTH + width), 0, width / (LABEL_WIDTH + width), height / (TITLE_HEIGHT + height))
    )
    axes.set_axis_off()
    axes.imshow(sheet, interpolation="nearest", aspect="auto")
    for row, label in enumerate(labels):
        middle = row * (SIDE + SPACE) + SIDE / 2
        axes.text(-10, middle, label, ha="right", va="center", fontsize=7)
    axes.set_title(title, fontsize=9, loc="left")
    return to_png(figure)
