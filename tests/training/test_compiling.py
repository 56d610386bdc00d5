"""Compiled trainings, by a backend of torch that needs no C++ compiler: what is learned, resumed and refused."""

import functools

import pytest
import torch
from tasks import training_of
from worlds import TINY, random_masks, random_round, write_dataset

from stages.artifacts.model import Model
from stages.commands import train
from stages.runtime.errors import BadInput, Stopped
from stages.settings.train import TrainSettings
from stages.training import compiling, loop

pytestmark = pytest.mark.slow

VALUES = TINY | {"architecture": "linear", "backbone": "test_vit", "epochs": 2, "compile": True}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiling")
    names = [f"i{number}" for number in range(3)]
    dataset = write_dataset(folder / "d.h5", random_masks(names, (32, 32), 3), 3)
    return dataset, random_round(folder, dataset, 0)


@pytest.fixture
def traced(monkeypatch):
    """The modules that were compiled."""
    found = []
    run = functools.partial(torch.compile, backend="aot_eager")

    def compile_with(module, **options):
        found.append(module)
        return run(module, **options)

    monkeypatch.setattr(compiling.torch, "compile", compile_with)
    return found


def settings(**values):
    return TrainSettings.load({}, offered=VALUES | values)


@pytest.mark.parametrize("freeze", ["none", "backbone"])
def test_the_same_is_learned_and_told(world, tmp_path, traced, freeze):
    made = [
        Model(train.run(*world, tmp_path / f"{number}.safetensors", settings(freeze=freeze, **values)))
        for number, values in enumerate(({}, {}, {"compile": False}))
    ]
    assert made[0].digest == made[1].digest
    assert [model.header.versions.get("compiled") for model in made] == ["yes", "yes", None]
    weights = [model.weights("last") for model in made]
    assert weights[0].keys() == weights[2].keys()
    assert all(torch.allclose(weights[0][name].float(), weights[2][name].float(), atol=1e-3) for name in weights[0])
    assert len(traced) == 4, "a probe and what learns, twice"


def test_a_stopped_training_goes_on_to_the_same_bytes(world, tmp_path, traced, monkeypatch):
    whole = Model(train.run(*world, tmp_path / "a.safetensors", settings()))
    save = loop.Training.save

    def stop_after_saving(self):
        save(self)
        raise Stopped("stopped")

    monkeypatch.setattr(loop.Training, "save", stop_after_saving)
    with pytest.raises(Stopped):
        train.run(*world, tmp_path / "b.safetensors", settings(checkpoint_seconds=0.0))
    monkeypatch.setattr(loop.Training, "save", save)
    assert Model(train.run(*world, tmp_path / "b.safetensors", settings())).digest == whole.digest


def test_without_a_compiler_it_is_refused(world, tmp_path, monkeypatch):
    def fail(module, **options):
        raise RuntimeError("No working C++ compiler found\nwith details")

    monkeypatch.setattr(compiling.torch, "compile", fail)
    with pytest.raises(BadInput, match=r"^--compile needs a compiler, .*\(No working C\+\+ compiler found\)\. Install"):
        training_of(tmp_path / "m.safetensors", *world, settings(), 3, "key")
