"""Farthest-first choice: a slow program in whole numbers, ties, starts, memory, faults."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.selecting import farthest as module
from stages.selecting.farthest import farthest

worlds = st.tuples(st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**32)).map(
    lambda case: np.random.default_rng(case[2]).integers(-3, 4, case[:2])
)


def k_centre(features, labelled, candidates, count):
    """Rows among ``candidates`` (N,) bool that are not ``labelled`` (N,) bool, in the order of choice."""
    rows = np.flatnonzero(candidates & ~labelled)
    return rows[farthest(features[rows], features[labelled], count)]


def slow(features, centres, candidates, count):
    """Whole numbers throughout, so that equal distances are equal."""
    left, centres, found = [int(row) for row in np.flatnonzero(candidates)], list(centres), []
    while left and len(found) < count:
        distances = [min(int(((features[row] - features[centre]) ** 2).sum()) for centre in centres) for row in left]
        best = left[distances.index(max(distances))]
        left.remove(best)
        centres.append(best)
        found.append(best)
    return found


def marked(rows, count):
    mask = np.zeros(count, dtype=bool)
    mask[rows] = True
    return mask


@given(features=worlds, data=st.data(), count=st.integers(0, 13), block=st.sampled_from([1, 8, 2**17]))
@settings(max_examples=200, deadline=None)
def test_agrees_with_a_slow_program(features, data, count, block):
    number = len(features)
    masks = st.lists(st.booleans(), min_size=number, max_size=number).map(np.array)
    labelled, candidates = data.draw(masks), data.draw(masks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        found = k_centre(features.astype(np.float64), labelled, candidates, count)
    open_ones = candidates & ~labelled
    assert found.dtype == np.int64
    assert len(found) == min(count, open_ones.sum())
    assert len(set(found.tolist())) == len(found)
    if labelled.any():
        assert found.tolist() == slow(features, np.flatnonzero(labelled), open_ones, count)
    elif len(found):
        from_mean = ((features - features[open_ones].mean(0)) ** 2).sum(1)
        assert from_mean[found[0]] <= from_mean[open_ones].min() + 1e-9
        rest = open_ones & ~marked(found[:1], number)
        assert found[1:].tolist() == slow(features, found[:1], rest, count - 1)


def test_on_a_line():
    features = np.array([[0.0], [1.0], [9.0], [10.0], [4.0]])
    everything = np.ones(5, dtype=bool)
    assert k_centre(features, marked([0], 5), everything, 3).tolist() == [3, 4, 1]
    assert k_centre(features, marked([], 5), everything, 3).tolist() == [4, 3, 0]  # mean 4.8
    assert k_centre(features, marked([2], 5), marked([0, 1, 3], 5), 9).tolist() == [0, 1, 3]


def test_ties_go_to_the_first_index_even_of_equal_candidates():
    features = np.random.default_rng(0).normal(size=(1, 2048)).repeat(300, 0)
    assert k_centre(features, marked([7], 300), ~marked([7, 1], 300), 4).tolist() == [0, 2, 3, 4]
    assert k_centre(features, marked([], 300), ~marked([0], 300), 3).tolist() == [1, 2, 3]
    square = np.array([[1.0, 1], [-1, 1], [1, -1], [-1, -1]])
    assert k_centre(square, marked([], 4), marked([1, 2, 3, 0], 4), 4).tolist() == [0, 3, 1, 2]


@given(seed=st.integers(0, 2**32), count=st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_a_larger_choice_begins_with_the_smaller_one_and_the_order_of_rows_changes_nothing(seed, count):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(40, 5)).astype(np.float32)
    labelled, candidates = generator.random(40) < 0.2, generator.random(40) < 0.8
    found = k_centre(features, labelled, candidates, count)
    assert np.array_equal(k_centre(features, labelled, candidates, 40)[:count], found)
    order = generator.permutation(40)
    if labelled.any():
        assert np.array_equal(order[k_centre(features[order], labelled[order], candidates[order], count)], found)


def test_no_matrix_of_all_distances():
    features = np.random.default_rng(1).normal(size=(6000, 64)).astype(np.float32)
    labelled = marked(slice(0, 50), 6000)
    tracemalloc.start()
    found = k_centre(features, labelled, ~labelled, 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 20
    assert peak < 4e6  # 6000 x 6000 would take 144 MB


def test_features_of_others_do_not_matter_and_the_input_stays():
    features = np.array([[0.0], [np.nan], [2.0], [5.0]])
    before = features.copy()
    masks = marked([0], 4), marked([2, 3], 4)
    with np.errstate(all="raise"):
        assert k_centre(features, *masks, 2).tolist() == [3, 2]
        assert k_centre(features, marked([], 4), masks[1], 2).tolist() == [2, 3]
    assert np.array_equal(features, before, equal_nan=True)
    assert masks[1].tolist() == [False, False, True, True]


def test_faults():
    features = np.zeros((3, 2))
    with pytest.raises(ValueError, match="negative"):
        farthest(features, features, -1)
    for wrong in [(features[0], features), (features, features[0]), (features, features[:, :1])]:
        with pytest.raises(ValueError, match="must be"):
            farthest(*wrong, 1)
    for bad in (np.nan, np.inf):
        for wrong in [(features + bad, features), (features, features + bad)]:
            with pytest.raises(ValueError, match="finite"):
                farthest(*wrong, 1)
    assert farthest(features[:0], features, 3).tolist() == []
