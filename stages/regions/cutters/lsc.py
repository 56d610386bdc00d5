"""LSC superpixels (linear spectral clustering) of OpenCV-contrib."""

import numpy as np
from pydantic import Field

from stages.regions.cutters import CountSettings, cutter
from stages.regions.opencv import SMALLEST_SHARE, SMALLEST_SIDE, opencv, region_side
from stages.runtime.errors import BadInput


class LscSettings(CountSettings):
    """Settings of method lsc."""

    iterations: int = Field(10, ge=1, description="Number of iterations.")
    ratio: float = Field(0.075, ge=0, le=1, description="Weight of compactness against colour.")


@cutter("lsc", settings=LscSettings)
def lsc(pixels: np.ndarray, settings: LscSettings) -> np.ndarray:
    """Superpixels by linear spectral clustering of the colours in Lab, 8-connected.

    (H,W,3) u8 RGB -> (H,W) i32 (Li and Chen, CVPR 2015). BadInput for images that are too narrow.
    """
    height, width = pixels.shape[:2]
    side = region_side(height, width, settings.number(height, width), "LSC")
    while side >= SMALLEST_SIDE and height * width // side**2 * width < height:
        side -= 1  # at this size OpenCV gets 0 columns of regions, and divides by their number
    if side < SMALLEST_SIDE:
        raise BadInput(f"LSC cannot cut an image as narrow as {height} x {width} pixels. Use --method grid or slic.")
    with opencv() as cv2:
        lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
        machine = cv2.ximgproc.createSuperpixelLSC(lab, side, settings.ratio)
        machine.iterate(settings.iterations)
        machine.enforceLabelConnectivity(max(1, side**2 // SMALLEST_SHARE))  # pixels
        return np.asarray(machine.getLabels())
