"""Acceptance checks 15 and 16 of MADBAL: both phases of training, and the metric."""

import numpy as np
import pytest
import torch
from madbal_support import CLASSES, RECIPES, ROUNDS, history, settings_of
from tasks import samples_of
from worlds import changed, write_dataset

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.model import Model
from stages.commands import annotate_simulate, score, select, train
from stages.evaluating.confusion import confusion_matrix, intersection_over_union, mean_iou, pixel_accuracy
from stages.networks.build import build_network
from stages.networks.predictor import load_predictor
from stages.pixels.void import VOID
from stages.recipes.profile import load_profile
from stages.recipes.recipe import load_recipe
from stages.recipes.resolve import step_settings
from stages.runtime.randomness import stream, torch_seed
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.network import recorded_network
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from stages.settings.train import TrainSettings
from stages.training.learners.network import label_weights
from stages.training.losses.cross_entropy import cross_entropy
from stages.training.schedules import build_schedule
from stages.training.window import Window, crop_labels


def test_check_15_class_weights_are_one_less_the_share():
    assert label_weights("complement", np.array([60, 30, 10])).tolist() == pytest.approx([0.4, 0.7, 0.9])
    assert label_weights("complement", np.array([60, 30, 10, 0])).tolist() == pytest.approx([0.4, 0.7, 0.9, 1])
    for name in RECIPES:
        assert settings_of("model", recipe=name).of_objective.class_weights == "complement"
        assert settings_of("support", recipe=name).of_objective.class_weights == "complement"


def test_check_15_a_label_of_the_grid_is_sixteen_of_the_image(tmp_path):
    """Labels of 256 x 512 on an image of 1024 x 2048; padding adds none."""
    mask = stream(0, "mask").integers(0, 5, (1024, 2048)).astype(np.uint8)
    dataset = write_dataset(tmp_path / "d.h5", {"a": np.where(mask == 4, VOID, mask)}, CLASSES)
    scored = ScoreSettings(measure="random", grid_scale=0.25)
    scores = score.run(dataset, tmp_path / "s.h5", scored)
    chosen = SelectSettings(rule="top", budget=50)
    queries = select.run(dataset, scores, tmp_path / "q.h5", chosen)
    path = annotate_simulate.run(dataset, queries, tmp_path / "l.h5", AnnotateSettings())
    ledger = Annotations(path)
    given = int((ledger.answers.label != VOID).sum())
    assert 0 < given < 50
    assert ledger.label_map("a").shape == (256, 512)
    plain = {"scale_range": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "grey": 0.0, "blur": 0.0}
    for crop in (None, (1100, 2200)):
        _, labels, _, _ = samples_of(dataset, path, TrainSettings(**plain, crop=crop))[0, 0]
        assert labels.shape == (crop or (1024, 2048))
        assert (labels != VOID).sum() == 16 * given
        y, x = np.nonzero(labels != VOID)
        assert (labels[y, x] == ledger.label_map("a")[y // 4, x // 4]).all()


def test_check_15_padding_and_void_have_no_gradient():
    labels = np.array([[0, VOID], [1, 2]], np.uint8)
    labels = crop_labels(labels, Window(4, 4, 0, 0, 6, 5, False))
    assert (labels[4:] == VOID).all()
    assert (labels[:, 4:] == VOID).all()
    logits = torch.randn(1, 3, 6, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    total, mass = cross_entropy(logits, torch.from_numpy(labels)[None], torch.tensor([0.4, 0.7, 0.9]))
    (total / mass).backward()
    assert torch.equal(logits.grad[0].any(0), torch.from_numpy(labels != VOID))


def test_check_15_learning_rates(world):
    """Phase I poly from 0.01 without a warm-up; phase II constant."""
    recipe = load_recipe("madbal")
    for profile in (None, "cityscapes", "voc2012", "camvid"):
        model, support = (
            step_settings(recipe, load_profile(profile), step).optimisation
            for name in ("model", "support")
            for step in recipe.steps
            if step.name == name
        )
        assert (model.schedule, model.optimiser, model.sgd.momentum, model.weight_decay) == ("poly", "sgd", 0.9, 1e-4)
        assert model.head_lr == model.backbone_lr == support.head_lr == 0.01
        factor = build_schedule(changed(model, {"epochs": 150}), 100)
        assert model.head_lr * factor(0) == 0.01
        assert model.head_lr * factor(7500) == pytest.approx(0.00535887, abs=5e-9)
        factor = build_schedule(support, 7)
        assert {factor(step) for step in range(7 * support.epochs)} == {1}
        poly = build_schedule(changed(support, {"schedule": "poly"}), 10)
        assert 0.01 * poly(5 * support.epochs) == pytest.approx(0.00535887, abs=5e-9)
    assert [row["lr_factor"] for row in history(world["support0"])] == [1, 1]


def test_check_15_phase_two_leaves_the_network_bit_by_bit(world, tmp_path):
    """Parameters and statistics, in both checkpoints; of the heads all parameters move."""
    for number in range(ROUNDS - 1):
        model, support = (Model(world[f"{name}{number}"]) for name in ("model", "support"))
        network = model.weights("last")
        assert not any(name.startswith("support.") for name in network)
        assert any(name.endswith("running_var") for name in network)
        for checkpoint in ("last", "best"):
            found = support.weights(checkpoint)
            frozen = {name: tensor for name, tensor in found.items() if not name.startswith("support.")}
            assert frozen.keys() == network.keys()
            assert all(torch.equal(network[name], tensor) for name, tensor in frozen.items())
        torch.manual_seed(torch_seed(0, "initialisation"))
        untrained = build_network(recorded_network(support.attributes["network"]), CLASSES, support=True)
        learned = support.weights("last")
        for name, parameter in untrained.support.named_parameters():
            assert not torch.equal(parameter, learned[f"support.{name}"]), name
        assert not model.has_support
        assert support.has_support
    best = settings_of("support", recipe="madbal-reference")
    again = Model(train.run(world["dataset"], world["ledger0"], tmp_path / "s.safetensors", best, world["model0"]))
    start, kept = Model(world["model0"]).weights("best"), again.weights("last")
    assert all(torch.equal(tensor, kept[name]) for name, tensor in start.items())


def test_check_15_thresholds_are_those_of_the_grid_enlarged(world):
    """Mean loss of every class over its labelled pixels of whole images, each of 2 x 2 pixels (4.3.2)."""
    model, ledger = Model(world["model0"]), Annotations(world["ledger0"])
    predictor = load_predictor(model, "last", torch.device("cpu"), "auto")
    losses = {number: [] for number in range(CLASSES)}
    with Dataset(world["dataset"]) as data:
        for image in ledger.ids:
            logits = predictor.logits(torch.from_numpy(data.image(image)).permute(2, 0, 1)[None])[0].double()
            labels = ledger.label_map(image).repeat(2, 0).repeat(2, 1)
            for y, x in np.argwhere(labels != VOID):
                label = int(labels[y, x])
                losses[label].append(-float(logits[:, y, x].log_softmax(0)[label]))
    found = Model(world["support0"]).header.counts["class_thresholds"]
    assert [found[f"class{number}"] for number in losses] == [
        pytest.approx(np.mean(own), rel=1e-5) if own else None for own in losses.values()
    ]


def test_check_16_mean_iou():
    pairs = [(0, 0)] * 3 + [(0, 1), (1, 0)] + [(1, 1)] * 5
    truth, predicted = torch.tensor(pairs).T
    confusion = confusion_matrix(truth, predicted, 2)
    assert confusion.tolist() == [[3, 1], [1, 5]]
    assert intersection_over_union(confusion.numpy()) == pytest.approx([0.6, 0.714286], abs=5e-7)
    assert mean_iou(confusion.numpy()) == pytest.approx(0.657143, abs=5e-7)
    assert pixel_accuracy(confusion.numpy()) == 0.8
    void = torch.tensor([VOID, VOID])
    with_void = confusion_matrix(torch.cat([truth, void]), torch.cat([predicted, torch.tensor([0, 1])]), 2)
    assert torch.equal(with_void, confusion)
