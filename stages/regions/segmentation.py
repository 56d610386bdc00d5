"""An image cut into regions by its colours alone, or by its ground truth.

Maps are (H,W) int32 with ids 0..K-1, every id present; only the oracle leaves pixels out (-1).

OpenCV checks little here: sizes that it cannot cut end the process (a division by zero, a stray write, an endless loop)
instead of raising. So what it derives from the size is derived here first and refused where it would not work.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np

from stages.pixels.void import VOID
from stages.regions.parts import compact, connected_parts
from stages.runtime.errors import BadInput, StageFailed
from stages.settings.extract_superpixels import ExtractSettings

MOST_LEVELS = 10  # the largest that the settings admit
FEWEST_SEEDS = 10  # OpenCV raises smaller requests to this
SMALLEST_SIDE = 2  # of a region in slic and lsc, in pixels
SMALLEST_SHARE = 4  # slic, lsc: parts below a quarter of the mean size are joined to a neighbour, as OpenCV does itself
COLOURS = ("lab", "hsv", "equalised-hsv", "equalised-unit-hsv")


def require_ximgproc() -> Any:
    """The module cv2; BadInput when it is missing or lacks the superpixels."""
    remedy = "install opencv-contrib-python-headless and remove every other opencv wheel (they overwrite one another)."
    try:
        import cv2
    except ImportError as error:
        raise BadInput(f"Superpixels need OpenCV, which cannot be imported ({error}): {remedy}") from None
    if not hasattr(getattr(cv2, "ximgproc", None), "createSuperpixelSEEDS"):
        version = getattr(cv2, "__version__", "without a version")
        raise BadInput(f"The installed OpenCV {version} has no superpixels (cv2.ximgproc): {remedy}")
    return cv2


@contextmanager
def opencv() -> Iterator[Any]:
    """The module cv2 on one thread, its errors made into ours.

    One thread because its SLIC adds floats in the order in which threads end, and because the images run in parallel.
    """
    cv2 = require_ximgproc()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield cv2
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(error.err) from None
        raise StageFailed(f"OpenCV failed in {error.func}: {error.err}") from None
    finally:
        cv2.setNumThreads(threads)


def requested(height: int, width: int, settings: ExtractSettings) -> int:
    """How many regions to ask for in an image of this size."""
    if settings.region_pixels is None:
        return settings.count
    return max(1, height * width // settings.region_pixels)


def segment(image: np.ndarray, settings: ExtractSettings) -> np.ndarray:
    """The regions of an (H,W,3) u8 RGB image: (H,W) int32, ids 0..K-1, every pixel in one.

    For the methods seeds, slic, lsc and grid. BadInput where the method cannot cut an image of this size so finely.
    """
    height, width = image.shape[:2]
    count = requested(height, width, settings)
    match settings.method:
        case "seeds":
            labels = seeds(image, count, settings)
        case "slic":
            labels = slic(image, count, settings.iterations, settings.ruler)
        case "lsc":
            labels = lsc(image, count, settings.iterations, settings.ratio)
        case "grid":
            labels = grid(height, width, height * width / count)
        case method:
            raise ValueError(f"{method!r} does not cut an image by its colours")
    if settings.split_parts:
        return connected_parts(labels, 4)
    return compact(labels)


@dataclass(frozen=True)
class Blocks:
    """What OpenCV's SEEDS makes of a request: ``rows`` x ``columns`` finest blocks, halved ``levels`` - 1 times."""

    levels: int
    block_height: int
    block_width: int
    rows: int
    columns: int

    @property
    def slots(self) -> int:
        """Regions it starts from; some may lose all their pixels later."""
        return (self.rows >> (self.levels - 1)) * (self.columns >> (self.levels - 1))


def seeds_blocks(height: int, width: int, count: int, levels: int) -> Blocks | None:
    """OpenCV's arithmetic for ``count`` regions with ``levels`` levels, or None where that ends in nothing usable.

    In float32 as there, since a rounded square root decides between two grids. (adaptive_superpixel.md 2.1; OpenCV
    also raises the request to 10 regions and the levels to 2, and with a single level left it reads what it never
    wrote.)
    """
    across = int(np.sqrt(np.float32(max(count, FEWEST_SEEDS)) * np.float32(height) / np.float32(width)))
    along = across * width // height
    if across < 1 or along < 1:
        return None
    levels = max(levels, 2)
    cell_height, cell_width = np.float32(height) / np.float32(across), np.float32(width) / np.float32(along)
    while levels > 1 and min(cell_height, cell_width) < 1 << (levels - 1):
        levels -= 1
    if levels < 2:
        return None
    block_height, block_width = ceil(cell_height / (1 << (levels - 1))), ceil(cell_width / (1 << (levels - 1)))
    blocks = Blocks(levels, block_height, block_width, height // block_height, width // block_width)
    return blocks if blocks.slots else None


def fitting_blocks(height: int, width: int, count: int, levels: int | None) -> Blocks:
    """``seeds_blocks``; where ``levels`` is None, those with blocks of 2 pixels or more that come closest to ``count``.

    OpenCV rounds the blocks up and halves their grid down, so that many levels lose most of the regions of an image
    whose sides are no powers of two: 360x480 asked for 2048 gives 660 with 4 levels and 1728 with 2. BadInput if none
    fit.
    """
    wanted = range(MOST_LEVELS, 1, -1) if levels is None else [levels]
    plans = [plan for plan in (seeds_blocks(height, width, count, each) for each in wanted) if plan is not None]
    if not plans:
        raise BadInput(
            f"SEEDS cannot cut an image of {height} x {width} pixels into {max(count, FEWEST_SEEDS)} regions (its "
            f"smallest request is {FEWEST_SEEDS}): they need at least 2 x 2 pixels each; ask for fewer with --count or "
            f"--region-pixels, or take --method grid."
        )
    coarse = [plan for plan in plans if min(plan.block_height, plan.block_width) >= 2]
    return min(coarse, key=lambda plan: abs(plan.slots - count)) if coarse else plans[-1]  # ties: most levels


def seeds_floats(blocks: Blocks, bins: int) -> int:
    """How many float32 the histograms of the finest blocks take; the coarser levels add up to a third of that."""
    return blocks.rows * blocks.columns * (-(-(bins**3) // 16) * 16)


def seeds(image: np.ndarray, count: int, settings: ExtractSettings) -> np.ndarray:
    """SEEDS superpixels of (H,W,3) u8 RGB: (H,W) int32 slots, where slots that lost all their pixels are absent.

    OpenCV-contrib's implementation of Van den Bergh et al. (ECCV 2012). Colour, levels, bins, prior, double step and
    iterations come from the settings; equalised-hsv, 5, 10, 3, yes and 10 are the published ones.
    """
    height, width = image.shape[:2]
    blocks = fitting_blocks(height, width, count, settings.levels)
    if seeds_floats(blocks, settings.bins) >= 1 << 31:  # OpenCV addresses them with 32-bit integers
        raise BadInput(
            f"SEEDS with {settings.bins} bins and {blocks.levels} levels needs {seeds_floats(blocks, settings.bins)} "
            f"histogram bins for an image of {height} x {width} pixels, more than OpenCV can address: give fewer "
            f"--bins or fewer --levels."
        )
    with opencv() as cv2:
        colours = seeds_colours(cv2, image, settings.colour)
        machine = cv2.ximgproc.createSuperpixelSEEDS(
            width, height, 3, count, blocks.levels, settings.prior, settings.bins, settings.double_step
        )
        machine.iterate(colours, settings.iterations)
        return np.asarray(machine.getLabels())


def seeds_colours(cv2: Any, image: np.ndarray, colour: str) -> np.ndarray:
    """(H,W,3) u8 RGB as SEEDS gets it: Lab as uint8, the others as float32.

    hsv has all channels in [0,1]. equalised-hsv is the published chain (adaptive_superpixel.md 2.1): the hue stays in
    degrees, so that all but the first degree falls into SEEDS' last bin; equalised-unit-hsv divides it by 360.
    """
    match colour:
        case "lab":
            return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2LAB))
        case "hsv":
            return unit_hue(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV))
        case "equalised-hsv":
            return np.asarray(cv2.cvtColor(equalised(image).astype(np.float32), cv2.COLOR_RGB2HSV))
        case "equalised-unit-hsv":
            return unit_hue(cv2.cvtColor(equalised(image).astype(np.float32), cv2.COLOR_RGB2HSV))
        case _:
            raise ValueError(f"unknown colour {colour!r}; known are {', '.join(COLOURS)}")


def unit_hue(hsv: np.ndarray) -> np.ndarray:
    """(H,W,3) f32 with the hue in degrees -> with the hue in [0,1]."""
    return np.asarray(hsv / np.array([360, 1, 1], dtype=np.float32))


def equalised(image: np.ndarray) -> np.ndarray:
    """Every value replaced by the share of values up to it, over all channels together: u8 -> float64 in [0,1].

    What scikit-image's equalize_hist gives for integer images.
    """
    shares = np.cumsum(np.bincount(image.ravel(), minlength=256)) / image.size
    return shares[image]


def region_side(height: int, width: int, count: int, name: str) -> int:
    """Side of ``count`` squares over the image, as SLIC and LSC want it: not longer than the image's short side.

    BadInput for images narrower than the smallest region.
    """
    if min(height, width) < SMALLEST_SIDE:
        raise BadInput(
            f"{name} cannot cut an image of {height} x {width} pixels: both sides need at least {SMALLEST_SIDE} "
            f"pixels; take --method grid."
        )
    return max(SMALLEST_SIDE, min(round(sqrt(height * width / count)), height, width))


def slic(image: np.ndarray, count: int, iterations: int, ruler: float) -> np.ndarray:
    """SLIC superpixels of (H,W,3) u8 RGB in Lab: (H,W) int32, every one connected (OpenCV-contrib)."""
    height, width = image.shape[:2]
    side = region_side(height, width, count, "SLIC")
    with opencv() as cv2:
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
        machine = cv2.ximgproc.createSuperpixelSLIC(lab, cv2.ximgproc.SLIC, side, ruler)
        machine.iterate(iterations)
        machine.enforceLabelConnectivity(100 // SMALLEST_SHARE)  # percent of the mean size
        return np.asarray(machine.getLabels())


def lsc(image: np.ndarray, count: int, iterations: int, ratio: float) -> np.ndarray:
    """Linear spectral clustering of (H,W,3) u8 RGB in Lab: (H,W) int32, 8-connected (OpenCV-contrib)."""
    height, width = image.shape[:2]
    side = region_side(height, width, count, "LSC")
    while side >= SMALLEST_SIDE and height * width // side**2 * width < height:
        side -= 1  # OpenCV makes no column of regions at all of such a size, and divides by their number
    if side < SMALLEST_SIDE:
        raise BadInput(f"LSC cannot cut an image as narrow as {height} x {width} pixels: take --method grid or slic.")
    with opencv() as cv2:
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
        machine = cv2.ximgproc.createSuperpixelLSC(lab, side, ratio)
        machine.iterate(iterations)
        machine.enforceLabelConnectivity(max(1, side**2 // SMALLEST_SHARE))  # pixels
        return np.asarray(machine.getLabels())


def grid(height: int, width: int, pixels: float) -> np.ndarray:
    """Squares of about ``pixels`` pixels, numbered by row from the top left and clipped at the edges: (H,W) int32."""
    side = max(1, round(sqrt(pixels)))
    columns = ceil(width / side)
    rows, across = np.arange(height, dtype=np.int32) // side, np.arange(width, dtype=np.int32) // side
    return rows[:, None] * columns + across


def oracle(mask: np.ndarray) -> np.ndarray:
    """The 8-connected parts of every class: (H,W) u8 mask -> (H,W) int32; void (255) belongs to none and becomes -1.

    (adaptive_superpixel.md 2.2, recommended form: a class inside another keeps both.)
    """
    return connected_parts(np.where(mask == VOID, np.int16(-1), mask), 8)
