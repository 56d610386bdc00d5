"""Contact sheets: thumbnails of many images below their captions, in titled sections."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from PIL import Image

from stages.artifacts.dataset import Dataset
from stages.pixels.grids import Size
from stages.reporting.pictures.curves import DOTS, to_png
from stages.reporting.pictures.panels import class_legend

TILE = 176  # pixels: the longer side of a thumbnail on the sheet
MARGIN, GAP = 12, 14  # pixels around the sheet, and between cells
BETWEEN = 2  # pixels between the thumbnails of one cell
LINE = 15  # pixels: height of a caption line
SECTION_TITLE, TITLE, LEGEND = 34, 40, 26  # pixels: height of section titles, the sheet's title, a legend row
SMALL = 7  # points: font size of captions
NARROWEST = 860  # pixels, so that titles have room


class Cell(NamedTuple):
    """Thumbnails (H,W,3) u8 of one image, side by side, below the lines of a caption."""

    caption: tuple[str, ...]
    pictures: list[np.ndarray]


class Section(NamedTuple):
    title: str
    cells: list[Cell]


def draw_sheet(
    title: str,
    sections: Sequence[Section],
    columns: int,
    data: Dataset | None = None,
    present: np.ndarray | None = None,
) -> bytes:
    """PNG bytes of ``sections`` below each other, ``columns`` cells in a row; empty ones are left out.

    With ``data``, a legend below shows the classes ``present`` (n,). Thumbnails keep their aspect ratio.
    """
    sections = [section for section in sections if section.cells]
    cells = [cell for section in sections for cell in section.cells]
    columns = min(columns, max(len(section.cells) for section in sections))
    pictures = max(len(cell.pictures) for cell in cells)
    lines = max(len(cell.caption) for cell in cells)
    tile_height, tile_width = tile_size(cells)
    across = pictures * (tile_width + BETWEEN) - BETWEEN
    text = lines * LINE + 4
    down = text + tile_height
    width = max(2 * MARGIN + columns * (across + GAP) - GAP, NARROWEST)
    height = TITLE + MARGIN
    for section in sections:
        height += SECTION_TITLE + -(-len(section.cells) // columns) * (down + GAP)
    legend_rows = 0 if present is None else -(-len(present) // max(int(width / DOTS), 1))
    height += legend_rows * LEGEND

    sheet = np.full((height, width, 3), 255, dtype=np.uint8)
    figure = Figure(figsize=(width / DOTS, height / DOTS), dpi=DOTS)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.text(MARGIN, TITLE / 2, title, fontsize=10, va="center", weight="bold")
    y = TITLE
    for section in sections:
        axes.text(MARGIN, y + SECTION_TITLE / 2, section.title, fontsize=9, va="center")
        y += SECTION_TITLE
        for number, cell in enumerate(section.cells):
            top = y + number // columns * (down + GAP)
            left = MARGIN + number % columns * (across + GAP)
            for line, words in enumerate(cell.caption):
                axes.text(left, top + line * LINE, shortened(words, across), fontsize=SMALL, va="top")
            for place, picture in enumerate(cell.pictures):
                small = fitted(picture, tile_height, tile_width)
                x = left + place * (tile_width + BETWEEN)
                sheet[top + text : top + text + len(small), x : x + small.shape[1]] = small
        y += -(-len(section.cells) // columns) * (down + GAP)
    axes.imshow(sheet, interpolation="nearest", aspect="auto", extent=(0, width, height, 0))
    if data is not None and present is not None:
        class_legend(figure, data, present)
    return to_png(figure)


def tile_size(cells: Sequence[Cell]) -> Size:
    """Height and width that fit each thumbnail with its longer side at TILE."""
    sizes = {picture.shape[:2] for cell in cells for picture in cell.pictures}
    fitting = [scaled_size(size, TILE, TILE) for size in sizes]
    return max(height for height, _ in fitting), max(width for _, width in fitting)


def scaled_size(size: tuple[int, ...], height: int, width: int) -> Size:
    """The largest (height, width) with the aspect ratio of ``size`` that fits into ``height`` and ``width``."""
    factor = min(height / size[0], width / size[1])
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def fitted(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H,W,3) u8 resized to fit: averaged if it shrinks, pixels repeated if it grows."""
    rows, columns = scaled_size(picture.shape, height, width)
    kind = Image.Resampling.BOX if rows < len(picture) else Image.Resampling.NEAREST
    return np.array(Image.fromarray(picture).resize((columns, rows), kind))


def shortened(text: str, width: int) -> str:
    """``text`` as a caption that fits into ``width`` pixels, with dots in its middle if it is too long."""
    found, left = text, len(text)
    while left and TextPath((0, 0), found, size=SMALL).get_extents().width * DOTS / 72 > 0.95 * width:
        left -= 1
        found = f"{text[: left - left // 2]}...{text[len(text) - left // 2 :]}"
    return found


def spread_out(number: int, most: int) -> np.ndarray:
    """At most ``most`` of the indices 0..number-1, evenly spread, including the first and the last."""
    return np.unique(np.linspace(0, number - 1, min(number, most)).round().astype(np.int64)) if number else np.arange(0)
