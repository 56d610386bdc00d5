"""Maturity and lossiness: acceptance checks 5 to 8 of the specification, invariants, extremes, a slow f64 program."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.scoring.maturity import jensen_shannon_divergence, lossiness, maturity, mean_divergence, p_log_p
from stages.scoring.measures.entropy import entropy

EVEN, SKEWED, CERTAIN, OTHER = (0.5, 0.5), (0.9, 0.1), (1.0, 0.0), (0.0, 1.0)


def log_map(*probabilities):
    """(1,C,1,1) log-probabilities of one pixel."""
    return torch.tensor(probabilities).log().view(1, -1, 1, 1)


def cases(seed, images=2, sides=3, classes=5, height=3, width=4, spread=4.0):
    """Random logits of the final and the side predictions in f64, and weights of the sides."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    logits, side = normal(images, classes, height, width), normal(images, sides, classes, height, width)
    # here and there all sides agree with the final prediction, or nearly so
    mixed = torch.rand(images, 1, 1, height, width, generator=generator, dtype=torch.float64).round(decimals=1)
    side = logits.unsqueeze(1) * (1 - mixed) + side * mixed
    return logits * spread, side * spread, normal(images, sides, height, width).softmax(1)


def divergence(log_p, log_q):
    """(B,h,w) of two (B,C,h,w) log-probabilities."""
    p = log_p.exp()
    return jensen_shannon_divergence(p, p_log_p(p), log_q.exp())


def slow_divergence(p, q):
    """Jensen-Shannon divergence of two distributions as its definition has it."""
    total = 0.0
    for a, b in zip(p, q, strict=True):
        mean = (a + b) / 2
        total += sum(0.5 * x * math.log(x / mean) for x in (a, b) if x > 0)
    return total


def slow_mean_divergence(p, q):
    """The public code's number for (C,P) distributions."""
    mean = (p + q) / 2
    return float((0.5 * (mean * np.log(mean / p) + mean * np.log(mean / q))).mean())


def slow_maturity(logits, sides, mixing, kind):
    p, q = logits.softmax(1).numpy(), sides.softmax(2).numpy()
    found = np.zeros(mixing[:, 0].shape)
    for image, k, y, x in np.ndindex(*mixing.shape):
        if kind == "pixel":
            value = slow_divergence(p[image, :, y, x], q[image, k, :, y, x])
        else:
            value = slow_mean_divergence(p[image], q[image, k])
        found[image, y, x] += float(mixing[image, k, y, x]) * value
    return torch.from_numpy(found)


# --- the specification's numbers --------------------------------------------------------------------------------------


def test_entropy_of_check_5():
    assert entropy(log_map(*EVEN)).item() == pytest.approx(0.693147, abs=1e-6)
    assert entropy(torch.zeros(1, 19, 1, 1)).item() == pytest.approx(2.944439, abs=1e-6)
    assert entropy(torch.tensor([1e4, 0.0, 0.0]).view(1, 3, 1, 1)).item() == 0


def test_divergences_of_check_6():
    even, skewed = log_map(*EVEN), log_map(*SKEWED)
    assert divergence(even, skewed).item() == pytest.approx(0.101749, abs=1e-6)
    assert torch.equal(divergence(even, skewed), divergence(skewed, even))
    assert divergence(skewed, skewed).item() == 0
    assert mean_divergence(even, skewed).item() == pytest.approx(0.058987, abs=1e-6)


def test_a_probability_of_zero_is_finite_per_pixel_and_shows_in_the_image_number():
    even, certain, other = log_map(*EVEN), log_map(*CERTAIN), log_map(*OTHER)
    assert divergence(certain, even).item() == pytest.approx(0.215762, abs=1e-6)
    assert divergence(certain, other).item() == pytest.approx(math.log(2), abs=1e-7)
    assert divergence(certain, certain).item() == 0
    for pair in ((certain, even), (even, certain), (certain, other), (certain, certain)):
        assert mean_divergence(*pair).item() == math.inf


@pytest.mark.parametrize(
    "kind, on_edge, expected", [("pixel", False, 1.498276), ("pixel", True, 0.908750), ("image", False, 1.455219)]
)
def test_scores_of_check_7(kind, on_edge, expected):
    logits, sides = log_map(*EVEN), torch.stack([log_map(*p) for p in (SKEWED, EVEN, EVEN)], 1)
    mixing = torch.tensor([0.5, 0.25, 0.25]).view(1, 3, 1, 1)
    factor = lossiness(torch.tensor([0.2, 0.7]).view(1, 2, 1, 1), torch.full((1, 1, 1), on_edge))
    score = (entropy(logits) + maturity(logits, sides, mixing, kind)) * factor
    assert score.shape == (1, 1, 1)
    assert score.item() == pytest.approx(expected, abs=1e-6)


# --- divergences ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pixel", "image"])
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 6), st.integers(1, 4), st.integers(1, 4)),
)
@settings(max_examples=40, deadline=None)
def test_agrees_with_the_slow_program(kind, seed, shape):
    drawn = cases(seed, *shape)
    # read from f32 numbers by both, so that only the arithmetic differs
    single = [values.float() for values in drawn]
    expected = slow_maturity(*(values.double() for values in single), kind)
    found = maturity(*single, kind)
    assert (found.dtype, maturity(*drawn, kind).dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(maturity(*drawn, kind), slow_maturity(*drawn, kind), atol=1e-12, rtol=1e-12)


@given(seed=st.integers(0, 2**32), spread=st.sampled_from([0.01, 4.0, 100.0, 1e4]), kind=st.sampled_from("pq"))
@settings(max_examples=60, deadline=None)
def test_bounds_symmetry_and_permuted_classes(seed, spread, kind):
    logits, sides, _ = (values.float() for values in cases(seed, spread=spread))
    log_p, log_q = logits.log_softmax(1), sides[:, 0].log_softmax(1)
    if kind == "q":  # some classes impossible, in one of them or in both
        log_p[:, 1], log_q[:, 1:3] = -torch.inf, -torch.inf
    found = divergence(log_p, log_q)
    assert found.shape == (2, 3, 4)
    assert ((found >= 0) & (found <= math.log(2) + 1e-7)).all()
    assert torch.equal(found, divergence(log_q, log_p))
    assert not divergence(log_p, log_p).any()
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(divergence(log_p[:, order], log_q[:, order]), found, atol=1e-6, rtol=0)
    image = mean_divergence(log_p, log_q)
    assert torch.equal(image, mean_divergence(log_q, log_p))
    assert (image > -1e-7).all()
    torch.testing.assert_close(image, mean_divergence(log_p[:, order], log_q[:, order]), atol=1e-6, rtol=1e-6)


def test_extreme_logits_stay_finite_per_pixel():
    extremes = torch.tensor([1e4, -1e4, 0.0, 1e-3])
    generator = torch.Generator().manual_seed(3)
    logits = extremes[torch.randint(4, (2, 19, 6, 7), generator=generator)]
    sides = extremes[torch.randint(4, (2, 3, 19, 6, 7), generator=generator)]
    mixing = torch.eye(3)[torch.randint(3, (2, 6, 7), generator=generator)].permute(0, 3, 1, 2)
    found = maturity(logits, sides, mixing)
    assert ((found >= 0) & (found <= math.log(2) + 1e-7)).all()
    torch.testing.assert_close(
        found.double(), slow_maturity(logits.double(), sides.double(), mixing, "pixel"), atol=1e-6, rtol=0
    )
    assert (entropy(logits) + found).isfinite().all()
    # infinite where the weight is exactly 0 too, and never NaN
    assert (maturity(logits, sides, mixing, "image") == torch.inf).all()


def test_only_the_image_with_a_zero_is_infinite():
    logits, sides, mixing = (values.float() for values in cases(5))
    logits[1, 0, 0, 0] += 300
    found = maturity(logits, sides, mixing, "image")
    assert found[0].isfinite().all()
    assert (found[1] == torch.inf).all()
    assert maturity(logits, sides, mixing, "pixel").isfinite().all()


@pytest.mark.parametrize("kind", ["pixel", "image"])
def test_images_of_a_batch_are_scored_alone(kind):
    logits, sides, mixing = (values.float() for values in cases(6, images=3))
    found = maturity(logits, sides, mixing, kind)
    alone = [maturity(logits[i : i + 1], sides[i : i + 1], mixing[i : i + 1], kind) for i in range(3)]
    torch.testing.assert_close(found, torch.cat(alone))


def test_nothing_given_is_changed_and_half_precision_is_computed_in_single():
    given_maps = [values.bfloat16() for values in cases(7)]
    copies = [values.clone() for values in given_maps]
    found = maturity(*given_maps)
    assert found.dtype == torch.float32
    assert torch.equal(found, maturity(*(values.float() for values in given_maps)))
    single = [values.float().requires_grad_() for values in given_maps]
    assert not maturity(*single).requires_grad
    assert all(torch.equal(*pair) for pair in zip(given_maps, copies, strict=True))


@pytest.mark.parametrize("kind", ["pixel", "image"])
def test_a_weight_per_side(kind):
    logits, sides, mixing = cases(8)
    with pytest.raises(ValueError, match="zip"):
        maturity(logits, sides[:, :2], mixing, kind)


# --- lossiness and grids ----------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_lossiness_reads_the_channel_of_its_area(seed):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(2, 2, 3, 4, generator=generator)
    edges = torch.rand(2, 3, 4, generator=generator) < 0.5
    found = lossiness(maps, edges)
    assert ((found >= 1) & (found <= math.e)).all()
    for image, y, x in np.ndindex(2, 3, 4):
        channel = 0 if edges[image, y, x] else 1
        assert found[image, y, x].item() == pytest.approx(math.exp(maps[image, channel, y, x].item()))


def test_lossiness_of_half_precision_is_computed_in_single():
    assert lossiness(torch.full((1, 2, 1, 1), 0.5).bfloat16(), torch.ones(1, 1, 1, dtype=torch.bool)).item() == (
        pytest.approx(math.exp(0.5), abs=1e-6)
    )
