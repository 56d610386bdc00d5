"""Windows of large files: the pixels of the whole, which of them have data, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from tiles_support import MAP, noise, write_tiff

from stages.datasets.parts import read_part
from stages.images.rasters import Raster, is_large, map_grid_of, open_raster
from stages.images.reading import AS_SHOWN, Reading
from stages.pixels.boxes import Box
from stages.runtime.errors import BadInput

SIZE = (90, 130)
BOX = Box(20, 60, 50, 70)


def read(path: Path, box: Box = BOX) -> tuple[np.ndarray, np.ndarray, Raster]:
    with open_raster(path) as raster:
        pixels = raster.pixels(box)
        return pixels, raster.with_data(box, pixels), raster


@pytest.mark.parametrize("ending", ["tif", "jp2", "vrt", "png", "bmp"])
def test_a_window_has_the_pixels_of_the_whole(tmp_path: Path, ending: str) -> None:
    image, path = noise(SIZE), tmp_path / f"a.{ending}"
    tiff = write_tiff(tmp_path / "a.tif", image, **MAP)
    if ending == "jp2":
        profile = {"driver": "JP2OpenJPEG", "height": SIZE[0], "width": SIZE[1], "count": 3, "dtype": "uint8"}
        with rasterio.open(path, "w", **profile, QUALITY=100, REVERSIBLE="YES") as file:
            file.write(image.transpose(2, 0, 1))
    elif ending == "vrt":
        from rasterio.shutil import copy

        copy(tiff, path, driver="VRT")
    elif ending != "tif":
        Image.fromarray(image).save(path)
    pixels, with_data, raster = read(path)
    assert (pixels == image[20:70, 60:130]).all()
    assert with_data.all()
    assert (raster.size, raster.bands, raster.dtype) == (SIZE, 3, np.uint8)
    with open_raster(path) as opened:
        small = opened.reduced((45, 65))
    assert small.shape == (45, 65, 3)
    # libraries differ in which pixel of two they take, and JPEG 2000 stores smaller versions
    assert ending == "jp2" or any((small == image[y::2, x::2]).all() for y in (0, 1) for x in (0, 1))
    expected = tuple(MAP["transform"])[:6] if ending in ("tif", "vrt") else None
    assert (found.transform if (found := map_grid_of(path)) else None) == expected


def test_pixels_without_data(tmp_path: Path) -> None:
    """By alpha, by the value for no data, by the mask of the file, or by the colour that fills a corner."""
    image, empty = noise(SIZE), np.zeros(SIZE, dtype=bool)
    empty[:40, :80] = True
    alpha = np.dstack([image, np.where(empty, 0, 255).astype(np.uint8)])
    with_zeros = np.where(empty[..., None], np.uint8(0), image)
    files = {
        "alpha": write_tiff(tmp_path / "alpha.tif", alpha, alpha=True),
        "nodata": write_tiff(tmp_path / "nodata.tif", with_zeros, nodata=0),
        "corner": write_tiff(tmp_path / "corner.tif", with_zeros),
    }
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    files["png"] = tmp_path / "alpha.png"
    files["mask"] = write_tiff(tmp_path / "mask.tif", image)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(files["mask"], "r+") as file:
        file.write_mask(~empty)
    for name, path in files.items():
        pixels, with_data, raster = read(path)
        assert (with_data == ~empty[20:70, 60:130]).all(), name
        assert (read_part(pixels, raster, AS_SHOWN)[with_data] == image[20:70, 60:130][with_data]).all(), name
    # a value that pixels only happen to have is not a colour that fills a corner
    image[30:60, 70:100] = 7
    assert read(write_tiff(tmp_path / "plain.tif", image))[1].all()


def test_bands_become_colours(tmp_path: Path) -> None:
    image = noise(SIZE)
    five = write_tiff(tmp_path / "five.tif", np.dstack([image, image[..., :2]]))
    grey = write_tiff(tmp_path / "grey.tif", image[..., :1])
    index = image[..., :1] % 3
    palette = write_tiff(tmp_path / "palette.tif", index, photometric="palette")
    with rasterio.open(palette, "r+") as file:
        file.write_colormap(1, {0: (1, 2, 3, 255), 1: (4, 5, 6, 255), 2: (7, 8, 9, 255)})
    deep = write_tiff(tmp_path / "deep.tif", image.astype(np.uint16))
    with pytest.raises(BadInput, match="more than 8 bits"):
        read_part(*read(deep)[::2], AS_SHOWN)
    part = image[20:70, 60:130]
    for path, reading, expected in (
        (five, Reading((3, 2, 1)), part[..., ::-1]),
        (grey, AS_SHOWN, part[..., :1].repeat(3, 2)),
        (deep, Reading(levels=((0.0, 510.0),)), (part / 2).round()),
    ):
        pixels, _, raster = read(path)
        assert (read_part(pixels, raster, reading) == expected).all()
    with pytest.raises(BadInput, match=r"has 5 bands\. Set bands"):
        read_part(*read(five)[::2], AS_SHOWN)
    pixels, _, raster = read(palette)
    colours = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    assert (read_part(pixels, raster, AS_SHOWN) == colours[index[20:70, 60:130, 0]]).all()


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, words: str) -> None:
        with pytest.raises(BadInput, match=words), open_raster(path):
            pass

    pages = [Image.fromarray(noise(SIZE, seed)) for seed in (1, 2)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    refused(tmp_path / "pages.tif", "contains 2 pictures")
    pages[0].save(tmp_path / "preview.tif", save_all=True, append_images=[pages[1].resize((40, 30))])
    assert read(tmp_path / "preview.tif")[2].size == SIZE
    (tmp_path / "text.tif").write_text("no image")
    refused(tmp_path / "text.tif", "cannot be read")
    refused(tmp_path / "none.tif", "does not exist")
    for inside in ("/vsicurl/http://example.org/a.tif", "http://example.org/a.tif"):
        (tmp_path / "far.vrt").write_text(f"<VRTDataset><SourceFilename>{inside}</SourceFilename></VRTDataset>")
        refused(tmp_path / "far.vrt", "refers to files elsewhere")
    pages[0].save(tmp_path / "turned.tif", tiffinfo={274: 6})
    refused(tmp_path / "turned.tif", "turned")
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    refused(tmp_path / "preview.tif", r"pip install 'alseg\[geo\]'")


def test_what_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiff = write_tiff(tmp_path / "a.tif", noise(SIZE))
    Image.fromarray(noise(SIZE)).save(tmp_path / "a.png")
    (tmp_path / "b.tif").write_text("no image")
    assert not is_large(tiff)
    monkeypatch.setattr("stages.images.rasters.MOST_AT_ONCE", SIZE[0] * SIZE[1] - 1)
    assert is_large(tiff)
    # others have no windows, and whoever reads a damaged file says so
    assert not is_large(tmp_path / "a.png")
    assert not is_large(tmp_path / "b.tif")
