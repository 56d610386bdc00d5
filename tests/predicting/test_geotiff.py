"""A mask of a GeoTIFF lies where the image does, as another library reads it."""

import csv
from pathlib import Path

import numpy as np
import pytest
import rasterio
from predict_support import World, predicted
from rasterio.transform import from_origin

EAST, NORTH, SIDE = 500_000.0, 4_600_000.0, 0.25


def write_geotiff(path: Path, image: np.ndarray, crs: str, side: float) -> None:
    height, width, _ = image.shape
    place = {"crs": crs, "transform": from_origin(EAST, NORTH, side, side)}
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", **profile, **place) as file:
        file.write(image.transpose(2, 0, 1))


@pytest.fixture(scope="module")
def tiles(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiles")
    write_geotiff(folder / "field.tif", world.images["image0"], "EPSG:32633", SIDE)
    return folder


def test_masks_of_geotiffs_keep_the_georeference(world: World, tiles: Path, tmp_path: Path) -> None:
    folder = predicted(world, tmp_path / "masks", images=[tiles], table=True)
    plain = predicted(world, tmp_path / "plain")
    with rasterio.open(tiles / "field.tif") as image, rasterio.open(folder / "field.tif") as mask:
        assert mask.crs == image.crs
        assert mask.transform == image.transform
        values = mask.read(1)
        with rasterio.open(plain / "image0.png") as other:
            assert (values == other.read(1)).all()
        colours = mask.colormap(1)
    assert colours[2][:3] == (40, 0, 0)
    with (folder / "shares.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["class1_m2"]) == pytest.approx((values == 1).sum() * SIDE**2, rel=1e-5)


def test_a_second_run_keeps_masks_of_geotiffs(
    world: World, tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = predicted(world, tmp_path / "masks", images=[tiles])
    predicted(world, folder, images=[tiles])
    assert "is up to date" in capsys.readouterr().out


def test_pixel_size_of_the_option_counts_and_degrees_are_no_metres(world: World, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    write_geotiff(tmp_path / "photos" / "a.tif", world.images["image0"], "EPSG:4326", 1e-5)
    folder = predicted(world, tmp_path / "masks", images=[tmp_path / "photos"], table=True)
    assert "m2" not in (folder / "shares.csv").read_text()
    predicted(world, folder, images=[tmp_path / "photos"], table=True, pixel_size=2.0)
    with (folder / "shares.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert sum(float(row[f"class{index}_m2"]) for index in range(3)) == pytest.approx(24 * 32 * 4)
