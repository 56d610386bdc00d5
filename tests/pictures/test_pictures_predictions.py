"""Pictures of what a model says, and of pixels that were chosen in regions: their panels, numbers and colours."""

import io
import shutil

import h5py
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image
from worlds import TINY, random_masks, random_round, write_dataset, write_superpixels

from stages.artifacts.dataset import Dataset
from stages.artifacts.header import Header, now, recorded_versions
from stages.artifacts.model import Model, write_model
from stages.artifacts.opening import open_any
from stages.artifacts.queries import Queries
from stages.artifacts.request import refer
from stages.artifacts.scores import Scores
from stages.commands import score, select
from stages.networks.build import build_network
from stages.reporting.inspection import run as inspect
from stages.reporting.pictures import picked, predictions, regions
from stages.reporting.pictures.overlay import draw
from stages.reporting.pictures.panels import VOID_STRIPES, YELLOW
from stages.reporting.pictures.picked import CLUSTER_COLOURS, NO_CLUSTER, colour_of, draw_picked_pixels
from stages.reporting.pictures.predictions import SIDES, Prediction, mixed, predict
from stages.runtime.errors import BadInput
from stages.settings.network import NetworkSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings

NAMES = ["i0", "i1", "i2"]
SIZE = (32, 48)
NETWORK = {name: TINY[name] for name in ("weights", "backbone", "head_width", "low_level_width")}


def write_untrained(path, dataset, outputs, support):
    """A model with random weights, as `train` writes it."""
    settings, data = NetworkSettings(**NETWORK, lossiness_width=8), Dataset(dataset)
    torch.manual_seed(0)
    network = build_network(settings, outputs, support)
    attributes = {
        "network": settings.recorded(),
        "classes": data.classes,
        "outputs": outputs,
        "support": support,
        "mean": data.attributes["mean"],
        "std": data.attributes["std"],
        "best_epoch": 0,
    }
    inputs = refer(path, {"dataset": data})
    header = Header("model", "train", {}, inputs, 0, attributes=attributes, versions=recorded_versions(), created=now())
    write_model(path, header, network.state_dict(), None)
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Three images of noise, the last for validation; models that know three classes, some with void as a fourth."""
    folder = tmp_path_factory.mktemp("world")
    noise = np.random.default_rng(0)
    images = {name: noise.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for name in NAMES}
    splits = dict(zip(NAMES, ["train", "train", "val"], strict=True))
    dataset = write_dataset(folder / "dataset.h5", random_masks(NAMES, SIZE, 3), 3, splits, images)
    unlabelled = folder / "unlabelled.h5"
    shutil.copy(dataset, unlabelled)
    with h5py.File(unlabelled, "r+") as file:
        del file["masks"]
    made = {"dataset": dataset, "unlabelled": unlabelled}
    for name, outputs, support in (("plain", 3, False), ("support", 3, True), ("void", 4, True)):
        made[name] = write_untrained(folder / f"{name}.safetensors", dataset, outputs, support)
    return made


@pytest.fixture
def figures(monkeypatch):
    """What is drawn, before it becomes pixels."""
    found = []

    def keep(figure):
        found.append(figure)
        return b""

    for module in (predictions, picked, regions):
        monkeypatch.setattr(module, "to_png", keep)
    return found


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def legend_of(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


PLAIN = ["image", "predicted classes", "ground truth", "entropy"]
SUPPORT = [*PLAIN[:3], "weights of the side classifiers", "entropy", "maturity", "predicted lossiness", "score"]


@pytest.mark.parametrize(("name", "panels"), [("plain", PLAIN), ("support", SUPPORT), ("void", SUPPORT)])
@pytest.mark.parametrize("labelled", [True, False])
def test_panels(world, figures, name, panels, labelled):
    draw(open_any(world[name]), Dataset(world["dataset" if labelled else "unlabelled"]), "i0")
    (figure,) = figures
    expected = panels if labelled else [title for title in panels if title != "ground truth"]
    assert [found[: len(title)] for found, title in zip(titles(figure), expected, strict=True)] == expected
    assert ("% right" in titles(figure)[1]) == labelled
    rows, columns = figure.axes[0].get_gridspec().get_geometry()
    assert (rows, columns) == {8: (2, 4), 7: (2, 4), 4: (2, 2), 3: (1, 3)}[len(expected)]
    assert figure.get_suptitle() == f"i0 (train): {name}.safetensors, last weights"
    shown = [axes.get_images()[0].get_array().shape for axes in figure.axes if axes.get_title()]
    assert all(shape[0] * SIZE[1] == shape[1] * SIZE[0] for shape in shown)


def test_the_first_image_for_validation_is_drawn_else_the_first(world, figures):
    draw(open_any(world["plain"]), None, None)
    data = Dataset(world["dataset"])
    data.splits = dict.fromkeys(NAMES, "train")
    draw(open_any(world["plain"]), data, None)
    assert [figure.get_suptitle()[:10] for figure in figures] == ["i2 (val): ", "i0 (train)"]


def test_inspect_writes_it(world, tmp_path):
    inspect(world["support"], False, None, "i1", tmp_path / "i1.png")
    picture = np.array(Image.open(io.BytesIO((tmp_path / "i1.png").read_bytes())).convert("RGB"))
    assert picture.shape[1] >= 4 * 600
    assert 900 < picture.shape[0] < picture.shape[1] / 2
    assert picture.std() > 10


@pytest.mark.parametrize("name", ["plain", "support", "void"])
def test_entropy_and_score_are_those_that_score_writes(world, name, tmp_path):
    model, data = Model(world[name]), Dataset(world["dataset"])
    found = predict(model, 3, data.image("i0"))
    terms = {"maturity": "pixel", "lossiness": True} if model.has_support else {}
    for number, more in ((0, {}), (-1, terms)):
        settings = ScoreSettings(measure="entropy", device="cpu", **more)
        scores = Scores(score.run(world["dataset"], tmp_path / f"{number}.h5", settings, world[name]))
        assert np.allclose(found.heats[number].values, scores.map("i0"), atol=1e-5)
    assert found.classes.shape == SIZE
    assert found.classes.max() < model.outputs
    if model.has_support:
        assert found.mixing.shape == (3, *SIZE)
        assert np.allclose(found.mixing.sum(0), 1, atol=1e-4)
        lossiness = found.heats[2]
        assert lossiness.most == 1
        assert 0 <= lossiness.values.min() <= lossiness.values.max() <= 1


def test_void_that_is_predicted_is_striped(world, monkeypatch):
    monkeypatch.setattr(predictions, "predict", lambda *_: Prediction(np.full(SIZE, 3, np.uint8), None, []))
    picture = np.array(Image.open(io.BytesIO(draw(open_any(world["void"]), None, "i0"))).convert("RGB"))
    near = np.abs(picture.astype(int) - VOID_STRIPES[0]).max(-1) < 40
    assert near[60:-80].sum() > 5000


def test_weights_mix_the_colours_of_the_side_classifiers(world, figures):
    pure = np.eye(3, dtype=np.float32).reshape(3, 1, 3)
    assert mixed(pure)[0].tolist() == [list(colour) for colour in SIDES.values()]
    even = np.full((3, 2, 2), 1 / 3, np.float32)
    assert np.abs(mixed(even)[0, 0] - np.mean(list(SIDES.values()), 0)).max() <= 0.5
    draw(open_any(world["support"]), None, None)
    (axes,) = (axes for axes in figures[0].axes if axes.get_title().startswith("weights"))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [f"{name} side classifier" for name in SIDES]
    shares = [float(share) for share in axes.get_title().rpartition("mean ")[2].split(", ")]
    assert sum(shares) == pytest.approx(1, abs=0.02)


class TestRefused:
    def test_an_unknown_image(self, world):
        with pytest.raises(BadInput, match=r"dataset\.h5 has no image 'i9'\. It contains i0, i1, i2"):
            draw(open_any(world["plain"]), None, "i9")

    def test_a_model_without_its_dataset(self, world, figures, tmp_path):
        moved = open_any(shutil.copy(world["plain"], tmp_path / "moved.safetensors"))
        with pytest.raises(BadInput, match=r"dataset\.h5, which no longer exists\. Restore or rebuild it\.$"):
            draw(moved, None, None)
        draw(moved, Dataset(world["dataset"]), None)
        assert len(figures) == 1

    def test_other_classes(self, world, tmp_path):
        other = write_dataset(tmp_path / "other.h5", random_masks(NAMES, SIZE, 2), 2)
        told = (
            r"plain\.safetensors was trained for the classes class0, class1, class2, \.\.\. but .*other\.h5 has "
            r"class0, class1, \.\.\. Pass a model trained on these classes\.$"
        )
        with pytest.raises(BadInput, match=told):
            draw(open_any(world["plain"]), Dataset(other), None)

    def test_another_dataset_with_the_same_classes_is_not(self, world, figures, tmp_path):
        other = write_dataset(tmp_path / "other.h5", random_masks(["x"], SIZE, 3), 3)
        draw(open_any(world["plain"]), Dataset(other), None)
        assert figures[0].get_suptitle().startswith("x (train)")


@pytest.fixture(scope="module", params=[1.0, 0.5])
def asked(world, tmp_path_factory, request):
    """Four pixels of every image, each the best of a region, on the image's grid or a coarser one."""
    folder = tmp_path_factory.mktemp("asked")
    base = write_superpixels(folder, world["dataset"], grid_scale=request.param, region_pixels=36)
    settings = ScoreSettings(measure="random", unit="region", region_score="highest", best_pixel=True)
    scores = score.run(world["dataset"], folder / "scores.h5", settings, superpixels=base)
    chosen = SelectSettings(rule="top", answer="pixel", budget=4)
    queries = select.run(world["dataset"], scores, folder / "queries.h5", chosen, superpixels=base)
    return {"scale": request.param, "scores": scores, "queries": queries}


def dots(figure):
    """Places (n,2) as x and y, and colours, of the dots on the only picture."""
    _, points = figure.axes[0].collections
    return np.asarray(points.get_offsets()), [to_hex(colour) for colour in points.get_facecolors()]


class TestPixelsOfRegions:
    def test_without_clusters(self, asked, figures):
        queries = Queries(asked["queries"])
        assert (queries.region >= 0).all()
        draw(queries, None, "i1")
        (figure,) = figures
        rows = np.flatnonzero(queries.image == queries.ids.index("i1"))
        assert titles(figure) == ["i1: 4 pixels queried for their regions in round 0"]
        places, colours = dots(figure)
        expected = (np.stack([queries.x, queries.y], 1)[rows] + 0.5) / asked["scale"] - 0.5
        assert np.allclose(places, expected)
        assert set(colours) == {NO_CLUSTER.lower()}
        assert not figure.legends

    def test_clusters_have_colours_and_a_legend(self, world, asked, figures):
        queries = Queries(asked["queries"])
        queries.cluster = np.where(queries.image == 0, np.arange(len(queries)) % 2 * 9, 3)
        for image in NAMES[:2]:
            draw_picked_pixels(queries, Dataset(world["dataset"]), image)
        first, second = figures
        rows = queries.image == 0
        assert dots(first)[1] == [colour_of(number).lower() for number in queries.cluster[rows]]
        assert set(dots(second)[1]) == {CLUSTER_COLOURS[3].lower()}
        assert legend_of(first) == ["cluster 0", "cluster 9"]
        assert legend_of(second) == ["cluster 3"]
        assert not first.axes[0].texts

    def test_more_clusters_than_colours_have_numbers(self, world, asked, figures):
        queries = Queries(asked["queries"])
        queries.cluster = np.arange(len(queries)) + 5
        draw_picked_pixels(queries, Dataset(world["dataset"]), "i0")
        (figure,) = figures
        rows = queries.image == queries.ids.index("i0")
        assert [text.get_text() for text in figure.axes[0].texts] == [str(number) for number in queries.cluster[rows]]
        assert legend_of(figure) == ["numbers beside the pixels: clusters"]
        # towards the middle of the image, where there is room
        for text in figure.axes[0].texts:
            x, y = text.xy
            assert (text.xyann[0] > 0) == (x < SIZE[1] / 2)
            assert (text.xyann[1] < 0) == (y < SIZE[0] / 2)

    def test_chosen_regions_are_outlined_and_the_others_faint(self, asked, monkeypatch):
        lines = []
        monkeypatch.setattr(
            picked.Canvas, "line", lambda self, labels, *_, share=1.0, **__: lines.append((labels, share))
        )
        queries = Queries(asked["queries"])
        draw(queries, None, "i0")
        (cut, faint), *outlines = lines
        assert faint < 1
        assert cut.shape == SIZE
        assert len(np.unique(cut)) > 4
        for labels, share in outlines:
            assert share == 1
            assert len(np.unique(labels[labels >= 0])) == 4
        y, x = (((place[queries.image == 0] + 0.5) / asked["scale"]).astype(int) for place in (queries.y, queries.x))
        assert len(set(outlines[0][0][y, x].tolist()) - {-1}) == 4

    def test_best_pixels_of_the_highest_regions_are_marked(self, asked, figures):
        scores = Scores(asked["scores"])
        draw(scores, None, "i0")
        (figure,) = figures
        marked = next(axes for axes in figure.axes if axes.collections and axes.get_title())
        assert marked.get_title() == "random: brighter is queried first; dots: best pixels of the 10 highest"
        (points,) = marked.collections
        places = {tuple(place) for place in np.asarray(points.get_offsets()).astype(int).tolist()}
        first = np.argsort(-scores.region_scores()[: len(scores.region_scores()) // 2])[:10]
        x, y = scores.read("regions/x"), scores.read("regions/y")
        assert places == {(int(x[region]), int(y[region])) for region in first}


def test_pixels_without_regions_are_drawn_as_they_were(world, tmp_path, monkeypatch):
    random_round(tmp_path, world["dataset"], 0, select_settings={"rule": "uniform", "budget": 5})
    monkeypatch.setattr("stages.reporting.pictures.overlay.draw_picked_pixels", None)
    assert draw(open_any(tmp_path / "queries0.h5"), None, None).startswith(b"\x89PNG")


def test_a_faint_line_leaves_some_of_the_image():
    labels = np.zeros((8, 8), np.int32)
    labels[4:] = 1
    canvases = [picked.Canvas(np.full((8, 8, 3), 100, np.uint8)) for _ in range(2)]
    canvases[0].line(labels, YELLOW)
    canvases[1].line(labels, YELLOW, share=0.5)
    drawn = (canvases[0].picture == YELLOW).all(-1)
    assert drawn.any()
    assert (canvases[1].picture[drawn] == [170, 164, 83]).all()
    assert (canvases[1].picture[~drawn] == 100).all()
