"""The curve of a run continued: power laws on exact data, few rounds, and what is worth it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.reporting.forecast import fit_exactly, forecast
from stages.reporting.quality import OnAnswers, Sample, outlook


def law(costs, limit, drop, exponent):
    return [limit - drop * (cost / costs[0]) ** -exponent for cost in costs]


@pytest.mark.parametrize("exponent", [0.2, 0.5, 1.3])
def test_an_exact_power_law_is_found_and_continued(exponent):
    """80 - 40 (cost/100)^-c at 100, 200, 400, 800; the next 400 more: at 1200."""
    costs = [100.0, 200, 400, 800]
    values = law(costs, 80, 40, exponent)
    found = fit_exactly(np.array(costs), np.array(values))
    assert [found.limit[0], found.drop[0], found.exponent[0]] == pytest.approx([80, 40, exponent], rel=1e-4)
    coming = forecast(costs, values)
    assert coming.cost == 400
    assert coming.gain == pytest.approx(40 * (8**-exponent - 12**-exponent), abs=1e-3)
    assert coming.high - coming.low < 0.1
    assert coming.verdict == "worth it"


def test_a_flat_curve_is_hardly_worth_it():
    coming = forecast([100, 200, 300, 400, 500], [70.0, 70.4, 70.1, 70.3, 70.2])
    assert coming.gain < 0.5
    assert "hardly worth it (below 0.5 points)" in coming.told("mIoU", "clicks")
    assert "for 100 more clicks (95 % interval -" in coming.told("mIoU", "clicks")


def test_noise_widens_the_interval_until_it_has_no_gain():
    costs, values = [10, 20, 30, 40, 50], [40.0, 50, 55, 58, 60]
    quiet, louder, loud = (forecast(costs, values, [error] * 5) for error in (0.0, 1.0, 8.0))
    assert quiet.high - quiet.low < louder.high - louder.low < loud.high - loud.low
    assert quiet.gain == louder.gain == loud.gain
    assert [each.verdict for each in (quiet, louder, loud)] == [
        "worth it",
        "though it may bring nothing",
        "too uncertain to tell whether it is worth it",
    ]


def test_what_is_measured_next_lies_in_the_interval():
    """Curves with noise of half a point, 5 rounds known: of 200 the interval holds the sixth gain in about 95 %."""
    generator, costs = np.random.default_rng(0), [50.0 * number for number in range(1, 7)]
    held = 0
    for _ in range(200):
        values = np.array(law(costs, 75, 30, 0.6)) + generator.normal(0, 0.5, 6)
        coming = forecast(costs[:5], values[:5].tolist())
        held += coming.low <= values[5] - values[4] <= coming.high
    assert 180 <= held <= 200


@pytest.mark.parametrize("rounds", [0, 1, 2, 3])
def test_too_few_rounds(rounds):
    costs = [100.0 * (number + 1) for number in range(rounds)]
    assert forecast(costs, law(costs, 80, 40, 0.5) if costs else []) is None
    told = outlook([(cost, 50.0) for cost in costs], [])[1]
    assert told == (
        ""
        if not rounds
        else f"next round: too few rounds to tell what it brings ({rounds}; four with rising cost are needed)"
    )


@given(st.lists(st.floats(0, 100), min_size=4, max_size=8))
@settings(max_examples=25, deadline=None)
def test_no_fitted_curve_falls_or_leaves_100_percent(values):
    coming = forecast([50.0 * (number + 1) for number in range(len(values))], values)
    assert -1e-9 <= coming.gain <= 100
    assert coming.low <= coming.gain <= coming.high
    assert coming.limit <= 100 + 1e-9


def answered(number, share, control=None):
    sample = None if control is None else Sample(50, control, control - 10, control + 10)
    return OnAnswers(number + 1, 100.0 * (number + 1), 100, Sample(400, share, None, None), sample, None)


def test_without_masks_the_fair_sample_is_continued_if_all_rounds_have_one():
    rounds = [answered(number, 40.0 + number, 60.0 + 2 * number) for number in range(5)]
    assert "agreement with answers drawn at random" in outlook([], rounds)[1]
    rounds[2] = answered(2, 42.0)
    assert "points of agreement with answers are likely" in outlook([], rounds)[1]
