"""Ids without gaps and connected components, against a flood fill that is slow and obvious."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stages.regions.components import compact, connected_components

FOUR = [(0, 1), (0, -1), (1, 0), (-1, 0)]
EIGHT = [*FOUR, (1, 1), (1, -1), (-1, 1), (-1, -1)]
SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7)


def maps(low: int, high: int) -> st.SearchStrategy[np.ndarray]:
    return arrays.arrays(np.int32, SHAPES, elements=st.integers(low, high))


def flood(labels: np.ndarray, steps: list[tuple[int, int]]) -> np.ndarray:
    parts = np.full(labels.shape, -1)
    count = 0
    for start in np.ndindex(labels.shape):
        if labels[start] < 0 or parts[start] >= 0:
            continue
        stack = [start]
        parts[start] = count
        while stack:
            y, x = stack.pop()
            for dy, dx in steps:
                to = (y + dy, x + dx)
                inside = 0 <= to[0] < labels.shape[0] and 0 <= to[1] < labels.shape[1]
                if inside and parts[to] < 0 and labels[to] == labels[start]:
                    parts[to] = count
                    stack.append(to)
        count += 1
    return parts


@pytest.mark.parametrize(("connectivity", "steps"), [(4, FOUR), (8, EIGHT)])
@given(labels=maps(-1, 2))
@settings(max_examples=150, deadline=None)
def test_components_are_those_of_a_flood_fill(connectivity, steps, labels):
    found = connected_components(labels, connectivity)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, flood(labels, steps))


@pytest.mark.parametrize("connectivity", [4, 8])
def test_components_of_a_large_noise_agree_with_scipy(connectivity):
    from scipy.ndimage import label

    mask = np.random.default_rng(0).integers(0, 2, (211, 307))
    footprint = np.ones((3, 3)) if connectivity == 8 else None
    expected = label(mask, footprint)[0] - 1
    np.testing.assert_array_equal(connected_components(np.where(mask > 0, 7, -1), connectivity), expected)


def test_components_refuse_other_connectivities():
    with pytest.raises(ValueError, match="4 or 8"):
        connected_components(np.zeros((2, 2), dtype=int), 6)


@given(labels=maps(-3, 9))
@settings(max_examples=100, deadline=None)
def test_compact_keeps_order_and_drops_gaps(labels):
    found = compact(labels)
    ids = np.unique(labels[labels >= 0])
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found < 0, labels < 0)
    assert (found[labels < 0] == -1).all()
    np.testing.assert_array_equal(ids[found[labels >= 0]], labels[labels >= 0])
    np.testing.assert_array_equal(np.unique(found[found >= 0]), np.arange(len(ids)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.int64])
def test_compact_takes_any_integers(dtype):
    np.testing.assert_array_equal(compact(np.array([[7, 3], [3, 101]], dtype=dtype)), [[1, 0], [0, 2]])


def test_compact_takes_ids_too_large_for_a_table():
    np.testing.assert_array_equal(compact(np.array([[2**40, -5], [3, 2**40]])), [[1, -1], [0, 1]])


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)])
def test_empty_maps_stay_empty(shape):
    empty = np.zeros(shape, dtype=np.int32)
    assert compact(empty).shape == connected_components(empty, 8).shape == shape


def test_maps_without_a_region_stay_without():
    nothing = np.full((3, 4), -2)
    assert (compact(nothing) == -1).all()
    assert (connected_components(nothing, 4) == -1).all()
