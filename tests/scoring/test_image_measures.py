"""Measures of whole images: checks 1 to 4 of the image selection, and classes that do not exclude each other."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.runtime.parts import MEASURES
from stages.selecting.ranking import highest

PLAIN = [part.name for part in MEASURES.parts() if not part.facts["passes"]]
EXCLUSIVE = [name for name in PLAIN if MEASURES[name].facts["of"] == "classes"]
ROWS = [(0.5, 0.3, 0.2), (0.9, 0.05, 0.05), (0.42, 0.39, 0.19), (0.34, 0.33, 0.33), (0.5, 0.5, 0.0)]


def scores_of(measure, rows):
    """(N,) f32 of N probability vectors; as logits their logarithms, of 0 that of the smallest float."""
    tiny = torch.finfo(torch.float32).tiny
    return MEASURES[measure](torch.tensor(rows).clamp(min=tiny).log()[:, :, None, None])[:, 0, 0].numpy()


def binary(measure, *logits):
    return float(MEASURES[measure](torch.tensor(logits).view(1, -1, 1, 1)))


# --- checks 1 to 4 ----------------------------------------------------------------------------------------------------


def test_entropy_of_check_1():
    scores = scores_of("entropy", ROWS)
    assert scores.tolist() == pytest.approx([1.029653, 0.394398, 1.047116, 1.098513, 0.693147], abs=1e-5)
    assert highest(scores, 5).tolist() == [3, 2, 0, 4, 1]


def test_margin_of_check_2():
    scores = scores_of("margin", ROWS)
    assert (1 - scores).tolist() == pytest.approx([0.20, 0.85, 0.03, 0.01, 0.00], abs=1e-5)
    assert highest(scores, 5).tolist() == [4, 3, 2, 0, 1]


def test_two_images_of_check_2():
    assert highest(scores_of("entropy", ROWS), 2).tolist() == [3, 2]
    assert highest(scores_of("margin", ROWS), 2).tolist() == [4, 3]


@pytest.mark.parametrize("measure", EXCLUSIVE)
def test_ties_of_check_3_go_to_the_lower_index(measure):
    scores = scores_of(measure, [ROWS[1], ROWS[0], ROWS[1], ROWS[0], ROWS[0]])
    assert highest(scores, 5).tolist() == [1, 3, 4, 0, 2]
    assert highest(scores_of(measure, [ROWS[2]] * 9), 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("measure", PLAIN)
@given(order=st.permutations(range(4)), count=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_pool_of_check_3_changes_no_set(measure, order, count):
    scores = scores_of(measure, ROWS[:4])  # distinct by every measure
    permuted = highest(scores_of(measure, [ROWS[place] for place in order]), count)
    assert [order[place] for place in permuted] == highest(scores, count).tolist()


def test_one_softmax_of_check_4():
    once = torch.tensor([1.0, 0.0, 0.0])
    twice = once.softmax(0)
    assert twice.tolist() == pytest.approx([0.576117, 0.211942, 0.211942], abs=1e-5)
    least_confidence = float(scores_of("least-confidence", [once.tolist()])[0])
    assert least_confidence == pytest.approx(0, abs=1e-5)
    assert least_confidence != pytest.approx(1 - float(twice[0]), abs=1e-2)
    assert float(scores_of("entropy", [once.tolist()])[0]) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("measure", EXCLUSIVE)
def test_logits_may_be_shifted_against_check_1(measure):
    logits = torch.tensor(ROWS[:4]).log()[:, :, None, None]
    torch.testing.assert_close(MEASURES[measure](logits + 5), MEASURES[measure](logits), atol=1e-5, rtol=0)


# --- classes that do not exclude each other ---------------------------------------------------------------------------

logit_rows = st.integers(1, 6).flatmap(
    lambda classes: st.lists(
        st.lists(st.floats(-30, 30, width=32), min_size=classes, max_size=classes), min_size=1, max_size=5
    )
)


@given(rows=logit_rows)
@settings(max_examples=100, deadline=None)
def test_binary_measures_agree_with_a_slow_program(rows):
    logits = torch.tensor(rows)[:, :, None, None]
    found = {name: MEASURES[name](logits)[:, 0, 0].tolist() for name in ("binary-entropy", "binary-margin")}
    for place, row in enumerate(rows):
        p = [1 / (1 + math.exp(-value)) for value in row]
        q = [1 / (1 + math.exp(value)) for value in row]
        entropy = sum(-a * math.log(a) - b * math.log(b) for a, b in zip(p, q, strict=True)) / len(row)
        margin = min(abs(2 * a - 1) for a in p)
        assert found["binary-entropy"][place] == pytest.approx(entropy, abs=1e-6)
        assert found["binary-margin"][place] == pytest.approx(1 - margin, abs=1e-6)


def test_binary_numbers():
    assert binary("binary-entropy", 0.0, 0.0) == pytest.approx(math.log(2))
    assert binary("binary-entropy", math.log(3), -math.log(3)) == pytest.approx(0.562335, abs=1e-6)  # p 3/4 and 1/4
    assert binary("binary-entropy", 0.0, 100.0) == pytest.approx(math.log(2) / 2)
    assert binary("binary-margin", math.log(3), 5.0) == pytest.approx(0.5)
    assert binary("binary-margin", 0.0, 100.0) == 1
    assert binary("binary-margin", -math.log(9), math.log(3), -20.0) == pytest.approx(0.5)


@given(value=st.floats(0, 2.0**127, width=32), other=st.floats(0, 2.0**127, width=32))
@settings(max_examples=100, deadline=None)
def test_extreme_logits_stay_in_the_range_and_ordered(value, other):
    low, high = sorted((value, other))
    for measure, most in (("binary-entropy", math.log(2)), ("binary-margin", 1.0)):
        near, far = binary(measure, low, -low), binary(measure, high, -high)
        assert 0 <= far <= most + 1e-7
        assert far <= near + 1e-7
        assert near <= most + 1e-7


def test_no_class_may_be_present():
    """Without a softmax three absent classes are as certain as three present ones, and adding a constant matters."""
    for measure in ("binary-entropy", "binary-margin"):
        assert binary(measure, -9.0, -9.0, -9.0) == binary(measure, 9.0, 9.0, 9.0) < 0.01
        assert binary(measure, -2.0, -2.0) > binary(measure, -9.0, -9.0)


def test_binary_measures_of_pixels_keep_the_shape():
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 4, 5)))
    for measure in ("binary-entropy", "binary-margin"):
        found = MEASURES[measure](logits)
        assert found.shape == (2, 4, 5)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found[1, 2, 3], MEASURES[measure](logits[1:, :, 2:3, 3:4])[0, 0, 0])
