"""Losses of support heads: the specification's numbers, slow twins, gradients, batches without labels."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.training.learners.support_losses import (
    area_loss,
    class_thresholds,
    loss_per_class,
    lossy_targets,
    side_losses,
    sum_of_means,
)

CLASSES = 4


def cases(seed, images=2, height=5, width=6, share=0.4, dtype=torch.float64):
    """Random logits, labels of which about `share` are given, lossiness logits and edges."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(images, CLASSES, height, width, generator=generator, dtype=dtype)
    labels = torch.randint(CLASSES, (images, height, width), generator=generator, dtype=torch.uint8)
    labels[torch.rand(images, height, width, generator=generator) >= share] = 255
    support = 2 * torch.randn(images, 2, height, width, generator=generator, dtype=dtype)
    edges = torch.rand(images, height, width, generator=generator) < 0.5
    return logits, labels, support, edges


def with_losses(*losses):
    """(1,2,1,P) logits whose cross-entropy at class 0 is `losses`."""
    p = torch.tensor(losses, dtype=torch.float64).neg().exp()
    return torch.stack([p, 1 - p]).log().view(1, 2, 1, -1)


def pixel_losses(logits, labels):
    """(image, y, x), class and cross-entropy of every labelled pixel."""
    for image, y, x in np.ndindex(*labels.shape):
        if (label := int(labels[image, y, x])) != 255:
            yield (image, y, x), label, -float(logits[image, :, y, x].log_softmax(0)[label])


def support_loss(logits, labels, support, edges, thresholds):
    targets = lossy_targets(logits, labels, thresholds)
    return sum_of_means(*area_loss(support, targets, labels != 255, edges))


# --- thresholds and targets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_thresholds_and_targets_of_check_15(dtype):
    logits, labels = with_losses(0.2, 0.4, 0.6).to(dtype), torch.zeros(1, 1, 3, dtype=torch.uint8)
    thresholds = class_thresholds(*loss_per_class(logits, labels, 2))
    assert thresholds.dtype == torch.float64
    assert thresholds.tolist() == pytest.approx([0.4, math.inf])
    assert lossy_targets(logits.float(), labels, torch.tensor([0.4, math.inf])).tolist() == [[[0, 0, 1]]]
    assert lossy_targets(logits.float(), labels, thresholds).tolist() == [[[0, 0, 1]]]


@given(loss=st.floats(0.001, 20), count=st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_of_equal_losses_none_is_above_their_mean(loss, count):
    logits, labels = with_losses(*[loss] * count).float(), torch.zeros(1, 1, count, dtype=torch.uint8)
    thresholds = class_thresholds(*loss_per_class(logits, labels, 2))
    assert not lossy_targets(logits, labels, thresholds).any()


def test_a_class_without_labels_has_no_lossy_pixels():
    assert class_thresholds(torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)).tolist() == (
        [math.inf, math.inf]
    )
    logits, labels, _, _ = cases(1)
    assert not lossy_targets(logits, labels, torch.full((CLASSES,), math.inf)).any()


@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.0, 0.1, 0.5, 1.0]), images=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_thresholds_and_targets_agree_with_a_slow_program(seed, share, images):
    logits, labels, _, _ = cases(seed, images, share=share)
    sums, counts, targets = np.zeros(CLASSES), np.zeros(CLASSES, int), torch.zeros(labels.shape)
    for _, label, loss in pixel_losses(logits, labels):
        sums[label] += loss
        counts[label] += 1
    for where, label, loss in pixel_losses(logits, labels):
        targets[where] = float(loss > sums[label] / counts[label] + 1e-12)
    found = loss_per_class(logits, labels, CLASSES)
    assert (found[0].dtype, found[1].dtype) == (torch.float64, torch.int64)
    assert found[0].tolist() == pytest.approx(sums.tolist())
    assert found[1].tolist() == counts.tolist()
    assert torch.equal(lossy_targets(logits, labels, class_thresholds(*found)), targets)


def test_sums_of_images_add_up_to_those_of_a_batch():
    logits, labels, _, _ = cases(2, images=3, dtype=torch.float32)
    alone = [loss_per_class(logits[i : i + 1], labels[i : i + 1], CLASSES) for i in range(3)]
    sums, counts = (torch.stack(part).sum(0) for part in zip(*alone, strict=True))
    torch.testing.assert_close((sums, counts), loss_per_class(logits, labels, CLASSES))


def test_labels_may_be_bytes_or_long_and_logits_half():
    logits, labels, _, _ = cases(3, dtype=torch.float32)
    thresholds = class_thresholds(*loss_per_class(logits, labels, CLASSES))
    assert torch.equal(class_thresholds(*loss_per_class(logits, labels.long(), CLASSES)), thresholds)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(class_thresholds(*loss_per_class(logits, labels, CLASSES)), thresholds)
        half = lossy_targets(logits.bfloat16(), labels, thresholds)
    assert half.dtype == torch.float32
    assert torch.equal(half, lossy_targets(logits.bfloat16().float(), labels, thresholds))


def test_more_labels_than_classes_are_an_error():
    logits, labels, _, _ = cases(4)
    with pytest.raises(ValueError, match="only 2 classes"):
        loss_per_class(logits, labels, 2)
    with pytest.raises(IndexError):
        loss_per_class(logits[:, :2], labels, 2)


def test_targets_carry_no_gradient():
    logits, labels, support, edges = cases(5, dtype=torch.float32)
    thresholds = class_thresholds(*loss_per_class(logits, labels, CLASSES))
    assert not lossy_targets(logits.requires_grad_(), labels, thresholds).requires_grad
    support_loss(logits, labels, support.requires_grad_(), edges, thresholds).backward()
    assert logits.grad is None
    assert support.grad.any()


# --- where the loss is high -------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.0, 0.1, 0.5, 1.0]), images=st.integers(1, 2))
@settings(max_examples=40, deadline=None)
def test_area_loss_agrees_with_a_slow_program(seed, share, images):
    logits, labels, support, edges = cases(seed, images, share=share)
    targets = lossy_targets(logits, labels, class_thresholds(*loss_per_class(logits, labels, CLASSES)))
    sums, counts = [0.0, 0.0], [0, 0]
    for where, _, _ in pixel_losses(logits, labels):
        channel = 0 if edges[where] else 1
        p = float(support[where[0], channel, where[1], where[2]].sigmoid())
        sums[channel] -= math.log(p if targets[where] else 1 - p)
        counts[channel] += 1
    found = area_loss(support, targets, labels != 255, edges)
    assert found[0].tolist() == pytest.approx(sums)
    assert found[1].tolist() == counts
    expected = sum(part / count for part, count in zip(sums, counts, strict=True) if count)
    assert sum_of_means(*found).item() == pytest.approx(expected)


def test_each_labelled_pixel_moves_its_channel_only():
    logits, labels, support, edges = cases(6, dtype=torch.float32)
    support_loss(logits, labels, support.requires_grad_(), edges, torch.zeros(CLASSES)).backward()
    labelled = labels != 255
    assert torch.equal(support.grad != 0, torch.stack([labelled & edges, labelled & ~edges], 1))


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("which", ["none", "edges", "others"])
def test_areas_without_labels_cost_nothing(which, images):
    logits, labels, support, edges = cases(7, images, share=1.0, dtype=torch.float32)
    labels[{"none": edges | True, "edges": ~edges, "others": edges}[which]] = 255
    thresholds = class_thresholds(*loss_per_class(logits, labels, CLASSES))
    targets = lossy_targets(logits, labels, thresholds)
    sums, counts = area_loss(support.requires_grad_(), targets, labels != 255, edges)
    loss = sum_of_means(sums, counts)
    loss.backward()
    channel = {"none": None, "edges": 0, "others": 1}[which]
    for empty in {0, 1} - {channel}:
        assert (sums[empty].item(), int(counts[empty])) == (0, 0)
        assert not support.grad[:, empty].any()
    if channel is None:
        assert loss.item() == 0
    else:
        assert loss.item() == pytest.approx((sums[channel] / counts[channel]).item())
        assert support.grad[:, channel].any()
    assert support.grad.isfinite().all()


def test_area_loss_gradients_agree_with_finite_differences():
    logits, labels, support, edges = cases(8)
    targets = lossy_targets(logits, labels, class_thresholds(*loss_per_class(logits, labels, CLASSES)))
    assert targets.any()

    def loss(values):
        return sum_of_means(*area_loss(values, targets, labels != 255, edges))

    assert torch.autograd.gradcheck(loss, support.requires_grad_())


def test_extreme_logits_stay_finite():
    logits, labels, support, edges = cases(9, dtype=torch.float32)
    logits, support = logits.sign() * 1e4, (support.sign() * 1e4).requires_grad_()
    sums, counts = loss_per_class(logits, labels, CLASSES)
    assert sums.isfinite().all()
    loss = support_loss(logits, labels, support, edges, class_thresholds(sums, counts))
    loss.backward()
    assert loss.isfinite()
    assert support.grad.isfinite().all()


def test_half_precision_is_computed_in_single():
    logits, labels, support, edges = cases(10, dtype=torch.float32)
    targets, labelled, half = (labels == 1).float(), labels != 255, support.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        sums, counts = area_loss(half, targets, labelled, edges)
        sides = side_losses(logits.bfloat16().unsqueeze(1), labels)
    assert (sums.dtype, counts.dtype, sides[0][0].dtype) == (torch.float32, torch.int64, torch.float32)
    assert torch.equal(sums, area_loss(half.float(), targets, labelled, edges)[0])
    assert torch.equal(sides[0][0], side_losses(logits.bfloat16().float().unsqueeze(1), labels)[0][0])


def test_processes_that_share_their_counts_make_the_loss_of_the_whole_batch():
    logits, labels, support, edges = cases(11, images=2)
    targets = lossy_targets(logits, labels, torch.full((CLASSES,), 0.5))
    labelled = labels != 255
    halves = [area_loss(*(part[i : i + 1] for part in (support, targets, labelled, edges))) for i in range(2)]
    counts = halves[0][1] + halves[1][1]
    shares = [sum_of_means(sums, counts) for sums, _ in halves]
    torch.testing.assert_close(sum(shares), sum_of_means(*area_loss(support, targets, labelled, edges)))


# --- side predictions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, (0.4, 0.7, 0.9, 1.0)])
def test_side_losses_are_those_of_label_maps(weights):
    labels = cases(12)[1]
    sides = torch.stack([cases(seed, dtype=torch.float32)[0] for seed in (13, 14, 15)], 1)
    weight = None if weights is None else torch.tensor(weights)
    found = side_losses(sides, labels, weight)
    assert len(found) == 3
    for k, (loss, mass) in enumerate(found):
        expected = F.cross_entropy(sides[:, k], labels.long(), weight, ignore_index=255)
        torch.testing.assert_close(loss / mass, expected)


def test_pixels_without_a_label_move_no_side():
    sides = torch.stack([cases(seed, dtype=torch.float32)[0] for seed in (16, 17, 18)], 1).requires_grad_()
    labels = cases(19, share=0.2)[1]
    sum(loss for loss, _ in side_losses(sides, labels)).backward()
    assert torch.equal(sides.grad.any(2), (labels != 255).unsqueeze(1).expand(-1, 3, -1, -1))
    nothing = torch.full_like(labels, 255)
    leaf = sides.detach().clone().requires_grad_()
    found = side_losses(leaf, nothing, torch.ones(CLASSES))
    sum(loss for loss, _ in found).backward()
    assert [(loss.item(), mass.item()) for loss, mass in found] == [(0, 0)] * 3
    assert not leaf.grad.any()
