"""What it costs to label a rectangle precisely with polygons, in clicks (adaptive_superpixel.md 4).

A rectangle costs its polygon vertices, the places where a boundary between labels meets its sides, and one click per
connected part for the class.
"""

import numpy as np

from stages.pixels.void import VOID
from stages.regions.components import connected_components


def count_parts(labels: np.ndarray, mask: np.ndarray, count: int) -> np.ndarray:
    """Number of 8-connected parts of equal mask value in each region, void being a value like others: (count,) i64.

    labels (H,W) i32 region ids, 0 to count - 1 or negative for none; mask (H,W) u8.
    """
    inside = labels >= 0
    parts = connected_components(np.where(inside, labels.astype(np.int64) * 256 + mask, -1), 8)
    region_of_part = np.empty(int(parts.max(initial=-1)) + 1, np.int64)
    region_of_part[parts[inside]] = labels[inside]  # all pixels of a part lie in one region
    return np.bincount(region_of_part, minlength=count)


def side_crossings(labels: np.ndarray, mask: np.ndarray, count: int) -> np.ndarray:
    """How often the mask changes down the left and the right column of each rectangle: (count,) i64.

    labels and mask as in `polygon_clicks`. A change is counted at the upper of its two pixels, unless that is a corner,
    as the source defines it. A rectangle one pixel wide has two sides all the same.
    """
    here, above, below = labels[1:-1], labels[:-2], labels[2:]  # the image's first and last row are never inner ones
    changes = (here >= 0) & (here == above) & (here == below) & (mask[1:-1] != mask[2:])
    border = here[:, 1:] != here[:, :-1]
    edge = np.ones((len(here), 1), bool)
    left, right = np.hstack([edge, border]), np.hstack([border, edge])
    return np.bincount(here[changes & left], minlength=count) + np.bincount(here[changes & right], minlength=count)


def inner_vertices(labels: np.ndarray, count: int, vertices: np.ndarray) -> np.ndarray:
    """Number of vertices in each region without those on pixels that have a 4-neighbour elsewhere: (count,) i64.

    labels (H,W) i32, vertices (V,2) int (y,x); those outside the image are left out, equal ones all count.
    """
    height, width = labels.shape
    y, x = vertices[:, 0], vertices[:, 1]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    y, x = y[inside], x[inside]
    region = labels[y, x]
    kept = region >= 0
    for neighbour in (
        labels[np.maximum(y - 1, 0), x],
        labels[np.minimum(y + 1, height - 1), x],
        labels[y, np.maximum(x - 1, 0)],
        labels[y, np.minimum(x + 1, width - 1)],
    ):
        kept &= neighbour == region
    return np.bincount(region[kept], minlength=count)


def polygon_clicks(mask: np.ndarray, labels: np.ndarray, count: int, vertices: np.ndarray) -> np.ndarray:
    """Clicks for labelling each rectangle precisely: vertices + crossings of its sides + connected parts, (count,) i64.

    mask (H,W) u8; labels (H,W) i32 rectangle ids 0 to count - 1, negative where there is none; vertices (V,2) int
    (y,x) of the polygons that make up the mask. Absent ids cost 0. The sides of a rectangle are where its pixels
    border on something else, so regions of another shape get a number too, if not one that the source defines.
    """
    crossings = side_crossings(labels, mask, count) + side_crossings(labels.T, mask.T, count)
    return inner_vertices(labels, count, vertices) + crossings + count_parts(labels, mask, count)


def precise_clicks(mask: np.ndarray, labels: np.ndarray, wanted: np.ndarray, vertices: np.ndarray | None) -> np.ndarray:
    """(Q,) clicks of outlining everything inside the regions ``wanted`` with polygons (Cai et al. 2021).

    vertices (V,2) i32 (y,x) of the polygons people drew, as the source counts them; None: estimated from the mask.
    """
    if vertices is None:
        vertices = mask_vertices(mask)
    return polygon_clicks(mask, labels, int(labels.max(initial=-1)) + 1, vertices)[wanted]


def mask_vertices(mask: np.ndarray) -> np.ndarray:
    """The vertices that a polygon annotator would click for a mask, (V,2) i32 (y,x): an ESTIMATE.

    For datasets whose polygon files are not at hand. mask (H,W) u8. The outer contour of every 8-connected part of
    every class is simplified until it would stray from the mask by more than 2 pixels; void is not outlined, holes
    are not either, since what lies in them is. A border between two classes counts for both, parts of up to about 2
    pixels are one or two vertices, and nothing is known of what people draw behind an object.
    """
    import cv2

    found = [np.zeros((0, 2), np.int32)]
    for value in np.unique(mask[mask != VOID]):
        # Two levels, because the external contours alone leave out a part that lies in a hole of another one.
        contours, hierarchy = cv2.findContours((mask == value).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        outer = np.flatnonzero(hierarchy[0][:, 3] < 0)
        found += [cv2.approxPolyDP(contours[i], 2, True)[:, 0, ::-1] for i in outer]
    return np.concatenate(found)
