"""Objectives and losses as parts: shipped ones are light, those of a plug-in train and are recorded."""

import hashlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from plugins import loaded, train_again
from worlds import TINY, random_masks, random_round, write_dataset

from stages.artifacts.model import Model
from stages.commands import train
from stages.runtime.errors import BadInput
from stages.runtime.parts import LOSSES, OBJECTIVES, load_plugin
from stages.settings.train import TrainSettings

LOSS = '''
"""A loss of somebody else."""

from pydantic import Field

from stages.settings.base import PartSettings
from stages.training.losses import loss


class SmoothSettings(PartSettings):
    smoothing: float = Field(0.1, ge=0, lt=1, description="Share of the target given to all classes alike.")


@loss("smooth", settings=SmoothSettings)
def smooth(logits, labels, weights, settings):
    """Cross-entropy with smoothed targets."""
    import torch.nn.functional as F

    labelled = labels != 255
    picked, targets = logits.permute(0, 2, 3, 1)[labelled], labels[labelled].long()
    total = F.cross_entropy(picked, targets, weights, reduction="sum", label_smoothing=settings.smoothing)
    return total, labelled.sum()
'''

OBJECTIVE = '''
"""An objective of somebody else."""

from pydantic import Field

from stages.settings.train import ClassWeightSettings
from stages.training.objectives import objective


class SquaredSettings(ClassWeightSettings):
    steepness: float = Field(1.0, gt=0, description="Factor on the logits.")


@objective("squared", labels="maps", settings=SquaredSettings)
def squared(task, settings):
    """Learn one class per pixel by squared errors of the probabilities."""
    from torch.nn.functional import one_hot

    from stages.training.learners.network import NetworkLearner

    class SquaredLearner(NetworkLearner):
        def losses(self, logits, batch):
            labelled = batch.labels != 255
            p = (logits.float() * settings.steepness).softmax(1).permute(0, 2, 3, 1)[labelled]
            truth = one_hot(batch.labels[labelled].long(), p.shape[1])
            return {"loss": ((p - truth) ** 2).mean(), "error": (p.argmax(1) != batch.labels[labelled]).float().mean()}

    return SquaredLearner(task, settings.class_weights)
'''


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    names = [f"i{number}" for number in range(4)]
    splits = dict(zip(names, ["train"] * 3 + ["val"], strict=True))
    dataset = write_dataset(folder / "d.h5", random_masks(names, (32, 32), 3), 3, splits)
    return dataset, random_round(folder, dataset, 0)


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- those that are shipped -------------------------------------------------------------------------------------------


def test_asking_for_shipped_parts_imports_no_torch():
    code = (
        "import sys; from stages.runtime.parts import LOSSES, OBJECTIVES, load_plugin; "
        "print(LOSSES.names(), OBJECTIVES.names()); sys.exit('torch' in sys.modules or 'h5py' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == (
        "['cross-entropy', 'focal', 'lovasz'] "
        "['adversarial', 'class-sets', 'image-classes', 'labels', 'support', 'teacher']"
    )


@pytest.mark.parametrize("part", [*LOSSES.parts(), *OBJECTIVES.parts()], ids=lambda part: part.name)
def test_a_part_says_what_it_is_and_is_short(part):
    assert part.about.endswith(".")
    assert part.about[0].isupper()
    assert len(Path(inspect.getfile(part.function)).read_text().splitlines()) < 60


# --- those of a plug-in -----------------------------------------------------------------------------------------------


def test_a_loss_of_a_plug_in_trains_and_is_recorded(world, tmp_path):
    dataset, ledger = world
    with loaded(tmp_path / "smooth_loss.py", LOSS) as path:
        settings = TrainSettings.load({"loss": "smooth", "smoothing": "0.3"}, offered=TINY | {"epochs": 1})
        model = Model(train.run(dataset, ledger, tmp_path / "m.safetensors", settings))
        header = model.header
        assert header.settings["smoothing"] == 0.3
        assert header.inputs["plugin smooth_loss"].digest == digest_of(path)
        assert header.inputs["plugin smooth_loss"].file == "smooth_loss.py"
        assert header.versions["plugin smooth_loss"] == "file"
        plain = TrainSettings.load({}, offered=TINY | {"epochs": 1})
        other = Model(train.run(dataset, ledger, tmp_path / "o.safetensors", plain))
        assert not any(role.startswith("plugin") for role in other.header.inputs)
        assert model.digest != other.digest
        with pytest.raises(BadInput, match="smoothing does not apply"):
            TrainSettings.load({"smoothing": 0.3})
    with pytest.raises(BadInput, match=r"Unknown loss 'smooth'\..*--plugin"):
        TrainSettings.load({"loss": "smooth"})


def test_an_objective_of_a_plug_in_trains_and_is_recorded(world, tmp_path):
    dataset, ledger = world
    with loaded(tmp_path / "squared_objective.py", OBJECTIVE) as path:
        own = {"objective": "squared", "steepness": 2.0, "class_weights": "inverse"}
        settings = TrainSettings.load(own, offered=TINY | {"epochs": 1})
        model = Model(train.run(dataset, ledger, tmp_path / "m.safetensors", settings))
        assert model.header.settings["steepness"] == 2
        assert model.header.inputs["plugin squared_objective"].digest == digest_of(path)
        assert model.header.counts["labelled_images"] == 3
        header, row = (tmp_path / "m.history.csv").read_text().splitlines()
        assert "error" in header.split(",")
        assert 0 <= float(row.split(",")[header.split(",").index("error")]) <= 1
        assert all(torch.isfinite(tensor).all() for tensor in model.weights("last").values())
        with pytest.raises(BadInput, match="loss does not apply to objective squared; it is for objective labels"):
            TrainSettings.load({"objective": "squared", "loss": "focal"})
        own = {"objective": "teacher", "student": "squared", "steepness": 2.0}
        taught = TrainSettings.load(own, offered=TINY | {"epochs": 1})
        model = Model(train.run(dataset, ledger, tmp_path / "taught.safetensors", taught))
        assert model.header.inputs["plugin squared_objective"].digest == digest_of(path)
        header = (tmp_path / "taught.history.csv").read_text().splitlines()[0]
        assert {"error", "taught", "accepted"} <= {*header.split(",")}


@pytest.mark.slow
@pytest.mark.parametrize(
    "text, name, settings",
    [(LOSS, "mine", {"loss": "smooth"}), (OBJECTIVE, "mine", {"objective": "squared"})],
    ids=["loss", "objective"],
)
def test_a_changed_plug_in_makes_the_model_stale(world, tmp_path, preloaded, text, name, settings):
    path, output = tmp_path / f"{name}.py", tmp_path / "m.safetensors"
    path.write_text(text)
    values = TINY | {"epochs": 1} | settings
    assert "wrote" in train_again(preloaded, path, *world, output, **values)
    assert "is up to date" in train_again(preloaded, path, *world, output, **values)
    path.write_text(text + "\n# changed\n")
    assert f"input plugin {name} changed" in train_again(preloaded, path, *world, output, **values)
    assert Model(output).header.inputs[f"plugin {name}"].digest == digest_of(path)


@pytest.mark.parametrize(
    "facts, words",
    [
        ('labels="masks"', "has no full masks, which objective squared learns from"),
        ('labels="image-classes"', "has no classes of images"),
        ('labels="class-sets"', "has no class sets"),
        ('labels="dreams"', "Objective squared declares labels 'dreams'; declare maps, class-sets, masks or image-cl"),
        ('labels="maps", start=True', "Objective squared starts from a trained model"),
        ('labels="maps", predicts="images"', "set an architecture that predicts classes of images"),
    ],
)
def test_what_an_objective_declares_is_checked(world, tmp_path, facts, words):

    def refused():
        train.run(*world, tmp_path / "m.safetensors", TrainSettings.load({"objective": "squared"}, offered=TINY))

    with loaded(tmp_path / "mine.py", OBJECTIVE.replace('labels="maps"', facts)), pytest.raises(BadInput, match=words):
        refused()


def test_an_objective_must_declare_what_it_learns_from(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OBJECTIVE.replace('labels="maps", ', ""))
    with pytest.raises(BadInput, match="objective 'squared': missing keyword labels"):
        load_plugin(path)
