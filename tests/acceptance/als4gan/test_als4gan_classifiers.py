"""Classifiers of images: what they start from, what k-centre reads off them, and how they are validated."""

import numpy as np
import pytest
import torch
from als4gan_support import CLASSES, SHARES, answered, changed, digest, history, names, settings_of

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.model import Model
from stages.artifacts.scores import Scores
from stages.commands import score, select, train
from stages.networks.classifier import ImageClassifier
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput
from stages.settings.score import ScoreSettings
from stages.training.samples.images import image_targets


def test_rounds_start_from_the_classifier_before_unless_they_are_to_start_anew(world, tmp_path):
    dataset, ledger, start = world["dataset"], world["ledger1"], world["classifier0"]
    still = settings_of("classifier", backbone_lr=0.0, head_lr=0.0, freeze_norm=True)
    warm = Model(train.run(dataset, ledger, tmp_path / "warm.safetensors", still, start))
    before = Model(start).weights("last")
    assert all(torch.equal(before[name], tensor) for name, tensor in warm.weights("last").items())
    assert warm.header.inputs["model"].digest == digest(start)
    assert warm.header.counts["initial_weights"] == "classifier0.safetensors, last"
    cold = settings_of("classifier", cold_start=True)
    found = [
        train.run(dataset, ledger, tmp_path / f"{n}.safetensors", cold, model) for n, model in ((1, start), (2, None))
    ]
    assert digest(found[0]) == digest(found[1]) != digest(world["classifier1"])
    assert "model" not in Model(found[0]).header.inputs
    assert Model(world["classifier1"]).header.inputs["model"].digest == digest(start)


def test_a_training_starts_from_a_network_like_its_own_only(world, tmp_path):
    dataset, output = world["dataset"], tmp_path / "m.safetensors"
    other = settings_of("classifier", backbone="test_efficientnet")
    with pytest.raises(
        BadInput, match=r"has another network\. To start from it, set backbone mobilenetv3_small_050\.$"
    ):
        train.run(dataset, world["ledger1"], output, other, world["classifier0"])
    with pytest.raises(BadInput, match=r"predicts a class per pixel\. Start from a model of the same kind"):
        train.run(dataset, world["ledger1"], output, settings_of("classifier"), world["model"])
    with pytest.raises(BadInput, match=r"predicts classes of whole images\. Start from a model of the same kind"):
        train.run(dataset, world["masks"], output, settings_of("model"), world["classifier0"])
    assert not output.exists()


def test_a_segmentation_network_starts_from_another(world, tmp_path):
    """A discriminator always starts anew."""
    still = settings_of("model", backbone_lr=0.0, head_lr=0.0)
    found = Model(train.run(world["dataset"], world["masks"], tmp_path / "m.safetensors", still, world["model"]))
    before = Model(world["model"]).weights("last")
    assert all(torch.equal(before[name], tensor) for name, tensor in found.weights("last").items())


@pytest.mark.parametrize("fraction", [0.4, 1.0])
def test_k_centre_takes_those_farthest_from_what_was_asked(world, tmp_path, fraction):
    """One after the other of the most uncertain, each with the largest distance to the nearest asked or taken."""
    dataset, ledger = world["dataset"], world["ledger0"]
    kept = settings_of("scores", 1, keep_features=True)
    path = score.run(dataset, tmp_path / "s.h5", kept, world["classifier0"])
    scores = Scores(path)
    assert scores.image_scores().tolist() == Scores(world["scores1"]).image_scores().tolist()
    chosen = settings_of("queries", 1, **SHARES | {"rule": "k-centre", "query_share": 1.0, "fraction": fraction})
    found = names(select.run(dataset, path, tmp_path / "q.h5", chosen, ledger))
    features = dict(zip(scores.ids, scores.image_features().astype(np.float64), strict=True))
    assert len(next(iter(features.values()))) > 100
    near = [image for image in scores.ids if image in names(world["queries0"])]
    order = sorted(zip(-scores.image_scores(), scores.ids, strict=True))
    left = [image for _, image in order if image not in near][: max(3, int(20 * fraction))]
    expected = []
    for _ in range(3):
        gaps = [(-min(np.square(features[image] - features[each]).sum() for each in near), image) for image in left]
        expected.append(min(gaps)[1])
        near.append(expected[-1])
        left.remove(expected[-1])
    assert found == expected


def test_features_do_not_depend_on_how_many_images_go_together(world, tmp_path, monkeypatch):
    """On a CPU, where the last bits of a convolution depend on that: here much does."""
    original = ImageClassifier.features
    monkeypatch.setattr(ImageClassifier, "features", lambda self, images: original(self, images) + len(images))
    found = set()
    for batch in (1, 8):
        kept = settings_of("scores", 1, keep_features=True, batch=batch)
        found.add(digest(score.run(world["dataset"], tmp_path / f"{batch}.h5", kept, world["classifier0"])))
    assert len(found) == 1


def right_answers(world, folder, model, measure, present=None):
    """The share of right classes of val, read off the scores; ``present``: from which share on a class is present."""
    values = ScoreSettings(unit="image", measure=measure, split="val", device="cpu")
    scores = Scores(score.run(world["dataset"], folder / "val.h5", values, model))
    right = []
    with Dataset(world["dataset"]) as data:
        for image, p in zip(scores.ids, scores.read("images/probability"), strict=True):
            shares = np.bincount(data.mask(image).ravel(), minlength=256)[:CLASSES] / (data.mask(image) != VOID).sum()
            right += ((p > 0.5) == (shares >= present)).tolist() if present else [p.argmax() == shares.argmax()]
    return np.mean(right)


def test_a_classifier_is_validated_by_the_classes_of_images(world, tmp_path):
    (row,) = history(world["classifier3"])
    assert row["val_accuracy"] == right_answers(world, tmp_path, world["classifier3"], "entropy")
    assert Model(world["classifier3"]).header.counts["last_val_accuracy"] == row["val_accuracy"]


def test_a_classifier_of_all_classes_in_an_image(world, tmp_path):
    """Trained on sets with a yes or no for each class, scored by how undecided those are.

    In validation a class is present from the share on that it was for the annotator.
    """
    dataset, share = world["dataset"], {"presence_share": 0.2}
    ledger = answered(tmp_path, dataset, "sets", image_answer="classes", budget=6, annotate=share)
    assert Annotations(ledger).presence_share == 0.2
    assert Annotations(world["ledger0"]).presence_share == 0.05
    model = train.run(dataset, ledger, tmp_path / "m.safetensors", settings_of("classifier", epochs=2))
    targets = image_targets(Annotations(ledger))
    assert len(targets) == 6
    assert all(target.shape == (CLASSES,) and set(target.tolist()) <= {0.0, 1.0} for target in targets.values())
    accuracy = history(model)[-1]["val_accuracy"]
    assert accuracy == pytest.approx(right_answers(world, tmp_path, model, "binary-entropy", 0.2))
    assert accuracy != right_answers(world, tmp_path, model, "binary-entropy", 0.05)
    scores = Scores(score.run(dataset, tmp_path / "s.h5", settings_of("scores", 1, measure="binary-entropy"), model))
    p = scores.read("images/probability").astype(np.float64)
    expected = -(p * np.log(p) + (1 - p) * np.log(1 - p)).mean(1)
    assert scores.image_scores() == pytest.approx(expected, abs=1e-5)


def test_sets_are_not_validated_on_images_without_masks(world, tmp_path):
    """Their class alone does not tell which others are there."""

    def change(file):
        file["index/label"][:] = 0
        for name in ("v0", "v1"):
            del file[f"masks/{name}"]

    dataset = changed(world["dataset"], tmp_path / "d.h5", change)
    sets = answered(tmp_path, dataset, "sets", image_answer="classes", budget=4)
    model = Model(train.run(dataset, sets, tmp_path / "m.safetensors", settings_of("classifier")))
    assert model.checkpoints() == ["last"]
    model = Model(train.run(dataset, world["ledger0"], tmp_path / "c.safetensors", settings_of("classifier")))
    assert model.checkpoints() == ["last", "best"]


def test_an_answer_of_one_class_does_not_say_that_no_other_is_there(world, tmp_path):
    one = answered(tmp_path, world["dataset"], "one", image_answer="class", budget=4)
    both = Annotations(answered(tmp_path, world["dataset"], "both", one, image_answer="classes", budget=5))
    assert len(image_targets(Annotations(one))) == 4
    assert image_targets(both).keys() == {both.ids[image] for image in both.answers.image[4:]}


def test_a_classifier_of_other_classes_is_no_start(named):
    """Of scenes before, of what is seen in them now."""
    folder, dataset, ledger = named
    before = train.run(dataset, ledger, folder / "scenes.safetensors", settings_of("classifier"))
    (folder / "sets").mkdir()
    sets = answered(folder / "sets", dataset, "sets", image_answer="classes")
    with pytest.raises(
        BadInput, match=r"scenes\.safetensors predicts other classes than .*sets\.h5 names\. Set --cold-start\.$"
    ):
        train.run(dataset, sets, folder / "sets.safetensors", settings_of("classifier"), before)
    cold = settings_of("classifier", cold_start=True)
    assert Model(train.run(dataset, sets, folder / "sets.safetensors", cold, before)).outputs == 2
