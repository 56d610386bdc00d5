"""A teacher beside any objective: mixing, labels it gives, losses by hand, what a step costs, and going on."""

import math
import os
import signal

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies
from tasks import learner_of, network_of, training_of
from torch import nn
from worlds import TINY, random_masks, random_round, region_round, write_dataset, write_superpixels

from stages.artifacts.annotations import Annotations
from stages.artifacts.model import Model
from stages.commands import train
from stages.networks.dropped_features import seen_twice
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput, Stopped
from stages.settings.train import TrainSettings
from stages.training.cutmix import AREA, Mix, draw_mix
from stages.training.learners.teacher import TeacherLearner
from stages.training.learners.teacher_losses import (
    Thresholds,
    believed,
    confidence_sums,
    move_towards,
    taught_loss,
    warmed_up,
)
from stages.training.samples.taught import LABELLED

NAMES = [f"i{number}" for number in range(8)]
SIZE, CLASSES = (32, 32), 3

# --- CutMix -----------------------------------------------------------------------------------------------------------


@given(
    strategies.integers(2, 6),
    strategies.tuples(strategies.integers(1, 24), strategies.integers(1, 24)),
    strategies.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_labels_move_with_their_pixels(count, size, step):
    mix = draw_mix(count, size, 1.0, 0, step, 0)
    assert mix is not None, "each image gets a box of at least one pixel"
    origin = torch.arange(count * size[0] * size[1]).view(count, *size)
    moved = mix(origin)
    assert torch.equal(mix(origin.unsqueeze(1).repeat(1, 3, 1, 1).float()), moved.unsqueeze(1).repeat(1, 3, 1, 1))
    assert torch.equal(moved % (size[0] * size[1]), origin % (size[0] * size[1])), "a pixel keeps its place"
    foreign = moved != origin
    assert torch.equal(foreign, mix.boxes)
    assert foreign.any((1, 2)).all()


def test_boxes_have_the_area_that_is_drawn_and_follow_their_stream():
    mix = draw_mix(400, (60, 80), 1.0, 0, 3, 0)
    shares = mix.boxes.float().mean((1, 2))
    assert shares.min() >= AREA[0] * 0.8
    assert shares.max() <= AREA[1] * 1.05
    assert float(shares.mean()) == pytest.approx(sum(AREA) / 2, abs=0.02)
    again, other = draw_mix(400, (60, 80), 1.0, 0, 3, 0), draw_mix(400, (60, 80), 1.0, 0, 4, 0)
    assert torch.equal(mix.boxes, again.boxes)
    assert not torch.equal(mix.boxes, other.boxes)
    half = draw_mix(400, (60, 80), 0.5, 0, 3, 0).boxes.any((1, 2)).float().mean()
    assert float(half) == pytest.approx(0.5, abs=0.1)


def test_features_are_mixed_where_the_middle_of_a_cell_is_in_the_box():
    boxes = torch.zeros(2, 8, 12, dtype=torch.bool)
    boxes[0, 2:8, 3:7] = True
    mix = Mix(torch.tensor([1, 0]), boxes)
    fine, coarse, tokens = torch.zeros(2, 1, 8, 12), torch.zeros(2, 3, 2, 3), torch.tensor([[1.0], [2.0]])
    fine[1], coarse[1] = 1, 1
    found = mix.mixed_features((fine, coarse, tokens))
    assert torch.equal(found[0][0, 0], boxes[0].float())
    assert found[1][0, 0].tolist() == [[0, 1, 0], [0, 1, 0]]  # middles in rows 2 and 6, columns 2, 6 and 10
    assert all(torch.equal(each[1], torch.ones_like(each[1])) for each in found[:2])
    assert torch.equal(found[2], tokens)


def test_nothing_is_mixed_into_a_single_image_or_with_probability_0():
    assert draw_mix(1, SIZE, 1.0, 0, 0) is None
    assert draw_mix(4, SIZE, 0.0, 0, 0) is None


# --- what the teacher says, by hand -----------------------------------------------------------------------------------

P = torch.tensor([[[[0.9, 0.5, 0.2]], [[0.1, 0.4, 0.2]], [[0.0, 0.1, 0.6]]]])  # 1 image, 3 classes, 3 pixels
OPEN = torch.tensor([[[True, True, True]]])


def test_confidence_by_predicted_class_and_probability_are_summed_over_open_pixels():
    sums = confidence_sums(P, OPEN)
    torch.testing.assert_close(sums, torch.tensor([[1.4, 0, 0.6], [2, 0, 1], [1.6, 0.7, 0.7]]))
    closed = torch.tensor([[[True, False, True]]])
    torch.testing.assert_close(confidence_sums(P, closed)[1], torch.tensor([1.0, 0, 1]))


@pytest.mark.parametrize(
    "kind, expected",
    [
        ("fixed", [0.8, 0.8, 0.8]),
        ("mean", [0.7, 0.0, 0.6]),
        ("share", [2 / 3, 2 / 3 * 0.7 / 1.6, 2 / 3 * 0.7 / 1.6]),
    ],
)
def test_thresholds(kind, expected):
    thresholds = Thresholds(3, kind, 0.8)
    thresholds.update(confidence_sums(P, OPEN), OPEN.sum(), warmed_up(0.9, 0))
    torch.testing.assert_close(thresholds(), torch.tensor(expected))
    before = thresholds()
    thresholds.update(torch.zeros(3, 3), torch.tensor(0), 0.5)
    torch.testing.assert_close(thresholds(), before)  # no open pixel says nothing


def test_a_second_batch_counts_by_the_momentum():
    thresholds = Thresholds(3, "mean", 1.0)
    thresholds.update(confidence_sums(P, OPEN), OPEN.sum(), warmed_up(0.9, 0))
    thresholds.update(torch.tensor([[0.0, 2, 0], [0, 3, 0], [1, 2, 0]]), torch.tensor(3), warmed_up(0.9, 1))
    torch.testing.assert_close(thresholds.shares, torch.tensor([1 / 3, 1 / 2, 1 / 6]))
    torch.testing.assert_close(thresholds(), torch.tensor([0.7, 2 / 3, 0.6]))


def test_only_open_pixels_of_known_classes_are_believed_from_the_threshold_on():
    known = torch.ones(3, dtype=torch.bool)
    at = torch.tensor([0.5, 0.5, 0.7])
    assert believed(P, OPEN, at, known).tolist() == [[[0, 0, VOID]]]
    assert believed(P, torch.tensor([[[False, True, True]]]), at, known).tolist() == [[[VOID, 0, VOID]]]
    assert believed(P, OPEN, torch.zeros(3), torch.tensor([False, True, True])).tolist() == [[[VOID, VOID, 2]]]


def test_the_loss_is_the_mean_over_the_views():
    targets = torch.tensor([[[0, VOID, 2]]], dtype=torch.uint8)
    one, two = P.log(), torch.log(torch.full_like(P, 1 / 3))
    assert float(taught_loss(one.clamp(min=-30), targets)) == pytest.approx(-math.log(0.9) - math.log(0.6), rel=1e-5)
    both = taught_loss(torch.cat([one, two]).clamp(min=-30), targets)
    assert float(both) == pytest.approx((-math.log(0.9) - math.log(0.6) + 2 * math.log(3)) / 2, rel=1e-5)
    assert float(taught_loss(two, torch.full_like(targets, VOID))) == 0


def test_the_teacher_is_the_running_mean_and_forgets_its_start():
    assert [warmed_up(0.99, step) for step in (0, 1, 9, 1000)] == [0, 0.5, 0.9, 0.99]
    teacher, student = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    nn.init.constant_(student.weight, 3)
    student.running_mean.fill_(5)
    student.num_batches_tracked.fill_(7)
    move_towards(teacher, student, 0.75)
    assert teacher.weight.item() == pytest.approx(1.5)
    assert teacher.running_mean.item() == pytest.approx(1.25)
    assert teacher.num_batches_tracked.item() == 7
    assert student.weight.item() == 3


# --- the second view in the features ----------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [{}, {"architecture": "unet", "backbone": "tu-test_resnet"}], ids=["own", "smp"])
def test_dropped_features_are_a_second_view_behind_the_first(own):
    network = network_of(TrainSettings.load(own, offered=TINY), CLASSES).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        plain = network(images)
        with seen_twice(network, 0.5):
            both = network(images)
        with seen_twice(network, 0.0):
            assert torch.equal(network(images), plain)
        after = network(images)
    assert both.shape == (4, *plain.shape[1:])
    torch.testing.assert_close(both[:2], plain, rtol=1e-4, atol=1e-5)
    assert (both[2:] - plain).abs().max() > 1e-3
    assert torch.equal(after, plain)


# --- the learner ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A dataset of noise with some void, and ledgers of each kind of label."""
    folder = tmp_path_factory.mktemp("teacher")
    generator = np.random.default_rng(0)
    images = {name: generator.integers(0, 256, (*SIZE, 3)).astype(np.uint8) for name in NAMES}
    splits = dict(zip(NAMES, ["train"] * 6 + ["val"] * 2, strict=True))
    dataset = write_dataset(folder / "d.h5", random_masks(NAMES, SIZE, CLASSES, 0.3), CLASSES, splits, images)
    made = {"dataset": dataset, "pixels": random_round(folder, dataset, 0)}
    asked = {"answer": "class-set", "budget": 20, "rule": "uniform"}
    made["sets"] = region_round(folder, dataset, 1, write_superpixels(folder, dataset), select_settings=asked)
    for number, (name, budget) in enumerate({"masks": 2, "every mask": 6}.items(), 2):
        asked = {"rule": "top", "budget": budget, "image_answer": "mask"}
        made[name] = random_round(folder, dataset, number, select_settings=asked, score_settings={"unit": "image"})
    return made


def chosen(**own):
    return TrainSettings.load({"objective": "teacher", **own}, offered=TINY | {"epochs": 2})


def taught(world, labels, **own) -> TeacherLearner:
    values = chosen(**own)
    return learner_of(world["dataset"], world[labels], values, network_of(values, CLASSES))


KINDS = {"pixels": "labels", "sets": "class-sets", "masks": "labels"}


@pytest.mark.parametrize("labels", KINDS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_each_kind_of_label_is_learned_beside_what_the_teacher_says(world, labels, precision, tmp_path):
    own = {"student": KINDS[labels], "threshold": "mean", "cutmix": 1.0, "feature_dropout": 0.5}
    values = chosen(**own, precision=precision)
    training = training_of(tmp_path / "m.safetensors", world["dataset"], world[labels], values, CLASSES, "kinds")
    start = {name: each.clone() for name, each in training.learner.student.network.named_parameters()}
    trained = training.run()
    for row in trained.history:
        assert 0 < row["accepted"] < 1
        assert row["loss"] == pytest.approx(row["supervised"] + row["taught"], rel=1e-5)
        assert row["taught"] > 0
    assert "val_miou" in trained.history[-1]
    assert ("merged" in trained.history[0]) == (labels == "sets")
    assert any(not torch.equal(start[name], each) for name, each in training.learner.student.network.named_parameters())
    assert trained.others == {}


@pytest.mark.parametrize("labels", KINDS)
def test_pixels_are_open_if_nobody_answered_about_them(world, labels):
    learner = taught(world, labels, student=KINDS[labels], crop=(40, 36), scale_range=(1, 1), flip=0.0)
    samples, ledger = learner.student.samples, Annotations(world[labels])
    image = samples.ids[0]
    key = (LABELLED, 0, 0)
    found = learner.samples.open_pixels(key)
    assert not found[32:].any(), "padding"
    assert not found[:, 32:].any()
    answered = np.zeros(SIZE, dtype=bool)
    answered[ledger.queried_pixels(image)] = True
    answered |= ledger.queried_area(image) | (image in ledger.mask_ids)
    assert answered.any()
    assert not found[:32, :32][answered].any(), "not even where the answer was void"
    assert found[:32, :32][~answered].all()


def test_images_without_a_mask_are_in_each_batch_in_proportion(world):
    learner = taught(world, "masks", batch=2, scale_range=(1, 1))
    assert learner.unlabelled == 2, "twice as many are without a label, but at most as many as labelled are taken"
    batch = next(learner.batches(0))
    assert batch.batch.images.shape[0] == 4
    assert batch.open[2:].all()
    assert not batch.open[:2].any(), "masks leave nothing open"
    assert (batch.batch.labels[2:] == VOID).all()
    assert learner.counts()["unlabelled_images"] == 4
    assert learner.images_in(batch) == 4
    assert "unlabelled images i" in learner.contents(0)
    alone = taught(world, "pixels")
    assert (alone.unlabelled, alone.counts()["unlabelled_images"]) == (0, 0)


def test_a_step_costs_one_pass_of_the_teacher_and_no_gradient_of_it(world):
    learner = taught(world, "pixels", cutmix=0.0, feature_dropout=0.5)
    calls = []
    learner.teacher.register_forward_hook(lambda module, inputs, output: calls.append(output.requires_grad))
    learner.optimisers()
    learner.train()
    batch = next(learner.batches(0))
    ((_, losses),) = learner.updates(batch)
    losses["loss"].backward()
    assert calls == [False]
    assert not any(each.requires_grad or each.grad is not None for each in learner.teacher.parameters())
    assert all(each.grad is not None for each in learner.student.network.parameters())
    assert not learner.teacher.training
    assert learner.student.network.training


@pytest.mark.parametrize("labels", KINDS)
def test_kept_features_teach_what_images_teach(world, labels):
    """The first view is not augmented; features are kept in 16 bits."""
    own = {"student": KINDS[labels], "freeze": "backbone", "cutmix": 0.0, "confidence": 0.0, "flip": 0.0}
    own |= {
        "scale_range": (1, 1),
        "jitter": 0.0,
        "grey": 0.0,
        "blur": 0.0,
        "aspp_dropout": 0.0,
        "decoder_dropouts": (0.0, 0.0),
        "architecture": "deeplabv3plus",
    }
    kept, plain = taught(world, labels, views=1, **own), taught(world, labels, views=0, **own)
    found = []
    for learner in (kept, plain):
        learner.train()
        ((_, losses),) = learner.updates(next(learner.batches(0)))
        losses["loss"].backward()
        found.append({name: each.item() for name, each in losses.items()})
    assert found[0] == pytest.approx(found[1], rel=0.02, abs=1e-3)
    assert found[0]["taught"] > 0
    assert all(each.grad is None for each in kept.student.network.backbone.parameters())
    assert len(kept.student.features.memory) == len(next(kept.batches(0)).batch.images)


def test_until_it_teaches_it_is_not_run_and_only_labels_are_learned(world):
    learner = taught(world, "pixels", taught_from=0.5, feature_dropout=0.5)
    assert learner.begins == learner.steps_per_epoch
    learner.teacher.register_forward_hook(lambda *_: pytest.fail("the teacher ran"))
    ((_, losses),) = learner.updates(next(learner.batches(0)))
    assert losses.keys() == {"loss", "supervised"}


def test_validated_and_kept_is_the_teacher(world, tmp_path):
    values = chosen(teacher_momentum=0.9)
    training = training_of(tmp_path / "m.safetensors", world["dataset"], world["pixels"], values, CLASSES, "kept")
    trained = training.run()
    learner = training.learner
    assert learner.student.predictor().network is learner.teacher
    for name, tensor in learner.teacher.state_dict().items():
        assert torch.equal(trained.last[name], tensor)
    student = learner.student.network.state_dict()
    assert any(not torch.equal(trained.last[name], tensor) for name, tensor in student.items())


def test_a_box_over_the_only_labels_leaves_what_the_teacher_says(world, monkeypatch):
    """The mean over no labels would be no number."""
    learner = taught(world, "pixels", cutmix=1.0, threshold="mean")
    monkeypatch.setattr("stages.training.learners.teacher.labelled_pixels", lambda *_: 0)
    ((_, losses),) = learner.updates(next(learner.batches(0)))
    assert float(losses["supervised"]) == 0
    assert losses["loss"].item() == pytest.approx(losses["taught"].item())
    assert losses["loss"].item() > 0


@pytest.mark.parametrize("frozen", [{}, {"freeze": "backbone", "views": 2}], ids=["whole", "kept features"])
def test_stopped_in_an_epoch_it_goes_on_to_the_same_bytes(world, tmp_path, monkeypatch, frozen):
    own = {"cutmix": 1.0, "feature_dropout": 0.3, "threshold": "share", "epochs": 3, "taught_from": 0.2} | frozen
    values = chosen(**own)
    whole = train.run(world["dataset"], world["masks"], tmp_path / "whole.safetensors", values)
    original = TeacherLearner.images_in

    def images_in(learner, batch):
        if learner.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(learner, batch)

    monkeypatch.setattr(TeacherLearner, "images_in", images_in)
    with pytest.raises(Stopped, match="after step 2"):
        train.run(world["dataset"], world["masks"], tmp_path / "parts.safetensors", values)
    monkeypatch.undo()
    parts = train.run(world["dataset"], world["masks"], tmp_path / "parts.safetensors", values)
    assert Model(parts).digest == Model(whole).digest


# --- bad input --------------------------------------------------------------------------------------------------------


def test_without_a_pixel_to_label_a_teacher_is_refused(world):
    with pytest.raises(
        BadInput, match=r"leaves no pixel without an answer, so there is nothing for a teacher to label"
    ):
        taught(world, "every mask")
    with pytest.raises(BadInput, match=r"has no images in split 'none'"):
        taught(world, "masks", unlabelled_split="none")


def test_a_class_that_nobody_named_is_told_and_never_given(tmp_path, capsys):
    masks = random_masks(NAMES, SIZE, 2)
    dataset = write_dataset(tmp_path / "d.h5", masks, CLASSES)
    learner = taught({"dataset": dataset, "pixels": random_round(tmp_path, dataset, 0)}, "pixels", threshold="share")
    assert "No answer names class2: the teacher gives no pixel such a label." in capsys.readouterr().out
    assert learner.known.tolist() == [True, True, False]
    with torch.no_grad():
        learner.teacher.classifier.bias[2] = 100
        logits = learner.teacher(torch.rand(2, 3, *SIZE))
    assert (learner.labels_of(logits, torch.ones(2, *SIZE, dtype=torch.bool)) == VOID).all()


def test_classes_that_are_only_named_with_others_are_known(world):
    assert taught(world, "sets", student="class-sets").known.all()


def test_all_void_and_labels_of_another_kind_are_refused(world, tmp_path):
    masks = dict.fromkeys(NAMES, np.full(SIZE, VOID, np.uint8))
    dataset = write_dataset(tmp_path / "d.h5", masks, CLASSES)
    with pytest.raises(BadInput, match=r"has no labels: every answer is void\. Annotate more before training\.$"):
        train.run(dataset, random_round(tmp_path, dataset, 0), tmp_path / "m.safetensors", chosen())
    with pytest.raises(BadInput, match=r"has no class sets\. Set --student labels\.$"):
        train.run(world["dataset"], world["pixels"], tmp_path / "m.safetensors", chosen(student="class-sets"))


@pytest.mark.parametrize("student", ["teacher", "adversarial", "support", "image-classes"])
def test_a_teacher_wraps_only_what_learns_labels_of_pixels(student):
    with pytest.raises(BadInput, match=f"Unknown objective '{student}'. .*Choose one of class-sets, labels"):
        chosen(student=student)


def test_features_of_compiled_networks_cannot_be_dropped(world, monkeypatch):
    monkeypatch.setattr("stages.training.learners.network.compiled", lambda module, device: module)
    with pytest.raises(BadInput, match=r"--feature-dropout does not work with --compile\. Leave out one of them"):
        taught(world, "pixels", feature_dropout=0.5, compile=True)


def test_features_of_a_shallow_tap_cannot_be_dropped(world):
    own = {"architecture": "deeplabv3plus", "shallow_tap": "blocks.0.0"}
    with pytest.raises(BadInput, match=r"--feature-dropout does not work with --shallow-tap\. Set --feature-dropout 0"):
        taught(world, "pixels", feature_dropout=0.5, **own)
