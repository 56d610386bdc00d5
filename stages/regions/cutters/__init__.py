"""Ways to cut an image into regions, one file each; the decorator `cutter` registers them.

A cutter outside the project is one file, used with ``--plugin stripes.py --method stripes --stripe-width 8``, or a
package with an entry point in the group ``alseg.cutters``::

    import numpy as np
    from pydantic import Field

    from stages.regions.cutters import cutter
    from stages.settings.base import PartSettings


    class StripeSettings(PartSettings):
        stripe_width: int = Field(16, ge=1, description="Width of a stripe in pixels.")


    @cutter("stripes", settings=StripeSettings)
    def stripes(pixels: np.ndarray, settings: StripeSettings) -> np.ndarray:
        \"\"\"Vertical stripes.\"\"\"
        height, width = pixels.shape[:2]
        return np.broadcast_to(np.arange(width) // settings.stripe_width, (height, width))

A cutter runs in worker processes, on one image at a time. Its ids may have gaps and its regions need not be
connected: `stages.regions.cut.cut` renumbers the ids and, with ``split_parts``, splits the regions.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from pydantic import Field

from stages.runtime.parts import CUTTERS
from stages.settings.base import PartSettings

Cutter = Callable[[np.ndarray, Any], np.ndarray]


def cutter(
    name: str, *, settings: type[PartSettings] | None = None, reads: Literal["image", "mask"] = "image"
) -> Callable[[Cutter], Cutter]:
    """Registers ``function(pixels, settings) -> labels`` as the cutter ``name``.

    pixels (H,W,3) u8 RGB, or with ``reads="mask"`` (simulation only) the mask (H,W) u8, 255 = void. settings: an
    instance of the model ``settings``, None without one. labels (H,W) of any integer type, negative = no region.
    The first sentence of the function's docstring describes it in the documentation. BadInput for a name that is taken.
    """
    return CUTTERS.register(name, settings=settings, reads=reads)


class CountSettings(PartSettings):
    """How many regions to cut an image into."""

    count: int = Field(2048, ge=1, description="Number of regions per image.")
    region_pixels: int | None = Field(
        None, ge=1, description="Mean pixels per region; replaces --count by a number that follows from the image size."
    )

    def number(self, height: int, width: int) -> int:
        """Regions to cut an image of this size into."""
        if self.region_pixels is None:
            return self.count
        return max(1, height * width // self.region_pixels)
