"""Pictures, numbers and lists of images that are scored, asked about and judged as a whole, and of their training."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image
from worlds import TINY, random_masks, random_round, write_dataset

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.opening import open_any
from stages.artifacts.pseudo_labels import PseudoLabels
from stages.commands import annotate_simulate, export_queries, pseudo_label, score, select, train
from stages.evaluating.confusion import mean_iou
from stages.pixels.void import VOID
from stages.reporting.inspection import describe
from stages.reporting.inspection import run as inspect
from stages.reporting.pictures import curves, gated, images, labels, sheet
from stages.reporting.pictures.gated import MOST, judge
from stages.reporting.pictures.overlay import draw
from stages.reporting.pictures.sheet import Cell, Section, draw_sheet, fitted, shortened, spread_out
from stages.runtime.errors import BadInput
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.pseudo_label import PseudoLabelSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from stages.settings.train import TrainSettings

pytestmark = pytest.mark.slow

SIZE = (24, 32)
CLASSES = 3
POOL = [f"i{number:02}" for number in range(40)]
ASKED = 6
ADVERSARIAL = TrainSettings(
    **TINY, objective="adversarial", epochs=1, steps_per_epoch=2, crop=SIZE, discriminator_width=4
)
CLASSIFIER = TrainSettings.load(
    {"objective": "image-classes", "architecture": "classifier", "epochs": 1, "steps_per_epoch": 1, "crop": SIZE},
    offered=TINY,
)


def asked_round(folder, dataset, scores, answer, before=None, rule="uniform"):
    """Queries of whole images, and the ledger with their answers."""
    settings = SelectSettings(rule=rule, image_answer=answer, budget=ASKED)
    queries = select.run(dataset, scores, folder / f"queries-{answer}.h5", settings, before)
    return queries, annotate_simulate.run(dataset, queries, folder / f"{answer}.h5", AnnotateSettings(), before)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Forty small images of noise and every artifact of choosing among them; half the predictions are accepted."""
    folder = tmp_path_factory.mktemp("world")
    names = [*POOL, "v0", "v1"]
    draw_noise = np.random.default_rng(0)
    noise = {name: draw_noise.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for name in names}
    splits = {name: "train" if name in POOL else "val" for name in names}
    dataset = write_dataset(folder / "dataset.h5", random_masks(names, SIZE, CLASSES), CLASSES, splits, noise)
    made = {"folder": folder, "dataset": dataset, "scores": folder / "scores.h5"}
    score.run(dataset, made["scores"], ScoreSettings(measure="random", unit="image"))
    made["queries"], made["class"] = asked_round(folder, dataset, made["scores"], "class")
    _, made["classes"] = asked_round(folder, dataset, made["scores"], "classes")
    made["chosen"], made["mask"] = asked_round(folder, dataset, made["scores"], "mask", made["class"], "answered")
    made["classifier"] = train.run(dataset, made["class"], folder / "classifier.safetensors", CLASSIFIER)
    made["model"] = train.run(dataset, made["mask"], folder / "model.safetensors", ADVERSARIAL)
    every = PseudoLabelSettings(method="gated", gate=0)
    found = PseudoLabels(pseudo_label.run(dataset, made["mask"], made["model"], folder / "every.h5", every))
    gate = float(np.nanmedian(found.read("images/score")))
    made["pseudo"] = pseudo_label.run(
        dataset, made["mask"], made["model"], folder / "pseudo.h5", PseudoLabelSettings(method="gated", gate=gate)
    )
    return made


@pytest.fixture
def figures(monkeypatch):
    """What is drawn, before it becomes pixels."""
    found = []

    def keep(figure):
        found.append(figure)
        return b""

    for module in (curves, gated, images, labels, sheet):
        monkeypatch.setattr(module, "to_png", keep)
    return found


def texts(figure):
    """What is written on a contact sheet, from above."""
    return [text.get_text() for text in figure.axes[0].texts]


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def history(epochs, **more):
    return [{"epoch": epoch, "loss": 1 / epoch} | more for epoch in range(1, epochs + 1)]


# Training curves


def test_adversarial_training_has_a_panel_of_its_own(figures):
    balance = {"accepted": 0.25, "discriminator_real": 0.75, "discriminator_fake": 0.125}
    curves.training_curve(history(5, **balance, val_miou=0.5))
    curves.training_curve(history(1, **balance))
    for figure, epochs, panels in zip(figures, (5, 1), (3, 2), strict=True):
        assert len(figure.axes) == panels
        below = figure.axes[1]
        drawn = {line.get_label(): list(line.get_ydata()) for line in below.lines[1:]}
        assert drawn == {
            "score of masks": [0.75] * epochs,
            "score of predictions": [0.125] * epochs,
            "predictions accepted": [0.25] * epochs,
        }
        assert below.get_ylim()[0] < 0 < 1 < below.get_ylim()[1]
        assert [axes.get_xlabel() for axes in figure.axes[:2]] == ["", "epoch"]
        assert figure.get_figheight() > 6


def test_other_trainings_look_as_before(figures):
    curves.training_curve(history(5, val_miou=0.5))
    curves.training_curve(history(5, val_accuracy=0.5, supervised=1.0), "accuracy")
    curves.training_curve([])
    assert [len(figure.axes) for figure in figures] == [2, 2, 1]
    for figure in figures:
        assert figure.get_size_inches().tolist() == [7, 4]
        assert figure.axes[0].get_xlabel() == "epoch"


def test_the_curve_of_a_training_shows_its_discriminator(world):
    with (
        Image.open(world["folder"] / "model.curve.png") as picture,
        Image.open(world["folder"] / "classifier.curve.png") as plain,
    ):
        assert picture.width == plain.width
        assert picture.height > plain.height == 480


# Contact sheets


def boxes(figure):
    """Where every text of a sheet is, in pixels."""
    figure.canvas.draw()
    return [text.get_window_extent() for text in figure.axes[0].texts]


@pytest.mark.parametrize("name", ["frankfurt_000001_054640_of_a_very_long_drive_{}", "W" * 40 + "{}", "{}"])
@pytest.mark.parametrize("number", [1, 5, 13])
def test_nothing_overlaps_or_leaves_the_sheet(name, number, figures):
    picture = np.zeros((20, 40, 3), np.uint8)
    cells = [Cell((name.format(row), "z = 0.5000, 100.0 % right"), [picture] * 2) for row in range(number)]
    draw_sheet("Title " * 10, [Section("above " * 8, cells), Section("empty", []), Section("below " * 8, cells)], 4)
    (figure,) = figures
    found = boxes(figure)
    assert len(found) == 3 + 4 * number
    width, height = figure.get_size_inches() * figure.dpi
    for index, box in enumerate(found):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
        assert not any(box.overlaps(other) for other in found[:index])


def test_pictures_of_any_shape_keep_it():
    for shape in ((10, 40), (40, 10), (1024, 2048), (176, 176)):
        small = fitted(np.full((*shape, 3), 77, np.uint8), 176, 176)
        assert max(small.shape[:2]) == 176
        assert small.shape[0] / small.shape[1] == pytest.approx(shape[0] / shape[1], rel=0.02)
        assert (small == 77).all()


def test_long_names_lose_their_middle():
    assert shortened("train_00001", 176) == "train_00001"
    found = shortened("aachen_000000_000019_gtFine_and_even_more", 176)
    assert len(found) > 20
    assert found.startswith("aachen_0000")
    assert found.endswith("even_more")
    assert "..." in found


@pytest.mark.parametrize("number", [0, 1, 3, 12, 13, 100])
def test_places_are_spread_evenly(number):
    found = spread_out(number, 12)
    assert len(found) == min(number, 12)
    if number:
        assert (found[0], found[-1]) == (0, number - 1)
        steps = np.diff(found)
        assert len(steps) == 0 or steps.max() - steps.min() <= 1


# Scores and queries of images


def test_scores_show_the_highest_and_the_lowest(world, figures):
    scores = open_any(world["scores"])
    draw(scores, None, None)
    (figure,) = figures
    values = dict(zip(scores.ids, scores.image_scores(), strict=True))
    order = sorted(scores.ids, key=values.__getitem__, reverse=True)
    told = texts(figure)
    assert told[0] == "random of 40 images"
    assert [text for text in told if text in values] == [*order[:12], *order[-12:]]
    assert f"random {values[order[0]]:.4g}" in told
    draw(scores, None, order[4])
    assert titles(figures[1]) == [f"{order[4]}: random {values[order[4]]:.4g}, rank 5 of 40"]


def test_queries_are_shown_in_rank_order(world, figures):
    queries = open_any(world["queries"])
    draw(queries, None, None)
    asked = [queries.ids[index] for index in queries.image]
    told = texts(figures[0])
    assert told[0] == f"{ASKED} images queried in round 0, answer: image-class"
    assert told[1] == "all in rank order; rule uniform, scored by random"
    assert [text for text in told if text in POOL] == asked
    assert sum(text.startswith("rank ") for text in told) == ASKED
    draw(queries, None, asked[2])
    assert titles(figures[1])[0].startswith(f"{asked[2]}: rank 3 of {ASKED} in round 0, score ")
    other = next(image for image in POOL if image not in asked)
    with pytest.raises(
        BadInput, match=rf"^No data for image '{other}' in this file\. It contains i\d\d, i\d\d, i\d\d, \.\.\.$"
    ):
        draw(queries, None, other)


def test_many_queries_show_the_first_of_them(world, tmp_path, figures):
    settings = SelectSettings(rule="top", budget=30)
    queries = select.run(world["dataset"], world["scores"], tmp_path / "queries.h5", settings)
    draw(open_any(queries), None, None)
    told = texts(figures[0])
    assert told[1].startswith("the first 24 in rank order; rule top")
    assert sum(text in POOL for text in told) == 24


def test_tiles_hold_their_images(world):
    queries, data = open_any(world["queries"]), Dataset(world["dataset"])
    picture = np.array(Image.open(io.BytesIO(draw(queries, None, None))).convert("RGB"))
    first = fitted(data.image(queries.ids[queries.image[0]]), 132, 176)
    top = sheet.TITLE + sheet.SECTION_TITLE + 2 * sheet.LINE + 4
    shown = picture[top : top + 132, sheet.MARGIN : sheet.MARGIN + 176]
    assert np.array_equal(shown, first)


# Pseudo-labels


def test_accepted_and_refused_images_by_falling_score(world, figures):
    pseudo = open_any(world["pseudo"])
    draw(pseudo, None, None)
    (figure,) = figures
    told, scores = texts(figure), dict(zip(pseudo.ids, pseudo.read("images/score"), strict=True))
    assert "ground truth" in told[0]
    start = next(row for row, text in enumerate(told) if text.startswith("refused"))
    gate = pseudo.header.settings["gate"]
    for part, passed in ((told[1:start], True), (told[start:], False)):
        names = [text for text in part if text in scores]
        assert len(names) == MOST
        assert [scores[name] for name in names] == sorted((scores[name] for name in names), reverse=True)
        assert all((scores[name] > gate) == passed for name in names)
        assert "% right on average" in part[0]
        assert sum(text.endswith("% right") for text in part) == MOST
    judged = scores.values()
    assert f"z = {max(z for z in judged if z == z):.4f}" in " ".join(told[:4])
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"class0", "class1", "class2"}


def test_what_was_refused_is_what_was_predicted_then(world):
    """With a gate of 0 everything was accepted, so that file holds it."""
    pseudo, every = open_any(world["pseudo"]), open_any(world["folder"] / "every.h5")
    data = Dataset(world["dataset"])
    for image, judged in zip(pseudo.ids, judge(pseudo, data, range(len(pseudo.ids))), strict=True):
        assert np.array_equal(judged.labels, every.label_map(image))


def rows_of(pseudo):
    """The first image accepted, refused, and with a mask."""
    scores, accepted = pseudo.read("images/score"), pseudo.read("images/accepted").astype(bool)
    found = (np.flatnonzero(which)[0] for which in (accepted, ~accepted & ~np.isnan(scores), np.isnan(scores)))
    return [pseudo.ids[row] for row in found]


def test_one_image_is_shown_with_its_verdict_and_the_truth(world, figures):
    pseudo = open_any(world["pseudo"])
    for image in rows_of(pseudo):
        draw(pseudo, None, image)
    for figure, verdict in zip(figures, ("accepted: z = 0.", "refused: z = 0.", "full mask"), strict=True):
        assert len(figure.axes) == 3
        assert titles(figure)[1].startswith(verdict)
        assert titles(figure)[2] == "ground truth; white: void"
        assert titles(figure)[1].endswith("% right") == (verdict != "full mask")


def test_without_the_model_the_refused_image_is_faded(world, tmp_path, figures):
    for name in ("dataset", "mask", "pseudo"):
        shutil.copy(world[name], tmp_path)
    pseudo = open_any(tmp_path / "pseudo.h5")
    _, refused, _ = rows_of(pseudo)
    draw(pseudo, None, refused)
    assert titles(figures[0])[1].endswith("; the model that predicted it is missing")
    faded = np.asarray(figures[0].axes[1].get_images()[0].get_array())
    assert np.ptp(faded.astype(int), axis=2).max() == 0
    draw(pseudo, None, None)
    told = texts(figures[1])
    start = next(row for row, text in enumerate(told) if text.startswith("refused"))
    assert not any("right" in text for text in told[start:])
    assert "right" in told[1]


def test_without_truth_there_are_two_pictures(world, monkeypatch, figures):
    pseudo, contains = open_any(world["pseudo"]), Dataset.__contains__
    monkeypatch.setattr(Dataset, "__contains__", lambda self, path: "masks/" not in path and contains(self, path))
    draw(pseudo, None, None)
    assert texts(figures[0])[0].endswith("each: image, prediction")
    accepted, _, _ = rows_of(pseudo)
    draw(pseudo, None, accepted)
    assert len(figures[1].axes) == 2
    assert "right" not in titles(figures[1])[1]


@pytest.mark.parametrize("gate", [0, 1])
def test_where_all_are_accepted_or_refused_the_other_half_is_missing(world, tmp_path, gate, figures):
    settings = PseudoLabelSettings(method="gated", gate=gate)
    found = open_any(pseudo_label.run(world["dataset"], world["mask"], world["model"], tmp_path / "p.h5", settings))
    draw(found, None, None)
    heads = {text.split()[0] for text in texts(figures[0]) if text.startswith(("accepted", "refused"))}
    assert heads == ({"accepted"} if gate == 0 else {"refused"})
    told = describe(found, Dataset(world["dataset"]))["against_truth"]
    assert told["images_accepted"] == (0 if gate else len(POOL) - ASKED)
    assert told["coverage"] == (0 if gate else 1)
    assert (told["miou_accepted"] is None) == (told["label_precision_accepted"] is None) == bool(gate)


def test_how_right_accepted_predictions_are(world):
    pseudo, data = open_any(world["pseudo"]), Dataset(world["dataset"])
    accepted, ledger = pseudo.read("images/accepted").astype(bool), Annotations(world["mask"])
    confusion, known = np.zeros((CLASSES, CLASSES), dtype=np.int64), 0
    for image, passed in zip(pseudo.ids, accepted, strict=True):
        truth = data.mask(image)
        if image not in ledger.mask_ids:
            known += (truth != VOID).sum()
            if passed:
                np.add.at(confusion, (truth[truth != VOID], pseudo.label_map(image)[truth != VOID]), 1)
    assert describe(pseudo, data)["against_truth"] == {
        "images_judged": len(POOL) - ASKED,
        "images_accepted": accepted.sum(),
        "coverage": pytest.approx(confusion.sum() / known),
        "label_precision_accepted": pytest.approx(np.trace(confusion) / confusion.sum()),
        "miou_accepted": pytest.approx(mean_iou(confusion)),
    }


def test_inspect_prints_what_it_worked_out(world, capsys):
    inspect(world["pseudo"], False, world["dataset"], None, None)
    text = capsys.readouterr().out
    assert "label precision accepted" in text
    assert "miou accepted" in text
    inspect(world["model"], False, None, None, None)
    assert "discriminator.*" in capsys.readouterr().out


# Ledgers


@pytest.mark.parametrize("kind", ["class", "classes"])
def test_classes_of_images_are_counted_apart_from_labels(world, kind, capsys):
    ledger = open_any(world[kind])
    found = describe(ledger)
    assert "class_labels" not in found
    assert list(found["image_classes"]) == ["class0", "class1", "class2"]
    named = sum(found["image_classes"].values())
    assert named == ASKED if kind == "class" else named > ASKED
    inspect(world[kind], False, None, None, None)
    assert "image classes" in capsys.readouterr().out


def test_masks_and_classes_of_the_same_images_do_not_mix(world):
    ledger, data = open_any(world["mask"]), Dataset(world["dataset"])
    found = describe(ledger)
    assert sum(found["image_classes"].values()) == ASKED
    pixels = np.sum([np.bincount(data.mask(image).ravel(), minlength=256) for image in ledger.mask_ids], 0)
    assert found["class_labels"] == {f"class{index}": pixels[index] for index in range(CLASSES)} | {
        "void": pixels[VOID]
    }


def test_pixels_and_classes_of_the_same_images_do_not_mix(world, tmp_path):
    """Pixels asked about on top of a ledger that names classes of images."""
    ledger = open_any(random_round(tmp_path, world["dataset"], 1, world["classes"], {"rule": "uniform", "budget": 5}))
    found = describe(ledger)
    assert found["image_classes"] == describe(open_any(world["classes"]))["image_classes"]
    assert sum(found["class_labels"].values()) == 5 * len(POOL)
    assert draw(ledger, None, ledger.ids[ledger.answers.image[0]])


def test_named_classes_stand_in_the_title(world, figures):
    data = Dataset(world["dataset"])
    for kind in ("class", "classes", "mask"):
        ledger = open_any(world[kind])
        image = ledger.ids[ledger.answers.image[0]]
        draw(ledger, None, image)
        (title,) = titles(figures[-1])
        counts = np.bincount(data.mask(image).ravel(), minlength=256)[:CLASSES]
        expected = [f"class{counts.argmax()}"] if kind != "classes" else [f"class{index}" for index in range(CLASSES)]
        full = ": full mask" if kind == "mask" else ""
        assert title == f"{image}{full}; classes of the image: {', '.join(expected)}"


def test_many_named_classes_break_the_title(world, monkeypatch, figures):
    ledger = open_any(world["classes"])
    names = [f"a class with a long name, number {index}" for index in range(CLASSES)]
    monkeypatch.setitem(ledger.header.attributes, "classes", names)
    draw(ledger, None, ledger.ids[ledger.answers.image[0]])
    (title,) = titles(figures[0])
    assert max(map(len, title.splitlines())) <= labels.TITLE_LETTERS
    assert title.replace("\n", " ").endswith(", ".join(names))


def test_a_classifier_has_no_picture(world):
    with pytest.raises(BadInput, match=r"predicts classes of whole images\. Pass a segmentation model\.$"):
        draw(open_any(world["classifier"]), None, None)


# Lists of the asked images


def asked_names(path):
    queries = open_any(path)
    return [queries.ids[index] for index in queries.image]


def test_names_are_exported_in_rank_order(world, tmp_path):
    expected = asked_names(world["chosen"])
    found = np.load(export_queries.run(world["dataset"], world["chosen"], tmp_path / "names.npy"), allow_pickle=False)
    assert found.ndim == 1
    assert found.dtype.kind == "U"
    assert found.tolist() == expected
    assert (
        export_queries.run(world["dataset"], world["chosen"], tmp_path / "names.txt").read_text().splitlines()
        == expected
    )


def test_a_list_is_never_replaced(world, tmp_path, capsys):
    output = export_queries.run(world["dataset"], world["chosen"], tmp_path / "names.npy")
    export_queries.run(world["dataset"], world["chosen"], output)
    assert "is up to date" in capsys.readouterr().out
    other = select.run(world["dataset"], world["scores"], tmp_path / "other.h5", SelectSettings(rule="top", budget=2))
    with pytest.raises(
        BadInput, match=r"names\.npy exists and may contain answers\. Remove it, or choose another output\.$"
    ):
        export_queries.run(world["dataset"], other, output)
    assert np.load(output).tolist() == asked_names(world["chosen"])


def test_other_endings_are_refused(world, tmp_path):
    name = "names.xml"
    with pytest.raises(BadInput, match=r"unknown ending\. Use .*\.npy, \.txt"):
        export_queries.run(world["dataset"], world["chosen"], tmp_path / name)
    assert not (tmp_path / "names.csv").exists()
