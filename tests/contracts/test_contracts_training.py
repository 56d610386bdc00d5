"""What every loss, every architecture and every objective must keep; new ones are picked up by name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tasks import learner_of, network_of, training_of
from worlds import TINY, random_masks, random_round, region_round, write_dataset, write_superpixels

from stages.commands import annotate_simulate, score, select
from stages.networks.build import build_network
from stages.runtime.errors import BadInput
from stages.runtime.parts import ARCHITECTURES, LOSSES, OBJECTIVES
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.network import NetworkSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from stages.settings.train import OptimisationSettings, TrainSettings
from stages.training.learner import Learner
from stages.training.schedules import build_schedule

CLASSES = 3

# --- losses -----------------------------------------------------------------------------------------------------------


def loss_of(name, logits, labels, weights=None):
    """Sum and mass by the loss called ``name`` with its default settings."""
    part = LOSSES[name]
    return part(logits, labels, weights, part.settings and part.settings())


def example(dtype=torch.float32):
    """Logits and labels of two images, of which the second has one label."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, CLASSES, 3, 4, generator=generator, dtype=dtype)
    labels = torch.full((2, 3, 4), 255, dtype=torch.uint8)
    labels[0] = torch.randint(CLASSES, (3, 4), generator=generator)
    labels[0, 0, 0] = 255
    labels[1, 2, 1] = 1
    return logits, labels


@pytest.mark.parametrize("name", LOSSES.names())
class TestEveryLoss:
    def test_is_two_scalars_and_the_sum_has_the_gradient(self, name):
        logits, labels = example()
        total, mass = loss_of(name, logits.requires_grad_(), labels)
        assert total.shape == mass.shape == ()
        assert total > 0
        assert mass > 0
        assert total.requires_grad
        assert not mass.requires_grad

    def test_void_gives_no_gradient(self, name):
        logits, labels = example()
        logits.requires_grad_()
        total, mass = loss_of(name, logits, labels)
        (total / mass).backward()
        assert torch.equal(logits.grad.abs().sum(1) > 0, labels != 255)

    def test_void_changes_nothing(self, name):
        logits, labels = example()
        wild = torch.where((labels == 255).unsqueeze(1), 1e4, logits)
        assert loss_of(name, logits, labels) == loss_of(name, wild, labels)

    def test_without_labels_sum_mass_and_gradient_are_zero(self, name):
        logits, labels = example()
        logits.requires_grad_()
        total, mass = loss_of(name, logits, torch.full_like(labels, 255))
        total.backward()
        assert (total.item(), mass.item()) == (0, 0)
        assert not logits.grad.any()

    def test_mean_over_the_batch_whatever_the_spread_over_images(self, name):
        logits, labels = example()
        total, mass = loss_of(name, logits, labels)
        beside = torch.cat([*logits[:, None]], 3), torch.cat([*labels[:, None]], 2)
        other, count = loss_of(name, *beside)
        assert float(total / mass) == pytest.approx(float(other / count))
        assert float(mass) == pytest.approx(float(count))

    @pytest.mark.parametrize("weights", [None, (0.5, 1.0, 2.0)])
    def test_gradient_against_finite_differences(self, name, weights):
        logits, labels = example(torch.float64)
        weights = weights and torch.tensor(weights)

        def quotient(values):
            total, mass = loss_of(name, values, labels, weights)
            return total / mass

        leaf = logits.clone().requires_grad_()
        value = quotient(leaf)
        value.backward()
        step, tolerance = (1e-6, 1e-7) if value.dtype == torch.float64 else (1e-2, 2e-4)
        for index in np.ndindex(2, CLASSES, 3, 4):
            shift = torch.zeros_like(logits)
            shift[index] = step
            numeric = (quotient(logits + shift) - quotient(logits - shift)) / (2 * step)
            assert float(numeric) == pytest.approx(float(leaf.grad[index]), abs=tolerance)

    @pytest.mark.parametrize("right", [True, False])
    def test_extreme_logits_stay_finite(self, name, right):
        logits = torch.tensor([1e4, -1e4]).view(1, 2, 1, 1).requires_grad_()
        total, mass = loss_of(name, logits, torch.tensor([[[0 if right else 1]]], dtype=torch.uint8))
        total.backward()
        assert torch.isfinite(total)
        assert torch.isfinite(mass)
        assert torch.isfinite(logits.grad).all()
        assert total.item() == pytest.approx(0, abs=1e-6) if right else total > 0.5

    def test_only_the_proportions_of_class_weights_count(self, name):
        logits, labels = example()
        weights = torch.tensor([0.5, 1.0, 2.0])

        def quotient(factor):
            total, mass = loss_of(name, logits, labels, factor)
            return float(total / mass)

        assert quotient(torch.ones(CLASSES)) == pytest.approx(quotient(None))
        assert quotient(3 * weights) == pytest.approx(quotient(weights))
        assert quotient(weights) != pytest.approx(quotient(None))
        alone = quotient(torch.tensor([0.0, 1.0, 0.0]))
        assert alone == pytest.approx(quotient(torch.tensor([1e-6, 1.0, 1e-6])), rel=1e-4)

    def test_learning_lowers_it(self, name):
        logits, labels = example()
        logits.requires_grad_()
        optimiser = torch.optim.SGD([logits], lr=1.0)
        values = []
        for _ in range(20):
            total, mass = loss_of(name, logits, labels)
            values.append((total / mass).item())
            optimiser.zero_grad()
            (total / mass).backward()
            optimiser.step()
        assert values[-1] < 0.9 * values[0]


# --- architectures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHITECTURES.names())
class TestEveryArchitecture:
    def test_maps_images_to_logits(self, name):
        part = ARCHITECTURES[name]
        network = build_network(NetworkSettings(architecture=name, backbone="tu-test_resnet"), CLASSES).eval()
        with torch.inference_mode():
            logits = network(torch.rand(2, 3, 128, 160))
        assert logits.shape == (2, CLASSES, *((1, 1) if part.facts["predicts"] == "images" else (128, 160)))
        assert logits.isfinite().all()
        assert 128 % network.pad_multiple == 160 % network.pad_multiple == 0

    def test_backbone_and_head_learn(self, name):
        network = build_network(NetworkSettings(architecture=name, backbone="tu-test_resnet"), CLASSES).train()
        network(torch.rand(2, 3, 128, 128)).square().mean().backward()
        backbone = {id(parameter) for parameter in network.get_submodule("backbone").parameters()}
        learned = {id(each) for each in network.parameters() if each.grad is not None}
        assert backbone & learned
        assert learned - backbone

    def test_is_cut_after_its_backbone(self, name):
        """Features, computed once, give the logits: `--freeze backbone` keeps them."""
        network = build_network(NetworkSettings(architecture=name, backbone="tu-test_resnet"), CLASSES).eval()
        images = torch.rand(1, 3, 128, 160)
        with torch.inference_mode():
            features = network.encoded(images)
            network.get_submodule("backbone").forward = None
            logits = network.enlarged(network.decoded(features), images.shape[-2:])
            del network.get_submodule("backbone").forward
            assert torch.equal(logits, network(images))

    def test_support_heads_are_built_or_refused(self, name):
        settings = NetworkSettings(architecture=name, backbone="tu-test_resnet")
        if ARCHITECTURES[name].facts["support"]:
            network = build_network(settings, CLASSES, support=True).eval()
            with torch.inference_mode():
                maps = network.support(network.inner(torch.rand(1, 3, 64, 64)), (64, 64))
            assert maps.sides.shape == (1, 3, CLASSES, 64, 64)
        else:
            with pytest.raises(Exception, match=f"{name} has no support heads"):
                build_network(settings, CLASSES, support=True)


# --- objectives -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A dataset, and ledgers of what objectives can learn from, by the fact ``labels``."""
    folder = tmp_path_factory.mktemp("objectives")
    names = [f"i{number}" for number in range(6)]
    splits = dict(zip(names, ["train"] * 4 + ["val"] * 2, strict=True))
    dataset = write_dataset(folder / "d.h5", random_masks(names, (32, 32), CLASSES), CLASSES, splits)
    regions = write_superpixels(folder, dataset)
    found = {"dataset": dataset, "maps": random_round(folder, dataset, 0)}
    asked = {"answer": "class-set", "budget": 20, "rule": "uniform"}
    found["class-sets"] = region_round(folder, dataset, 1, regions, select_settings=asked)
    scores = score.run(dataset, folder / "s.h5", ScoreSettings(measure="random", unit="image"))
    for kind, answer in (("masks", "mask"), ("image-classes", "class")):
        chosen = SelectSettings(rule="top", budget=3, image_answer=answer)
        queries = select.run(dataset, scores, folder / f"{kind}-q.h5", chosen)
        found[kind] = annotate_simulate.run(dataset, queries, folder / f"{kind}.h5", AnnotateSettings())
    return found


def settings_of(name: str) -> TrainSettings:
    facts = OBJECTIVES[name].facts
    able = next(part.name for part in ARCHITECTURES.parts() if part.facts["predicts"] == facts["predicts"])
    architecture = "deeplabv3plus" if facts["predicts"] == "pixels" else able
    own = {"objective": name, "architecture": architecture}
    return TrainSettings.load(own, offered=TINY | {"epochs": 1, "lossiness_width": 8, "discriminator_width": 4})


@pytest.mark.parametrize("name", OBJECTIVES.names())
class TestEveryObjective:
    def test_its_learner_has_all_that_the_loop_asks_for(self, name, world):
        settings, labels = settings_of(name), OBJECTIVES[name].facts["labels"]
        learner = learner_of(world["dataset"], world[labels], settings, network_of(settings, CLASSES))
        members = {*Learner.__annotations__, *(each for each in vars(Learner) if not each.startswith("_"))}
        assert {each for each in members if not hasattr(learner, each)} == set()
        assert learner.counts()["labelled_images"] > 0
        assert learner.counts()["labelled_pixels"] >= 0

    def test_one_epoch_moves_the_network_and_names_its_losses(self, name, world, tmp_path: Path):
        settings, labels = settings_of(name), OBJECTIVES[name].facts["labels"]
        training = training_of(tmp_path / "m.safetensors", world["dataset"], world[labels], settings, CLASSES, name)
        network = training.learner.modules["network"]
        before = {key: value.clone() for key, value in network.named_parameters()}
        trained = training.run()
        (row,) = trained.history
        assert np.isfinite(row["loss"])
        assert row["updates"] > 0
        assert any(not torch.equal(before[key], value) for key, value in network.named_parameters())
        if training.learner.validates:
            assert f"val_{training.learner.criterion}" in row

    def test_with_a_frozen_backbone_it_learns_from_kept_features_or_says_why_not(self, name, world, tmp_path: Path):
        facts = OBJECTIVES[name].facts
        frozen = settings_of(name).flat() | {"freeze": "backbone", "views": 2}
        if facts["support"] or not facts["features"]:
            with pytest.raises(BadInput, match=r"trains beside a frozen network|set views 0"):
                TrainSettings.load(frozen)
            if facts["support"]:
                return
            frozen |= {"views": 0}
        settings = TrainSettings.load(frozen)
        ledger = world[facts["labels"]]
        training = training_of(tmp_path / "m.safetensors", world["dataset"], ledger, settings, CLASSES, name)
        network = training.learner.modules["network"]
        before = {key: value.clone() for key, value in network.state_dict().items()}
        training.run()
        moved = {key for key, value in network.state_dict().items() if not torch.equal(before[key], value)}
        assert moved
        assert not [key for key in moved if key.startswith("backbone.")]


# --- schedules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["constant", "poly", "milestones", "one-cycle"])
def test_every_schedule_stays_between_zero_and_the_peak(schedule):
    factor = build_schedule(OptimisationSettings(schedule=schedule, epochs=50), 7)
    values = [factor(step) for step in range(350)]
    assert all(0 <= value <= 1 for value in values)
    assert max(values) == pytest.approx(1)
