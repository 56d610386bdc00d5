"""Small pictures of queries, for the grid of answers."""

import numpy as np
from PIL import Image, ImageDraw

from stages.answering.browser.masks import MaskFiles
from stages.answering.questions import Questions
from stages.datasets.encode import jpeg_bytes
from stages.pixels.grids import map_on_image
from stages.pixels.void import VOID

SIZE = (192, 256)  # height, width
CONTEXT = 0.3  # share of the image's shorter side that is visible around a pixel ...
FEWEST_PIXELS = 64  # ... and the smallest number of pixels
MARGIN = 1.5  # size of the visible part, in sizes of the region's box
SHADE = 0.45  # of what is not in the region
OPACITY = 0.5  # of a mask
RING = 11  # radius


def thumbnail(questions: Questions, query: int, masks: MaskFiles | None = None, digest: str = "") -> bytes:
    """The queried pixel or region with what surrounds it, or the whole image, as JPEG; with the mask ``digest``."""
    image = questions.image(query)
    pixels = questions.data.rgb(image)
    if masks is not None and digest:
        pixels = with_mask(pixels, masks.read(query, digest), questions)
    point = questions.middle(query)
    if point is None:
        return jpeg_bytes(drawn(pixels, (0, 0, *pixels.shape[:2])))
    if questions.regions is not None:
        inside = map_on_image(region_map(questions, query), (pixels.shape[0], pixels.shape[1]))
        pixels = np.where(inside[..., None], pixels, (pixels * SHADE).astype(np.uint8))
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        middle = (rows[0] + rows[-1] + 1) / 2, (columns[0] + columns[-1] + 1) / 2
        side = MARGIN * max(len(rows), len(columns) * SIZE[0] / SIZE[1])
    else:
        middle, side = point, CONTEXT * min(pixels.shape[:2])
    window = around(middle, max(side, FEWEST_PIXELS), pixels.shape[:2])
    found = drawn(pixels, window)
    if questions.regions is None:
        found = ringed(found, point, window)
    return jpeg_bytes(found)


def region_map(questions: Questions, query: int) -> np.ndarray:
    """(h,w) bool of the region's pixels on the grid."""
    size = questions.queries.sizes[questions.image(query)]
    found = np.zeros(size, dtype=bool)
    found.ravel()[questions.area(query).pixels(np.zeros(1, dtype=np.int64))[0]] = True
    return found


def with_mask(pixels: np.ndarray, mask: np.ndarray, questions: Questions) -> np.ndarray:
    """An image (H,W,3) u8 under a mask in the colours of the classes."""
    if mask.shape != pixels.shape[:2]:
        mask = map_on_image(mask, (pixels.shape[0], pixels.shape[1]))
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[: len(questions.data.palette)] = questions.data.palette
    mixed = (pixels * (1 - OPACITY) + colours[mask] * OPACITY).astype(np.uint8)
    return np.where((mask < VOID)[..., None], mixed, pixels)


def around(middle: tuple[float, float], height: float, size: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The window (top, left, bottom, right) around a point with the aspect of a thumbnail, moved into the image."""
    window = []
    for place, length, side in zip(middle, (height, height * SIZE[1] / SIZE[0]), size, strict=True):
        length = min(round(length), side)
        first = min(max(round(place - length / 2), 0), side - length)
        window.append((first, first + length))
    (top, bottom), (left, right) = window
    return top, left, bottom, right


def scale_of(window: tuple[int, int, int, int]) -> float:
    top, left, bottom, right = window
    return min(SIZE[0] / (bottom - top), SIZE[1] / (right - left))


def drawn(pixels: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    """The part of an image in ``window``, at the size of a thumbnail."""
    top, left, bottom, right = window
    by = scale_of(window)
    size = max(1, round((right - left) * by)), max(1, round((bottom - top) * by))
    return np.asarray(Image.fromarray(pixels[top:bottom, left:right]).resize(size, Image.Resampling.BILINEAR))


def ringed(picture: np.ndarray, point: tuple[float, float], window: tuple[int, int, int, int]) -> np.ndarray:
    """A white ring in black around the queried pixel."""
    by = scale_of(window)
    y, x = (point[0] - window[0]) * by, (point[1] - window[1]) * by
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    for colour, width in (("black", 4), ("white", 2)):
        extra = width // 2
        box = (x - RING - extra, y - RING - extra, x + RING + extra, y + RING + extra)
        pen.ellipse(box, outline=colour, width=width)
    return np.asarray(canvas)
