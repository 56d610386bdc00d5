"""Shared parts of the plots of images: figures, a canvas for drawing regions, legends."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy.ndimage import maximum_filter

from stages.artifacts.dataset import Dataset
from stages.pixels.void import VOID
from stages.reporting.colours import Colour

INCHES = (6.0, 12.0)  # width of a panel, for small and for large images
PIXELS_PER_INCH = 160  # of an image with a panel between the two
CANVAS_SIDE = 1024  # pixels
LINES_PER_INCH = 80  # a line of width 1 is this fraction of an inch
STRIPES_PER_INCH = 15  # pairs of them, across
NARROWEST_PER_INCH = 80  # narrowest stripes that can be told apart
PALEST, FADED_CONTRAST = 245.0, 0.35  # lighter than the greys of datasets' palettes
# Black, white and two of Okabe and Ito's colours; stripes, because a dataset's palette may contain any colour
WHITE, BLACK, YELLOW, VERMILION = (255, 255, 255), (0, 0, 0), (240, 228, 66), (213, 94, 0)
DARK_STRIPE, LIGHT_STRIPE = (90, 90, 90), (217, 217, 217)
VOID_STRIPES = (VERMILION, WHITE)


def panel_width(image: np.ndarray) -> float:
    """Inches; large images get larger panels, so that small regions stay visible."""
    least, most = INCHES
    return min(max(image.shape[1] / PIXELS_PER_INCH, least), most)


def figure_for(image: np.ndarray, panels: int = 1, rows: int = 1, bars: int = 0) -> Figure:
    """A figure with ``panels`` titled panels and ``bars`` colour bars in each of ``rows`` rows."""
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


def faded(pixels: np.ndarray) -> np.ndarray:
    """(...,3) u8 as a pale grey, from which any colour stands out."""
    grey = pixels.mean(-1, keepdims=True)
    return (PALEST - (PALEST - grey) * FADED_CONTRAST).clip(0, 255).astype(np.uint8).repeat(3, -1)


class Canvas:
    """An image on which regions are drawn. Small images are enlarged, so that lines are thinner than their pixels.

    Arguments have the image's size (H,W). Lines and stripes are equally wide on small and large images.
    """

    def __init__(self, image: np.ndarray):
        self.size = image.shape[:2]
        self.factor = -(-CANVAS_SIDE // max(self.size))
        self.inch = self.factor * image.shape[1] / panel_width(image)
        self.picture = self.enlarged(image)

    def enlarged(self, values: np.ndarray) -> np.ndarray:
        return values.repeat(self.factor, 0).repeat(self.factor, 1)

    def paint(self, where: np.ndarray, colours: np.ndarray, share: float) -> None:
        """Mixes ``colours`` (H,W,3) u8 into the pixels ``where`` (H,W) bool; share 1 replaces the image."""
        chosen = np.nonzero(self.enlarged(where))
        self.mix(chosen, self.enlarged(colours)[chosen], share)

    def mix(self, chosen: tuple[np.ndarray, ...], colours: np.ndarray, share: float) -> None:
        """Mixes ``colours`` (P,3) or (3,) into the pixels ``chosen`` (y and x, (P,) each) of the enlarged image."""
        mixed = self.picture[chosen] * (1 - share) + colours * share
        self.picture[chosen] = mixed.round().astype(np.uint8)

    def paint_classes(self, labels: np.ndarray, where: np.ndarray, palette: np.ndarray, share: float) -> None:
        """Draws classes ``labels`` (H,W) u8 at pixels ``where`` (H,W) bool; void as a class is striped, 255 skipped."""
        self.paint(where & (labels < len(palette)), colourise(labels, palette), share)
        self.hatch(where & (labels == len(palette)), VOID_STRIPES, share)

    def fade(self, where: np.ndarray) -> None:
        """Fades the pixels ``where`` (H,W) bool to a pale grey, on which any colour stands out."""
        chosen = self.enlarged(where)
        self.picture[chosen] = faded(self.picture[chosen])

    def line(
        self, labels: np.ndarray, colour: Colour, width: float = 1.0, closed: bool = False, share: float = 1.0
    ) -> None:
        """Draws the borders between the regions ``labels`` (H,W) int; closed: also along the image's edge, except for
        negative labels. ``share`` as for `paint`."""
        across = max(1, round(self.inch / LINES_PER_INCH * width))
        large = self.enlarged(labels)
        found = borders(large)
        if closed:
            for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
                found[edge] |= large[edge] >= 0
        chosen = np.nonzero(maximum_filter(found.view(np.uint8), across))
        self.mix(chosen, np.array(colour), share)

    def hatch(self, where: np.ndarray, colours: tuple[Colour, Colour], share: float = 1.0) -> None:
        """Covers the pixels ``where`` (H,W) bool with diagonal stripes of two colours; ``share`` as for `paint`."""
        self.stripe(where.astype(np.int8) - 1, [colours], np.full(1, self.stripe_width), share)

    def bands(self, regions: np.ndarray, sets: np.ndarray, palette: np.ndarray, share: float) -> None:
        """Covers each region of ``regions`` (H,W) int, -1 = none, with equal stripes of its classes.

        sets (n,C+1) bool, void last; each row has a class. Void is drawn as two thin stripes, see VOID_STRIPES.
        Stripes of small regions are narrower, so that all classes are visible.
        """
        table = np.concatenate([palette[:, None].repeat(2, 1), np.array([VOID_STRIPES])])  # (C+1,2,3): half stripes
        pixels = np.bincount(regions[regions >= 0], minlength=len(sets)) * self.factor**2
        widths = np.clip(np.sqrt(pixels) / sets.sum(1) / 2, self.inch / NARROWEST_PER_INCH, self.stripe_width)
        self.stripe(regions, [table[row].reshape(-1, 3) for row in sets], widths, share)

    def thin(self, where: np.ndarray) -> None:
        """Draws thin white lines over the pixels ``where`` (H,W) bool, so that most of their colour stays visible.

        The lines slope the opposite way to stripes.
        """
        apart = max(3, round(1.5 * self.stripe_width))
        y, x = np.nonzero(self.enlarged(where))
        lines = (x - y) % apart < apart // 3
        self.picture[y[lines], x[lines]] = WHITE

    @property
    def stripe_width(self) -> float:
        """Pixels, across."""
        return self.inch / STRIPES_PER_INCH / 2

    def stripe(
        self, regions: np.ndarray, colours: Sequence[npt.ArrayLike], widths: np.ndarray, share: float = 1.0
    ) -> None:
        """Covers region i of ``regions`` (H,W) int with diagonal stripes of ``colours[i]`` (k,3), widths (n,)."""
        found = [np.array(each, dtype=np.uint8) for each in colours]
        numbers = np.array([len(each) for each in found], dtype=np.int64)
        table = np.zeros((len(found), numbers.max(initial=1), 3), dtype=np.uint8)
        for row, each in enumerate(found):
            table[row, : len(each)] = each
        across = np.maximum(widths.round(), 1).astype(np.int64)
        large = self.enlarged(regions)
        y, x = np.nonzero(large >= 0)
        region = large[y, x]
        self.mix((y, x), table[region, (x + y) // across[region] % numbers[region]], share)

    def show(self, axes: Axes) -> None:
        """Draws the canvas on ``axes``, with the image's pixels as coordinates."""
        height, width = self.size
        axes.imshow(self.picture, extent=(-0.5, width - 0.5, height - 0.5, -0.5))


def stripes(colours: tuple[Colour, Colour], label: str, hatch: str = "//////") -> Patch:
    """The legend entry for pixels covered by ``Canvas.hatch``; hatch "\\\\" for ``Canvas.thin``."""
    front, back = map(rgb_text, colours)
    return Patch(facecolor=back, edgecolor=front, hatch=hatch, label=label, linewidth=0)


def rgb_text(colour: Colour) -> str:
    """As `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def class_legend(figure: Figure, data: Dataset, present: np.ndarray, more: Sequence[Patch] = ()) -> None:
    """Draws a legend of the ``present`` classes and ``more`` handles below the panels.

    Void as a class is striped, 255 white.
    """
    handles = [
        Patch(facecolor=data.palette[index] / 255, edgecolor="0.5", linewidth=0.5, label=data.classes[index])
        for index in present
        if index < len(data.classes)
    ]
    if VOID in present:
        handles.append(Patch(facecolor="white", edgecolor="0.5", label="void"))
    if len(data.classes) in present:
        handles.append(stripes(VOID_STRIPES, "void"))
    legend(figure, [*handles, *more])


def legend(figure: Figure, handles: Sequence[Patch]) -> None:
    """Draws ``handles`` below the panels, as many per row as fit."""
    columns = int(figure.get_figwidth())
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=7, frameon=False)
