"""Encodes arrays as PNG, TIFF and JPEG."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stages.images.image_files import image_file
from stages.runtime.errors import BadInput

ABOUT, SOFTWARE = "alseg", 305  # a PNG's text, a TIFF's tag
FAST = 1  # little compression, for files that are read once


def png_bytes(pixels: np.ndarray, palette: np.ndarray | None = None, level: int = 6, about: str = "") -> bytes:
    """The PNG file of ``pixels``.

    (H,W) u8 grey or, with a ``palette`` (256,3) u8, its indices; (H,W,3) or (H,W,4) u8 colours. ``level`` is the
    compression, 0 to 9. ``about`` is kept in the file, for `about_image`.
    """
    text = PngInfo()
    if about:
        text.add_text(ABOUT, about)
    return encoded(pixels, palette, "PNG", compress_level=level, pnginfo=text)


def tiff_bytes(pixels: np.ndarray, palette: np.ndarray | None, tags: Mapping[int, Any], about: str) -> bytes:
    """The TIFF file of ``pixels`` as for `png_bytes`, compressed without loss, with further ``tags``."""
    return encoded(pixels, palette, "TIFF", compression="tiff_adobe_deflate", tiffinfo={**tags, SOFTWARE: about})


def jpeg_bytes(pixels: np.ndarray) -> bytes:
    """The JPEG file of ``pixels`` (H,W,3) u8, for looking at."""
    return encoded(pixels, None, "JPEG", quality=90)


def encoded(pixels: np.ndarray, palette: np.ndarray | None, form: str, **options: Any) -> bytes:
    picture, buffer = Image.fromarray(pixels), io.BytesIO()
    if palette is not None:
        picture.putpalette(palette.tobytes())  # makes it an image of palette indices
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def about_image(path: Path) -> str:
    """What `png_bytes` or `tiff_bytes` kept ``about`` the image in the file; empty for all other files."""
    try:
        with image_file(path, ("PNG", "TIFF")) as image:
            tags = getattr(image, "tag_v2", {})
            return str(image.info.get(ABOUT, tags.get(SOFTWARE, "")))
    except BadInput:
        return ""
