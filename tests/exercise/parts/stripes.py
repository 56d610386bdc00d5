"""A cutter: vertical stripes."""

import numpy as np
from pydantic import Field

from stages.regions.cutters import cutter
from stages.settings.base import PartSettings


class StripeSettings(PartSettings):
    stripe_width: int = Field(16, ge=1, description="Width of a stripe in pixels.")


@cutter("stripes", settings=StripeSettings)
def stripes(pixels, settings):
    """Vertical stripes of equal width."""
    height, width = pixels.shape[:2]
    return np.broadcast_to(np.arange(width) // settings.stripe_width, (height, width))
