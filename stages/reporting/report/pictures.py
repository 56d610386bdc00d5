"""Images small enough to embed in a page."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from stages.images.image_files import image_file
from stages.pixels.grids import Size
from stages.pixels.void import VOID
from stages.reporting.pictures.panels import VERMILION, faded

WIDEST, WIDEST_OF_MANY, WIDEST_SHEET = 640, 320, 1000  # pixels
JPEG_QUALITY = 82
WHITE_FROM = 250
WIDE_SHARE = 0.5  # of a row that is not white: more than any text covers, so the row belongs to a panel


@dataclass(frozen=True)
class Picture:
    """An embedded image: a data URI, with its size in pixels and in bytes."""

    uri: str
    width: int
    height: int
    size: int


def encoded(pixels: np.ndarray, widest: int = WIDEST, exact: bool = False) -> Picture:
    """(H,W,3) u8 as JPEG no wider than ``widest``; ``exact``: as PNG with at most 256 colours, for class maps."""
    image = Image.fromarray(pixels)
    if image.width > widest:
        kind = Image.Resampling.NEAREST if exact else Image.Resampling.LANCZOS  # a mixed colour would not be a class
        image = image.resize((widest, max(1, round(image.height * widest / image.width))), kind)
    if exact:
        name, content = "png", to_bytes(indexed(np.array(image)), "PNG", optimize=True)
    else:
        name, content = "jpeg", to_bytes(image, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    uri = f"data:image/{name};base64,{base64.b64encode(content).decode('ascii')}"
    return Picture(uri, image.width, image.height, len(uri))


def indexed(pixels: np.ndarray) -> Image.Image:
    """(H,W,3) u8 of at most 256 colours as an image with a palette."""
    red, green, blue = np.moveaxis(pixels.astype(np.int32), -1, 0)
    packed, places = np.unique(red << 16 | green << 8 | blue, return_inverse=True)
    colours = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], -1).astype(np.uint8)
    image = Image.fromarray(places.reshape(pixels.shape[:2]).astype(np.uint8), "P")
    image.putpalette(colours.tobytes())
    return image


def to_bytes(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def decoded(png: bytes) -> np.ndarray:
    """PNG bytes -> (H,W,3) u8."""
    with image_file(io.BytesIO(png), ("PNG",)) as image:
        return np.array(image.convert("RGB"))


def panel_of(drawn: np.ndarray, size: Size) -> np.ndarray:
    """The image in a plot (H,W,3) u8, without title, legend, colour bar and margins; ``size`` is its height, width.

    If its topmost rows are white (a bright sky), its aspect ratio tells where they begin.
    """
    inked = drawn.min(2) < WHITE_FROM
    rows = longest(inked.mean(1) > WIDE_SHARE)
    if rows.stop == rows.start:
        return drawn
    columns = longest(inked[rows].mean(0) > WIDE_SHARE)
    height = round((columns.stop - columns.start) * size[0] / size[1])
    return drawn[max(0, min(rows.start, rows.stop - height)) : rows.stop, columns]


def longest(chosen: np.ndarray) -> slice:
    """The longest run of True in ``chosen`` (N,) bool; empty if there is none."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    starts, stops = edges[::2], edges[1::2]
    if not len(starts):
        return slice(0, 0)
    place = int((stops - starts).argmax())
    return slice(int(starts[place]), int(stops[place]))


def wrong_pixels(pixels: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The faded image with wrong pixels in vermilion and void in white: (H,W,3) u8.

    pixels (H,W,3) u8; predicted and truth (H,W) u8, truth 255 = void.
    """
    picture = faded(pixels)
    picture[(predicted != truth) & (truth != VOID)] = VERMILION
    picture[truth == VOID] = 255
    return picture
