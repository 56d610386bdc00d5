"""Losses of regions answered with a set of classes: the specification's numbers, gradients, extremes, a slow twin."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.training.learners.class_set_losses import SetLosses, class_set_losses, weighted_sum

SPEC = (16.0, 8.0, 1.0)


def example():
    """Check A4: (1,3,2,3) logits, answers with region 2 not asked, sets {0} and {1,2}."""
    p = [[[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.5, 0.3]], [[0.5, 0.3, 0.2], [0.25, 0.25, 0.5], [0.1, 0.1, 0.8]]]
    logits = torch.tensor([p]).log().permute(0, 3, 1, 2).contiguous().requires_grad_()
    answers = torch.tensor([[[0, 1, 1], [0, -1, -1]]])
    return logits, answers, torch.tensor([[True, False, False], [False, True, True]])


def damped(pair):
    return float(pair[0].detach() / (1 + pair[1]))


def gradient(logits, answers, sets, coefficients=SPEC, **over):
    leaf = logits.detach().clone().requires_grad_()
    weighted_sum(class_set_losses(leaf, answers, sets, **over), coefficients).backward()
    return leaf.grad


def slow(logits, answers, sets, merged_over, prototypes_over):
    """The same sums and counts, pixel by pixel."""
    zero = logits.sum() * 0
    sums, counts, best = [zero, zero, zero], [0, 0, 0], {}
    fewest = {"several": 2, "all": 1}
    for image in range(len(answers)):
        for y in range(answers.shape[1]):
            for x in range(answers.shape[2]):
                row = int(answers[image, y, x])
                named = [] if row < 0 else sets[row].nonzero().flatten().tolist()
                p = logits[image, :, y, x].softmax(0)
                for part, wanted in enumerate((len(named) == 1, len(named) >= fewest[merged_over])):
                    if named and wanted:
                        sums[part] = sums[part] - p[named].sum().log()
                        counts[part] += 1
                for c in named if len(named) >= fewest[prototypes_over] else []:
                    if (row, c) not in best or p[c] > best[row, c]:
                        best[row, c] = p[c]
    sums[2] = sums[2] - sum((p.log() for p in best.values()), zero)
    counts[2] = len(best)
    return SetLosses(*((loss, torch.tensor(count)) for loss, count in zip(sums, counts, strict=True)))


def test_numbers_of_the_specification():
    losses = class_set_losses(*example())
    assert [damped(pair) for pair in losses] == pytest.approx([0.34994, 0.10950, 0.57160], abs=1e-5)
    assert [int(count) for _, count in losses] == [2, 2, 2]
    assert weighted_sum(losses, SPEC).item() == pytest.approx(7.04666, abs=1e-4)


def test_pixels_that_were_not_asked_change_nothing():
    logits, answers, sets = example()
    other = logits.detach().clone()
    other[0, :, 1, 1:] = torch.tensor([[50.0, -3.0], [0.0, 9.0], [torch.nan, torch.inf]])
    assert torch.equal(
        weighted_sum(class_set_losses(logits, answers, sets), SPEC),
        weighted_sum(class_set_losses(other, answers, sets), SPEC),
    )
    assert torch.equal(gradient(logits, answers, sets), gradient(other, answers, sets))
    assert not gradient(logits, answers, sets)[0, :, 1, 1:].any()


@pytest.mark.parametrize("sets", [torch.ones(2, 3, dtype=torch.bool), torch.zeros(0, 3, dtype=torch.bool)])
def test_nothing_asked_is_exactly_zero(sets):
    logits, answers, _ = example()
    losses = class_set_losses(logits, torch.full_like(answers, -1), sets, "all", "all")
    weighted_sum(losses, SPEC).backward()
    assert all(loss.item() == 0 and int(count) == 0 for loss, count in losses)
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_one_class_is_cross_entropy_of_cosines_over_the_temperature():
    logits = (torch.tensor([0.8, 0.3, -0.1]) / 0.1).view(1, 3, 1, 1)
    single, merged, prototype = class_set_losses(
        logits, torch.zeros(1, 1, 1, dtype=torch.int64), torch.eye(3).bool()[:1]
    )
    assert single[0].item() == pytest.approx(0.0068379, abs=1e-6)
    torch.testing.assert_close(single[0], F.cross_entropy(logits[:, :, 0, 0], torch.tensor([0])))
    assert (int(single[1]), int(merged[1]), int(prototype[1])) == (1, 0, 0)


def test_all_regions_may_feed_the_losses_of_several_classes():
    logits, answers, sets = example()
    several = class_set_losses(logits, answers, sets)
    merged = class_set_losses(logits, answers, sets, merged_over="all")
    prototypes = class_set_losses(logits, answers, sets, prototypes_over="all")
    torch.testing.assert_close(merged.merged[0], several.single[0] + several.merged[0])
    assert int(merged.merged[1]) == 4
    torch.testing.assert_close(prototypes.prototype[0], several.prototype[0] - torch.tensor(0.7).log())
    assert int(prototypes.prototype[1]) == 3
    assert merged.prototype == several.prototype
    assert prototypes.merged == several.merged


def random_case(seed, images, classes, height, width, regions):
    """Random logits, answers and sets; a row belongs to one image, may be empty and need not be visible."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(images, classes, height, width, generator=generator, dtype=torch.float64)
    drawn = torch.randint(-1, regions + 1, (images, height, width), generator=generator)
    home = torch.randint(images, (regions + 2,), generator=generator)
    shown = (drawn < regions) & (home[drawn] == torch.arange(images).view(-1, 1, 1))
    sets = torch.rand(regions, classes, generator=generator) < 0.4
    return logits, torch.where(shown, drawn, -1), sets


@pytest.mark.parametrize("over", ["several", "all"])
def test_gradients_agree_with_finite_differences(over):
    logits, answers, sets = random_case(167, 2, 4, 3, 3, 5)
    losses = class_set_losses(logits, answers, sets, over, over)
    assert all(count > 0 for _, count in losses)
    assert torch.autograd.gradcheck(
        lambda z: tuple(loss for loss, _ in class_set_losses(z, answers, sets, over, over)), logits.requires_grad_()
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(1, 2), st.integers(2, 4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 5)),
    over=st.tuples(*[st.sampled_from(["several", "all"])] * 2),
    ties=st.booleans(),
)
def test_agrees_with_the_slow_twin(seed, shape, over, ties):
    logits, answers, sets = random_case(seed, *shape)
    logits = (logits.round() if ties else logits).requires_grad_()
    found, expected = class_set_losses(logits, answers, sets, *over), slow(logits, answers, sets, *over)
    torch.testing.assert_close(tuple(found), tuple(expected))
    if not ties:  # among equal pixels rounding decides which one gets the gradient
        gradients = [torch.autograd.grad(weighted_sum(losses, SPEC), logits)[0] for losses in (found, expected)]
        torch.testing.assert_close(*gradients)
    torch.testing.assert_close(
        tuple(class_set_losses(logits.float(), answers, sets, *over)),
        tuple(expected),
        check_dtype=False,
        rtol=1e-5,
        atol=1e-5,
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_order_of_the_rows_changes_nothing(seed):
    logits, answers, sets = random_case(seed, 2, 3, 4, 3, 5)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    renamed = torch.where(answers < 0, -1, order.argsort()[answers])
    torch.testing.assert_close(
        tuple(class_set_losses(logits, answers, sets)), tuple(class_set_losses(logits, renamed, sets[order]))
    )
    assert torch.equal(gradient(logits, answers, sets), gradient(logits, renamed, sets[order]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_stay_exact_and_finite(dtype):
    values = torch.tensor([1e4, -1e4, 0.0], dtype=dtype)
    logits = values[torch.randint(3, (2, 4, 5, 6), generator=torch.Generator().manual_seed(1))]
    logits[0, :, 0, 0] = torch.tensor([1e4, -1e4, -1e4, -1e4])
    answers = torch.arange(60).view(2, 5, 6) // 4  # 15 regions, one for every set that names a class
    sets = (torch.arange(15, 0, -1).unsqueeze(1) >> torch.arange(4)) % 2 == 1
    sets[0] = torch.tensor([False, True, True, False])
    logits.requires_grad_()
    losses = class_set_losses(logits, answers, sets, "all", "all")
    weighted_sum(losses, SPEC).backward()
    assert all(loss.isfinite() and loss > 1e4 for loss, _ in losses)
    assert logits.grad.isfinite().all()
    one = class_set_losses(logits[:1, :, :1, :1], answers[:1, :1, :1], sets)
    high = float(logits.detach().max())
    assert float(one.merged[0].detach()) == pytest.approx(2 * high - torch.tensor(2.0).log().item(), abs=2e-3)
    assert float(one.prototype[0].detach()) == 4 * high


def test_half_precision_is_computed_in_single():
    logits, answers, sets = random_case(6, 1, 4, 5, 5, 4)
    half = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = class_set_losses(half, answers, sets)
    assert all(loss.dtype == torch.float32 and count.dtype == torch.int64 for loss, count in found)
    assert tuple(found) == tuple(class_set_losses(half.float(), answers, sets))


def test_a_prototype_moves_one_pixel_per_region_and_class():
    logits, answers, sets = random_case(11, 2, 4, 6, 6, 4)
    pairs = int(class_set_losses(logits, answers, sets).prototype[1])
    moved = gradient(logits, answers, sets, (0.0, 0.0, 1.0)).any(1)
    shown = [row for row in answers.unique().tolist() if row >= 0 and sets[row].sum() >= 2]
    assert pairs == int(sets[shown].sum()) > 0
    for row in shown:
        assert 1 <= int(moved[answers == row].sum()) <= int(sets[row].sum())
    assert not moved[~torch.isin(answers, torch.tensor(shown))].any()


def test_of_equal_pixels_the_first_moves():
    logits = torch.zeros(1, 3, 2, 2)
    answers, sets = torch.tensor([[[-1, 0], [0, 0]]]), torch.tensor([[True, True, False]])
    moved = gradient(logits, answers, sets, (0.0, 0.0, 1.0)).any(1)
    assert moved.tolist() == [[[False, True], [False, False]]]


def test_counts_can_be_summed_over_processes_first():
    logits, answers, sets = random_case(7, 2, 4, 5, 5, 6)
    whole = class_set_losses(logits, answers, sets)
    halves = [class_set_losses(logits[i : i + 1], answers[i : i + 1], sets) for i in range(2)]
    counts = torch.stack([torch.stack([count for _, count in half]) for half in halves]).sum(0)
    shares = [weighted_sum(SetLosses(*zip((s for s, _ in half), counts, strict=True)), SPEC) for half in halves]
    torch.testing.assert_close(sum(shares), weighted_sum(whole, SPEC))


def test_an_answer_without_a_row_is_an_error():
    logits, answers, sets = example()
    with pytest.raises(IndexError):
        class_set_losses(logits, answers, sets[:1])
