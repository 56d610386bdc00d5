"""Images of any depth, bands and pictures in a file: their right values by hand, or the key that is missing."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.artifacts.dataset import Dataset
from stages.commands import prepare
from stages.datasets.description import load_description
from stages.images.image_files import contents
from stages.images.levels import Histogram, scaled
from stages.images.reading import Reading, displayed, read_image, recorded_reading
from stages.runtime.errors import BadInput
from stages.settings.prepare import PrepareSettings

GREY = np.array([[0, 1000, 2000], [3000, 4000, 65535]], np.uint16)
LEVELS = ((0.0, 4000.0),)
SCALED = [[0, 64, 128], [191, 255, 255]]  # 255 * 1000 / 4000 = 63.75
FIVE = np.arange(30, dtype=np.uint8).reshape(2, 3, 5)


def write_tiff(path: Path, bands_first: np.ndarray, **options: object) -> Path:
    rasterio = pytest.importorskip("rasterio")
    count, height, width = bands_first.shape
    profile = {"driver": "GTiff", "dtype": bands_first.dtype, "count": count, "height": height, "width": width}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile, **options) as file:
            file.write(bands_first)
    return path


def write(path: Path, array: np.ndarray) -> Path:
    """The array (H,W) or (H,W,B) in the format that the name says."""
    import cv2

    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".png" and array.ndim == 3:
        cv2.imwrite(str(path), array[..., [2, 1, 0, 3][: array.shape[2]]])
    elif array.ndim == 3:
        write_tiff(path, np.moveaxis(array, 2, 0))
    else:
        Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "array", "bands", "dtype"),
    [
        ("grey.png", GREY, 1, np.uint16),
        ("grey.tif", GREY, 1, np.uint16),
        ("signed.tif", GREY.astype(np.int32), 1, np.int32),
        ("float.tif", GREY.astype(np.float32), 1, np.float32),
        ("float.npy", GREY.astype(np.float64), 1, np.float64),
        ("colour.png", np.dstack([GREY] * 3), 3, np.uint16),
        ("colour, alpha.png", np.dstack([GREY] * 3 + [GREY[::-1]]), 4, np.uint16),
        ("colour.tif", np.dstack([GREY] * 3), 3, np.uint16),
        ("colour float.tif", np.dstack([GREY] * 3).astype(np.float32), 3, np.float32),
        ("colour.npy", np.dstack([GREY] * 3), 3, np.uint16),
    ],
)
def test_deep_images_are_scaled_to_8_bits(name: str, array: np.ndarray, bands: int, dtype: type, tmp_path: Path):
    path = write(tmp_path / name, array)
    found = contents(path)
    assert (found.size, found.bands, found.dtype, found.pages) == ((2, 3), bands, dtype, 1)
    image = read_image(path, Reading(levels=LEVELS))
    assert image.dtype == np.uint8
    assert image.tolist() == np.dstack([SCALED] * 3).tolist()
    with pytest.raises(BadInput, match=r"more than 8 bits per channel .* Set percentiles = \[1, 99\], or levels"):
        read_image(path)


@pytest.mark.parametrize("name", ["five.tif", "five.npy"])
def test_bands_are_picked_or_all_kept(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, FIVE)
    assert read_image(path, Reading((3, 2, 1))).tolist() == FIVE[..., [2, 1, 0]].tolist()
    assert read_image(path, Reading((1, 2, 3, 4, 5))).tolist() == FIVE.tolist()
    shown = Reading((1, 2, 3, 4, 5), display=(5, 3, 1))
    assert displayed(FIVE, shown).tolist() == FIVE[..., [4, 2, 0]].tolist()
    assert displayed(FIVE[..., :2]).tolist() == FIVE[..., [0, 0, 0]].tolist()
    with pytest.raises(BadInput, match=r'has 5 bands\. Set bands = \[3, 2, 1\], or bands = "all", under \[images\]'):
        read_image(path)
    with pytest.raises(BadInput, match="has 5 bands, but band 6 is to be read"):
        read_image(path, Reading((6,)))
    assert recorded_reading(shown.recorded()) == shown


def test_pixels_without_data_become_black_and_are_not_measured(tmp_path: Path) -> None:
    values = np.array([[[-9999.0, 10, 20], [30, np.nan, 50]]], np.float32)
    path = write_tiff(tmp_path / "d.tif", values, nodata=-9999)
    assert read_image(path, Reading(levels=((10.0, 50.0),)))[..., 0].tolist() == [[0, 0, 64], [128, 0, 255]]
    histogram = Histogram()
    histogram.add(np.moveaxis(values, 0, 2), -9999)
    assert histogram.percentiles((0, 100)) == ((10.0, 50.0),)


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=9), min_size=1, max_size=3),
    st.sampled_from([(0, 100), (1, 99), (25, 75)]),
)
def test_percentiles_are_those_of_all_pixels(parts: list[list[float]], shares: tuple[int, int]) -> None:
    rounded, exact = Histogram(), Histogram()
    for part in parts:
        rounded.add(np.array(part, np.float32)[:, None, None], None)
        exact.add(np.array(part).astype(np.int16)[:, None, None], None)
    values = np.concatenate([np.array(part, np.float32) for part in parts])
    wanted = np.percentile(values, shares, method="inverted_cdf")
    assert np.allclose(rounded.percentiles(shares)[0], wanted, rtol=5e-4, atol=1e-38)
    whole = np.concatenate([np.array(part).astype(np.int16) for part in parts])
    assert exact.percentiles(shares)[0] == tuple(np.percentile(whole, shares, method="inverted_cdf"))


def test_each_band_has_its_own_levels_and_one_without_a_range_is_black_or_white() -> None:
    image = np.array([[[5, 5], [10, 6]]], np.uint16)
    assert scaled(image, ((0.0, 10.0), (5.0, 5.0))).tolist() == [[[128, 0], [255, 255]]]


def pictures_in(path: Path, **options: object) -> Path:
    first, *rest = (Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (10, 200, 90))
    first.save(path, save_all=True, append_images=rest, **options)
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("stack.tif", {}),
        ("film.gif", {}),
        ("film.png", {}),
        ("film.webp", {"lossless": True}),
        ("stereo.jpg", {"format": "MPO"}),
    ],
)
def test_several_pictures_are_never_read_as_the_first(name: str, options: dict[str, object], tmp_path: Path) -> None:
    path = pictures_in(tmp_path / name, **options)
    with pytest.raises(BadInput, match=r"contains 3 pictures, and only one can be read\. Set page \(1 to 3\) under"):
        read_image(path)
    assert abs(int(read_image(path, Reading(page=2))[0, 0, 0]) - 200) < 3
    with pytest.raises(BadInput, match="contains 3 pictures, but page = 4 is to be read"):
        read_image(path, Reading(page=4))


def test_pages_of_bands_are_read_by_their_number(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "s.tif") as file:
        for start in (0, 100):
            file.write(np.moveaxis(FIVE + start, 2, 0), photometric="minisblack", planarconfig="separate")
    with pytest.raises(BadInput, match="contains 2 pictures"):
        read_image(tmp_path / "s.tif", Reading((1, 2)))
    assert read_image(tmp_path / "s.tif", Reading((1, 5), page=2)).tolist() == (FIVE[..., [0, 4]] + 100).tolist()


def test_previews_are_no_pictures_of_their_own(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    pixels = np.arange(3 * 64 * 64, dtype=np.uint8).reshape(3, 64, 64)
    path = write_tiff(tmp_path / "pyramid.tif", pixels, photometric="RGB")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2, 4])
    assert contents(path).pages == 1
    assert read_image(path).tolist() == np.moveaxis(pixels, 0, 2).tolist()
    large, small = (Image.new("RGB", (side, side), (9, 9, 9)) for side in (32, 16))
    large.save(tmp_path / "photo.jpg", "MPO", save_all=True, append_images=[small])
    assert contents(tmp_path / "photo.jpg").pages == 1


CLASSES = 'name = "own"\nclasses = [{ name = "a", color = [0, 0, 0] }, { name = "b", color = [9, 9, 9] }]\n'


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """Two images of five 16-bit bands to train on, one to test, with masks."""
    for number, folder in enumerate(("train", "train", "test")):
        values = np.full((16, 20, 5), 100, np.uint16) * np.arange(1, 6, dtype=np.uint16)
        values[:8] *= 3 if number < 2 else 90
        (tmp_path / folder).mkdir(exist_ok=True)
        np.save(tmp_path / folder / f"{number}.npy", values)
        Image.fromarray((np.arange(320).reshape(16, 20) % 2).astype(np.uint8)).save(tmp_path / folder / f"{number}.png")
    return tmp_path


def prepared(folder: Path, images: str, **settings: object) -> Path:
    splits = "".join(f'[splits.{name}]\nimages = "{name}/{{id}}.npy"\nmasks = "{name}/{{id}}.png"\n' for name in
                     ("train", "test"))  # fmt: skip
    (folder / "d.toml").write_text(f"{CLASSES}{images}\n{splits}")
    return prepare.run(str(folder / "d.toml"), folder, folder / "d.h5", PrepareSettings(**settings))


def test_a_dataset_of_five_bands_is_scaled_by_its_pool_and_records_how(field: Path, capsys) -> None:
    path = prepared(field, '[images]\nbands = "all"\npercentiles = [0, 100]\ndisplay = [5, 3, 1]', long_side=10)
    assert "levels (percentiles 0 and 100): 100 to 300, 200 to 600, 300 to 900, 400 to 1200, ..." in (
        capsys.readouterr().out
    )
    with Dataset(path) as data:
        assert data.bands == 5
        assert data.image("0").shape == (8, 10, 5)
        assert data.image("0")[0].tolist() == [[255] * 5] * 10
        assert data.image("0")[7].tolist() == [[0] * 5] * 10
        assert data.rgb("2", (4, 5)).shape == (4, 5, 3)
        assert data.attributes["mean"] == pytest.approx([0.5] * 5)
        assert data.reading == {
            "bands": [1, 2, 3, 4, 5],
            "levels": [[100, 300], [200, 600], [300, 900], [400, 1200], [500, 1500]],
            "display": [5, 3, 1],
        }


def test_levels_can_be_given_and_bands_picked(field: Path) -> None:
    with Dataset(prepared(field, "[images]\nbands = [3, 2, 1]\nlevels = [0, 1000]")) as data:
        assert data.image("0")[0, 0].tolist() == [230, 153, 76]  # 900, 600 and 300; 76.5 is rounded to even
        assert data.reading["levels"] == [[0, 1000]]


def test_tiles_of_large_files_are_read_alike(tmp_path: Path) -> None:
    """Two tiles of 32 x 32 of a file of two bands: ramps down the rows, of which one has no data at the left."""
    rows = np.arange(32, dtype=np.uint16)[:, None] * 100 + np.zeros(64, np.uint16)
    write_tiff(tmp_path / "a.tif", np.stack([rows, np.where(np.arange(64) < 8, 0, rows + 7)]), nodata=0)
    tiles = "[tiles]\nsize = [32, 32]\noverlap = 0\nkeep = 0.1\n"
    images = '[images]\nbands = "all"\npercentiles = [0, 100]\n'
    (tmp_path / "d.toml").write_text(CLASSES + tiles + images + '[splits.train]\nimages = "{id}.tif"\n')
    path = prepare.run(str(tmp_path / "d.toml"), tmp_path, tmp_path / "d.h5", PrepareSettings())
    with Dataset(path) as data:
        assert data.reading == {"bands": [1, 2], "levels": [[100, 3100], [7, 3107]]}  # 0 is no data
        left, right = (data.image(image) for image in sorted(data.all_ids))
        assert right[:, 0].tolist() == [[round(255 * max(0, y - 1) / 30), round(255 * y / 31)] for y in range(32)]
        assert left[:, :8, 1].max() == 0
        assert (left[..., 0] == right[..., 0]).all()
        assert data.rgb(sorted(data.all_ids)[0]).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ("", "has more than 8 bits per channel (uint16). Set percentiles"),
        ("[images]\nlevels = [0, 10]", 'has 5 bands. Set bands = [3, 2, 1], or bands = "all"'),
        ("[images]\nlevels = [10, 0]", "images.levels must be a rising pair [LOW, HIGH], or a list of such pairs"),
        ("[images]\nlevels = [0, 1]\npercentiles = [1, 99]", "levels and percentiles are mutually exclusive"),
        ("[images]\npercentiles = [99, 1]", "percentiles do not rise"),
        ("[images]\nbands = [0]", 'images.bands must be "all" or a list of numbers of bands'),
        ("[images]\nbands = [9]\nlevels = [0, 1]", "has 5 bands, but band 9 is to be read"),
        ("[images]\nbands = [1, 2]\ndisplay = [1, 2, 3]", "display names bands that are not read"),
        ('[images]\nbands = "all"\nlevels = [0, 1]\ndisplay = [1, 2, 9]', "0.npy does not have. It has 5."),
        ('[images]\nbands = "all"\nlevels = [[0, 1], [0, 2]]', "images.levels has 2 pairs, but"),
        ("[images]\nbands = [1, 2]\nlevels = [[0, 1], [0, 2], [0, 3]]", "levels has 3 pairs for 2 bands"),
        ("mean = [0.5]\nstd = [0.5]", "mean has 1 values for 3 bands. Write one for each."),
        (
            'mean = [0.5]\nstd = [0.5]\n[images]\nbands = "all"\nlevels = [0, 1]',
            "mean and std have 1 values for 5 bands",
        ),
        ("[images]\nlevels = [0, 1]\npage = 2\nbands = [1]", "contains 1 pictures, but page = 2"),
    ],
)
def test_what_a_description_leaves_open_is_refused(images: str, sentence: str, field: Path) -> None:
    with pytest.raises(BadInput) as caught:
        prepared(field, images)
    assert sentence in str(caught.value)
    assert not (field / "d.h5").exists()


def test_files_that_cannot_be_measured_are_all_told(field: Path) -> None:
    for name in ("train/0", "test/2"):
        (field / f"{name}.npy").write_bytes(b"no array")
    with pytest.raises(BadInput) as caught:
        prepared(field, "[images]\nbands = [1]\npercentiles = [1, 99]")
    assert len(caught.value.faults) == 2


def test_descriptions_without_these_keys_keep_their_meaning() -> None:
    assert "images" not in load_description("camvid").meaning()
