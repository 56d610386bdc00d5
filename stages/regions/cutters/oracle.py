"""Perfect regions, cut from the ground truth; only for simulation."""

import numpy as np

from stages.pixels.void import VOID
from stages.regions.components import connected_components
from stages.regions.cutters import cutter


@cutter("oracle", reads="mask")
def oracle(pixels: np.ndarray, settings: None) -> np.ndarray:
    """The 8-connected components of each class in the mask; void belongs to no region.

    Mask (H,W) u8 -> (H,W) i32 (adaptive_superpixel.md 2.2, recommended form: a class inside another keeps both).
    """
    return connected_components(np.where(pixels == VOID, np.int16(-1), pixels), 8)
