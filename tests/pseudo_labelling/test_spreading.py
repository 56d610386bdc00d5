"""Labels spread from answers by the stage, with a small random encoder, on images whose colours tell the classes."""

import re

import numpy as np
import pytest
from worlds import TINY, random_round, region_round, write_dataset, write_network, write_superpixels

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.pseudo_labels import PseudoLabels
from stages.artifacts.superpixels import Superpixels
from stages.commands import pseudo_label, train
from stages.pixels.void import VOID
from stages.reporting.diagnostics import against_truth
from stages.reporting.pictures.overlay import draw
from stages.runtime.errors import BadInput
from stages.settings.pseudo_label import PseudoLabelSettings
from stages.settings.train import TrainSettings

ENCODER = {"method": "neighbours", "encoder": TINY["backbone"], "weights": "none", "device": "cpu"}
COLOURS = np.array([[200, 30, 30], [20, 180, 60], [40, 60, 220]])
NAMES = ("a", "b", "c", "d")


def settings(**values):
    return PseudoLabelSettings.load(ENCODER | values)


def refused(says):
    return pytest.raises(BadInput, match=re.escape(says))


def write_world(folder, names=NAMES, splits=None):
    """Images of halves: red on the left, green or, in b and d, blue on the right; the last row is void."""
    masks, images = {}, {}
    for name in names:
        mask = np.zeros((32, 48), dtype=np.uint8)
        mask[:, 24:] = 2 if name in "bd" else 1
        noise = np.random.default_rng(ord(name)).integers(-15, 16, (32, 48, 3))
        images[name] = (COLOURS[mask] + noise).clip(0, 255).astype(np.uint8)
        mask[-1] = VOID
        masks[name] = mask
    return write_dataset(folder / "d.h5", masks, 3, splits, images)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spread")
    dataset = write_world(folder)
    ledger = random_round(folder, dataset, 0, select_settings={"rule": "uniform", "budget": 12}, annotate_settings={})
    return folder, dataset, ledger


@pytest.mark.parametrize("among", ["pool", "image"])
def test_halves_of_one_colour_take_their_class(world, tmp_path, among):
    _, dataset, ledger = world
    path = pseudo_label.run(dataset, ledger, None, tmp_path / "p.h5", settings(among=among, neighbours=3, cell=1))
    with PseudoLabels(path) as found, Dataset(dataset) as data, Annotations(ledger) as answers:
        assert found.ids == list(NAMES)
        for image in NAMES:
            labels, given = found.label_map(image), answers.label_map(image)
            assert (labels[given != VOID] == given[given != VOID]).all(), "answers keep their class"
        truth = against_truth(found, data)
        counts = found.header.counts
    assert truth["coverage"] > 0.6
    assert truth["label_precision"] > 0.8
    assert truth["label_precision_of_class0"] > 0.8
    assert counts["references"] == (48 if among == "pool" else 0)
    assert counts["pixels"] == 4 * 32 * 48
    assert draw(PseudoLabels(path), Dataset(dataset), "a").startswith(b"\x89PNG")


def test_the_order_of_the_images_is_without_effect(world, tmp_path):
    """The same answers in a dataset whose images are listed backwards."""
    _, dataset, ledger = world
    turned = write_world(tmp_path, NAMES[::-1])
    same = random_round(tmp_path, turned, 0, select_settings={"rule": "uniform", "budget": 12})
    paths = [
        pseudo_label.run(data, answers, None, tmp_path / f"{number}.h5", settings(cap=9, neighbours=5))
        for number, (data, answers) in enumerate(((dataset, ledger), (turned, same)))
    ]
    first, second = map(PseudoLabels, paths)
    for image in NAMES:
        assert (first.label_map(image) == second.label_map(image)).all()


def test_each_region_takes_one_class(world, tmp_path):
    _, dataset, ledger = world
    regions = write_superpixels(tmp_path, dataset)
    path = pseudo_label.run(dataset, ledger, None, tmp_path / "p.h5", settings(margin=0, neighbours=3), regions)
    with PseudoLabels(path) as found, Superpixels(regions) as cut, Annotations(ledger) as answers:
        for image in NAMES:
            labels, own = found.label_map(image, 3), cut.labels(image)
            labels[answers.label_map(image, 3) != VOID] = VOID
            for region in range(cut.number(image)):
                assert len(np.unique(labels[(own == region) & (labels != VOID)])) <= 1


def test_images_without_answers_get_labels_if_their_split_is_named(tmp_path):
    dataset = write_world(tmp_path, splits=dict(zip(NAMES, ("train", "train", "val", "val"), strict=True)))
    ledger = random_round(tmp_path, dataset, 0, select_settings={"rule": "uniform", "budget": 20})
    path = pseudo_label.run(dataset, ledger, None, tmp_path / "p.h5", settings(unlabelled_split="val", neighbours=3))
    with PseudoLabels(path) as found:
        assert found.ids == list(NAMES)
        assert found.labelled_pixels.min() > 0
        assert found.header.counts["images"] == 2, "those with answers"
    assert draw(PseudoLabels(path), Dataset(dataset), "c").startswith(b"\x89PNG")


def test_answers_about_regions_and_the_features_of_a_model(world, tmp_path):
    _, dataset, _ = world
    ledger = region_round(tmp_path, dataset, 0, write_superpixels(tmp_path, dataset), select_settings={"budget": 12})
    model = write_network(tmp_path / "m.safetensors", dataset)
    of_model = PseudoLabelSettings.load({"method": "neighbours", "features": "model", "device": "cpu", "cap": 40})
    path = pseudo_label.run(dataset, ledger, model, tmp_path / "p.h5", of_model)
    with PseudoLabels(path) as found, Annotations(ledger) as answers:
        assert found.header.inputs.keys() == {"dataset", "annotations", "model"}
        assert found.header.counts["references"] <= 40 * 4
        for image in found.ids:
            given = answers.label_map(image)
            assert (found.label_map(image)[given != VOID] == given[given != VOID]).all()
    trained = train.run(dataset, path, tmp_path / "t.safetensors", TrainSettings(**TINY, epochs=1, crop=(32, 32)))
    assert trained.is_file()


def test_a_margin_of_all_votes_leaves_what_is_not_unanimous_unlabelled(world, tmp_path):
    _, dataset, ledger = world
    counts = []
    for margin in (0.0, 0.5, 1.0):
        path = pseudo_label.run(dataset, ledger, None, tmp_path / f"{margin}.h5", settings(margin=margin, neighbours=9))
        counts.append(PseudoLabels(path).header.counts["labelled_pixels"])
    assert counts[0] >= counts[1] >= counts[2] > 0
    assert counts[0] > counts[2]


def test_what_is_up_to_date(world, tmp_path, capsys):
    _, dataset, ledger = world
    path = pseudo_label.run(dataset, ledger, None, tmp_path / "p.h5", settings(batch=1))
    capsys.readouterr()
    pseudo_label.run(dataset, ledger, None, path, settings(batch=4))
    assert "is up to date" in capsys.readouterr().out
    pseudo_label.run(dataset, ledger, None, path, settings(margin=0.3))
    assert "setting margin 0.2 is now 0.3" in capsys.readouterr().out


def test_warned_of_classes_without_an_answer_and_of_images_with_few(tmp_path, capsys):
    dataset = write_world(tmp_path, ("a", "c"))
    ledger = random_round(tmp_path, dataset, 0, select_settings={"rule": "uniform", "budget": 5})
    pseudo_label.run(dataset, ledger, None, tmp_path / "p.h5", settings(among="image"))
    said = capsys.readouterr().out
    assert "Warning: no answer names class2, so no pixel takes that class." in said
    assert "Warning: 2 of 2 images have fewer than 20 labelled pixels; all vote." in said


def test_refused(world, tmp_path):
    _, dataset, ledger = world
    output = tmp_path / "p.h5"
    with refused("--neighbours 100 exceeds the 48 labelled pixels that are compared. Lower it"):
        pseudo_label.run(dataset, ledger, None, output, settings(neighbours=100))
    with refused("Method sieve uses a trained model. Pass --model."):
        pseudo_label.run(dataset, ledger, None, output, PseudoLabelSettings())
    of_model = PseudoLabelSettings(method="neighbours", features="model")
    with refused("Pass --model, or set --features encoder."):
        pseudo_label.run(dataset, ledger, None, output, of_model)
    void = write_dataset(tmp_path / "void.h5", {"a": np.full((16, 16), VOID, np.uint8)}, 3)
    answers = random_round(tmp_path, void, 0)
    with refused("has no labels to spread: every answer is void. Annotate more."):
        pseudo_label.run(void, answers, None, output, settings())
    assert not output.exists()
    assert not output.with_name("p.h5.parts").exists()


def test_regions_on_another_grid_are_refused(world, tmp_path):
    _, dataset, ledger = world
    regions = write_superpixels(tmp_path, dataset, grid_scale=0.5, region_pixels=16)
    with refused("has image a on another grid than"):
        pseudo_label.run(dataset, ledger, None, tmp_path / "p.h5", settings(), regions)
