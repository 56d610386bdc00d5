"""The size and the part of the images that predictions are compared on."""

import json

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as V
from forged import forge, forge_header
from PIL import Image
from torch import nn
from worlds import write_dataset, write_network

from stages.artifacts.dataset import Dataset
from stages.artifacts.evaluation import COSTS, Evaluation
from stages.commands import evaluate, prepare
from stages.evaluating.confusion import confusion_matrix, mean_iou
from stages.evaluating.on_masks import evaluate_one
from stages.evaluating.views import EvaluationView
from stages.networks.predictor import Predictor, scaled_images
from stages.pixels.resize import centre_crop, short_side_size
from stages.reporting.comparison import compare_runs
from stages.runtime.errors import BadInput
from stages.settings.evaluate import EvaluateSettings
from stages.settings.prepare import PrepareSettings

DESCRIPTION = """
name = "stripes"
classes = [{ name = "dark", color = [0, 0, 0] }, { name = "bright", color = [255, 255, 255] }]
[masks]
encoding = "index"
[splits.train]
images = "images/{id}.png"
masks = "masks/{id}.png"
[splits.val]
images = "held/{id}.png"
masks = "held_masks/{id}.png"
"""
STRIPES = np.tile(np.array([0, 0, 0, 1], np.uint8), (16, 6))  # 16 x 24, each fourth column is bright


class Bright(nn.Module):
    """Class 1 where an image is brighter than 100."""

    def forward(self, images):
        bright = images.mean(1, keepdim=True) - 100 / 255
        return torch.cat([-bright, bright], 1)


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stripes")
    (folder / "own.toml").write_text(DESCRIPTION)
    for images, masks, name in (("images", "masks", "t"), ("held", "held_masks", "v")):
        for kind, content in ((images, np.repeat(STRIPES[..., None] * 255, 3, 2)), (masks, STRIPES)):
            (folder / kind).mkdir()
            Image.fromarray(content.astype(np.uint8)).save(folder / kind / f"{name}.png")
    return folder


def prepared(stripes, path, **settings):
    return prepare.run(str(stripes / "own.toml"), stripes, path, PrepareSettings(workers=1, **settings))


@pytest.fixture(scope="module")
def both(stripes):
    """At half size, and for evaluation at the size of the files."""
    return prepared(stripes, stripes / "both.h5", scale=0.5, evaluation_scale=1)


def confusion(view, flip=False, scales=(1.0,)):
    predictor = Predictor(Bright(), (0.0,) * 3, (1.0,) * 3, torch.device("cpu"))
    return evaluate_one(predictor, view, view.ids, flip, scales, 4)[0]


def test_original_shows_the_network_images_and_masks_of_the_files(both):
    """Each pixel counts: 16 x 18 dark and 16 x 6 bright ones, all found."""
    with Dataset(both) as data:
        view = EvaluationView(data, "val", "original")
        assert view.size_range == "16x24"
        assert confusion(view).tolist() == [[288, 0], [0, 96]]
        assert confusion(view, flip=True).tolist() == [[288, 0], [0, 96]]


def test_dataset_shows_them_as_stored(both):
    """By hand: at half size a mask has the columns 1, 3, 5, ..: 48 of 96 bright. The image is averaged over about four
    columns of weights 1/8, 3/8, 3/8, 1/8, so one of two pixels is 255 x 3/8 = 96 bright and the other 32, none above
    100; but at the right edge the weights are 1/7, 3/7, 3/7, and 109 is: 8 pixels are found."""
    with Dataset(both) as data:
        view = EvaluationView(data, "val", "dataset")
        assert view.size_range == "8x12"
        assert confusion(view).tolist() == [[48, 0], [40, 8]]


def test_input_scales_see_the_original_resized(both):
    """At input scale 0.5 the logits are resized to the original mask: its 384 pixels are counted."""
    with Dataset(both) as data:
        found = confusion(EvaluationView(data, "val", "original"), scales=(0.5,))
    assert found.sum(1).tolist() == [288, 96]
    assert found[1, 1] < 96


def test_a_dataset_that_was_not_resized_is_the_original(stripes, tmp_path):
    for settings in ({}, {"scale": 1}):
        with Dataset(prepared(stripes, tmp_path / f"{len(settings)}.h5", **settings)) as data:
            for split in ("val", "train"):
                view = EvaluationView(data, split, "original")
                assert confusion(view).tolist() == [[288, 0], [0, 96]]


def test_a_size_that_was_not_kept_is_told_with_the_remedy(stripes, both, tmp_path):
    small = prepared(stripes, tmp_path / "small.h5", scale=0.5)
    says = (
        r"small\.h5 keeps its images only as resized\. Prepare it with --evaluation-scale \(1: the original size\), or"
    )
    with Dataset(small) as data, pytest.raises(BadInput, match=says):
        EvaluationView(data, "val", "original")
    says = r"both\.h5 keeps split 'train' only as resized: it is the pool, .* set --at dataset \(train: --validate-at"
    with Dataset(both) as data, pytest.raises(BadInput, match=says):
        EvaluationView(data, "train", "original")


@pytest.mark.parametrize(
    "size, expected",
    [((375, 500), (513, 684)), ((500, 333), (770, 513)), ((513, 513), (513, 513)), ((600, 600), (513, 513))],
)
def test_the_shorter_side_is_resized_to_the_crop(size, expected):
    assert short_side_size(size, 513) == expected


def test_the_crop_is_the_centre_and_half_a_pixel_is_rounded_to_even():
    columns = np.arange(684)[None].repeat(513, 0)
    assert centre_crop(columns, 513)[0, [0, -1]].tolist() == [86, 598]  # (684 - 513) / 2 = 85.5
    assert centre_crop(columns[:, :682], 513)[0, 0] == 84  # 84.5
    assert centre_crop(np.arange(60).reshape(6, 10), 4).tolist() == [
        [13, 14, 15, 16],
        [23, 24, 25, 26],
        [33, 34, 35, 36],
        [43, 44, 45, 46],
    ]


def test_a_crop_shows_image_and_mask_of_the_same_place(tmp_path):
    """16 x 24 at crop 8: half the size, 8 x 12, of which the columns 2..9 are those 2i + 1 of the file, 5..19."""
    mask = np.tile(np.arange(24, dtype=np.uint8) // 2, (16, 1))
    image = np.repeat((mask * 20)[..., None], 3, 2)
    with Dataset(write_dataset(tmp_path / "d.h5", {"v": mask}, 12, {"v": "val"}, {"v": image})) as data:
        view = EvaluationView(data, "val", crop=8)
        assert view.sizes == {"v": (8, 8)}
        assert view.size_range == "8x8"
        assert view.mask("v").tolist() == [[2, 3, 4, 5, 6, 7, 8, 9]] * 8
        assert np.abs(view.image("v")[..., 0] / 20 - view.mask("v")).max() <= 0.05


@pytest.mark.parametrize("size", [(75, 101), (100, 67), (65, 66), (64, 64), (90, 64), (40, 53)])
def test_the_crop_is_that_of_torchvision(tmp_path, size):
    """The public code of the multi-class query resizes and crops by it; sizes at which no centre is between pixels."""
    generator = np.random.default_rng(size[1])
    image, mask = generator.integers(0, 256, (*size, 3), np.uint8), generator.integers(0, 3, size, np.uint8)
    with Dataset(write_dataset(tmp_path / "d.h5", {"v": mask}, 3, {"v": "val"}, {"v": image})) as data:
        view = EvaluationView(data, "val", crop=64)
        for found, pixels, way in (
            (view.image("v"), image, V.InterpolationMode.BILINEAR),
            (view.mask("v"), mask, V.InterpolationMode.NEAREST),
        ):
            expected = V.center_crop(V.resize(Image.fromarray(pixels), 64, way), 64)
            assert (found == np.asarray(expected)).all()


def test_a_crop_takes_the_original_if_asked(both):
    with Dataset(both) as data:
        assert confusion(EvaluationView(data, "val", "original", 16)).tolist() == [[192, 0], [0, 64]]


def test_check_a12_classes_with_an_undefined_iou():
    """multi_class_query.md A12: per class 50, 66.667 and absent."""
    found = confusion_matrix(torch.tensor([0, 0, 1, 1, 255]), torch.tensor([0, 1, 1, 1, 2]), 3).numpy()
    assert mean_iou(found) == mean_iou(found, "skip") == pytest.approx(0.58333, abs=1e-5)
    assert mean_iou(found, "one") == pytest.approx(0.72222, abs=1e-5)
    assert mean_iou(found, "zero") == pytest.approx((1 / 2 + 2 / 3) / 3)


def test_a_class_that_is_only_predicted():
    """Truth 0 0 0 0, prediction 0 0 0 1 of three classes: IoU 3/4; 0, or 1 as in the public code; undefined."""
    found = confusion_matrix(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 1]), 3).numpy()
    assert mean_iou(found, "skip") == pytest.approx(3 / 8)
    assert mean_iou(found, "zero") == pytest.approx(1 / 4)
    assert mean_iou(found, "one") == pytest.approx((3 / 4 + 1 + 1) / 3)
    for undefined in ("skip", "zero", "one"):
        assert np.isnan(mean_iou(np.zeros((3, 3), np.int64), undefined))


def untrained(folder, dataset):
    counts = {"epochs": 1} | dict.fromkeys(COSTS, 0)
    return forge_header(write_network(folder / "m.safetensors", dataset), counts=counts)


def test_an_evaluation_says_its_size(both, tmp_path):
    model = untrained(tmp_path, both)
    sizes = {}
    for name, settings in {
        "stored": {},
        "original": {"at": "original"},
        "crop": {"at": "original", "crop": 8, "flip": True, "undefined": "one"},
    }.items():
        how = EvaluateSettings(split="val", checkpoint="last", device="cpu", **settings)
        path = evaluate.run(both, [model], tmp_path / f"{name}.h5", how)
        report = json.loads(path.with_suffix(".json").read_text())
        with Evaluation(path) as file:
            sizes[name] = file.attributes["image_sizes"]
            assert report["image_sizes"] == sizes[name]
            assert report["undefined"] == settings.get("undefined", "skip")
            assert file.read("confusion").sum() == {"stored": 96, "original": 384, "crop": 64}[name]
            assert file.read("miou")[0] == pytest.approx(mean_iou(file.read("confusion")[0], report["undefined"]))
    assert sizes == {"stored": "8x12", "original": "16x24", "crop": "8x8"}


def test_sizes_that_differ_are_given_as_a_range(tmp_path):
    masks = {name: np.zeros(size, np.uint8) for name, size in (("a", (4, 9)), ("b", (9, 4)), ("c", (5, 5)))}
    with Dataset(write_dataset(tmp_path / "d.h5", masks, 2, dict.fromkeys("abc", "val"))) as data:
        assert EvaluationView(data, "val").size_range == "5x5 to 9x4"


def test_an_older_evaluation_has_no_size(both, tmp_path):
    model = untrained(tmp_path, both)
    how = EvaluateSettings(split="val", checkpoint="last", device="cpu")
    path = evaluate.run(both, [model], tmp_path / "e.h5", how)
    with Evaluation(forge(path, tmp_path / "old.h5", lambda attributes, arrays: attributes.pop("image_sizes"))) as file:
        assert "image_sizes" not in file.attributes


def test_runs_evaluated_at_different_sizes_are_compared_with_a_note(both, tmp_path, capsys):
    model = untrained(tmp_path, both)
    for name, at in (("small", "dataset"), ("large", "original"), ("again", "original")):
        (tmp_path / name / "round-0").mkdir(parents=True)
        how = EvaluateSettings(split="val", checkpoint="last", device="cpu", at=at)
        evaluate.run(both, [model], tmp_path / name / "round-0" / "evaluation.h5", how)
    capsys.readouterr()
    compare_runs([tmp_path / "large", tmp_path / "again"], None, None, "last")
    assert "note" not in capsys.readouterr().out
    compare_runs([tmp_path / "small", tmp_path / "large"], None, None, "last")
    note = "note: the runs were evaluated at different sizes: small 8x12, large 16x24"
    assert note in capsys.readouterr().out


def test_input_images_are_resized_as_by_pillow():
    image = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None]
    for kind, way in (("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)):
        for scale in (0.25, 0.5, 1.5):
            found = scaled_images(tensor, scale, kind)[0].permute(1, 2, 0).numpy()
            pillow = np.asarray(Image.fromarray(image).resize((int(36 * scale), int(24 * scale)), way))
            assert np.abs(found - pillow).max() <= 1.1  # Pillow rounds after each direction
    assert scaled_images(tensor, 1, "bicubic").equal(tensor.float())
