"""Gated pseudo-labels: predictions that the discriminator takes for real."""

import numpy as np
import pytest
import torch
from als4gan_support import BUDGET, digest, settings_of

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.model import Model
from stages.artifacts.pseudo_labels import PseudoLabels
from stages.commands import pseudo_label, train
from stages.networks.discriminator import Discriminator
from stages.networks.predictor import load_predictor
from stages.pixels.void import VOID
from stages.settings.pseudo_label import PseudoLabelSettings


def gated(world, output, **own):
    chosen = PseudoLabelSettings(**{"method": "gated", "device": "cpu"} | own)
    return pseudo_label.run(world["dataset"], world["masks"], world["model"], output, chosen)


@pytest.fixture(scope="module")
def everything(world):
    """The labels where every prediction is accepted."""
    return PseudoLabels(gated(world, world["folder"] / "everything.h5", gate=0.0))


def test_accepted_images_are_labelled_as_predicted_and_refused_ones_not_at_all(world, everything, tmp_path):
    z, ledger = everything.read("images/score"), Annotations(world["masks"])
    judged = np.sort(z[~np.isnan(z)])
    assert len(judged) == 20 - BUDGET
    gate = float(judged[len(judged) // 2])  # one is exactly at the gate, and not above it
    labels = PseudoLabels(gated(world, tmp_path / "l.h5", gate=gate))
    accepted = labels.read("images/accepted").astype(bool)
    assert (labels.read("images/score") == z)[~np.isnan(z)].all()
    assert accepted.tolist() == (z > np.float32(gate)).tolist()
    assert 0 < accepted.sum() < len(judged)
    predictor = load_predictor(Model(world["model"]), "last", torch.device("cpu"), "auto")
    with Dataset(world["dataset"]) as data:
        assert labels.ids == data.ids("train")
        for row, image in enumerate(labels.ids):
            found = labels.label_map(image)
            assert np.isnan(z[row]) == (image in ledger.mask_ids)
            assert labels.labelled_pixels[row] == (found != VOID).sum()
            if image in ledger.mask_ids:
                assert (found == ledger.label_map(image)).all()
            elif accepted[row]:
                pixels = torch.from_numpy(data.image(image)).permute(2, 0, 1)[None]
                assert (found == predictor.logits(pixels).argmax(1)[0].numpy()).all()
            else:
                assert (found == VOID).all()
    counts = labels.header.counts
    assert (counts["masks"], counts["accepted"], counts["refused"]) == (BUDGET, accepted.sum(), 13 - accepted.sum())
    assert counts["clicks"] == ledger.cost()["clicks"]
    assert labels.attributes["method"] == "gated"


def test_a_gate_of_0_accepts_all_and_one_of_1_nothing(world, everything, tmp_path):
    assert everything.labelled_ids() == everything.ids
    assert everything.header.counts["accepted"] == 13
    nothing = PseudoLabels(gated(world, tmp_path / "n.h5", gate=1.0))
    assert nothing.header.counts["refused"] == 13
    assert set(nothing.labelled_ids()) == Annotations(world["masks"]).mask_ids
    assert (nothing.read("images/score") == everything.read("images/score"))[nothing.read("images/score") >= 0].all()


def test_training_learns_from_what_was_accepted(world, everything, tmp_path):
    plain = settings_of("model", recipe="als4gan-supervised", epochs=1)
    model = Model(train.run(world["dataset"], everything.path, tmp_path / "m.safetensors", plain))
    assert model.header.counts["labelled_images"] == 20
    assert model.header.counts["labelled_pixels"] == everything.labelled_pixels.sum()
    assert not model.has_discriminator


def test_gated_labels_do_not_depend_on_how_many_images_go_together(world, everything, tmp_path, monkeypatch):
    """On a CPU, where the last bits of a convolution depend on that: here much does."""
    assert digest(gated(world, tmp_path / "b.h5", gate=0.0, batch=8)) == everything.digest
    original = Discriminator.forward

    def forward(self, pairs):
        found, features = original(self, pairs)
        return found + len(pairs), features

    monkeypatch.setattr(Discriminator, "forward", forward)
    assert len({digest(gated(world, tmp_path / f"{batch}.h5", gate=0.0, batch=batch)) for batch in (1, 8)}) == 1


def test_predictions_are_judged_with_the_holes_of_masks(world, tmp_path, monkeypatch):
    """As in training: the first image without a mask has those of the first mask, the next those of the second."""
    with Dataset(world["dataset"]) as data:
        masks = sorted(Annotations(world["masks"]).mask_ids)
        others = [image for image in data.ids("train") if image not in masks]
        images = {image: data.image(image) for image in others}
    label_map, forward = Annotations.label_map, Discriminator.forward
    judged = []

    def with_holes(self, image, *void):
        """Of mask n the columns from n on are void."""
        labels = np.zeros_like(label_map(self, image, *void))
        labels[:, masks.index(image) :] = VOID
        return labels

    def judge(self, pairs):
        judged.extend(pairs.numpy())
        return forward(self, pairs)

    monkeypatch.setattr(Annotations, "label_map", with_holes)
    monkeypatch.setattr(Discriminator, "forward", judge)
    gated(world, tmp_path / "l.h5", batch=3)
    assert len(judged) == len(others) == 13
    for number, (image, found) in enumerate(zip(others, judged, strict=True)):
        labelled = number % BUDGET
        assert found[:-3, :, :labelled].sum(0) == pytest.approx(1, abs=1e-5)
        assert (found[:-3, :, labelled:] == 0).all()
        assert found[-3:] == pytest.approx(images[image].transpose(2, 0, 1) / 255, abs=1e-6)
