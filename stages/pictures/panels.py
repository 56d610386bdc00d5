"""What pictures of images share: figures, a canvas on which regions are drawn, legends."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy.ndimage import maximum_filter

from stages.artifacts.dataset import VOID, Dataset

INCHES = (6.0, 12.0)  # width of a panel, for small and for large images
PIXELS_PER_INCH = 160  # of an image whose panel lies between the two
CANVAS_SIDE = 1024  # pixels
LINES_PER_INCH = 80  # a line of width 1 is this part of an inch
STRIPES_PER_INCH = 15
PALEST, FADED_CONTRAST = 245.0, 0.35  # lighter than the greys of datasets' palettes
Colour = tuple[int, int, int]
# Black, white and two of Okabe and Ito's colours; stripes, because a dataset's palette may hold any colour
WHITE, BLACK, YELLOW, VERMILION = (255, 255, 255), (0, 0, 0), (240, 228, 66), (213, 94, 0)
VOID_STRIPES = (VERMILION, WHITE)


def panel_width(image: np.ndarray) -> float:
    """Inches; large images get larger panels, so that small regions stay visible."""
    least, most = INCHES
    return min(max(image.shape[1] / PIXELS_PER_INCH, least), most)


def figure_for(image: np.ndarray, panels: int = 1, rows: int = 1, bars: int = 0) -> Figure:
    """A figure for ``panels`` pictures and ``bars`` colour bars in each of ``rows`` rows, with a title each."""
    height, width = image.shape[:2]
    side = panel_width(image)
    size = (panels * side + bars * 0.8, rows * (side * height / width + 0.25) + 0.5)
    return Figure(figsize=size, layout="constrained")


def axes_of(figure: Figure, panels: int, rows: int = 1) -> list[Axes]:
    """The panels of a figure, row by row, without axes."""
    found = list(figure.subplots(rows, panels, squeeze=False).ravel())
    for axes in found:
        axes.set_axis_off()
    return found


def colourise(mask: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """(H,W) u8 class map -> (H,W,3) u8; void is white. ``palette`` is (C,3) u8."""
    table = np.full((256, 3), 255, dtype=np.uint8)
    table[: len(palette)] = palette
    return table[mask]


def borders(labels: np.ndarray) -> np.ndarray:
    """(H,W) bool: the pixel's region differs from that of its right or lower neighbour. labels (H,W) int."""
    found = np.zeros(labels.shape, dtype=bool)
    found[:, :-1] = labels[:, 1:] != labels[:, :-1]
    found[:-1] |= labels[1:] != labels[:-1]
    return found


class Canvas:
    """An image on which regions are drawn. Small images are enlarged, so that lines are thin beside their pixels.

    Arguments are of the image's size (H,W). Lines and stripes are as wide on small images as on large ones.
    """

    def __init__(self, image: np.ndarray):
        self.size = image.shape[:2]
        self.factor = -(-CANVAS_SIDE // max(self.size))
        self.inch = self.factor * image.shape[1] / panel_width(image)
        self.picture = self.enlarged(image)

    def enlarged(self, values: np.ndarray) -> np.ndarray:
        return values.repeat(self.factor, 0).repeat(self.factor, 1)

    def paint(self, where: np.ndarray, colours: np.ndarray, share: float) -> None:
        """Mixes ``colours`` (H,W,3) u8 into the pixels ``where`` (H,W) bool; share 1 covers what was there."""
        chosen = self.enlarged(where)
        mixed = self.picture[chosen] * (1 - share) + self.enlarged(colours)[chosen] * share
        self.picture[chosen] = mixed.round().astype(np.uint8)

    def fade(self, where: np.ndarray) -> None:
        """Turns the pixels ``where`` (H,W) bool into a pale grey, from which any colour stands out."""
        chosen = self.enlarged(where)
        grey = self.picture[chosen].mean(1, keepdims=True)
        self.picture[chosen] = (PALEST - (PALEST - grey) * FADED_CONTRAST).clip(0, 255).astype(np.uint8)

    def line(self, labels: np.ndarray, colour: Colour, width: float = 1.0, closed: bool = False) -> None:
        """Draws the borders between the regions ``labels`` (H,W) int; closed: also where they meet the image's edge,
        but for negative ones."""
        across = max(1, round(self.inch / LINES_PER_INCH * width))
        large = self.enlarged(labels)
        found = borders(large)
        if closed:
            for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
                found[edge] |= large[edge] >= 0
        self.picture[maximum_filter(found.view(np.uint8), across).view(bool)] = colour

    def hatch(self, where: np.ndarray, colours: tuple[Colour, Colour]) -> None:
        """Covers the pixels ``where`` (H,W) bool with diagonal stripes of two colours."""
        half = max(1, round(self.inch / STRIPES_PER_INCH / 2))
        y, x = np.nonzero(self.enlarged(where))
        self.picture[y, x] = np.where(((x + y) // half % 2 == 0)[:, None], *colours)

    def show(self, axes: Axes) -> None:
        """Draws it on ``axes``, whose coordinates are the image's pixels."""
        height, width = self.size
        axes.imshow(self.picture, extent=(-0.5, width - 0.5, height - 0.5, -0.5))


def stripes(colours: tuple[Colour, Colour], label: str) -> Patch:
    """The legend's entry for what ``Canvas.hatch`` covers."""
    front, back = ("#{:02x}{:02x}{:02x}".format(*colour) for colour in colours)
    return Patch(facecolor=back, edgecolor=front, hatch="//////", label=label, linewidth=0)


def class_legend(figure: Figure, data: Dataset, present: np.ndarray, more: Sequence[Patch] = ()) -> None:
    """The classes that occur, and ``more`` handles, below the picture."""
    handles = [
        Patch(facecolor=data.palette[index] / 255, edgecolor="0.5", linewidth=0.5, label=data.classes[index])
        for index in present
        if index != VOID
    ]
    if VOID in present:
        handles.append(Patch(facecolor="white", edgecolor="0.5", label="void"))
    legend(figure, [*handles, *more])


def legend(figure: Figure, handles: Sequence[Patch]) -> None:
    """``handles`` below the picture, as many in a row as it is wide."""
    columns = int(figure.get_figwidth())
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=7, frameon=False)
