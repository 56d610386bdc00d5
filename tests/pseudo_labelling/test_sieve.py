"""The sieve: the specification's numbers, the Kneedle scan as scalar code, and painting over rounds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.pixels.runs import areas_of
from stages.pseudo_labelling.sieve import knee_first, knee_max, sieve

TOLERANCE = 1e-12
TWO_SLOPES = np.concatenate([np.linspace(0, 0.8, 128), np.linspace(0.8, 1, 384)])
S_CURVE = [0, 0.05, 0.1, 0.9, 1]


def one(values, mode, samples=10**6, min_pixels=0, min_delta=0.05):
    """Number of kept pixels and threshold of a single region."""
    values = np.array(values, np.float64)
    kept, threshold = sieve(values, np.zeros(len(values), np.int64), 1, mode, samples, min_pixels, min_delta)
    return int(kept.sum()), float(threshold[0])


def scalar_difference(values):
    lowest, span = min(values), max(values) - min(values)
    return [(y - lowest) / span - i / (len(values) - 1) for i, y in enumerate(values)]


def scalar_first(values):
    """The Kneedle scan of the specification, one point after the other."""
    if len(values) < 2 or min(values) == max(values):
        return -1
    d = scalar_difference(values)
    candidate, threshold = -1, 0.0
    for i in range(len(d) - 1):
        before, after = d[max(i - 1, 0)], d[i + 1]
        if d[i] >= before - TOLERANCE and d[i] >= after - TOLERANCE:
            candidate, threshold = i, d[i] - 1 / (len(d) - 1)
        if candidate < 0:
            continue
        if d[i] <= before + TOLERANCE and d[i] <= after + TOLERANCE:
            threshold = 0.0
        if after < threshold - TOLERANCE:
            return candidate
    return -1


def scalar_max(values, min_delta):
    if len(values) < 2 or min(values) == max(values):
        return -1
    d = scalar_difference(values)
    if max(d) <= min_delta + TOLERANCE:
        return -1
    return next(i for i, value in enumerate(d) if value >= max(d) - TOLERANCE)


@pytest.mark.parametrize("mode", ["first", "max"])
def test_check_15_knee(mode):
    assert one([0, 0.5, 0.8, 0.9, 1], mode) == (3, 0.8)
    assert one([0.8, 1, 0, 0.9, 0.5], mode) == (3, 0.8)
    assert one([0.3] * 7, mode) == (7, 0.3)


def test_check_15_flat_start():
    assert one(S_CURVE, "first") == (5, 0)
    assert one(S_CURVE, "max") == (2, 0.9)
    assert one(S_CURVE, "none") == (5, 0)
    curves, points = np.array([S_CURVE]), np.array([5])
    assert knee_first(curves, points).tolist() == [0]
    assert knee_max(curves, points, 0.05).tolist() == [3]
    assert knee_max(curves, points, 0.15).tolist() == [-1]  # the largest difference is 0.15


@pytest.mark.parametrize("n, step, samples", [(512, 25, 21), (520, 26, 20), (39, 1, 39), (19, 1, 19), (40, 2, 20)])
def test_check_16_sampling(n, step, samples):
    """Zeros, and ones from the last sample but one: there is the knee. From the last sample: no knee."""
    values = np.zeros(n)
    values[(samples - 2) * step :] = 1
    assert one(values, "max", samples=20, min_delta=0) == (n - (samples - 2) * step, 1)
    values[(samples - 2) * step] = 0  # the next sample is the last one, which lies on the diagonal
    assert one(values, "max", samples=20, min_delta=0) == (n, 0)


@pytest.mark.parametrize("mode", ["first", "max"])
def test_check_16_two_slopes(mode):
    kept, threshold = one(TWO_SLOPES, mode, samples=20, min_pixels=512)
    assert kept == 387
    assert threshold == pytest.approx(0.787402, abs=1e-6)
    assert threshold == TWO_SLOPES[::25][5]
    assert one(TWO_SLOPES[:-1], mode, samples=20, min_pixels=512) == (511, 0)


def test_check_16_two_levels():
    values = [0.2] * 128 + [0.9] * 384
    assert one(values, "first", samples=20) == (512, 0.2)
    assert one(values, "max", samples=20) == (384, 0.9)


def test_check_17():
    """Several regions at once, one without pixels and one too small; a region of void answer has no pixels here."""
    rng = np.random.default_rng(1)
    owner = rng.permutation(np.repeat([0, 2, 3], [600, 700, 5]))
    values = rng.random(len(owner)) ** 0.3
    for mode in ("max", "first", "none"):
        kept, threshold = sieve(values, owner, 4, mode, 20, 512, 0.05)
        assert math.isnan(threshold[1])
        assert all(kept[owner == region].any() for region in (0, 2, 3))
        assert kept[owner == 3].all()
        assert np.array_equal(kept, values >= threshold[owner])
        assert mode == "none" or not kept.all()
        assert sieve(values, owner, 4, mode, 20, 701, 0.05)[0].all()


def test_a_line_has_no_knee():
    """Rounding puts its differences a little off zero."""
    for m in range(2, 40):
        values = np.linspace(0.1, 0.7, m)[None]
        assert knee_first(values, np.array([m])).tolist() == [-1]
        assert knee_max(values, np.array([m]), 0.0).tolist() == [-1]


def test_nothing_at_all():
    for mode in ("max", "first", "none"):
        kept, threshold = sieve(np.zeros(0), np.zeros(0, np.int64), 0, mode, 20, 0, 0.05)
        assert kept.shape == threshold.shape == (0,)
        kept, threshold = sieve(np.zeros(0, np.float32), np.zeros(0, np.int64), 2, mode, 20, 0, 0.05)
        assert kept.shape == (0,)
        assert np.isnan(threshold).all()
        assert threshold.shape == (2,)
    nothing = np.zeros((0, 5)), np.zeros(0, int)
    assert len(knee_first(*nothing)) == len(knee_max(*nothing, 0.05)) == 0
    assert knee_max(np.zeros((2, 0)), np.zeros(2, int), 0.05).tolist() == [-1, -1]


def test_single_precision_keeps_the_knee_itself():
    values = np.array([0, 0.5, 0.8, 0.9, 1], np.float32)
    kept, threshold = sieve(values, np.zeros(5, np.int64), 1, "max", 99, 0, 0.05)
    assert kept.tolist() == [False, False, True, True, True]
    assert threshold.dtype == np.float64


# Few distinct values make plateaus, arbitrary ones everything else.
levels = st.one_of(st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.5, 0.9, 1.0]), st.floats(0, 1))
curve = st.lists(levels, max_size=15).map(sorted)


@settings(max_examples=200, deadline=None)
@given(st.lists(curve, max_size=6), st.sampled_from([np.nan, np.inf, 7.0]), st.sampled_from([0.0, 0.05, 0.3]))
def test_knees_equal_the_scalar_scan(curves, padding, min_delta):
    points = np.array([len(values) for values in curves], np.int64)
    table = np.full((len(curves), points.max(initial=0)), padding)
    for row, values in zip(table, curves, strict=True):
        row[: len(values)] = values
    assert knee_first(table, points).tolist() == [scalar_first(values) for values in curves]
    assert knee_max(table, points, min_delta).tolist() == [scalar_max(values, min_delta) for values in curves]


def test_first_knees_of_random_curves_equal_the_scalar_scan():
    rng = np.random.default_rng(2)
    curves = np.sort(rng.random((2000, 39)) ** rng.uniform(0.1, 3, (2000, 1)), axis=1)
    points = rng.integers(0, 40, 2000)
    expected = [scalar_first(values[:m].tolist()) for values, m in zip(curves, points, strict=True)]
    assert knee_first(curves, points).tolist() == expected
    assert len(set(expected)) > 10


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), levels), max_size=60),
    st.sampled_from(["max", "first", "none"]),
    st.integers(2, 8),
    st.integers(0, 12),
    st.randoms(use_true_random=False),
)
def test_sieve_equals_a_loop_over_regions(pixels, mode, samples, min_pixels, random):
    owner = np.array([region for region, _ in pixels], np.int64)
    values = np.array([value for _, value in pixels], np.float64)
    kept, threshold = sieve(values, owner, 4, mode, samples, min_pixels, 0.05)
    for region in range(4):
        inside = values[owner == region].tolist()
        if not inside:
            assert math.isnan(threshold[region])
            continue
        y = sorted(inside)[:: max(1, len(inside) // samples)]
        knee = {"max": lambda y: scalar_max(y, 0.05), "first": scalar_first, "none": lambda y: -1}[mode](y)
        cut = min(inside) if knee < 0 or len(inside) < min_pixels else y[knee]
        assert threshold[region] == cut
        assert kept[owner == region].tolist() == [value >= cut for value in inside]
    order = random.sample(range(len(pixels)), len(pixels))
    again, same = sieve(values[order], owner[order], 4, mode, samples, min_pixels, 0.05)
    assert np.array_equal(again, kept[order])
    assert np.array_equal(same, threshold, equal_nan=True)


def test_check_18():
    """A region of round 0 labelled 4 and one of round 1 labelled 7 overlap in the pixels 3, 4 and 5."""
    earlier = areas_of(np.array([[0, 0, 0, 0, 0, 0, 1, 1, 1, 1]], np.int32), np.array([0], np.int32))
    later = areas_of(np.array([[2, 2, 2, 3, 3, 3, 3, 3, 2, 2]], np.int32), np.array([3], np.int32))
    areas, answers = earlier.followed_by(later), np.array([4, 7], np.uint8)
    index, owner = areas.pixels(np.arange(2))
    confidence = np.concatenate([np.full(6, 0.5), [0, 0.9, 0.5, 1, 0.8]])  # round 1: pixels 3 and 5 lie below the knee
    kept, threshold = sieve(confidence, owner, 2, "max", 20, 0, 0.05)
    assert threshold.tolist() == [0.5, 0.8]

    labels = np.full(10, 255, np.uint8)
    for round_ in range(2):  # chronologically, as a later answer overwrites an earlier one
        painted = kept & (owner == round_)
        labels[index[painted]] = answers[round_]
    assert labels.tolist() == [4, 4, 4, 4, 7, 4, 7, 7, 255, 255]
