"""SLIC superpixels of OpenCV-contrib."""

import numpy as np
from pydantic import Field

from stages.regions.cutters import CountSettings, cutter
from stages.regions.opencv import SMALLEST_SHARE, opencv, region_side


class SlicSettings(CountSettings):
    """Settings of method slic."""

    iterations: int = Field(10, ge=1, description="Number of iterations.")
    ruler: float = Field(10.0, gt=0, description="Weight of compactness against colour.")


@cutter("slic", settings=SlicSettings)
def slic(pixels: np.ndarray, settings: SlicSettings) -> np.ndarray:
    """SLIC superpixels of the colours in Lab, all of them connected.

    (H,W,3) u8 RGB -> (H,W) i32 (Achanta et al., PAMI 2012). BadInput for images with a side of one pixel.
    """
    height, width = pixels.shape[:2]
    side = region_side(height, width, settings.number(height, width), "SLIC")
    with opencv() as cv2:
        lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
        machine = cv2.ximgproc.createSuperpixelSLIC(lab, cv2.ximgproc.SLIC, side, settings.ruler)
        machine.iterate(settings.iterations)
        machine.enforceLabelConnectivity(100 // SMALLEST_SHARE)  # percent of the mean size
        return np.asarray(machine.getLabels())
