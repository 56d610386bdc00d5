"""The masks of `predict`: those of `evaluate`, at the size of the images, whole or absent, and what is beside them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from predict_support import World, predicted
from worlds import write_network

from stages.artifacts.evaluation import Evaluation
from stages.artifacts.model import Model
from stages.commands import evaluate, import_answers, predict
from stages.evaluating.confusion import mean_iou
from stages.pixels.resize import resize_image
from stages.runtime.errors import BadInput
from stages.settings.evaluate import EvaluateSettings
from stages.settings.predict import PredictSettings


def save_images(world: World, folder: Path, ending: str = ".png", factor: int = 1) -> Path:
    """The images of the dataset as files in ``folder``, every pixel ``factor`` times as wide and high."""
    folder.mkdir(parents=True)
    for name, image in world.images.items():
        Image.fromarray(image.repeat(factor, 0).repeat(factor, 1)).save(folder / f"{name}{ending}")
    return folder


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def test_masks_are_those_that_evaluate_measures(world: World, tmp_path: Path) -> None:
    found = evaluate.run(world.dataset, [world.model], tmp_path / "e.h5", EvaluateSettings(checkpoint="last"))
    folder = predicted(world, tmp_path / "masks", split="test")
    counted = np.zeros((3, 3), dtype=np.int64)
    assert {path.stem for path in folder.glob("*.png")} == {"image4", "image5"}
    for name in ("image4", "image5"):
        truth, mask = world.masks[name], read(folder / f"{name}.png")
        np.add.at(counted, (truth[truth != 255], mask[truth != 255]), 1)
    with Evaluation(found) as evaluation:
        assert (evaluation.read("confusion")[0] == counted).all()
    assert 0 < mean_iou(counted) < 1


def test_files_and_datasets_give_the_same_masks(world: World, tmp_path: Path) -> None:
    of_dataset = predicted(world, tmp_path / "a")
    files = save_images(world, tmp_path / "photos")
    of_files = predicted(world, tmp_path / "b", images=[files])
    for name in world.images:
        assert (read(of_dataset / f"{name}.png") == read(of_files / f"{name}.png")).all()


def test_images_are_resized_as_the_dataset_was_and_masks_have_the_size_of_the_image(
    world: World, tmp_path: Path
) -> None:
    """At twice the size every second pixel centre of the mask lies between those of the network's input."""
    model = write_network(tmp_path / "half.safetensors", world.dataset, resized={"long_side": 32})
    large = save_images(world, tmp_path / "large", factor=2)
    (tmp_path / "small").mkdir()
    for name in world.images:
        seen = resize_image(read(large / f"{name}.png"), 24, 32)
        Image.fromarray(seen).save(tmp_path / "small" / f"{name}.png")
    small = predicted(world, tmp_path / "a", images=[tmp_path / "small"], probabilities="f16")
    doubled = predicted(world, tmp_path / "b", images=[large], model=model, probabilities="f16")
    assert read(doubled / "image0.png").shape == (48, 64)
    at_network = np.load(small / "image0.probabilities.npy").astype(np.float32)
    at_image = np.load(doubled / "image0.probabilities.npy").astype(np.float32)
    assert at_image.shape == (3, 48, 64)
    # row 2r+1 of the large mask lies a quarter below row r: 3/4 of row r and 1/4 of row r + 1
    rows = 0.75 * at_network[:, :-1] + 0.25 * at_network[:, 1:]
    expected = 0.75 * rows[:, :, :-1] + 0.25 * rows[:, :, 1:]
    assert np.abs(at_image[:, 1:-1:2, 1:-1:2] - expected).max() < 2e-3  # of 16 bits
    # an option replaces what the model records
    again = predicted(world, tmp_path / "c", images=[large], model=model, probabilities="f16", long_side=64)
    assert np.abs(np.load(again / "image0.probabilities.npy").astype(np.float32) - at_image).max() > 0.01


def test_masks_are_indexed_with_the_colours_of_the_classes(world: World, tmp_path: Path) -> None:
    folder = predicted(world, tmp_path / "index")
    colours = Model(world.model).attributes["palette"]
    with Image.open(folder / "image0.png") as image:
        assert image.mode == "P"
        index, shown = np.array(image), np.array(image.convert("RGB"))
    assert (shown == np.array(colours, dtype=np.uint8)[index]).all()
    coloured = predicted(world, tmp_path / "color", encoding="color", table=True)
    assert (read(coloured / "image0.png") == shown).all()
    with (coloured / "shares.csv").open() as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert float(rows["image0.png"]["class1_share"]) == pytest.approx((index == 1).mean(), abs=1e-6)


def test_unsure_pixels_get_a_value_of_their_own(world: World, tmp_path: Path) -> None:
    folder = predicted(world, tmp_path / "a", min_confidence=0.9, unsure=99, probabilities="f16", table=True)
    mask = read(folder / "image0.png")
    probabilities = np.load(folder / "image0.probabilities.npy")
    confidence = probabilities.max(0)
    clear = np.abs(confidence - 0.9) > 1e-3
    assert ((mask == 99) == (confidence < 0.9))[clear].all()
    assert 0 < (mask == 99).mean() < 1
    with (folder / "shares.csv").open() as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert float(rows["image0.png"]["unsure_share"]) == pytest.approx((mask == 99).mean(), abs=1e-6)
    with pytest.raises(BadInput, match=r"unsure does not apply to min-confidence 0\.0"):
        PredictSettings.load({"unsure": 3})


def test_probabilities_of_8_bits_are_rounded(world: World, tmp_path: Path) -> None:
    folders = [predicted(world, tmp_path / kind, probabilities=kind) for kind in ("u8", "f16")]
    small, exact = (np.load(folder / "image0.probabilities.npy") for folder in folders)
    assert small.dtype == np.uint8
    assert np.abs(small / 255 - exact.astype(np.float32)).max() <= 0.5 / 255 + 1e-3


def test_flips_and_scales_are_averaged(world: World, tmp_path: Path) -> None:
    plain = predicted(world, tmp_path / "a", probabilities="f16", images=[world.dataset])
    flipped = predicted(world, tmp_path / "b", probabilities="f16", images=[world.dataset], flip=True)
    values = [np.load(folder / "image0.probabilities.npy").astype(np.float32) for folder in (plain, flipped)]
    assert np.abs(values[0] - values[1]).max() > 1e-3
    assert np.abs(values[1].sum(0) - 1).max() < 1e-2


def test_windows_cover_images_larger_than_them(world: World, tmp_path: Path) -> None:
    large = save_images(world, tmp_path / "large", factor=6)  # 144x192
    whole = predicted(world, tmp_path / "a", images=[large])
    cut = predicted(world, tmp_path / "b", images=[large], window=96, overlap=0.5)
    same = np.mean([(read(whole / f"{name}.png") == read(cut / f"{name}.png")).mean() for name in world.images])
    assert 0.8 < same < 1  # the network sees less around a pixel at the border of a window


def test_a_second_run_keeps_what_is_up_to_date(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = save_images(world, tmp_path / "photos")
    folder = predicted(world, tmp_path / "masks", images=[photos], overlay=True)
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    capsys.readouterr()
    predicted(world, folder, images=[photos], overlay=True)
    assert "is up to date" in capsys.readouterr().out
    (folder / "image1.png").unlink()
    Image.fromarray(world.images["image3"]).save(photos / "image2.png")
    (folder / "image4.png").write_bytes(b"damaged")
    predicted(world, folder, images=[photos], overlay=True)
    assert "3 masks, 3 kept" in capsys.readouterr().out
    changed = {path.name for path in folder.iterdir() if path.stat().st_mtime_ns != times.get(path.name)}
    redone = {f"image{number}{ending}" for number in (1, 2, 4) for ending in (".png", ".overlay.jpg")}
    assert changed == redone
    assert (read(folder / "image2.png") == read(folder / "image3.png")).all()
    predicted(world, folder, images=[photos], overlay=True, flip=True)
    assert "wrote" in capsys.readouterr().out.splitlines()[-1]


def test_coco_has_a_shape_per_class_and_the_names_of_the_files(world: World, tmp_path: Path) -> None:
    from pycocotools import mask as coco

    photos = save_images(world, tmp_path / "photos", ".JPG")
    folder = predicted(world, tmp_path / "masks", images=[photos], coco=True)
    document = json.loads((folder / "masks.coco.json").read_text())
    pictures = {each["id"]: each["file_name"] for each in document["images"]}
    assert sorted(pictures.values()) == [f"{name}.JPG" for name in world.images]
    names = {each["id"]: each["name"] for each in document["categories"]}
    rebuilt = {name: np.full((24, 32), 255) for name in world.images}
    for shape in document["annotations"]:
        inside = coco.decode(coco.frPyObjects(shape["segmentation"], 24, 32)).astype(bool)
        name = pictures[shape["image_id"]].removesuffix(".JPG")
        rebuilt[name][inside] = int(names[shape["category_id"]].removeprefix("class"))
    for name, values in rebuilt.items():
        assert (values == read(folder / f"{name}.png")).all()


def test_masks_of_the_pool_are_read_back_as_answers(world: World, tmp_path: Path) -> None:
    from worlds import random_round

    from stages.artifacts.annotations import Annotations
    from stages.commands import score, select
    from stages.settings.import_answers import ImportSettings
    from stages.settings.score import ScoreSettings
    from stages.settings.select import SelectSettings

    images = {"rule": "top", "budget": 1}
    ledger = random_round(tmp_path, world.dataset, 0, None, images, None, {"unit": "image"})
    with Annotations(ledger) as answered:
        (done,) = answered.mask_ids
    folder = predicted(world, tmp_path / "labels", pool=True, annotations=ledger)
    left = sorted({f"image{number}" for number in range(4)} - {done})
    assert [path.stem for path in sorted((folder / "SegmentationClass").iterdir())] == left
    assert (folder / "ImageSets/Segmentation/default.txt").read_text().split() == left
    scores = score.run(world.dataset, tmp_path / "s.h5", ScoreSettings(measure="random", unit="image", seed=1))
    queries = select.run(world.dataset, scores, tmp_path / "q.h5", SelectSettings(rule="top", budget=3), ledger)
    imported = import_answers.run(world.dataset, queries, folder, tmp_path / "a.h5", ImportSettings(), ledger)
    with Annotations(imported) as answered:
        assert answered.mask_ids == {done, *left}
        assert (answered.read(f"masks/{left[0]}") == read(folder / "SegmentationClass" / f"{left[0]}.png")).all()


def test_folders_are_searched_and_keep_their_structure(world: World, tmp_path: Path) -> None:
    save_images(world, tmp_path / "photos" / "day 1", ".JPG")
    save_images(world, tmp_path / "photos" / "day 2", ".tif")
    (tmp_path / "photos" / "notes.txt").write_text("none")
    folder = predicted(world, tmp_path / "photos" / "masks", images=[tmp_path / "photos"])
    assert len(list(folder.rglob("*.png"))) == 12
    assert (folder / "day 1" / "image0.png").is_file()
    predicted(world, folder, images=[tmp_path / "photos"])  # masks below the folder are no images
    assert len(list(folder.rglob("*.png"))) == 12


def test_masks_train_another_library(world: World, tmp_path: Path) -> None:
    """The values are class indices as losses take them, with 255 for unsure."""
    import segmentation_models_pytorch as smp
    import torch

    folder = predicted(world, tmp_path / "masks", min_confidence=0.9)
    masks = torch.from_numpy(np.stack([read(folder / f"image{number}.png") for number in range(2)])).long()
    network = smp.Unet("mobilenet_v2", encoder_weights=None, classes=3)
    logits = network(torch.zeros(2, 3, 32, 32))[..., :24, :]
    loss = smp.losses.DiceLoss("multiclass", ignore_index=255)(logits, masks)
    loss.backward()
    assert 0 < loss.item() < 1


@pytest.mark.parametrize(
    ("images", "options", "sentence"),
    [
        (["nowhere.png"], {}, "nowhere.png does not exist. Pass image files, folders, or a dataset"),
        (["empty"], {}, "empty contains no images"),
        (["photos/image0.png", "photos/image0.png"], {}, "1 masks would be written twice, such as image0.png"),
        (["photos"], {"split": "test"}, "--split and --pool choose images of a dataset"),
        (["photos"], {"annotations": "x.h5"}, "--annotations says which images of the pool have masks. Pass --pool"),
        (["text.png"], {}, "text.png cannot be decoded"),
    ],
)
def test_refused(images: list[str], options: dict[str, object], sentence: str, world: World, tmp_path: Path) -> None:
    save_images(world, tmp_path / "photos")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(BadInput) as error:
        predicted(world, tmp_path / "out", images=[tmp_path / name for name in images], **options)
    assert sentence in str(error.value)


def test_a_file_in_the_place_of_the_folder_is_kept(world: World, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(BadInput, match=r"out is a file\. Choose a folder for the masks"):
        predict.run(world.model, [world.dataset], tmp_path / "out", PredictSettings())
    assert (tmp_path / "out").read_text() == "mine"
