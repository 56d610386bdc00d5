"""Adversarial learning without labels: the specification's numbers, who gets a gradient, fair pairs, empty batches."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stages.training.learners.adversarial_losses import (
    accepted,
    discriminator_loss,
    feature_matching_loss,
    known_of,
    mean_loss,
    one_hot,
    pair,
    self_training_loss,
    total_loss,
)
from stages.training.losses.cross_entropy import cross_entropy
from stages.training.schedules import poly

CLASSES = 4
seeds = st.integers(0, 2**32)


def cases(seed, images=3, height=4, width=5, dtype=torch.float64):
    """Random logits, labels of which some are missing, valid areas (top left) and images."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(images, CLASSES, height, width, generator=generator, dtype=dtype)
    labels = torch.randint(CLASSES, (images, height, width), generator=generator, dtype=torch.uint8)
    labels[torch.rand(images, height, width, generator=generator) < 0.2] = 255
    valid = torch.zeros(images, height, width, dtype=torch.bool)
    for area in valid:
        rows, columns = (int(torch.randint(1, side + 1, (), generator=generator)) for side in (height, width))
        area[:rows, :columns] = True
    labels[~valid] = 255
    pictures = torch.rand(images, 3, height, width, generator=generator)
    return logits, labels, valid, pictures


def pixels(*rows):
    """(1,C,1,P) logits of P pixels."""
    return torch.tensor(rows).T[None, :, None, :]


def learned(logits, gate, valid):
    return mean_loss(*self_training_loss(logits, gate, valid))


def gradient(loss, values):
    leaf = values.detach().clone().requires_grad_()
    loss(leaf).backward()
    return leaf.grad


class Discriminator(nn.Module):
    """Features and a score of a pair, smooth so that every parameter matters."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(CLASSES + 3, 6, 3, padding=1), nn.Linear(6, 1)

    def forward(self, pairs):
        features = self.body(pairs).tanh().mean((2, 3))
        return self.head(features), features


def players():
    torch.manual_seed(0)
    return nn.Conv2d(3, CLASSES, 1), Discriminator()


def touched(module):
    return [parameter.grad is not None and bool(parameter.grad.any()) for parameter in module.parameters()]


# --- the gate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_gate_of_check_12(shape):
    z = torch.tensor([0.5, 0.5625, 0.25, 0.75]).view(shape)
    found = accepted(z, 0.5)
    assert found.shape == (4,)
    assert found.nonzero().flatten().tolist() == [1, 3]
    assert not accepted(z, 0.75).any()
    assert not accepted(torch.tensor([0.6, math.nan]), 0.6).any()  # the nearest float of 0.6 is not above 0.6


def test_one_score_per_image():
    with pytest.raises(RuntimeError):
        accepted(torch.zeros(4, 2), 0.5)


def test_nothing_accepted_costs_nothing_as_check_12_says():
    logits, _, valid, _ = cases(1)
    for gate, area in ((torch.zeros(3, dtype=torch.bool), valid), (torch.ones(3, dtype=torch.bool), valid & False)):
        total, count = self_training_loss(logits, gate, area)
        assert (total.item(), count.item()) == (0, 0)
        leaf = logits.clone().requires_grad_()
        loss = learned(leaf, gate, area)
        loss.backward()
        assert loss.item() == 0
        assert torch.equal(leaf.grad, torch.zeros_like(logits))


# --- cross-entropy and self-training ----------------------------------------------------------------------------------


def test_cross_entropy_of_check_13():
    logits = pixels((2.0, 0, 0), (0, 0, 1)).requires_grad_()
    for labels, expected in (([0, 2], 0.395495), ([0, 255], 0.239545), ([255, 255], 0)):
        loss = mean_loss(*cross_entropy(logits, torch.tensor(labels, dtype=torch.uint8).view(1, 1, 2)))
        assert loss.item() == pytest.approx(expected, abs=1e-5)
        logits.grad = None
        loss.backward()
        assert logits.grad.isfinite().all()
    assert not logits.grad.any()


def test_a_mass_below_one_is_no_mass_of_none():
    """Class weights may sum to less than 1; a divisor clamped to 1 would make their mean too small."""
    labels = torch.zeros(1, 1, 1, dtype=torch.uint8)
    total, mass = cross_entropy(pixels((2.0, 0, 0)), labels, torch.tensor([0.25, 1, 1]))
    assert mean_loss(total, mass).item() == pytest.approx(0.239545, abs=1e-5)
    total, mass = cross_entropy(pixels((2.0, 0, 0)), labels, torch.tensor([0.0, 1, 1]))
    assert mean_loss(total, mass).item() == 0


def test_self_training_of_check_14():
    logits = torch.zeros(2, 3, 1, 2)
    logits[0, 0, 0, 0] = 2
    gate, valid = torch.tensor([True, False]), torch.tensor([[[True, False]], [[True, True]]])
    total, count = self_training_loss(logits, gate, valid)
    assert total.item() == pytest.approx(0.239545, abs=1e-5)
    assert count.item() == 1
    found = gradient(lambda values: learned(values, gate, valid), logits)
    p = logits[0, :, 0, 0].softmax(0)
    torch.testing.assert_close(found[0, :, 0, 0], p - torch.tensor([1.0, 0, 0]))
    assert not found[0, :, 0, 1].any()  # padding
    assert not found[1].any()  # not accepted


@given(seed=seeds, gate=st.lists(st.booleans(), min_size=3, max_size=3))
@settings(max_examples=40, deadline=None)
def test_self_training_agrees_with_a_slow_program(seed, gate):
    logits, _, valid, _ = cases(seed)
    expected = [
        -float(logits[image, :, y, x].log_softmax(0).max())
        for image, y, x in np.ndindex(*valid.shape)
        if gate[image] and valid[image, y, x]
    ]
    total, count = self_training_loss(logits, torch.tensor(gate), valid)
    assert total.item() == pytest.approx(sum(expected))
    assert count.item() == len(expected)
    found = gradient(lambda values: learned(values, torch.tensor(gate), valid), logits)
    assert torch.equal(found.any(1), valid & torch.tensor(gate).view(-1, 1, 1))


def test_self_training_gradients_agree_with_finite_differences():
    logits, _, valid, _ = cases(2, images=2)
    gate = torch.tensor([True, True])
    assert torch.autograd.gradcheck(lambda values: learned(values, gate, valid), logits.requires_grad_())


def test_of_equal_classes_the_first_is_learned():
    found = gradient(lambda values: learned(values, *map(torch.tensor, ([True], [[[True]]]))), torch.zeros(1, 3, 1, 1))
    assert found.flatten().tolist() == pytest.approx([-2 / 3, 1 / 3, 1 / 3])


# --- features and the discriminator -----------------------------------------------------------------------------------


def test_feature_matching_of_check_15():
    real, fake = torch.tensor([[1.0, 2], [3, 0]]), torch.tensor([[0.0, 1], [2, 5]])
    assert feature_matching_loss(real, fake).item() == pytest.approx(1.5)
    assert feature_matching_loss(real, fake.flip(0)).item() == pytest.approx(1.5)
    assert feature_matching_loss(real.flip(0), fake).item() == pytest.approx(1.5)
    assert feature_matching_loss(real, real.flip(0)).item() == 0
    assert feature_matching_loss(real, torch.cat([fake, fake[:1], fake[1:]])).item() == pytest.approx(1.5)


@given(seed=seeds, real=st.integers(1, 4), fake=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_feature_matching_agrees_with_a_slow_program(seed, real, fake):
    draw = np.random.default_rng(seed)
    ours, theirs = draw.normal(size=(real, 3)), draw.normal(size=(fake, 3))
    expected = sum(abs(sum(ours[:, k]) / real - sum(theirs[:, k]) / fake) for k in range(3)) / 3
    assert feature_matching_loss(torch.tensor(ours), torch.tensor(theirs)).item() == pytest.approx(expected)


def test_feature_matching_moves_the_fake_features_only():
    draw = torch.Generator().manual_seed(3)
    real = torch.randn(3, 5, generator=draw, dtype=torch.float64, requires_grad=True)
    fake = torch.randn(2, 5, generator=draw, dtype=torch.float64, requires_grad=True)
    feature_matching_loss(real, fake).backward()
    assert real.grad is None
    assert torch.equal(fake.grad.abs(), torch.full_like(fake, 1 / 10))
    assert torch.autograd.gradcheck(lambda values: feature_matching_loss(real, values), fake)


def test_feature_matching_of_check_15_reaches_the_network_and_not_a_frozen_discriminator():
    network, discriminator = players()
    _, labels, valid, pictures = cases(4, dtype=torch.float32)
    discriminator.requires_grad_(False)
    _, fake = discriminator(pair(network(pictures).softmax(1), pictures, valid))
    _, real = discriminator(pair(one_hot(labels, CLASSES), pictures, valid))
    feature_matching_loss(real, fake).backward()
    assert all(touched(network))
    assert not any(touched(discriminator))


def test_discriminator_loss_of_check_16():
    real, fake = torch.tensor([0.8, 0.9]).logit(), torch.tensor([0.5, 0.2]).logit()
    sure = torch.tensor([1e4])
    assert discriminator_loss(real, fake).item() == pytest.approx(0.311199, abs=1e-5)
    assert discriminator_loss(sure, fake).item() == pytest.approx(0.458145 / 2, abs=1e-5)
    assert discriminator_loss(real, -sure).item() == pytest.approx(0.164252 / 2, abs=1e-5)
    assert discriminator_loss(torch.zeros(2, 1), torch.zeros(3, 1)).item() == pytest.approx(math.log(2))


def test_discriminator_loss_of_extreme_scores_stays_finite():
    scores = torch.tensor([[-1e4], [1e4]], requires_grad=True)
    loss = discriminator_loss(scores[:1], scores[1:])
    loss.backward()
    assert loss.item() == pytest.approx(1e4)
    assert scores.grad.flatten().tolist() == pytest.approx([-0.5, 0.5])


def test_discriminator_loss_gradients_agree_with_finite_differences():
    draw = torch.Generator().manual_seed(5)
    real, fake = (torch.randn(n, 1, generator=draw, dtype=torch.float64, requires_grad=True) for n in (3, 2))
    assert torch.autograd.gradcheck(discriminator_loss, (real, fake))


def test_the_step_of_the_discriminator_of_check_16_moves_no_network():
    network, discriminator = players()
    _, labels, valid, pictures = cases(6, dtype=torch.float32)
    fake, _ = discriminator(pair(network(pictures).softmax(1), pictures, valid).detach())
    real, _ = discriminator(pair(one_hot(labels, CLASSES), pictures, valid))
    discriminator_loss(real, fake).backward()
    assert all(touched(discriminator))
    assert not any(touched(network))


@pytest.mark.parametrize("loss", [feature_matching_loss, discriminator_loss])
def test_without_real_or_fake_ones_there_is_no_loss(loss):
    for real, fake in ((0, 2), (2, 0)):
        with pytest.raises(ValueError, match="real and fake"):
            loss(torch.zeros(real, 1), torch.zeros(fake, 1))


def test_total_of_check_17():
    ce, fm, st = (torch.tensor(value, requires_grad=True) for value in (0.395495, 1.5, 0.239545))
    loss = total_loss(ce, fm, st, 0.1, 1.0)
    assert loss.item() == pytest.approx(0.785040, abs=1e-5)
    assert total_loss(ce, fm, torch.tensor(0.0), 0.1, 1.0).item() == pytest.approx(0.545495, abs=1e-5)
    loss.backward()
    assert [part.grad.item() for part in (ce, fm, st)] == pytest.approx([1, 0.1, 1])


def test_half_precision_is_computed_in_single():
    logits, _, valid, _ = cases(7, dtype=torch.float32)
    gate, half = torch.tensor([True, False, True]), logits.bfloat16()
    scores = half[:, 0, 0, :1]
    with torch.autocast("cpu", torch.bfloat16):
        found = [learned(half, gate, valid), feature_matching_loss(half[0, 0], half[1, 0])]
        found += [discriminator_loss(scores, -scores)]
    full = half.float()
    expected = [learned(full, gate, valid), feature_matching_loss(full[0, 0], full[1, 0])]
    expected += [discriminator_loss(scores.float(), -scores.float())]
    assert found == expected
    assert {loss.dtype for loss in found} == {torch.float32}


# --- pairs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_one_hot(dtype):
    found = one_hot(torch.tensor([[[0, 2, 255]]], dtype=dtype), 3)
    assert found.dtype == torch.float32
    assert found[0, :, 0].T.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    for wrong in (3, 254):
        with pytest.raises(ValueError, match="only 3 classes"):
            one_hot(torch.tensor([[[0, wrong]]], dtype=dtype), 3)


@given(seed=seeds)
@settings(max_examples=40, deadline=None)
def test_fair_pairs_of_check_20(seed):
    """A prediction that agrees with the truth where there is one makes the same input, whatever it says elsewhere."""
    logits, labels, valid, pictures = cases(seed, dtype=torch.float32)
    real = pair(one_hot(labels, CLASSES), pictures, valid)
    predicted = torch.where((labels != 255).unsqueeze(1), one_hot(labels, CLASSES), logits.softmax(1))
    assert real.shape == (3, CLASSES + 3, 4, 5)
    assert torch.equal(pair(predicted, pictures, valid, known_of(labels, valid, 3)), real)
    assert not real.permute(0, 2, 3, 1)[~valid].any()
    assert torch.equal(real[:, CLASSES:].permute(0, 2, 3, 1)[valid], pictures.permute(0, 2, 3, 1)[valid])
    dense = torch.where(valid & (labels == 255), 1, labels)  # without holes nothing has to be known
    predicted = torch.where(valid.unsqueeze(1), one_hot(dense, CLASSES), logits.softmax(1))
    assert torch.equal(pair(predicted, pictures, valid), pair(one_hot(dense, CLASSES), pictures, valid))


def test_a_pair_is_zero_in_padding_whatever_it_holds():
    logits, _, valid, pictures = cases(8, dtype=torch.float32)
    wild = torch.where(valid.unsqueeze(1), logits, torch.nan).requires_grad_()
    found = pair(wild, torch.where(valid.unsqueeze(1), pictures, torch.inf), valid)
    assert torch.equal(found, pair(logits, pictures, valid))
    found.sum().backward()
    assert torch.equal(wild.grad, valid.unsqueeze(1).expand_as(wild).float())


def test_fakes_take_the_holes_of_real_ones_in_turn():
    labels = torch.tensor([[[0, 255, 255]], [[255, 1, 0]]], dtype=torch.uint8)
    valid = torch.tensor([[[True, True, False]], [[True, True, True]]])
    known = known_of(labels, valid, 3)
    assert known[:, 0].tolist() == [[True, False, True], [False, True, True], [True, False, True]]
    assert known_of(labels, valid, 1).shape == (1, 1, 3)
    found = pair(torch.full((3, 2, 1, 3), 0.5), torch.ones(3, 3, 1, 3), torch.ones(3, 1, 3, dtype=torch.bool), known)
    assert torch.equal(found[:, 0] != 0, known)
    assert (found[:, 2:] == 1).all()  # the image shows in the holes


def test_half_precision_makes_pairs_in_single():
    logits, _, valid, pictures = cases(9, dtype=torch.float32)
    assert pair(logits.bfloat16(), pictures.double(), valid).dtype == torch.float32


# --- the schedule -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "peak, step, rate",
    [
        (2.5e-4, 0, 2.5e-4),
        (2.5e-4, 10, 2.498875e-4),
        (2.5e-4, 10000, 1.339717e-4),
        (2.5e-4, 20000, 0),
        (1e-4, 10000, 5.358867e-5),
    ],
)
def test_rates_of_check_19(peak, step, rate):
    assert peak * poly(20000, 0.9)(step) == pytest.approx(rate, rel=1e-6, abs=1e-12)
