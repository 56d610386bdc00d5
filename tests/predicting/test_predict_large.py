"""Masks of large files and of originals of tiles: written part by part, where the image lies, without seams."""

import csv
import signal
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from predict_support import World, predicted
from programs import Preloaded, wait_until
from tiles_support import MAP, SIDE, description, noise, write_tiff
from worlds import write_network

from stages.commands import prepare
from stages.images import rasters
from stages.runtime.errors import BadInput
from stages.settings.prepare import PrepareSettings

SIZE = (300, 400)
LARGE = {"window": 128, "overlap": 0.25}


@pytest.fixture(autouse=True)
def _small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasters, "MOST_AT_ONCE", 64 * 64)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Squares of two colours under noise, and the first 150 columns of the first 130 rows without data."""
    squares = np.kron(np.add.outer(np.arange(10), np.arange(13)) % 2, np.ones((32, 32)))[:300, :400, None]
    found = (noise(SIZE) // 4 + 30 + 120 * squares).astype(np.uint8)
    found[:130, :150] = 0
    return found


@pytest.fixture(scope="module")
def ortho(image: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("large") / "ortho.tif", image, nodata=0, **MAP)


def values(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


def test_a_large_file_gives_the_mask_of_the_whole_where_the_image_lies(
    world: World, ortho: Path, image: np.ndarray, tmp_path: Path
) -> None:
    """The whole is predicted at once by a window that is larger than it."""
    whole = predicted(world, tmp_path / "whole", images=[ortho], window=512, probabilities="f16")
    cut = predicted(world, tmp_path / "cut", images=[ortho], **LARGE, probabilities="f16", table=True, overlay=True)
    with rasterio.open(ortho) as source, rasterio.open(cut / "ortho.tif") as mask:
        assert (mask.crs, mask.transform, mask.shape) == (source.crs, source.transform, source.shape)
        assert (mask.nodata, mask.count, mask.dtypes[0]) == (255, 1, "uint8")
        assert mask.profile["tiled"]
        assert mask.compression.value == "DEFLATE"
        assert mask.colormap(1)[2][:3] == (40, 0, 0)
        found = mask.read(1)
    assert (found[:130, :150] == 255).all()
    assert (found == 255).sum() == (image == 0).all(-1).sum()
    expected = values(whole / "ortho.tif")[0]
    probabilities = [np.load(folder / "ortho.probabilities.npy").astype(np.float32) for folder in (whole, cut)]
    assert np.abs(probabilities[0] - probabilities[1])[:, found != 255].mean() < 0.05
    assert (found == expected)[found != 255].mean() > 0.8
    assert (found[found != 255] == probabilities[1].argmax(0)[found != 255]).mean() > 0.99
    with (cut / "shares.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["image"], row["width"], row["height"], row["unsure_share"]) == ("ortho.tif", "400", "300", "0.000000")
    assert float(row["class1_share"]) == pytest.approx((found == 1).sum() / (found != 255).sum(), abs=1e-6)
    assert float(row["class1_m2"]) == pytest.approx((found == 1).sum() * SIDE**2, rel=1e-5)
    with Image.open(cut / "ortho.overlay.jpg") as overlay:
        assert overlay.size == (400, 300)


def test_a_mask_does_not_change_if_the_file_is_small_enough_to_be_read_whole(
    world: World, ortho: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same network sees the same window, so the same classes, only without void where no data is."""
    large = predicted(world, tmp_path / "large", images=[ortho], window=512)
    monkeypatch.setattr(rasters, "MOST_AT_ONCE", 1 << 26)
    plain = predicted(world, tmp_path / "plain", images=[ortho], window=512)
    found, expected = values(large / "ortho.tif")[0], values(plain / "ortho.tif")[0]
    assert (found[found != 255] == expected[found != 255]).all()
    assert (expected != 255).all()


def test_colours_unsure_pixels_and_a_smaller_view(world: World, ortho: Path, tmp_path: Path) -> None:
    coloured = predicted(world, tmp_path / "a", images=[ortho], **LARGE, encoding="color", table=True)
    index = predicted(world, tmp_path / "b", images=[ortho], **LARGE, table=True)
    assert values(coloured / "ortho.tif").shape == (3, *SIZE)
    assert (coloured / "shares.csv").read_text() == (index / "shares.csv").read_text()
    unsure = predicted(
        world, tmp_path / "c", images=[ortho], **LARGE, min_confidence=0.9, unsure=99, table=True, scale=0.5
    )
    mask = values(unsure / "ortho.tif")[0]
    assert {*np.unique(mask).tolist()} <= {0, 1, 2, 99, 255}
    assert (mask[:130, :150] == 255).all()
    with (unsure / "shares.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["unsure_share"]) == pytest.approx((mask == 99).sum() / (mask != 255).sum(), abs=1e-6)


def test_a_second_run_keeps_the_mask(
    world: World, ortho: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = predicted(world, tmp_path / "masks", images=[ortho], **LARGE)
    written = (folder / "ortho.tif").stat().st_mtime_ns
    predicted(world, folder, images=[ortho], **LARGE)
    assert "is up to date" in capsys.readouterr().out
    assert (folder / "ortho.tif").stat().st_mtime_ns == written
    assert [path.name for path in folder.iterdir()] == ["ortho.tif"]


def test_what_large_files_cannot_have(world: World, ortho: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"Omit --coco"):
        predicted(world, tmp_path / "a", images=[ortho], coco=True)
    model = write_network(tmp_path / "long.safetensors", world.dataset, resized={"long_side": 32})
    with pytest.raises(BadInput, match=r"too large to be resized to one long side. Pass --scale"):
        predicted(world, tmp_path / "a", images=[ortho], model=model)
    assert not (tmp_path / "a").exists()


def test_a_failure_leaves_no_file(world: World, ortho: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that is read becomes unreadable in its last windows."""
    calls: list[int] = []
    before = rasters.WindowedRaster.pixels

    def failing(self: rasters.WindowedRaster, box: rasters.Box) -> np.ndarray:
        calls.append(box.y)
        if box.y > 100:
            raise rasters.damaged(self.path, OSError("short read"))
        return before(self, box)

    monkeypatch.setattr(rasters.WindowedRaster, "pixels", failing)
    with pytest.raises(BadInput, match="short read"):
        predicted(world, tmp_path / "masks", images=[ortho], **LARGE, probabilities="u8")
    assert max(calls) > 100
    assert list((tmp_path / "masks").iterdir()) == []


def tiles_of(ortho: Path, folder: Path, scale: float | None = None) -> Path:
    toml = description(folder / "d.toml", "size = 128\noverlap = 32", masks=False)
    text = toml.read_text().replace("images/{id}.tif", "{id}.tif")
    toml.write_text(text.replace('"a"', '"class0"').replace('"b"', '"class1"').replace('"c"', '"class2"'))
    return prepare.run(str(toml), ortho.parent, folder / f"tiles-{scale}.h5", PrepareSettings.load({"scale": scale}))


def test_a_dataset_of_tiles_gives_one_mask_per_original(
    world: World, ortho: Path, image: np.ndarray, tmp_path: Path
) -> None:
    dataset = tiles_of(ortho, tmp_path)
    folder = predicted(world, tmp_path / "masks", images=[dataset], table=True, overlay=True)
    assert sorted(path.name for path in folder.iterdir()) == ["ortho.overlay.jpg", "ortho.tif", "shares.csv"]
    with rasterio.open(folder / "ortho.tif") as mask, rasterio.open(ortho) as source:
        assert (mask.crs, mask.transform, mask.shape) == (source.crs, source.transform, source.shape)
        found = mask.read(1)
    # only the tile at (0, 0), all of whose pixels are without data, is left out: what no other tile covers is void
    assert (found[:96, :96] == 255).all()
    assert (found[130:] != 255).all()
    # tiles are seen alone: in the middle of one, the mask is that of the tile
    alone = np.array(Image.fromarray(image[172:300, 272:400]))
    Image.fromarray(alone).save(tmp_path / "tile.png")
    single = predicted(world, tmp_path / "single", images=[tmp_path / "tile.png"])
    with Image.open(single / "tile.png") as mask:
        assert (np.array(mask)[64:, 64:] == found[236:, 336:]).all()
    # a smaller dataset gives masks at the size of the original too
    half = predicted(world, tmp_path / "half", images=[tiles_of(ortho, tmp_path, 0.5)])
    assert values(half / "ortho.tif").shape == (1, *SIZE)


def test_a_stopped_run_starts_the_file_again(world: World, tmp_path: Path, preloaded: Preloaded) -> None:
    """A file of many windows, larger than what is read at once; a signal ends it between two windows."""
    size = (8704, 8192)
    path = tmp_path / "large.tif"
    profile = {"driver": "GTiff", "height": size[0], "width": size[1], "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", **profile, tiled=True, compress="deflate", sparse_ok=True) as file:
        file.write(noise((64, 64)).transpose(2, 0, 1), window=((0, 64), (0, 64)))
        file.write(noise((64, 64)).transpose(2, 0, 1), window=((8000, 8064), (8000, 8064)))
    words = ("predict", world.model, path, "-o", tmp_path / "masks", "--window", "512")
    process = preloaded.start(*words, cwd=tmp_path)
    wait_until(lambda: list(tmp_path.glob("masks/.large.tif.*.partial")), "the mask that is being written")
    process.send(signal.SIGTERM)
    process.finish().expect(75, err="run the same command to continue")
    assert list((tmp_path / "masks").iterdir()) == []
