"""The cost of polygons: the specification's rectangle, loops over pixels as reference, and contours by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stages.answering.clicks import count_components, mask_vertices, polygon_clicks

NONE = np.zeros((0, 2), np.int32)


def grid(shape, side):
    """Squares of the given side, row by row, clipped to the image."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return ((y // side) * (-(-shape[1] // side)) + x // side).astype(np.int32)


def slow_parts(patch):
    """8-connected parts of a patch, by flooding."""
    height, width = patch.shape
    left, parts = {(y, x) for y in range(height) for x in range(width)}, 0
    while left:
        parts += 1
        pending = [left.pop()]
        while pending:
            y, x = pending.pop()
            for at in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if at in left and patch[at] == patch[y, x]:
                    left.remove(at)
                    pending.append(at)
    return parts


def slow_clicks(mask, labels, region, vertices):
    """The specification read aloud, for one rectangle."""
    ys, xs = np.nonzero(labels == region)
    if not len(ys):
        return 0
    top, bottom, first, last = ys.min(), ys.max(), xs.min(), xs.max()
    crossings = 0
    for x in (first, last):
        crossings += sum(mask[y, x] != mask[y + 1, x] for y in range(top + 1, bottom))
    for y in (top, bottom):
        crossings += sum(mask[y, x] != mask[y, x + 1] for x in range(first + 1, last))
    inner = 0
    for y, x in vertices.tolist():
        if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and labels[y, x] == region:
            around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            inside = [at for at in around if 0 <= at[0] < mask.shape[0] and 0 <= at[1] < mask.shape[1]]
            inner += all(labels[at] == region for at in inside)
    return inner + crossings + slow_parts(mask[top : bottom + 1, first : last + 1])


def test_check_22():
    mask = np.repeat([[1, 1, 2, 2]], 4, axis=0).astype(np.uint8)
    clicks = polygon_clicks(mask, np.zeros((4, 4), np.int32), 1, NONE)
    assert clicks.tolist() == [4]
    assert clicks.dtype == np.int64
    assert polygon_clicks(mask.T.copy(), np.zeros((4, 4), np.int32), 1, NONE).tolist() == [4]
    assert grid((1024, 2048), 32).max() + 1 == 2048


def test_vertices_by_hand():
    """Of a 4x4 and a 4x2 rectangle: those at their common border do not count, those at the border of the image do."""
    mask, labels = np.zeros((4, 6), np.uint8), np.repeat([[0, 0, 0, 0, 1, 1]], 4, axis=0).astype(np.int32)
    vertices = np.array([[0, 0], [2, 2], [2, 2], [1, 3], [1, 4], [3, 5], [-1, 0], [4, 0], [0, 6]])
    assert (polygon_clicks(mask, labels, 2, vertices) - 1).tolist() == [3, 1]
    labels[:, 4:] = -1
    assert polygon_clicks(mask, labels, 3, vertices).tolist() == [4, 0, 0]  # ids without pixels cost nothing


def test_corners_of_a_rectangle_are_not_counted():
    """The change between the first two rows lies at a corner, that between the last two at an inner row."""
    for row, crossings in ((1, 0), (2, 2), (3, 2)):
        mask = np.zeros((4, 4), np.uint8)
        mask[row:] = 255
        assert polygon_clicks(mask, np.zeros((4, 4), np.int32), 1, NONE).tolist() == [crossings + 2]


def test_parts_meet_at_corners_but_not_across_regions():
    mask = np.array([[1, 0, 1, 0], [0, 1, 0, 1]], np.uint8)
    assert count_components(np.zeros((2, 4), np.int32), mask, 1).tolist() == [2]
    assert count_components(grid((2, 4), 2), mask, 2).tolist() == [2, 2]
    assert count_components(np.full((2, 4), -1, np.int32), mask, 2).tolist() == [0, 0]


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([0, 1, 255])),
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(-1, 9), st.integers(-1, 9)), max_size=8),
    st.sets(st.integers(0, 5)),
)
def test_clicks_equal_loops(mask, side, vertices, missing):
    labels = grid(mask.shape, side)
    count = labels.max() + 2
    labels[np.isin(labels, list(missing))] = -1
    vertices = np.array(vertices, np.int32).reshape(-1, 2)
    expected = [slow_clicks(mask, labels, region, vertices) for region in range(count)]
    assert polygon_clicks(mask, labels, count, vertices).tolist() == expected


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.sampled_from([3, 7])),
)
def test_parts_equal_flooding(mask):
    assert count_components(np.zeros(mask.shape, np.int32), mask, 1).tolist() == [slow_parts(mask)]


def test_outlines_by_hand():
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 8:22] = 4
    around = [[0, 0], [19, 0], [19, 29], [0, 29]]
    block = [[5, 8], [14, 8], [14, 21], [5, 21]]
    vertices = mask_vertices(mask)
    assert vertices.dtype == np.int32
    assert sorted(vertices.tolist()) == sorted(around + block)
    mask[8:12, 12:18] = 0  # an island of class 0 in a hole of class 4: outlined, though inside the contour of class 0
    island = [[8, 12], [11, 12], [11, 17], [8, 17]]
    assert sorted(mask_vertices(mask).tolist()) == sorted(around + block + island)
    mask[mask == 4] = 255  # void is not outlined
    assert sorted(mask_vertices(mask).tolist()) == sorted(around + island)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 2), (0, 4), (3, 3)])
def test_outlines_of_tiny_masks(shape):
    for mask in (np.full(shape, 255, np.uint8), np.zeros(shape, np.uint8), np.eye(*shape, dtype=np.uint8)):
        vertices = mask_vertices(mask)
        assert vertices.shape[1] == 2
        assert vertices.dtype == np.int32
        assert (len(vertices) > 0) == bool((mask != 255).any())
        clicks = polygon_clicks(mask, np.zeros(shape, np.int32), 1, vertices)
        assert clicks[0] >= (mask.size > 0)
