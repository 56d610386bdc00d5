"""Acceptance checks 12 to 20 and 25 of ALS4GAN: the network and its discriminator learn from each other."""

import os
import signal

import numpy as np
import pytest
import tasks
import torch
from als4gan_support import CLASSES, answered, digest, history, made_of, settings_of
from torch import nn
from worlds import TINY

from stages.artifacts.annotations import Annotations
from stages.artifacts.model import Model
from stages.commands import train
from stages.pixels.void import VOID
from stages.runtime.errors import Stopped
from stages.runtime.randomness import stream
from stages.settings.train import TrainSettings
from stages.training.learners.adversarial import AdversarialLearner
from stages.training.learners.adversarial_losses import total_loss
from stages.training.samples.streams import StreamBatch, collate_part


def adversary(world, folder, key="key", classes=CLASSES, **own):
    """A training with a discriminator, not yet begun."""
    chosen = settings_of("model", **own)
    return tasks.training_of(folder / "a.safetensors", world["dataset"], world["masks"], chosen, classes, key)


def generated(learner, batch, iteration):
    """The losses of the network in an iteration, counted from 1."""
    learner.step = iteration - 1
    torch.manual_seed(0)
    return {name: float(value.detach()) for name, value in learner.generate(batch)[2].items()}


def test_check_12_self_training_begins_after_iteration_1000(world, tmp_path):
    """Iterations count from 1 as in the specification; the steps of the loop count from 0."""
    assert TrainSettings(objective="adversarial").of_objective.self_training_from == 1000
    learner = adversary(world, tmp_path, self_training_from=1000, gate=0.0).learner
    batch = next(learner.batches(0))
    assert learner.step == 0
    for iteration in (1, 1000, 1001, 20000):
        losses = generated(learner, batch, iteration)
        assert losses["accepted"] == 1
        assert losses["self_training"] > 0
        counted = losses["self_training"] if iteration > 1000 else 0
        assert losses["loss"] == pytest.approx(losses["supervised"] + 0.1 * losses["matching"] + counted, rel=1e-6)


def test_check_12_the_objective_counts_the_steps_of_the_loop(world, tmp_path):
    training = adversary(world, tmp_path, self_training_from=2)
    seen, learner = [], training.learner
    original = learner.generate

    def generate(batch):
        seen.append((learner.step, training.state.step))
        return original(batch)

    learner.generate = generate
    training.run()
    assert seen == [(number, number) for number in range(6)]
    learner.batches(4)
    assert learner.step == 4  # where a training that was stopped goes on


def test_check_12_a_new_discriminator_believes_nothing(world, tmp_path):
    learner = adversary(world, tmp_path, gate=0.6, self_training_from=0).learner
    learner.train()
    fake, real, losses = learner.generate(next(learner.batches(0)))
    for pairs in (fake, real):
        assert ((learner.judged(pairs) - 0.5).abs() < 0.05).all()
    assert (float(losses["accepted"]), float(losses["self_training"].detach())) == (0, 0)
    losses["loss"].backward()
    assert all(
        parameter.grad.isfinite().all() for parameter in learner.network.parameters() if parameter.grad is not None
    )


def test_check_12_the_gate_is_a_judgement_without_dropout(world, tmp_path):
    """The same score twice, the discriminator learning before and after."""
    learner = adversary(world, tmp_path).learner
    learner.train()
    fake, _, _ = learner.generate(next(learner.batches(0)))
    assert torch.equal(learner.judged(fake), learner.judged(fake))
    assert learner.discriminator.training
    assert not torch.equal(learner.discriminator(fake)[0], learner.discriminator(fake)[0])


def test_checks_15_and_16_each_player_learns_from_its_own_loss_alone(world, tmp_path):
    learner = adversary(world, tmp_path, gate=0.0, self_training_from=0).learner
    learner.train()
    network, judge = (list(learner.modules[name].parameters()) for name in ("network", "discriminator"))
    updates = learner.updates(next(learner.batches(0)))
    name, losses = next(updates)
    assert name == "network"
    losses["loss"].backward()
    assert all(parameter.grad is not None for parameter in network)
    assert any(parameter.grad.any() for parameter in network)
    assert all(parameter.grad is None for parameter in judge)
    for parameter in network:
        parameter.grad = None
    name, losses = next(updates)
    assert name == "discriminator"
    losses["loss"].backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in judge)
    assert all(parameter.grad is None for parameter in network)
    assert next(updates, None) is None
    for part in ("matching", "self_training"):  # both reach the network, through its logits
        _, _, losses = learner.generate(next(learner.batches(0)))
        assert not losses[part].requires_grad  # told, not learned from
    only = adversary(world, tmp_path, key="fm", feature_matching=1.0).learner
    only.train()
    batch = next(only.batches(0))
    batch.labelled.labels.fill_(VOID)  # check 13: no label costs nothing
    _, _, losses = only.generate(batch)
    assert float(losses["supervised"]) == 0
    losses["loss"].backward()
    assert any(parameter.grad.any() for parameter in only.network.parameters())
    assert all(parameter.grad.isfinite().all() for parameter in only.network.parameters())


def test_check_17_the_history_adds_up(world):
    """In the first epoch self-training does not count yet; all there is to tell is told, and is finite."""
    rows, chosen = history(world["model"]), settings_of("model").of_objective
    assert [row["step"] for row in rows] == [3, 6]
    for row, active in zip(rows, (False, True), strict=True):
        parts = {"supervised", "matching", "self_training", "accepted"}
        parts |= {f"discriminator_{name}" for name in ("loss", "real", "fake")}
        assert parts < row.keys()
        assert np.isfinite(list(row.values())).all()
        assert min(row["supervised"], row["matching"], row["self_training"]) > 0
        weight = chosen.self_training if active else 0
        losses = row["supervised"], row["matching"], row["self_training"]
        assert row["loss"] == pytest.approx(total_loss(*losses, chosen.feature_matching, weight), rel=1e-6)
        assert row["accepted"] == 1  # above 0.3 all
        assert row["discriminator_loss"] == pytest.approx(np.log(2), abs=0.05)
        assert row["discriminator_real"] == pytest.approx(0.5, abs=0.05)
        assert row["discriminator_fake"] == pytest.approx(0.5, abs=0.05)
    model = Model(world["model"])
    assert model.has_discriminator
    assert (
        model.part("discriminator").keys()
        == adversary(world, world["folder"]).learner.discriminator.state_dict().keys()
    )


def test_check_19_rates_of_all_groups_follow_the_schedule(world, tmp_path):
    """Backbone, weights and biases of the head as 1 to 10 to 20; biases without weight decay; 20 000 steps."""
    training = adversary(world, tmp_path, epochs=200, steps_per_epoch=100)
    learner, optimisers = training.learner, training.optimisers
    groups = optimisers["network"].param_groups
    owner = {id(parameter): number for number, group in enumerate(groups) for parameter in group["params"]}
    for name, parameter in learner.network.named_parameters():
        expected = 0 if name.startswith("backbone.") else 2 if name.endswith(".bias") else 1
        assert owner.pop(id(parameter)) == expected, name
    assert not owner
    assert [group["weight_decay"] for group in groups] == [5e-4, 5e-4, 0]
    assert {group["momentum"] for group in groups} == {0.9}
    (judge,) = optimisers["discriminator"].param_groups
    assert (judge["betas"], judge["weight_decay"]) == ((0.9, 0.99), 0)
    for step, rate, of_judge in (
        (0, 2.5e-4, 1e-4),
        (10, 2.498875e-4, 9.9955e-5),
        (10000, 1.339717e-4, 5.358867e-5),
        (20000, 0, 0),
    ):
        training.state.step = step
        for name, module in learner.modules.items():
            training.descend(name, sum(parameter.sum() for parameter in module.parameters()) * 0)
        assert [group["lr"] for group in groups] == pytest.approx([rate, 10 * rate, 20 * rate], rel=1e-6, abs=1e-12)
        assert judge["lr"] == pytest.approx(of_judge, rel=1e-6, abs=1e-12)


class Told(nn.Module):
    """A network that is sure of the labels it is told, and of class 1 where there are none."""

    def __init__(self, labels, classes):
        super().__init__()
        classes = nn.functional.one_hot(torch.where(labels == VOID, 1, labels).long(), classes)
        self.logits = nn.Parameter(400 * classes.permute(0, 3, 1, 2).float())

    def forward(self, images):
        return self.logits + 0 * images.sum()


def test_check_20_what_is_predicted_rightly_looks_real(world, tmp_path):
    """With padding, with void in the masks and other images' void in the predictions."""
    learner = adversary(world, tmp_path, crop=(80, 88), flip=0.5).learner
    learner.discriminator.eval()
    part = collate_part([learner.samples[("real", index, 0)] for index in range(4)])
    assert (part.labels[part.valid] == VOID).any()
    assert not part.valid.all()
    learner.network = learner.forward = Told(part.labels, CLASSES)
    hidden = collate_part([learner.samples[("real", index, 0)] for index in range(4)])
    hidden.labels.fill_(VOID)
    fake, real, losses = learner.generate(StreamBatch(part, hidden, part))
    assert fake.shape == (4, CLASSES + 3, 80, 88)
    assert torch.equal(fake, real)
    outside = ~part.valid[:, None].expand_as(fake)
    assert not fake[outside].any()
    assert float(losses["matching"]) == 0
    assert 0 <= fake.min() <= fake.max() <= 1
    pictures = torch.where(part.valid[:, None], part.images.float() / 255, 0)
    assert torch.equal(real[:, CLASSES:], pictures)  # by 255, not by what else is in the batch


# --- smoke ------------------------------------------------------------------------------------------------------------


def toy(number):
    """A blue rectangle on red, with noise."""
    generator = stream(number, "toy")
    mask = np.zeros((64, 64), np.uint8)
    height, width = generator.integers(24, 49, 2)
    y, x = generator.integers(0, 65 - height), generator.integers(0, 65 - width)
    mask[y : y + height, x : x + width] = 1
    image = np.array([[200, 60, 60], [60, 60, 200]])[mask] + generator.integers(-40, 41, (64, 64, 3))
    return image.astype(np.uint8), mask


TOY = TINY | {
    "objective": "adversarial",
    "backbone": "test_efficientnet",
    "optimiser": "adamw",
    "backbone_lr": 3e-3,
    "head_lr": 3e-3,
    "crop": (64, 64),
    "scale_range": (1, 1),
    "jitter": 0,
    "grey": 0,
    "blur": 0,
    "epochs": 5,
    "steps_per_epoch": 40,
    "discriminator_width": 4,
    "discriminator_lr": 1e-3,
    "self_training_from": 50,
    "gate": 0.5,
    "validate_every": 5,
}


@pytest.mark.slow
def test_check_25_smoke(tmp_path, monkeypatch):
    """200 steps, in one go and stopped after step 100, the 20th of an epoch."""
    pairs = {f"{'t' if number < 20 else 'v'}{number:02}": toy(number) for number in range(24)}
    dataset = made_of(tmp_path / "d.h5", pairs, 2)
    masks = answered(tmp_path, dataset, "masks", image_answer="mask", ratio=0.2)
    assert len(Annotations(masks).mask_ids) == 4
    settings = TrainSettings.load({}, offered=TOY)
    whole = train.run(dataset, masks, tmp_path / "whole.safetensors", settings)
    rows = history(whole)
    assert [row["step"] for row in rows] == [40, 80, 120, 160, 200]
    for row in rows:
        assert np.isfinite(list(row.values())).all()
    assert rows[-1]["val_miou"] > 0.9  # 0.958 when this was written
    assert 0 < np.mean([row["accepted"] for row in rows]) < 1
    original = AdversarialLearner.images_in

    def images_in(learner, batch):
        if learner.step == 100:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(learner, batch)

    monkeypatch.setattr(AdversarialLearner, "images_in", images_in)
    with pytest.raises(Stopped, match=r"^stopped and saved after step 100; run the same command to continue$"):
        train.run(dataset, masks, tmp_path / "parts.safetensors", settings)
    monkeypatch.undo()
    parts = train.run(dataset, masks, tmp_path / "parts.safetensors", settings)
    assert digest(parts) == digest(whole)
    for name in ("last", "best", "discriminator"):
        one, other = Model(whole).part(name), Model(parts).part(name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    for one, other in zip(rows, history(parts), strict=True):
        assert one | {"images_per_second": 0} == other | {"images_per_second": 0}
