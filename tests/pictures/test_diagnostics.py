"""What `alseg inspect` says about regions and their labels, against numbers worked out by hand."""

import json

import numpy as np
import pytest
from worlds import region_round, write_dataset, write_superpixels

from alseg_cli.diagnostics import answer_counts
from alseg_cli.inspection import describe
from alseg_cli.inspection import run as inspect
from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer, build_in_memory
from stages.artifacts.header import Header
from stages.artifacts.images_table import write_images
from stages.artifacts.opening import open_any
from stages.artifacts.request import refer
from stages.errors import BadInput

A, B, VOID = 0, 1, 255


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Image a: two squares of 16 pixels, 12 A + 4 B and 14 B + 2 A. Image b: two squares of void."""
    folder = tmp_path_factory.mktemp("made")
    mask = np.full((4, 8), A, np.uint8)
    mask[:, 4:] = B
    mask[0, :4], mask[0, 4:6] = B, A
    dataset = write_dataset(folder / "dataset.h5", {"a": mask, "b": np.full((4, 8), VOID, np.uint8)}, 2)
    regions = write_superpixels(folder, dataset, region_pixels=16)
    first = region_round(folder, dataset, 0, regions, select_settings={"rule": "uniform", "budget": 3, "seed": 1})
    ledger = region_round(folder, dataset, 1, regions, first, select_settings={"budget": 0})
    # the sieve took three of the wrong pixels of the first square and two right ones of the second
    labels = np.full((4, 8), A, np.uint8)
    labels[:, 4:] = B
    labels[0, :3], labels[3, 4:6] = VOID, VOID
    pseudo = folder / "pseudo.h5"

    def fill(writer: Writer) -> Header:
        write_images(writer, ["a", "b"], {"a": (4, 8), "b": (4, 8)})
        writer.array("images/labelled_pixels", np.array([27, 0]))
        writer.array("labels/a", labels)
        writer.array("labels/b", np.full((4, 8), VOID, np.uint8))
        inputs = refer(pseudo, {"dataset": Dataset(dataset), "annotations": Annotations(ledger)})
        attributes = {"classes": ["class0", "class1"], "sieve": "max"}
        return Header("pseudo_labels", "test", {}, inputs, 0, "", {"answers": 4, "clicks": 4, "seconds": 4}, attributes)

    pseudo.write_bytes(build_in_memory(fill))
    exact = folder / "exact"
    exact.mkdir()
    precise = region_round(exact, dataset, 0, regions, select_settings={"budget": 0, "answer": "precise"})
    return {"dataset": dataset, "regions": regions, "ledger": ledger, "pseudo": pseudo, "precise": precise}


def test_achievable_accuracy(made):
    found = describe(open_any(made["regions"]), Dataset(made["dataset"]))["against_truth"]
    assert found == {"achievable_accuracy": 13 / 16, "regions_per_image": 2, "pixels_in_no_region": 0}


def test_regions_of_the_truth_are_perfect_and_leave_void_out(made, tmp_path):
    oracle = write_superpixels(tmp_path, made["dataset"], method="oracle")
    found = describe(open_any(oracle), Dataset(made["dataset"]))["against_truth"]
    assert found["achievable_accuracy"] == 1
    assert found["pixels_in_no_region"] == 0.5


def test_labels_before_the_sieve_and_after_it(made):
    description = describe(open_any(made["pseudo"]), Dataset(made["dataset"]))
    assert description["class_labels"] == {"class0": 13, "class1": 14}
    assert description["against_truth"] == {
        "pixels_before": 32,
        "pixels_after": 27,
        "kept": 27 / 32,
        "label_precision_before": 26 / 32,
        "label_precision_after": 24 / 27,
        "sieve_recall": 24 / 26,
    }


def test_rounds_of_a_ledger_of_regions(made):
    ledger = open_any(made["ledger"])
    description = describe(ledger)
    assert "against_truth" not in description
    first, last = description["rounds"]
    assert (first["answers"], last["answers"]) == (3, 1)
    assert (first["pixels"], last["pixels"]) == (48, 16)
    assert first["void"] + last["void"] == 2
    assert first["clicks"] + last["clicks"] == 4
    assert last["pixels_asked_before"] == 0
    expected = {frozenset([A, B]): 26 / 32, frozenset([A]): 12 / 16, frozenset([B]): 14 / 16, frozenset(): None}
    for entry in (first, last):
        given = ledger.answers.label[ledger.answers.round == entry["round"]]
        assert entry["label_precision"] == expected[frozenset(given.tolist()) - {VOID}]
    assert description["class_clicks"] == {"class0": 1, "class1": 1, "void": 2}
    assert description["class_labels"] == {"class0": 16, "class1": 16, "void": 32}


def test_precise_answers_count_their_exact_pixels(made):
    ledger = open_any(made["precise"])
    assert answer_counts(ledger)[[A, B, VOID]].tolist() == [14, 18, 32]
    description = describe(ledger)
    assert description["rounds"][0]["label_precision"] is None
    assert description["class_clicks"] == {"no single class": description["cost"]["clicks"]}


@pytest.mark.parametrize("kind", ["regions", "pseudo", "ledger", "precise"])
def test_text_and_json_say_the_same(made, capsys, kind):
    inspect(made[kind], True, made["dataset"], None, None)
    description = json.loads(capsys.readouterr().out)
    inspect(made[kind], False, made["dataset"], None, None)
    text = capsys.readouterr().out
    assert ("against the ground truth" in text) == ("against_truth" in description) == (kind in ("regions", "pseudo"))
    for name in [*description.get("against_truth", {}), *description.get("rounds", [{}])[-1]]:
        assert name.replace("_", " ") in text
    assert kind != "regions" or "81.25 %" in text


def test_another_dataset_is_refused(made, tmp_path):
    other = write_dataset(tmp_path / "other.h5", {"a": np.zeros((4, 8), np.uint8)}, 2)
    with pytest.raises(BadInput, match="another dataset"):
        inspect(made["regions"], False, other, None, None)
