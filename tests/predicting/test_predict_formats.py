"""`predict` reads files as `prepare` did: levels, bands, pages and the filter are those of the model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from predict_support import World, predicted
from worlds import write_network

from stages.artifacts.dataset import Dataset
from stages.artifacts.model import Model
from stages.commands import annotate_simulate, prepare, score, select, train
from stages.pixels.resize import resize_image
from stages.runtime.errors import BadInput
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.prepare import PrepareSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from stages.settings.train import TrainSettings

DESCRIPTION = """
name = "own"
classes = [{ name = "dark", color = [0, 0, 0] }, { name = "bright", color = [255, 99, 9] }]
[images]
bands = "all"
percentiles = [0, 100]
display = [5, 2, 1]
[splits.train]
images = "{id}.npy"
masks = "{id}_mask.png"
"""
SMALL = {"backbone": "test_efficientnet", "head_width": 64, "low_level_width": 8, "weights": "none", "device": "cpu"}


def field(number: int) -> tuple[np.ndarray, np.ndarray]:
    """An image of five bands of 16 bits, and its mask, which only the last band shows."""
    generator = np.random.default_rng(number)
    mask = np.zeros((48, 64), np.uint8)
    top, left = generator.integers(0, 24, 2)
    mask[top : top + 24, left : left + 32] = 1
    bands = generator.integers(1000, 2000, (48, 64, 5)).astype(np.uint16)
    bands[..., 4] += 20000 * mask.astype(np.uint16)
    return bands, mask


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The folder, the dataset, and a network trained on it for an epoch."""
    folder = tmp_path_factory.mktemp("bands")
    for number in range(4):
        bands, mask = field(number)
        np.save(folder / f"{number}.npy", bands)
        Image.fromarray(mask).save(folder / f"{number}_mask.png")
    (folder / "d.toml").write_text(DESCRIPTION)
    data = prepare.run(str(folder / "d.toml"), folder, folder / "d.h5", PrepareSettings(long_side=32, filter="bicubic"))
    scores = score.run(data, folder / "s.h5", ScoreSettings.load({"measure": "random"}))
    queries = select.run(data, scores, folder / "q.h5", SelectSettings.load({"budget": 20, "rule": "uniform"}))
    ledger = annotate_simulate.run(data, queries, folder / "a.h5", AnnotateSettings.load({}))
    settings = TrainSettings.load({"epochs": 1, "batch": 2, "jitter": 1.0, "grey": 1.0, "blur": 1.0, **SMALL})
    return folder, data, train.run(data, ledger, folder / "m.safetensors", settings)


def test_a_model_records_how_its_images_were_read_and_resized(trained: tuple[Path, Path, Path]) -> None:
    _, data, model = trained
    opened = Model(model)
    assert opened.attributes["resized"] == {"long_side": 32, "filter": "bicubic"}
    with Dataset(data) as dataset:
        assert opened.reading == dataset.reading
        assert opened.attributes["mean"] == list(dataset.attributes["mean"])  # not those of three colours
        assert dataset.reading["levels"][4][1] > 20000
    assert opened.bands == 5
    assert opened.part("last")["backbone.conv_stem.weight"].shape[1] == 5


def test_files_of_16_bits_and_five_bands_are_predicted_as_those_of_the_dataset(
    trained: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    folder, data, model = trained
    world = World(data, model, {}, {})
    of_files = predicted(world, tmp_path / "a", images=[folder / "1.npy"], probabilities="f16", overlay=True)
    of_data = predicted(world, tmp_path / "b", probabilities="f16")
    found, expected = (np.load(each / "1.probabilities.npy") for each in (of_files, of_data))
    assert found.shape == (2, 48, 64)
    assert expected.shape == (2, 24, 32)
    blocks = found.astype(np.float32).reshape(2, 24, 2, 32, 2).mean((2, 4))  # twice as large, interpolated
    assert np.abs(blocks - expected)[:, 1:-1, 1:-1].max() < 0.05
    with Image.open(of_files / "1.overlay.jpg") as overlay:
        assert overlay.size == (64, 48)
    photo = tmp_path / "photo.png"
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(photo)
    with pytest.raises(BadInput, match="has 3 bands, but band 5 is to be read"):
        predicted(world, tmp_path / "c", images=[photo])


def test_a_dataset_of_other_bands_is_refused(trained: tuple[Path, Path, Path], world: World, tmp_path: Path) -> None:
    _, data, _ = trained
    other = write_network(tmp_path / "m.safetensors", data)  # of three bands
    with pytest.raises(BadInput, match=r"was trained on images of 3 bands, but those of .* have 5"):
        predicted(World(data, other, {}, {}), tmp_path / "a")
    with pytest.raises(BadInput, match=r"was trained on images of 3 bands, but those of .* have 5"):
        score.run(data, tmp_path / "s.h5", ScoreSettings.load({"measure": "entropy", "device": "cpu"}), model=other)


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_predict_resizes_with_the_filter_of_prepare(kind: Any, world: World, tmp_path: Path) -> None:
    resized = {"long_side": 16} | ({} if kind == "bilinear" else {"filter": kind})
    model = write_network(tmp_path / "m.safetensors", world.dataset, resized=resized)
    (tmp_path / "small").mkdir()
    Image.fromarray(world.images["image0"]).save(tmp_path / "image0.png")
    Image.fromarray(resize_image(world.images["image0"], 12, 16, kind)).save(tmp_path / "small" / "image0.png")
    named = {"probabilities": "f16"}
    large = predicted(world, tmp_path / "a", images=[tmp_path / "image0.png"], model=model, **named)
    small = predicted(world, tmp_path / "b", images=[tmp_path / "small"], **named)
    at_image, at_network = (np.load(each / "image0.probabilities.npy").astype(np.float32) for each in (large, small))
    rows = 0.75 * at_network[:, :-1] + 0.25 * at_network[:, 1:]
    expected = 0.75 * rows[:, :, :-1] + 0.25 * rows[:, :, 1:]
    assert np.abs(at_image[:, 1:-1:2, 1:-1:2] - expected).max() < 2e-3
