"""The loop: losses that are not finite, agreement of several processes, and what is chosen by device."""

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from tasks import network_of, training_of
from torch import nn
from worlds import TINY, random_masks, random_round, region_round, write_dataset, write_superpixels

from stages.runtime import devices
from stages.runtime.errors import StageFailed
from stages.runtime.ranks import Ranks
from stages.runtime.signals import StopRequest
from stages.settings.train import OptimisationSettings, TrainSettings
from stages.training import loop
from stages.training.learners.network import label_weights
from stages.training.loss_sums import LossSums
from stages.training.optimisers import build_optimiser
from stages.training.sharing import average_over_ranks, running_statistics, share_normalisation

NAMES = [f"i{number}" for number in range(6)]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    splits = dict(zip(NAMES, ["train"] * 4 + ["val"] * 2, strict=True))
    dataset = write_dataset(folder / "d.h5", random_masks(NAMES, (32, 32), 3), 3, splits)
    return folder, dataset, random_round(folder, dataset, 0)


def settings(**values):
    return TrainSettings.load(values, offered=TINY | {"validation_split": "none"})


def build(world, key, **values):
    folder, dataset, ledger = world
    return training_of(folder / "m.safetensors", dataset, ledger, settings(**values), 3, key)


# --- losses that are not finite ---------------------------------------------------------------------------------------


def test_complement_weighs_the_only_class_by_one():
    """1 - share would be 0, and the mean over a mass of 0 is no number."""
    assert label_weights("complement", np.array([0, 12, 0])) == pytest.approx([1, 1, 1])


def test_a_training_with_one_class_answered_learns_with_any_weights(tmp_path):
    masks = {name: np.ones((32, 32), np.uint8) for name in NAMES[:2]}
    dataset = write_dataset(tmp_path / "d.h5", masks, 3)
    ledger = random_round(tmp_path, dataset, 0)
    for weights in ("complement", "inverse"):
        chosen = settings(epochs=1, class_weights=weights)
        trained = training_of(tmp_path / "m.safetensors", dataset, ledger, chosen, 3, weights).run()
        assert np.isfinite(trained.history[0]["loss"])
        assert trained.history[0]["loss"] > 0


def poisoned(training, step):
    """The loss is NaN at ``step``, from 0, of the training, and the weights are from then on."""
    losses = training.learner.losses
    calls = itertools.count(training.state.step)

    def changed(*arguments):
        found = losses(*arguments)
        return {"loss": found["loss"] * torch.nan} if next(calls) == step else found

    training.learner.losses = changed
    return training


@pytest.mark.parametrize(
    "step, remedy",
    [
        (0, "No step was taken before, so check these images, their labels and --class-weights."),
        (3, "Lower the learning rates. If it fails at the same images again, check them and their labels."),
    ],
)
def test_a_loss_that_is_not_finite_names_images_and_classes_and_is_never_saved(world, step, remedy):
    training = poisoned(build(world, f"poisoned{step}", epochs=4, checkpoint_seconds=0), step)
    keys = next(training.learner.keys(step))
    images = [training.learner.samples.image_of(key) for key in keys]
    with pytest.raises(StageFailed) as caught:
        training.run()
    assert str(caught.value) == (
        f"The loss of step {step + 1} is not finite: images {', '.join(images)} with labels of class0, class1, class2. "
        f"{remedy}"
    )
    again = build(world, f"poisoned{step}", epochs=4)
    assert again.state.step == step, "the checkpoint before it"
    assert all(torch.isfinite(tensor).all() for tensor in again.learner.modules["network"].state_dict().values())


def test_the_first_step_that_is_not_finite_is_found_however_late_it_is_looked_for(world):
    with pytest.raises(StageFailed, match="The loss of step 2 is not finite"):
        poisoned(build(world, "late", epochs=1, steps_per_epoch=5, checkpoint_seconds=1000), 1).run()


def test_images_and_classes_of_class_sets_and_of_image_classes_are_named(world, tmp_path):
    _, dataset, _ = world
    asked = {"answer": "class-set", "budget": 64}
    sets = region_round(
        tmp_path,
        dataset,
        0,
        write_superpixels(tmp_path, dataset),
        select_settings=asked,
        annotate_settings={"trim": 0},
    )
    asked = {"rule": "top", "budget": 4, "image_answer": "class"}
    classes = random_round(tmp_path, dataset, 1, select_settings=asked, score_settings={"unit": "image"})
    asked |= {"image_answer": "mask", "budget": 2}
    masks = random_round(tmp_path, dataset, 2, select_settings=asked, score_settings={"unit": "image"})
    classifier = {"objective": "image-classes", "architecture": "classifier"}
    for ledger, chosen in (
        (sets, {"objective": "class-sets"}),
        (classes, classifier),
        (masks, {"objective": "adversarial"}),
    ):
        learner = training_of(tmp_path / "m.safetensors", dataset, ledger, settings(**chosen), 3, "names").learner
        contents = learner.contents(0)
        assert contents.startswith("images i")
        assert " with labels of class" in contents


# --- several processes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counted(Ranks):
    """The main one of two processes, whose other one adds nothing; counts what they sum."""

    size: int = 2
    sums: list[int] = field(default_factory=list)

    def sum(self, values):
        self.sums.append(values.numel())
        return values.detach().clone()

    def gather(self, value):
        return [value]

    def barrier(self):
        pass


def test_processes_agree_in_one_message_about_once_a_second(world, monkeypatch):
    """Steps of a hundredth of a second: 300 steps are 3 seconds, and not 600 messages."""
    clock = itertools.count()
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock) / 100)
    training = build(world, "agree", checkpoint_seconds=1000)
    ranks = Counted()
    training.ranks, stop = ranks, StopRequest()
    training.met_time, training.saved_at = loop.time.monotonic(), loop.time.monotonic()
    for training.state.step in range(1, 300):
        if training.state.step >= training.meets_at:
            assert training.agreed(stop) == (False, False)
    assert ranks.sums == [3] * len(ranks.sums)
    assert 2 <= len(ranks.sums) <= 12
    stop.requested = True
    assert training.agreed(stop) == (True, False)


def test_a_checkpoint_at_every_step_is_agreed_on_at_every_step(world):
    training = build(world, "every", checkpoint_seconds=0)
    training.ranks = Counted()
    for training.state.step in range(1, 20):
        assert training.state.step >= training.meets_at
        assert training.agreed(StopRequest()) == (False, True)


@dataclass(frozen=True)
class Three(Ranks):
    """One of three processes, all of which have the same values."""

    size: int = 3

    def sum(self, values):
        return 3 * values


def test_reading_the_sums_leaves_them_as_they_are():
    """They were multiplied by the number of processes at each checkpoint."""
    sums = LossSums({"loss": 1.5})
    for step in range(3):
        sums.add([("loss", torch.tensor(2.0))], step)
        assert sums.read(Three()) == {"loss": 1.5 + 2 * (step + 1)}
    assert sums.failed_step() is None


def test_the_sum_over_processes_leaves_its_argument_as_it_is(monkeypatch):
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda values: values.mul_(2))
    values = torch.ones(3)
    assert torch.equal(Ranks(0, 2).sum(values), torch.full((3,), 2.0))
    assert torch.equal(values, torch.ones(3))


def test_gradients_and_statistics_travel_in_one_message():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4))
    statistics = running_statistics(network)
    assert len(statistics) == 4
    ranks = Counted()
    average_over_ranks(statistics, ranks)
    assert ranks.sums == [16]
    assert torch.equal(network[1].running_var, torch.full((4,), 0.5))
    network[2].eval()
    assert len(running_statistics(network)) == 2, "frozen statistics are the same everywhere"


def test_shared_batch_normalisation_keeps_the_activations_inside_its_layers():
    """timm's layers are normalisation and activation in one; torch's own conversion drops the activation."""
    network = network_of(settings(), 3).eval()
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        before = network(images)
        share_normalisation(network, CUDA)
        after = network(images)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in network.modules())
    assert not running_statistics(network.train()), "these layers share their statistics themselves"
    torch.testing.assert_close(after, before)


# --- what is chosen by device -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_optimisers_are_fused_on_cuda_alone(monkeypatch, optimiser):
    given = {}
    for name in ("Adam", "AdamW", "SGD"):
        monkeypatch.setattr(torch.optim, name, lambda groups, **own: given.update(own))
    chosen = OptimisationSettings.load({"optimiser": optimiser})
    build_optimiser(chosen, [], CUDA)
    assert given["fused"] is True
    build_optimiser(chosen, [], CPU)
    assert given["fused"] is None


def test_bfloat16_is_automatic_only_where_it_is_not_emulated(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert isinstance(devices.forward_precision("auto", CUDA), devices.nullcontext)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert devices.has_bfloat16(CUDA)
    assert not devices.has_bfloat16(CPU)


def test_convolutions_are_tuned_only_for_inputs_of_one_size(tmp_path, monkeypatch):
    """Crops have one size; the validation images of this dataset have two."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    sizes = {"a": (32, 32), "b": (32, 40), "v": (32, 32), "w": (40, 32), "x": (32, 32)}
    masks = {name: random_masks([name], size, 3)[name] for name, size in sizes.items()}
    splits = {name: "train" if name in "ab" else "val" for name in sizes}
    dataset = write_dataset(tmp_path / "d.h5", masks, 3, splits)
    ledger = random_round(tmp_path, dataset, 0)
    chosen = TrainSettings.load({"epochs": 1}, offered=TINY | {"batch": 2})
    learner = training_of(tmp_path / "m.safetensors", dataset, ledger, chosen, 3, "sizes").learner
    learner.train()
    assert torch.backends.cudnn.benchmark
    assert learner.validation_ids() == ["v", "x", "w"], "those of one size side by side, for larger batches"
    learner.validate()
    assert not torch.backends.cudnn.benchmark
    learner.train()
    assert torch.backends.cudnn.benchmark
    devices.tune_convolutions([(4, 4)] * 3)
    assert torch.backends.cudnn.benchmark
