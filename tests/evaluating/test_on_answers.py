"""Models evaluated on the answers of a ledger's last round: shares, intervals and confusion computed by hand."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from forged import forge_header
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import random_masks, random_round, region_round, write_dataset, write_network, write_superpixels

from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import Answers, Ledger, RegionFile
from stages.artifacts.evaluation import Evaluation
from stages.artifacts.hdf5 import build_in_memory
from stages.artifacts.header import Header, InputRef, now
from stages.artifacts.publish import publish_bytes
from stages.commands import evaluate
from stages.evaluating.answers import compared, rows_to_compare
from stages.evaluating.samples import effective_number, share_of, wilson
from stages.pixels.runs import Areas
from stages.runtime.errors import BadInput
from stages.settings.evaluate import EvaluateSettings

CLASSES = 3
PREDICTED = np.array([[0, 0, 1, 1], [0, 2, 2, 1]], dtype=np.uint8)


def ledger_of(path: Path, answers: Answers, masks: dict[str, np.ndarray] | None = None) -> Annotations:
    """A ledger of answers about the image "a" of 2 x 4 pixels."""
    files = [RegionFile("0" * 64, "grid", 2.0)] if answers.of_regions.any() else []
    made = Ledger(["a"], {"a": (2, 4)}, answers, ["Ada"], masks or {}, files)

    def fill(writer):
        made.write(writer)
        attributes = {"classes": ["x", "y", "z"]}
        return Header("annotations", "annotate", {}, {}, 0, attributes=attributes, created=now())

    publish_bytes(path, build_in_memory(fill))
    return Annotations(path)


def compare(ledger: Annotations):
    return compared(ledger, "a", rows_to_compare(ledger)["a"], PREDICTED, CLASSES)


def test_wilson_by_hand():
    """8 of 10: middle (0.8 + 3.8415/20) / 1.38415 = 0.71674, half 1.96 sqrt(0.016 + 3.8415/400) / 1.38415 = 0.22659."""
    assert wilson(0.8, 10) == pytest.approx((0.49016, 0.94332), abs=1e-5)
    low, high = wilson(1.0, 20)
    assert (round(low, 4), high) == (0.8389, 1.0)
    assert np.isnan(wilson(0.5, 0)).all()


@given(st.integers(1, 500), st.integers(0, 500))
@settings(max_examples=50, deadline=None)
def test_wilson_covers_the_share_within_0_and_1(number, right):
    share = min(right, number) / number
    low, high = wilson(share, number)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1


def test_regions_weigh_by_their_pixels():
    """Right 30 of 60 pixels; weights 30, 10, 10, 10 are worth 60^2 / 1200 = 3 equal ones."""
    weight = np.array([30.0, 10, 10, 10])
    assert effective_number(weight) == 3
    assert effective_number(np.full(7, 2.5)) == pytest.approx(7)
    share, interval = share_of(weight * [1, 0, 0, 0], weight, np.random.default_rng(0))
    assert share == 0.5
    assert interval == pytest.approx(wilson(0.5, 3))


def test_pixels_beside_a_prediction(tmp_path):
    """Of the last round: right, wrong, void and skipped; gold and asked again do not count, the first round neither."""
    answers = Answers.of(
        8,
        CLASSES,
        y=[0, 0, 0, 1, 1, 1, 0, 0],
        x=[3, 0, 1, 1, 2, 3, 2, 3],
        round=[0, 1, 1, 1, 1, 1, 1, 1],
        label=[1, 0, 1, 2, 255, 255, 1, 1],
        state=[1, 1, 1, 1, 2, 3, 1, 1],
        purpose=[0, 0, 1, 1, 0, 0, 3, 2],
    )
    found = compare(ledger_of(tmp_path / "l.h5", answers))
    assert found.right.tolist() == [1, 0, 1]
    assert found.confusion(CLASSES).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 1]]
    control = found.taken(found.of_control)
    assert (len(control), control.right.sum()) == (2, 1)
    assert control.confusion(CLASSES).tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 1]]


def test_regions_and_class_sets_beside_a_prediction(tmp_path):
    """Flat pixels 0, 1, 4 are predicted 0; 2, 3, 7 are 1; 5, 6 are 2.

    Region of pixels 0 to 2, answer 0: mostly 0. Pixels 4, 5: a tie of 0 and 2, so 0, answer 2. Set {y, z} of pixels 6,
    7: a tie, so 1, in the set. Set {x, void} of pixel 3: predicted 1, not in it.
    """
    sets = np.zeros((4, CLASSES + 1), dtype=np.uint8)
    sets[2, [1, 2]], sets[3, [0, 3]] = 1, 1
    areas = Areas(np.arange(5), np.array([0, 4, 6, 3], np.int32), np.array([3, 2, 2, 1], np.int32))
    answers = Answers.of(
        4, CLASSES, region=range(4), superpixels=0, label=[0, 2, 255, 255], areas=areas, class_sets=sets
    )
    found = compare(ledger_of(tmp_path / "l.h5", answers))
    assert found.weight.tolist() == [3, 2, 2, 1]
    assert found.right.tolist() == [3, 0, 2, 0]
    assert found.confusion(CLASSES).tolist() == [[3, 0, 0], [0, 0, 0], [2, 0, 0]]


def test_masks_beside_a_prediction(tmp_path):
    """Void pixels do not count; the rest pixel by pixel."""
    mask = np.array([[0, 1, 1, 255], [0, 2, 255, 1]], dtype=np.uint8)
    found = compare(ledger_of(tmp_path / "l.h5", Answers.of(1, CLASSES, clicks=50), {"a": mask}))
    assert (found.weight.tolist(), found.right.tolist()) == ([6], [5])
    assert found.confusion(CLASSES).tolist() == [[2, 0, 0], [1, 2, 0], [0, 0, 1]]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Twelve images, two rounds of pixels, and a network that learned from neither."""
    folder = tmp_path_factory.mktemp("on-answers")
    dataset = write_dataset(folder / "d.h5", random_masks([f"i{n}" for n in range(12)], (16, 24), CLASSES), CLASSES)
    first = random_round(folder, dataset, 0, None, {"budget": 2})
    mixed = {"budget": 5, "rule": "top", "control": 0.4, "repeat": 0.1}
    second = random_round(folder, dataset, 1, first, mixed)
    return folder, dataset, second, write_network(folder / "m.safetensors", dataset)


def test_an_evaluation_on_answers(world):
    folder, dataset, ledger, model = world
    path = evaluate.run(dataset, [model], folder / "e.h5", EvaluateSettings(device="cpu"), ledger)
    with Evaluation(path) as file, Annotations(ledger) as answered:
        assert file.attributes["measured_at"] == "answers"
        assert file.attributes["sample"] == "control"
        counted = (answered.answers.round == 1) & (answered.answers.state == 1)
        number = [int((counted & (answered.answers.purpose == purpose)).sum()) for purpose in (0, 1)]
        assert file.read("answers/queries").tolist() == [sum(number), number[1]]
        share, low, high = (file.read(f"answers/{name}")[0] for name in ("share", "low", "high"))
        assert (low[1], high[1]) == wilson(share[1], number[1])
        assert np.isnan(low[0])
        assert file.confusion[0].sum() == number[1]
        assert np.trace(file.confusion[0]) / number[1] == pytest.approx(share[1])
        images = file.read("answered/queries")
        assert (images * file.read("answered/share")[0]).sum() == pytest.approx(share[0] * sum(number))
        low, miou, high = (file.read(name)[0] for name in ("answers/miou_low", "miou", "answers/miou_high"))
        assert 0 <= low <= miou <= high <= 1


def test_the_answers_are_found_once(world, tmp_path, monkeypatch):
    """For two models, wherever the function is called from."""
    _, dataset, ledger, model = world
    other = write_network(tmp_path / "other.safetensors", dataset, head_width=8)
    calls = []

    def counted(ledger):
        calls.append(ledger)
        return rows_to_compare(ledger)

    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("stages.") and hasattr(module, "rows_to_compare"):
            monkeypatch.setattr(module, "rows_to_compare", counted)
    settings = EvaluateSettings(device="cpu", checkpoint="both")
    with Evaluation(evaluate.run(dataset, [model, other], tmp_path / "e.h5", settings, ledger)) as file:
        assert len(file.confusion) == 2
    assert len(calls) == 1


def test_the_estimate_of_the_control_sample_is_that_of_the_masks(tmp_path):
    """All pixels drawn at random: the share, the confusion and the mIoU are those of the masks."""
    masks = random_masks(["a", "b"], (8, 12), CLASSES, void=0)
    dataset = write_dataset(tmp_path / "d.h5", masks, CLASSES)
    ledger = random_round(tmp_path, dataset, 0, None, {"budget": 96, "control": 1.0, "gold_share": 0})
    model = write_network(tmp_path / "m.safetensors", dataset)
    settings = EvaluateSettings(device="cpu")
    with (
        Evaluation(evaluate.run(dataset, [model], tmp_path / "a.h5", settings, ledger)) as answers,
        Evaluation(evaluate.run(dataset, [model], tmp_path / "m.h5", EvaluateSettings(split="train"))) as truth,
    ):
        assert (answers.confusion == truth.confusion).all()
        assert answers.read("miou") == truth.read("miou")
        assert answers.read("pixel_accuracy") == truth.read("pixel_accuracy")


def test_regions_are_evaluated(tmp_path):
    dataset = write_dataset(tmp_path / "d.h5", random_masks(["a", "b"], (16, 24), CLASSES), CLASSES)
    regions = write_superpixels(tmp_path, dataset, region_pixels=16)
    how = {"budget": 12, "control": 0.5}
    ledger = region_round(tmp_path, dataset, 0, regions, select_settings=how)
    model = write_network(tmp_path / "m.safetensors", dataset)
    with Evaluation(evaluate.run(dataset, [model], tmp_path / "e.h5", EvaluateSettings(device="cpu"), ledger)) as file:
        queries = file.read("answers/queries")
        assert queries[1] == 6 - (Annotations(ledger).answers.state[:6] != 1).sum()
        assert file.confusion[0].sum() == 16 * queries[1]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [({"split": "val"}, "split does not apply to truth answers"), ({"at": "original"}, "at does not apply to truth")],
)
def test_settings_of_masks_do_not_apply(world, settings, sentence):
    folder, dataset, ledger, model = world
    with pytest.raises(BadInput, match=sentence):
        evaluate.run(dataset, [model], folder / "x.h5", EvaluateSettings(**settings), ledger)


def test_a_ledger_without_new_classes_is_refused(tmp_path):
    void = ledger_of(tmp_path / "void.h5", Answers.of(1, CLASSES, label=255, state=2, y=0, x=0))
    with pytest.raises(BadInput, match="there is nothing to compare with"):
        rows_to_compare(void)


def test_a_model_that_learned_from_the_answers_is_refused(world, tmp_path):
    _, dataset, ledger, model = world
    labels = InputRef(str(ledger), Annotations(ledger).digest)
    learned = forge_header(shutil.copy(model, tmp_path / "m.safetensors"), inputs={"labels": vars(labels)})
    with pytest.raises(BadInput, match=r"learned from .*\. Pass the model of the round before"):
        evaluate.run(dataset, [learned], tmp_path / "x.h5", EvaluateSettings(), ledger)
