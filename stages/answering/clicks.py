"""Number of clicks to label a rectangle exactly with polygons (adaptive_superpixel.md 4).

A rectangle costs its polygon vertices, the places where a boundary between labels meets its sides, and one click per
connected component for the class.
"""

import numpy as np

from stages.pixels.void import VOID
from stages.regions.components import connected_components


def count_components(labels: np.ndarray, mask: np.ndarray, count: int) -> np.ndarray:
    """Number of 8-connected components of equal mask value in each region: (count,) i64. Void counts like a class.

    labels (H,W) i32 region ids, 0 to count - 1 or negative for none; mask (H,W) u8.
    """
    inside = labels >= 0
    components = connected_components(np.where(inside, labels.astype(np.int64) * 256 + mask, -1), 8)
    region = np.empty(int(components.max(initial=-1)) + 1, np.int64)
    region[components[inside]] = labels[inside]  # all pixels of a component lie in one region
    return np.bincount(region, minlength=count)


def side_crossings(labels: np.ndarray, mask: np.ndarray, count: int) -> np.ndarray:
    """How often the mask changes down the left and the right column of each rectangle: (count,) i64.

    labels and mask as in `polygon_clicks`. A change is counted at the upper of its two pixels, unless that is a corner,
    as the source defines it. A rectangle one pixel wide also has two sides.
    """
    here, above, below = labels[1:-1], labels[:-2], labels[2:]  # the image's first and last row are never inner ones
    changes = (here >= 0) & (here == above) & (here == below) & (mask[1:-1] != mask[2:])
    border = here[:, 1:] != here[:, :-1]
    edge = np.ones((len(here), 1), bool)
    left, right = np.hstack([edge, border]), np.hstack([border, edge])
    return np.bincount(here[changes & left], minlength=count) + np.bincount(here[changes & right], minlength=count)


def inner_vertices(labels: np.ndarray, count: int, vertices: np.ndarray) -> np.ndarray:
    """Number of vertices in each region, without those on pixels with a 4-neighbour in another: (count,) i64.

    labels (H,W) i32, vertices (V,2) int (y,x); vertices outside the image do not count, equal ones all do.
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
    """Clicks for labelling each rectangle exactly: vertices + crossings of its sides + components, (count,) i64.

    mask (H,W) u8; labels (H,W) i32 rectangle ids 0 to count - 1, negative = none; vertices (V,2) int (y,x) of the
    polygons that make up the mask. Absent ids cost 0. The sides of a rectangle are where its pixels border on others,
    so regions of another shape get a number too, although the source defines none for them.
    """
    crossings = side_crossings(labels, mask, count) + side_crossings(labels.T, mask.T, count)
    return inner_vertices(labels, count, vertices) + crossings + count_components(labels, mask, count)


def precise_clicks(mask: np.ndarray, labels: np.ndarray, wanted: np.ndarray, vertices: np.ndarray | None) -> np.ndarray:
    """(Q,) clicks of outlining all classes inside the regions ``wanted`` (Q,) with polygons (Cai et al. 2021).

    vertices (V,2) i32 (y,x) of the polygons that people drew, as the source counts them; None: estimated from the
    mask.
    """
    if vertices is None:
        vertices = mask_vertices(mask)
    return polygon_clicks(mask, labels, int(labels.max(initial=-1)) + 1, vertices)[wanted]


def mask_vertices(mask: np.ndarray) -> np.ndarray:
    """The vertices that a polygon annotator would click for a mask, (V,2) i32 (y,x): an ESTIMATE.

    For datasets without polygon files. mask (H,W) u8. The outer contour of each 8-connected component of each class is
    simplified to within 2 pixels of the mask. Void and holes are not outlined, but what lies in a hole
    is. A border between two classes counts for both, components of up to about 2 pixels are one or two vertices, and
    what people draw behind an object is not known.
    """
    import cv2

    found = [np.zeros((0, 2), np.int32)]
    for value in np.unique(mask[mask != VOID]):
        # Two levels, because the external contours alone omit a component in a hole of another one.
        contours, hierarchy = cv2.findContours((mask == value).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        outer = np.flatnonzero(hierarchy[0][:, 3] < 0)
        found += [cv2.approxPolyDP(contours[i], 2, True)[:, 0, ::-1] for i in outer]
    return np.concatenate(found)
