"""A picture of every kind of artifact per image: it shows what it should, on canvases of any size."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image
from worlds import TINY, random_masks, random_round, region_round, write_dataset, write_superpixels

from stages.artifacts.dataset import Dataset
from stages.artifacts.opening import open_any, open_input
from stages.artifacts.scores import Scores
from stages.artifacts.superpixels import Superpixels
from stages.commands import extract_superpixels, pseudo_label, score, train
from stages.reporting.inspection import run as inspect
from stages.reporting.pictures.labels import number_of_answers
from stages.reporting.pictures.overlay import draw
from stages.reporting.pictures.panels import BLACK, VOID_STRIPES, WHITE, YELLOW, Canvas, borders, panel_width
from stages.runtime.errors import BadInput
from stages.settings.extract_superpixels import ExtractSettings
from stages.settings.pseudo_label import PseudoLabelSettings
from stages.settings.score import ScoreSettings
from stages.settings.train import TrainSettings

pytestmark = pytest.mark.slow

VERMILION = VOID_STRIPES[0]
NAMES = ["i0", "i1", "i2", "i3"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Four small images, one of them for validation, and every kind that has a picture, of both ways to ask."""
    folder = tmp_path_factory.mktemp("world")
    splits = dict(zip(NAMES, ["train"] * 3 + ["val"], strict=True))
    masks = random_masks(NAMES, (32, 40), 3, void=0.0)
    for mask in masks.values():
        mask[:8, :16] = 255  # whole regions of void
    dataset = write_dataset(folder / "dataset.h5", masks, 3, splits)
    base = write_superpixels(folder, dataset)
    every = {"rule": "top", "budget": 0}  # all of them: void ones too
    ledger = region_round(folder, dataset, 0, base, select_settings={"budget": 20})
    model = train.run(dataset, ledger, folder / "model.safetensors", TrainSettings(**TINY, epochs=1, crop=(32, 32)))
    merging = ExtractSettings(method="adaptive", epsilon=0.05, max_region_pixels=256, workers=1)
    merged = extract_superpixels.run(dataset, folder / "merged.h5", merging, base, model)
    second = region_round(folder, dataset, 1, merged, ledger, model, {"budget": 1})
    sieving = PseudoLabelSettings(min_pixels=0)
    pixels, exact = folder / "pixels", folder / "exact"
    pixels.mkdir()
    exact.mkdir()
    return {
        "dataset": dataset,
        "base": base,
        "merged": merged,
        "oracle": write_superpixels(folder, dataset, method="oracle"),
        "random scores": folder / "scores0.h5",
        "scores": folder / "scores1.h5",
        "queries": folder / "queries0.h5",
        "answers": second,
        "precise answers": region_round(exact, dataset, 0, base, select_settings=every | {"answer": "precise"}),
        "pixel answers": random_round(pixels, dataset, 0, select_settings={"rule": "uniform", "budget": 5}),
        "pixel scores": pixels / "scores0.h5",
        "pixel queries": pixels / "queries0.h5",
        "pseudo-labels": pseudo_label.run(dataset, second, model, folder / "pseudo.h5", sieving),
        "folder": folder,
    }


def pixels_of(png: bytes) -> np.ndarray:
    """(H,W,3) u8."""
    return np.array(Image.open(io.BytesIO(png)).convert("RGB"))


def near(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    """How many pixels have this colour, but for what the scaling blurs."""
    return int((np.abs(picture.astype(int) - colour).max(-1) < 40).sum())


# What a picture must show, as a colour that the grey images, their faded rest and the dark palette do not have
SHOWN = {
    "base": YELLOW,
    "merged": YELLOW,
    "oracle": VERMILION,
    "queries": WHITE,
    "answers": WHITE,
    "precise answers": VERMILION,
    "pixel queries": (230, 159, 0),
}
PANELS = {"dataset": 2, "merged": 2, "random scores": 2, "scores": 3, "pixel scores": 2, "pseudo-labels": 2}


KINDS = [*SHOWN, "dataset", "random scores", "scores", "pixel answers", "pixel scores", "pseudo-labels"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_picture_and_finds_its_images(world, kind):
    artifact = open_any(world[kind])
    last_asked = artifact.ids[artifact.answers.image[-1]] if kind == "answers" else None
    picture = pixels_of(draw(artifact, None, last_asked))
    assert picture.shape[1] >= 700 * PANELS.get(kind, 1)
    assert picture.shape[0] >= 500
    assert picture.std() > 10
    if kind in SHOWN:
        assert near(picture[60:-80, 20:580], SHOWN[kind]) > 50  # inside the image: around it all is white


def test_pixels_that_the_sieve_took_are_striped(world):
    pseudo = open_any(world["pseudo-labels"])
    taken = pseudo.header.counts["region_pixels"] - pseudo.header.counts["kept_pixels"]
    assert taken > 0
    pictures = [pixels_of(draw(pseudo, None, image)) for image in pseudo.ids]
    assert sum(near(picture, YELLOW) for picture in pictures) > 300
    assert all(picture.shape[0] > picture.shape[1] * 0.75 for picture in pictures)  # 2 x 2: the truth is there


def test_images_are_chosen_by_name(world):
    inspect(world["base"], False, None, "i2", world["folder"] / "i2.png")
    assert (world["folder"] / "i2.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(BadInput, match=r"^No data for image 'i3' in this file\. It contains i0, i1, i2, \.\.\.$"):
        draw(open_any(world["base"]), None, "i3")


def test_another_dataset_is_refused(world, tmp_path):
    other = write_dataset(tmp_path / "other.h5", random_masks(NAMES, (32, 40), 3), 3)
    with pytest.raises(
        BadInput, match=r"was made from another dataset .*\. Pass the one it was made from, or rebuild it\.$"
    ):
        draw(open_any(world["base"]), Dataset(other), None)


def test_a_moved_file_is_drawn_with_the_dataset_named(world, tmp_path):
    moved = open_any(shutil.copy(world["answers"], tmp_path / "answers.h5"))
    with pytest.raises(BadInput, match=r"dataset\.h5, which no longer exists\. Restore or rebuild it\.$"):
        draw(moved, None, None)
    assert draw(moved, Dataset(world["dataset"]), None)


class TestOpenInput:
    def test_opens_what_the_header_names(self, world):
        base = open_input(open_any(world["merged"]), "superpixels", Superpixels)
        assert base.digest == open_any(world["base"]).header.digest

    def test_no_such_input(self, world):
        with pytest.raises(BadInput, match=r"names no superpixels among its inputs\. Pass the \w+ of a stage\.$"):
            open_input(open_any(world["base"]), "superpixels", Superpixels)

    def test_a_file_that_is_gone_or_changed(self, world, tmp_path):
        for name in ("merged", "base"):
            shutil.copy(world[name], tmp_path / world[name].name)
        merged = open_any(tmp_path / "merged.h5")
        assert open_input(merged, "superpixels", Superpixels).path.parent == tmp_path
        shutil.copy(world["oracle"], tmp_path / world["base"].name)
        with pytest.raises(
            BadInput, match=r"was made from another superpixels .*\. Pass the one it was made from, or rebuild it\.$"
        ):
            open_input(merged, "superpixels", Superpixels)
        shutil.copy(world["dataset"], tmp_path / world["base"].name)
        with pytest.raises(BadInput, match="holds dataset, not superpixels"):
            open_input(merged, "superpixels", Superpixels)
        (tmp_path / world["base"].name).unlink()
        with pytest.raises(BadInput, match=r"grid\.h5, which no longer exists\. Restore or rebuild it\.$"):
            open_input(merged, "superpixels", Superpixels)


def test_borders_are_where_the_right_or_lower_neighbour_differs():
    labels = np.array([[0, 0, 1], [0, 0, 1], [2, 2, -1]])
    assert borders(labels).tolist() == [[False, True, False], [True, True, True], [False, True, False]]
    assert not borders(np.zeros((3, 3), np.int32)).any()


@pytest.mark.parametrize("size", [(24, 32), (480, 360), (1024, 2048)])
def test_lines_are_as_wide_on_any_image(size):
    image = np.full((*size, 3), 100, np.uint8)
    canvas = Canvas(image)
    assert max(canvas.picture.shape) >= 1024
    labels = np.zeros(size, np.int32)
    labels[:, size[1] // 2 :] = 1
    canvas.line(labels, BLACK)
    across = (canvas.picture[5] == 0).all(-1).sum() / canvas.picture.shape[1] * panel_width(image)
    assert 1 / 160 < across < 1 / 50  # inches


def test_closed_lines_go_along_the_edge_of_the_image():
    labels = np.full((8, 8), -1, np.int32)
    labels[:4] = 0
    canvas = Canvas(np.full((8, 8, 3), 100, np.uint8))
    canvas.line(labels, WHITE)
    assert (canvas.picture[0] == 100).all()
    canvas.line(labels, WHITE, closed=True)
    assert (canvas.picture[0] == 255).all()
    assert (canvas.picture[-1] == 100).all()


def test_paint_fade_and_stripes_stay_where_they_belong():
    canvas = Canvas(np.full((4, 6, 3), (200, 100, 0), np.uint8))
    where = np.zeros((4, 6), bool)
    where[1:3, 2:4] = True
    before, inside = canvas.picture.copy(), canvas.enlarged(where)
    canvas.paint(where, np.full((4, 6, 3), (0, 100, 200), np.uint8), 0.5)
    assert (canvas.picture[inside] == (100, 100, 100)).all()
    canvas.hatch(where, VOID_STRIPES)
    assert {tuple(colour) for colour in np.unique(canvas.picture[inside], axis=0)} == set(VOID_STRIPES)
    assert (canvas.picture[~inside] == before[~inside]).all()
    canvas.fade(~where)
    assert np.ptp(canvas.picture[~inside], axis=1).max() == 0  # grey


@pytest.mark.parametrize(("size", "side"), [((96, 128), 13), ((96, 128), 6), ((1024, 2048), 32)])
def test_bands_are_equal_and_show_every_class(size, side):
    canvas = Canvas(np.full((*size, 3), 100, np.uint8))
    palette = np.array([[10, 0, 0], [0, 20, 0], [0, 0, 30]], np.uint8)
    regions = np.full(size, -1, np.int32)
    regions[10 : 10 + side, 10 : 10 + side], regions[60 : 60 + side, 20 : 20 + side] = 0, 1
    canvas.bands(regions, np.array([[1, 0, 1, 1], [0, 1, 1, 0]], bool), palette, 1)
    large = canvas.enlarged(regions)
    assert (canvas.picture[large < 0] == 100).all()
    for region, shares in (
        (0, {(10, 0, 0): 1 / 3, (0, 0, 30): 1 / 3, VERMILION: 1 / 6, WHITE: 1 / 6}),
        (1, {(0, 20, 0): 1 / 2, (0, 0, 30): 1 / 2}),
    ):
        inside = canvas.picture[large == region]
        found = {colour: (inside == colour).all(-1).mean() for colour in shares}
        assert sum(found.values()) == pytest.approx(1)
        assert found == pytest.approx(shares, abs=0.08)


def test_thin_lines_leave_most_to_be_seen():
    canvas = Canvas(np.full((96, 128, 3), 100, np.uint8))
    where = np.zeros((96, 128), bool)
    where[20:60, 30:90] = True
    canvas.thin(where)
    large = canvas.enlarged(where)
    assert (canvas.picture[~large] == 100).all()
    assert 0.25 < (canvas.picture[large] == 255).all(-1).mean() < 0.4


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Answers that name several classes in half of the regions of three images, with void as a class."""
    folder = tmp_path_factory.mktemp("sets")
    masks = random_masks(NAMES[:3], (32, 40), 3, void=0.0)
    for mask in masks.values():
        mask[:, :24] = 1
        mask[:16, :16] = 255
    dataset = write_dataset(folder / "dataset.h5", masks, 3)
    base = write_superpixels(folder, dataset)
    ledger = region_round(folder, dataset, 0, base, select_settings={"budget": 30, "answer": "class-set"})
    settings = TINY | {"epochs": 1, "crop": (32, 32), "classifier": "cosine", "temperature": 0.1}
    model = train.run(
        dataset,
        ledger,
        folder / "model.safetensors",
        TrainSettings(**settings, objective="class-sets", learn_void=True),
    )
    made = {"answers": ledger, "queries": folder / "queries0.h5", "scores": folder / "bvsb.h5", "base": base}
    scored = ScoreSettings(unit="region", measure="bvsb", void_output="ban")
    score.run(dataset, made["scores"], scored, model, base)
    for method in ("prototypes", "candidates", "argmax"):
        made[method] = folder / f"{method}.h5"
        pseudo_label.run(dataset, ledger, model, made[method], PseudoLabelSettings(method=method), base)
    return made


def void_inside(picture: np.ndarray) -> int:
    """Pixels in the vermilion of void, without the legend."""
    return near(picture[:-80], VERMILION)


def test_answers_with_several_classes_are_drawn_and_counted(sets):
    ledger = open_any(sets["answers"])
    for image in ledger.ids:
        rows = ledger.rows_of(image)
        named = int(ledger.answers.class_sets[rows].sum())
        assert number_of_answers(ledger, image) == f"{len(rows)} regions, {named} classes named"
        picture = pixels_of(draw(ledger, None, image))
        void = ledger.answers.class_sets[rows, -1].any()
        assert (void_inside(picture) > 50) == void
    assert draw(open_any(sets["queries"]), None, None)


@pytest.mark.parametrize("method", ["prototypes", "candidates", "argmax"])
def test_labels_made_of_class_sets_are_drawn(sets, method, monkeypatch):
    pseudo = open_any(sets[method])
    assert ("prototypes" in pseudo) == (method == "prototypes")
    pictures = {image: pixels_of(draw(pseudo, None, image)) for image in pseudo.ids}
    for image, picture in pictures.items():
        height, width = picture.shape[:2]
        panel = picture[height // 2 : -80, : width // 2]  # the labels
        void = (pseudo.label_map(image, 3) == 3).sum()
        assert near(panel, VERMILION) > 50 if void > 30 else void or near(panel, VERMILION) == 0
    monkeypatch.setattr("stages.reporting.pictures.labels.mark_prototypes", lambda *_: False)
    monkeypatch.setattr(Canvas, "thin", lambda *_: None)
    for image, picture in pictures.items():
        plain = pixels_of(draw(pseudo, None, image))
        assert (plain.shape == picture.shape and (plain == picture).all()) == (method != "prototypes")


def test_regions_predicted_void_are_striped(sets, monkeypatch):
    scores, read = open_any(sets["scores"]), Scores.read

    def with_void(self, path, rows=...):
        found = read(self, path, rows)
        return np.where(np.arange(len(found)) % 2, found, 3) if path == "regions/predicted" else found

    monkeypatch.setattr(Scores, "read", with_void)
    assert void_inside(pixels_of(draw(scores, None, None))) > 500
