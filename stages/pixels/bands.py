"""Images of other bands than red, green and blue."""

from collections.abc import Callable, Sequence

import numpy as np


def by_band(image: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``change`` of an image (H,W,3) u8, or of each band (H,W) of an image (H,W,B), stacked (H',W',B).

    Libraries of images take three channels, or one; of four they take the last for transparency.
    """
    if image.shape[2] == 3:
        return change(image)
    return np.stack([change(np.ascontiguousarray(band)) for band in np.moveaxis(image, 2, 0)], 2)


def shown_bands(image: np.ndarray, places: Sequence[int] | None) -> np.ndarray:
    """(H,W,B) as (H,W,3) to look at: the bands at ``places``, otherwise the first three, or the first as grey."""
    if places is None and image.shape[2] == 3:
        return image
    return np.ascontiguousarray(image[..., list(places or ((0, 1, 2) if image.shape[2] > 2 else (0, 0, 0)))])
