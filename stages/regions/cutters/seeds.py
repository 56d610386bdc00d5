"""SEEDS superpixels of OpenCV-contrib."""

from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

import numpy as np
from pydantic import Field

from stages.regions.cutters import CountSettings, cutter
from stages.regions.opencv import opencv
from stages.runtime.errors import BadInput

ColourSpace = Literal["lab", "hsv", "equalised-hsv", "equalised-unit-hsv"]
MOST_LEVELS = 10  # the largest number that the settings allow
FEWEST_SEEDS = 10  # OpenCV raises smaller requests to this


class SeedsSettings(CountSettings):
    """Settings of method seeds."""

    colour: ColourSpace = Field(
        "lab",
        description="Colour space; equalised-hsv is the published chain, which in effect ignores the hue, "
        "equalised-unit-hsv the same with the hue in 0 to 1.",
    )
    levels: int | None = Field(
        None,
        ge=2,
        le=MOST_LEVELS,
        description="Block levels (published: 5); none: the number that comes closest to the count.",
    )
    # even numbers put a border at neutral colours, which Lab needs: 6 bins beat 5 and 7 (docs/results/superpixels.md)
    bins: int = Field(6, ge=2, le=32, description="Histogram bins per channel (published: 10).")
    prior: int = Field(3, ge=0, le=5, description="Smoothness of region borders.")
    double_step: bool = Field(True, description="Run each block level twice.")
    iterations: int = Field(10, ge=1, description="Number of iterations.")


@cutter("seeds", settings=SeedsSettings)
def seeds(pixels: np.ndarray, settings: SeedsSettings) -> np.ndarray:
    """SEEDS superpixels of the colours, from blocks whose borders move until each holds few colours.

    (H,W,3) u8 RGB -> (H,W) i32; ids that lost all their pixels are absent. Van den Bergh et al., ECCV 2012; published:
    equalised-hsv, 5 levels, 10 bins, prior 3, double step, 10 iterations. BadInput for images too small for the count.
    """
    height, width = pixels.shape[:2]
    count = settings.number(height, width)
    blocks = fitting_blocks(height, width, count, settings.levels)
    if seeds_floats(blocks, settings.bins) >= 1 << 31:  # OpenCV addresses them with 32-bit integers
        raise BadInput(
            f"SEEDS with {settings.bins} bins and {blocks.levels} levels needs {seeds_floats(blocks, settings.bins)} "
            f"histogram bins for an image of {height} x {width} pixels, more than OpenCV can address. Lower --bins or "
            "--levels."
        )
    with opencv() as cv2:
        colours = seeds_colours(cv2, pixels, settings.colour)
        machine = cv2.ximgproc.createSuperpixelSEEDS(
            width, height, 3, count, blocks.levels, settings.prior, settings.bins, settings.double_step
        )
        machine.iterate(colours, settings.iterations)
        return np.asarray(machine.getLabels())


@dataclass(frozen=True)
class Blocks:
    """What OpenCV's SEEDS derives from a request: ``rows`` x ``columns`` finest blocks, halved ``levels`` - 1 times."""

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
    """OpenCV's arithmetic for ``count`` regions with ``levels`` levels, or None if the result is not usable.

    In float32 as in OpenCV, since a rounded square root decides between two grids. (adaptive_superpixel.md 2.1; OpenCV
    also raises the request to 10 regions and the levels to 2, and with a single level left it reads memory that it
    never wrote.)
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
    """``seeds_blocks``; if ``levels`` is None, of those with blocks of 2 pixels or more the closest to ``count``.

    OpenCV rounds the blocks up and halves their grid down, so that many levels lose most of the regions of an image
    whose sides are not powers of two: of 2048 regions in 360x480 pixels, 660 are left with 4 levels and 1728 with 2.
    BadInput if no level fits.
    """
    wanted = range(MOST_LEVELS, 1, -1) if levels is None else [levels]
    plans = [plan for plan in (seeds_blocks(height, width, count, each) for each in wanted) if plan is not None]
    if not plans:
        raise BadInput(
            f"SEEDS cannot cut an image of {height} x {width} pixels into {max(count, FEWEST_SEEDS)} regions of at "
            f"least 2 x 2 pixels (its minimum is {FEWEST_SEEDS} regions). Lower --count, raise --region-pixels, or use "
            "--method grid."
        )
    coarse = [plan for plan in plans if min(plan.block_height, plan.block_width) >= 2]
    return min(coarse, key=lambda plan: abs(plan.slots - count)) if coarse else plans[-1]  # ties: most levels


def seeds_floats(blocks: Blocks, bins: int) -> int:
    """Number of float32 in the histograms of the finest blocks; the coarser levels add up to a third of that."""
    return blocks.rows * blocks.columns * (-(-(bins**3) // 16) * 16)


def seeds_colours(cv2: Any, image: np.ndarray, colour: ColourSpace) -> np.ndarray:
    """(H,W,3) u8 RGB as SEEDS gets it: Lab as u8, the others as f32.

    hsv has all channels in [0,1]. equalised-hsv is the published chain (adaptive_superpixel.md 2.1): the hue stays in
    degrees, so that all but the first degree falls into SEEDS' last bin; equalised-unit-hsv divides it by 360.
    """
    if colour == "lab":
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2LAB))
    scaled = image.astype(np.float32) / 255 if colour == "hsv" else equalised(image).astype(np.float32)
    hsv = np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2HSV))
    return hsv if colour == "equalised-hsv" else hsv / np.array([360, 1, 1], dtype=np.float32)


def equalised(image: np.ndarray) -> np.ndarray:
    """Each value replaced by the share of values up to it, over all channels together: u8 -> f64 in [0,1].

    Equals scikit-image's equalize_hist for integer images.
    """
    shares = np.cumsum(np.bincount(image.ravel(), minlength=256)) / image.size
    return shares[image]
