"""Loading of training samples: in any kind of process, from the files that were opened, and when a process dies."""

import csv
import multiprocessing
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tasks import network_of, samples_of, training_of
from worlds import TINY, random_masks, random_round, region_round, write_dataset, write_superpixels

from stages.artifacts.model import Model
from stages.artifacts.opening import read_any_header
from stages.commands import train
from stages.runtime import processes
from stages.runtime.errors import BadInput, StageFailed
from stages.settings.train import TrainSettings
from stages.training.samples.images import ImageSamples
from stages.training.samples.loading import load_batches, pinned
from stages.training.samples.maps import Batch, SetSamples, TrainingSamples
from stages.training.samples.streams import StreamSamples

pytestmark = pytest.mark.slow

NAMES = [f"i{number}" for number in range(8)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A dataset, and the ledgers that each kind of samples reads."""
    folder = tmp_path_factory.mktemp("world")
    generator = np.random.default_rng(0)
    images = {name: generator.integers(0, 256, (32, 32, 3)).astype(np.uint8) for name in NAMES}
    dataset = write_dataset(folder / "d.h5", random_masks(NAMES, (32, 32), 3), 3, images=images)
    made = {"dataset": dataset, "pixels": random_round(folder, dataset, 0)}
    for answer in ("mask", "class"):
        (folder / answer).mkdir()
        asked = {"rule": "top", "budget": 4, "image_answer": answer}
        scored = {"unit": "image"}
        made[answer] = random_round(folder / answer, dataset, 0, select_settings=asked, score_settings=scored)
    asked, superpixels = {"answer": "class-set", "budget": 20}, write_superpixels(folder, dataset)
    made["sets"] = region_round(folder, dataset, 1, superpixels, select_settings=asked, annotate_settings={"trim": 0})
    return made


def settings(**values):
    return TrainSettings(**TINY | values)


KINDS = {
    "pixels": (TrainingSamples, [(0, 0), (1, 0)], [(2, 3), (0, 1)]),
    "sets": (SetSamples, [(0, 0), (1, 0)], [(1, 3), (0, 1)]),
    "class": (ImageSamples, [(0, 0), (1, 0)], [(2, 3), (0, 1)]),
    "mask": (StreamSamples, *([(name, 0, turn) for name in ("labelled", "unlabelled", "real")] for turn in (0, 1))),
}


def flat(value):
    """All tensors of a batch, and what else is in it."""
    if isinstance(value, torch.Tensor):
        return [value.tolist()]
    if hasattr(value, "__dataclass_fields__"):
        return [part for name in value.__dataclass_fields__ for part in flat(getattr(value, name))]
    return [value]


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_loader_processes_of_any_start_method_load_the_same_batches(world, monkeypatch, method):
    """Files, images in memory and lists of ids travel to processes that share nothing with this one."""
    monkeypatch.setattr(processes, "START_METHOD", method)
    kinds = KINDS if method == "spawn" else {"mask": KINDS["mask"]}  # the pickled bytes are the same
    for ledger, (kind, *keys) in kinds.items():
        samples = samples_of(world["dataset"], world[ledger], settings(), kind)
        here = [flat(batch) for batch in load_batches(samples, keys, 0, pin=False)]
        there = [flat(batch) for batch in load_batches(samples, keys, 1, pin=False)]
        assert there == here, ledger
        assert len(here) == 2


def test_every_kind_of_samples_travels(world):
    for ledger, (kind, keys, _) in KINDS.items():
        samples = samples_of(world["dataset"], world[ledger], settings(), kind)
        samples.keep_images(1)
        before = flat(samples.batch(keys))
        assert samples.images, "kept in memory"
        other = pickle.loads(pickle.dumps(samples))
        assert not other.images, "another process reads its own"
        assert flat(other.batch(keys)) == before, ledger


@pytest.mark.parametrize("replaced", ["dataset", "labels"])
def test_what_replaced_a_file_is_refused_by_loader_processes(world, tmp_path, replaced):
    paths = {"dataset": tmp_path / "d.h5", "labels": tmp_path / "l.h5"}
    paths["dataset"].write_bytes(world["dataset"].read_bytes())
    paths["labels"].write_bytes(world["pixels"].read_bytes())
    samples = samples_of(paths["dataset"], paths["labels"], settings())
    replace(paths[replaced], tmp_path)
    with pytest.raises(BadInput) as caught:
        list(load_batches(samples, [[(0, 0)]], 1, pin=False))
    assert str(caught.value) == f"{paths[replaced]}: the file was replaced during the training. Run the command again."


def replace(path: Path, folder: Path) -> None:
    """Publishes another artifact of the same kind under the same name."""
    (folder / "other").mkdir()
    dataset = write_dataset(folder / "other" / "d.h5", random_masks(NAMES, (32, 32), 3, void=0.3), 3)
    other = dataset if path.name == "d.h5" else random_round(folder / "other", dataset, 3)
    os.replace(other, path)


def test_a_file_that_is_replaced_during_a_training_is_not_mixed_in(world, tmp_path, monkeypatch):
    """The model is of the files that were checked, whatever lies under their names when training reads labels."""
    paths = {"dataset": tmp_path / "d.h5", "labels": tmp_path / "l.h5"}
    paths["dataset"].write_bytes(world["dataset"].read_bytes())
    paths["labels"].write_bytes(world["pixels"].read_bytes())
    chosen = settings(epochs=1)
    undisturbed = Model(train.run(*paths.values(), tmp_path / "undisturbed.safetensors", chosen))
    build = train.build

    def replaced_before(*arguments):
        for path in paths.values():
            (tmp_path / path.stem).mkdir()
            replace(path, tmp_path / path.stem)
        return build(*arguments)

    monkeypatch.setattr(train, "build", replaced_before)
    before = read_any_header(paths["labels"]).digest
    disturbed = Model(train.run(*paths.values(), tmp_path / "disturbed.safetensors", chosen))
    assert read_any_header(paths["labels"]).digest != before
    assert disturbed.header.inputs["labels"].digest == before
    assert disturbed.digest == undisturbed.digest


def test_a_weights_file_that_is_replaced_during_the_start_is_refused(world, tmp_path, monkeypatch):
    chosen = settings(epochs=1, weights=str(tmp_path / "w.safetensors"))
    backbone = network_of(settings(), 3).get_submodule("backbone").state_dict()
    save_file(backbone, tmp_path / "w.safetensors")
    build = train.build

    def replaced_before(*arguments):
        save_file({name: tensor + 1 for name, tensor in backbone.items()}, tmp_path / "w.safetensors")
        return build(*arguments)

    monkeypatch.setattr(train, "build", replaced_before)
    with pytest.raises(BadInput, match="the file was replaced while it was read"):
        train.run(world["dataset"], world["pixels"], tmp_path / "m.safetensors", chosen)


class DyingSamples(TrainingSamples):
    """Samples in a process that the kernel kills at the third batch."""

    left = 2

    def batch(self, keys):
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
        return super().batch(keys)


def test_a_killed_loader_process_ends_the_training_saved_and_it_resumes(world, tmp_path, monkeypatch):
    paths = world["dataset"], world["pixels"]
    chosen = settings(epochs=3, workers=1, validation_split="none")
    undisturbed = training_of(tmp_path / "undisturbed.safetensors", *paths, chosen, 3, "key").run()
    training = training_of(tmp_path / "m.safetensors", *paths, chosen, 3, "key")
    training.learner.samples.__class__ = DyingSamples
    with pytest.raises(StageFailed) as caught:
        training.run()
    assert str(caught.value) == (
        "A worker process ended without an answer, most likely for lack of memory. Lower --workers. Run the same "
        "command to continue."
    )
    assert not multiprocessing.active_children()
    resumed = training_of(tmp_path / "m.safetensors", *paths, chosen, 3, "key")
    assert resumed.state.step == training.state.step == 2
    last = resumed.run().last
    assert all(torch.equal(tensor, undisturbed.last[name]) for name, tensor in last.items())


def test_loader_processes_end_with_the_training(world, tmp_path):
    chosen = settings(epochs=1, workers=1, validation_split="none")
    training_of(tmp_path / "m.safetensors", world["dataset"], world["pixels"], chosen, 3, "key").run()
    assert not multiprocessing.active_children()


def test_pinning_reaches_every_tensor_of_a_batch(world, monkeypatch):
    """`pin_memory` itself needs a GPU; a stand-in records what it is asked for."""
    asked = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: asked.append(self.shape) or self + 0)
    samples = samples_of(world["dataset"], world["mask"], settings(), StreamSamples)
    keys = [(name, 0, 0) for name in ("labelled", "unlabelled", "real")]
    (batch,) = load_batches(samples, [keys], 0, pin=True)
    assert len(asked) == 9, "images, labels and valid pixels of three streams"
    assert flat(batch) == flat(samples.batch(keys))
    plain = Batch(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2), [], 4, torch.ones(1, 3))
    pinned(plain)
    assert len(asked) == 12, "and the class sets of a batch"


@pytest.mark.parametrize("room", [1, 0])
def test_images_are_kept_in_memory_if_all_processes_have_room_for_them(world, monkeypatch, room):
    samples = samples_of(world["dataset"], world["pixels"], settings())
    needed = 2 * 8 * 32 * 32 * 3  # half of the free memory is taken
    monkeypatch.setattr("stages.training.samples.maps.free_memory", lambda: 3 * needed - 1 + room)
    list(load_batches(samples, [[(0, 0)]], 0, pin=False))
    assert samples.images
    samples.images.clear()
    samples.keep_images(3)
    samples[0, 0]
    assert bool(samples.images) == bool(room)


def test_history_of_a_training_with_loader_processes_is_that_of_one_without(world, tmp_path):
    rows = []
    for workers in (0, 1):
        output = tmp_path / f"w{workers}.safetensors"
        train.run(world["dataset"], world["pixels"], output, settings(epochs=2, workers=workers))
        with output.with_name(f"w{workers}.history.csv").open() as file:
            rows.append([{**row, "images_per_second": None} for row in csv.DictReader(file)])
    assert rows[0] == rows[1]
