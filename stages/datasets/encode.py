"""Encodes arrays as PNG."""

import io

import numpy as np
from PIL import Image

FAST = 1  # little compression, for files that are read once


def png_bytes(pixels: np.ndarray, palette: np.ndarray | None = None, level: int = 6) -> bytes:
    """The PNG file of ``pixels``.

    (H,W) u8 grey or, with a ``palette`` (256,3) u8, its indices; (H,W,3) or (H,W,4) u8 colours. ``level`` is the
    compression, 0 to 9.
    """
    picture, buffer = Image.fromarray(pixels), io.BytesIO()
    if palette is not None:
        picture.putpalette(palette.tobytes())  # makes it an image of palette indices
    picture.save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()
