"""Areas against Python sets, and against painting by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stages.pixels.runs import Areas, areas_of, empty_areas, spans

MAP = np.array([[3, 3, 5], [5, 3, -1], [-1, 3, 5]], np.int32)
maps = hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.integers(-2, 4))


def as_sets(areas: Areas) -> list[set[int]]:
    index, owner = areas.pixels(np.arange(len(areas)))
    return [set(index[owner == a].tolist()) for a in range(len(areas))]


def test_runs_by_hand():
    areas = areas_of(MAP, np.array([5, 3], np.int32))
    assert areas.offsets.tolist() == [0, 2, 5]
    assert areas.start.tolist() == [2, 8, 0, 4, 7]
    assert areas.length.tolist() == [2, 1, 2, 1, 1]  # region 5 runs on from the first row into the second
    assert (areas.offsets.dtype, areas.start.dtype, areas.length.dtype) == (np.int64, np.int32, np.int32)
    assert areas.sizes().tolist() == [3, 4]


def test_pixels_in_the_asked_order():
    areas = areas_of(MAP, np.array([5, 3], np.int32))
    index, owner = areas.pixels(np.array([1, 0, 1]))
    assert index.tolist() == [0, 1, 4, 7, 2, 3, 8, 0, 1, 4, 7]
    assert owner.tolist() == [0] * 4 + [1] * 3 + [2] * 4
    assert index.dtype == owner.dtype == np.int64


def test_areas_without_pixels():
    areas = empty_areas(2).followed_by(areas_of(MAP, np.array([5], np.int32))).followed_by(empty_areas(1))
    assert areas.sizes().tolist() == [0, 0, 3, 0]
    index, owner = areas.pixels(np.array([3, 2, 0]))
    assert index.tolist() == [2, 3, 8]
    assert owner.tolist() == [1, 1, 1]
    for nothing in (
        empty_areas(0),
        areas_of(MAP, np.zeros(0, np.int32)),
        areas_of(np.zeros((0, 3), np.int32), np.zeros(0, int)),
    ):
        assert nothing.sizes().tolist() == []
        assert [len(part) for part in nothing.pixels(np.zeros(0, np.int64))] == [0, 0]


@pytest.mark.parametrize("wanted", [[4], [6], [3, 3], [-1], [-7]])
def test_wanting_what_is_not_there(wanted):
    with pytest.raises(ValueError, match=r"region"):
        areas_of(MAP, np.array(wanted, np.int32))


def test_spans():
    values, owner = spans(np.array([5, 9, 0]), np.array([2, 0, 3]))
    assert values.tolist() == [5, 6, 0, 1, 2]
    assert owner.tolist() == [0, 0, 2, 2, 2]


@settings(max_examples=150, deadline=None)
@given(maps, maps, st.data())
def test_equals_sets(one, other, data):
    both, expected = empty_areas(0), []
    for labels in (one, other):
        present = sorted(set(labels[labels >= 0].tolist()))
        wanted = data.draw(
            st.permutations(present).flatmap(lambda ids: st.integers(0, len(ids)).map(lambda n: ids[:n]))
        )
        areas = areas_of(labels, np.array(wanted, np.int32))
        expected += [set(np.flatnonzero(labels.ravel() == region).tolist()) for region in wanted]
        both = both.followed_by(areas)
        ends = areas.start + areas.length
        for a in range(len(areas)):  # maximal and ascending: no run begins where the one before it ends
            runs = slice(areas.offsets[a], areas.offsets[a + 1])
            assert (areas.start[runs][1:] > ends[runs][:-1]).all()
    assert as_sets(both) == expected
    assert both.sizes().tolist() == [len(area) for area in expected]
    rows = data.draw(st.lists(st.integers(0, len(both) - 1), max_size=5)) if len(both) else []
    index, owner = both.pixels(np.array(rows, np.int64))
    assert index.tolist() == [pixel for row in rows for pixel in sorted(expected[row])]
    assert owner.tolist() == [n for n, row in enumerate(rows) for _ in expected[row]]
