"""Regions as small square images, the input of a feature network (madbal.md 3).

A patch is the region's tight box in which every pixel outside the region has the region's mean colour, resized to a
square by a bicubic kernel, separably, from pixel centres, without antialiasing and ignoring the box's aspect ratio;
taps beyond the box read its border. The kernel is Keys' (a = -0.5) or OpenCV's (a = -0.75).

Nothing is resized box by box. The kernel's weights sum to 1, so the sum over the taps is

    mean + sum(weight * inside * (colour - mean)) = mean * (1 - sum(weight * inside)) + sum(weight * inside * colour)

and each of the 4 x 4 taps of all cells of all patches is one lookup in the image, whatever the regions' sizes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

Bicubic = Literal["keys", "opencv"]
COEFFICIENTS: dict[Bicubic, float] = {"keys": -0.5, "opencv": -0.75}
TAPS = 4
CHUNK_CELLS = 1 << 15  # arrays of this many cells stay in a core's cache


@dataclass(frozen=True)
class PatchTask:
    """The arguments of `cut_patches` for one image."""

    image: np.ndarray
    labels: np.ndarray
    boxes: Mapping[str, np.ndarray]
    side: int
    bicubic: Bicubic = "keys"


def cut_task(task: PatchTask) -> np.ndarray:
    """The patches of one image; runs in worker processes."""
    return cut_patches(task.image, task.labels, task.boxes, task.side, task.bicubic)


def cut_patches(
    image: np.ndarray,
    labels: np.ndarray,
    boxes: Mapping[str, np.ndarray],
    side: int,
    bicubic: Bicubic = "keys",
) -> np.ndarray:
    """The patches of K regions: (K,3,side,side) f32.

    image (H,W,3) u8 RGB on the regions' grid; labels (H,W) i32, region ids 0..K-1, -1 = no region; boxes ``y0``,
    ``x0``, ``y1``, ``x1``, (K,) int each, inclusive (`graph.region_table`). Values beyond 0 and 1,
    which the kernel can produce, are clipped with keys and stay with opencv, as in the public code. A region that fills
    a box of side x side is the crop, bit for bit.
    """
    count, width = len(boxes["y0"]), labels.shape[1]
    mean = mean_colours(image, labels, count)
    packed = packed_pixels(image, labels)
    rows, row_weights = taps(boxes["y0"], boxes["y1"], side, bicubic)
    columns, column_weights = taps(boxes["x0"], boxes["x1"], side, bicubic)
    rows *= width
    patches = np.empty((count, 3, side, side), dtype=np.float32)
    step = max(1, CHUNK_CELLS // side**2)
    for start in range(0, count, step):
        part = slice(start, min(start + step, count))
        number = part.stop - start
        regions = np.arange(start, part.stop)[:, None, None]
        sums = np.zeros((4, number, side, side), dtype=np.float32)  # of red, green, blue and of the weights inside
        for row in range(TAPS):
            along = np.zeros_like(sums)
            for column in range(TAPS):
                found = packed.take(rows[part, :, None, row] + columns[part, None, :, column])
                weight = np.where(found >> 24 == regions, column_weights[part, None, :, column], np.float32(0))
                colours = found.astype(np.int32)  # the low bits
                along[0] += weight * (colours >> 16 & 255)
                along[1] += weight * (colours >> 8 & 255)
                along[2] += weight * (colours & 255)
                along[3] += weight
            along *= row_weights[part, :, None, row]
            sums += along
        rest = mean[part].T[:, :, None, None] * (1 - sums[3])
        patches[part] = (sums[:3] / 255 + rest).swapaxes(0, 1)
    return patches.clip(0, 1, out=patches) if bicubic == "keys" else patches


def mean_colours(image: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """(K,3) f32 mean colour of each region in 0..1; image (H,W,3) u8, labels (H,W) i32, -1 = no region."""
    bins = labels.ravel() + 1
    size = np.bincount(bins, minlength=count + 1).clip(min=1)
    # sums of u8 are exact in float64
    sums = [np.bincount(bins, weights=image[..., channel].ravel(), minlength=count + 1) for channel in range(3)]
    return (np.stack(sums, 1)[1:] / size[1:, None] / 255).astype(np.float32)


def packed_pixels(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(H*W,) i64: region, red, green and blue of each pixel in one number, so that a tap is one lookup."""
    packed = labels.astype(np.int64) << 24
    for channel, shift in enumerate((16, 8, 0)):
        packed |= image[..., channel].astype(np.int64) << shift
    return packed.ravel()


def taps(first: np.ndarray, last: np.ndarray, side: int, bicubic: Bicubic = "keys") -> tuple[np.ndarray, np.ndarray]:
    """The pixels that each of ``side`` cells reads along an axis of boxes ``first`` .. ``last``, (K,) int, inclusive.

    Returns pixels (K,side,4) i64, inside the box, and weights (K,side,4) f32.
    """
    size = (last - first + 1).astype(np.int64)
    centres = (np.arange(side) + 0.5) * (size[:, None] / side) - 0.5
    below = np.floor(centres)
    beyond = (centres - below)[..., None]
    places = below[..., None].astype(np.int64) + np.arange(-1, TAPS - 1)
    places = places.clip(0, size[:, None, None] - 1) + first[:, None, None]
    distances = np.concatenate([beyond + 1, beyond, 1 - beyond, 2 - beyond], -1)
    return places, kernel(distances, COEFFICIENTS[bicubic]).astype(np.float32)


def kernel(distance: np.ndarray, a: float) -> np.ndarray:
    """The cubic convolution kernel with coefficient ``a`` at distances 0..2 (Keys 1981, eq. 4)."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, far)
