"""What `alseg inspect` says about regions and their labels, against numbers worked out by hand."""

import json

import numpy as np
import pytest
from worlds import region_round, write_dataset, write_superpixels

from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import ANSWERED, ANSWERED_VOID, Answers, Ledger, RegionFile
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer, build_in_memory
from stages.artifacts.header import Header
from stages.artifacts.images_table import write_images
from stages.artifacts.opening import open_any
from stages.artifacts.request import refer
from stages.pixels.runs import areas_of, joined
from stages.regions.votes import vote
from stages.reporting.diagnostics import answer_counts
from stages.reporting.inspection import describe
from stages.reporting.inspection import run as inspect
from stages.runtime.errors import BadInput

A, B, VOID = 0, 1, 255
D, LEARNED_VOID = 2, 3  # of three classes


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
    with pytest.raises(
        BadInput, match=r"was made from another dataset .*\. Pass the one it was made from, or rebuild it\.$"
    ):
        inspect(made["regions"], False, other, None, None)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Squares of 16 pixels in a row, five in image a, of which the last was not asked; one of image b.

    Truth: 12 A and 4 B; B; 10 A and 6 void; void; 12 A, 3 B and 1 void; b: void.
    Named in round 0: A and D (an error); B. In round 1: A and void; void; of b nothing.
    """
    folder = tmp_path_factory.mktemp("sets")
    mask = np.full((4, 20), A, np.uint8)
    mask[0, :4], mask[:, 4:8] = B, B
    mask[0, 8:12], mask[1, 8:10], mask[:, 12:16] = VOID, VOID, VOID
    mask[0, 16:] = [B, B, B, VOID]
    masks = {"a": mask, "b": np.full((4, 20), VOID, np.uint8)}
    dataset = write_dataset(folder / "dataset.h5", masks, 3)
    squares = np.arange(20)[None].repeat(4, 0) // 4
    areas = joined([areas_of(squares, np.arange(4)), areas_of(squares, np.array([0]))])
    votes = np.concatenate([vote(masks[name].ravel(), squares.ravel(), 5, 3)[:n] for name, n in (("a", 4), ("b", 1))])
    answers = Answers.of(
        5,
        3,
        image=[0, 0, 0, 0, 1],
        region=[0, 1, 2, 3, 5],
        superpixels=0,
        round=[0, 0, 1, 1, 1],
        label=[VOID, B, VOID, VOID, VOID],
        state=[ANSWERED, ANSWERED, ANSWERED, ANSWERED_VOID, ANSWERED_VOID],
        clicks=[2, 1, 2, 1, 1],
        areas=areas,
        votes=votes,
        class_sets=np.array([[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]], dtype=np.uint8),
    )
    sizes = {"a": (4, 20), "b": (4, 20)}
    ledger, pseudo = folder / "ledger.h5", folder / "pseudo.h5"
    classes = {"classes": ["class0", "class1", "class2"]}

    def fill_ledger(writer: Writer) -> Header:
        Ledger(["a", "b"], sizes, answers, ["oracle"], {}, [RegionFile("x", "grid", 16.0)]).write(writer)
        return Header("annotations", "test", {}, refer(ledger, {"dataset": Dataset(dataset)}), 0, "", {}, classes)

    ledger.write_bytes(build_in_memory(fill_ledger))
    labels = np.full((4, 20), A, np.uint8)
    labels[0, 0] = B  # 3 of the square wrong
    labels[:, 4:8] = B
    labels[0, 4] = LEARNED_VOID  # wrong
    labels[0, 8:12] = LEARNED_VOID  # right, and 2 A where the truth is void
    labels[:, 12:16] = LEARNED_VOID
    labels[0, 12:16] = VOID  # nothing; the others right
    labels[2, 16:] = LEARNED_VOID  # beyond: 4 wrong, below 3 wrong A, one on void, and 4 right ones
    labels[3, 16:] = VOID

    def fill_labels(writer: Writer) -> Header:
        write_images(writer, ["a", "b"], sizes)
        writer.array("images/labelled_pixels", np.array([72, 0]))
        writer.array("labels/a", labels)
        writer.array("labels/b", np.full((4, 20), VOID, np.uint8))
        writer.array("regions/threshold", np.full(5, np.nan, np.float32))
        inputs = refer(pseudo, {"dataset": Dataset(dataset), "annotations": Annotations(ledger)})
        attributes = classes | {"method": "prototypes", "sieve": "max"}
        return Header("pseudo_labels", "test", {}, inputs, 0, "", {"answers": 5, "clicks": 7, "seconds": 7}, attributes)

    pseudo.write_bytes(build_in_memory(fill_labels))
    return {"dataset": dataset, "ledger": ledger, "pseudo": pseudo}


def test_clicks_of_class_sets_go_to_their_classes(sets):
    description = describe(open_any(sets["ledger"]))
    expected = {"class0": 2, "class1": 1, "class2": 1, "void": 2, "nothing named": 1}
    assert description["class_clicks"] == expected
    assert sum(expected.values()) == description["cost"]["clicks"]
    assert description["class_labels"] == {"class0": 0, "class1": 16, "class2": 0, "void": 32, "several classes": 32}
    assert description["rounds"] == [
        {
            "round": 0,
            "answers": 2,
            "void": 0,
            "clicks": 3,
            "pixels": 32,
            "label_precision": 1,
            "mean_set_size": 1.5,
            "pixels_in_set": 28 / 32,
        },
        {
            "round": 1,
            "answers": 3,
            "void": 2,
            "clicks": 4,
            "pixels": 48,
            "label_precision": None,
            "mean_set_size": 1,
            "pixels_in_set": 1,
        },
    ]


def test_labels_made_of_class_sets(sets):
    description = describe(open_any(sets["pseudo"]), Dataset(sets["dataset"]))
    assert description["class_labels"] == {"class0": 35, "class1": 16, "class2": 0, "void": 21}
    assert description["against_truth"] == {
        "pixels_inside": 60,
        "pixels_beyond": 12,
        "label_precision_inside": (13 + 15 + 14 + 12) / (16 + 16 + 14 + 12),
        "label_precision_beyond": 4 / 11,
        "coverage": 53 / 57,
        "miou": pytest.approx((26 / 40 + 16 / 23) / 2),
        "miou_where_labelled": pytest.approx((26 / 36 + 16 / 23) / 2),
        "regions_with_one_class": 2 / 4,
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["ledger", "pseudo"])
def test_class_sets_as_text_and_json(sets, capsys, kind):
    inspect(sets[kind], True, sets["dataset"], None, None)
    text = capsys.readouterr().out
    assert "NaN" not in text
    assert "range" not in json.loads(text)["arrays"].get("regions/threshold", {})
    inspect(sets[kind], False, sets["dataset"], None, None)
    text = capsys.readouterr().out
    assert {"ledger": "87.50 %", "pseudo": "92.98 %"}[kind] in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text.rpartition("class labels")[2]  # every column fits


def test_a_dataset_without_masks_is_described(tmp_path, capsys):
    from PIL import Image

    from stages.commands import prepare
    from stages.settings.prepare import PrepareSettings

    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "a.png")
    classes = 'classes = [{ name = "a", color = [0, 0, 0] }, { name = "b", color = [9, 9, 9] }]'
    (tmp_path / "d.toml").write_text(f'name = "bare"\n{classes}\n[splits.train]\nimages = "{{id}}.png"\n')
    path = prepare.run(str(tmp_path / "d.toml"), tmp_path, tmp_path / "d.h5", PrepareSettings())
    capsys.readouterr()
    inspect(path, True, None, None, None)
    found = json.loads(capsys.readouterr().out)
    assert found["splits"] == {"train": 1}
    assert "class_pixels" not in found
