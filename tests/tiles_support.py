"""Small orthomosaics and their descriptions."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin

EAST, NORTH, SIDE = 500_000.0, 4_600_000.0, 0.25
MAP = {"crs": "EPSG:32633", "transform": from_origin(EAST, NORTH, SIDE, SIDE)}
CLASSES = [{"name": name, "color": [10 * (place + 1), 0, 0]} for place, name in enumerate("abc")]


def write_tiff(path: Path, pixels: np.ndarray, alpha: bool = False, **profile: Any) -> Path:
    """``pixels`` (H,W,B) as a TIFF in tiles of 64 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, bands = pixels.shape
    layout = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    size = {"driver": "GTiff", "height": height, "width": width, "count": bands, "dtype": pixels.dtype.name}
    options = {"photometric": "rgb", "alpha": "yes"} if alpha else {}
    with rasterio.open(path, "w", **size, **layout, **options, **profile) as file:
        file.write(pixels.transpose(2, 0, 1))
    return path


def noise(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """(H,W,3) u8 without 0 and 255."""
    return np.random.default_rng(seed).integers(1, 255, (*size, 3), dtype=np.uint8)


def chequered(size: tuple[int, int], side: int = 50) -> np.ndarray:
    """(H,W) u8 classes 0, 1, 2 in squares."""
    return (np.add.outer(np.arange(size[0]) // side, np.arange(size[1]) // side) % 3).astype(np.uint8)


def description(path: Path, tiles: str, masks: bool = True, more: str = "", ending: str = "tif") -> Path:
    """A description of images/*.tif, and masks/*.tif if there are any, in split train unless ``more`` divides them."""
    split = "all" if "[division]" in more else "train"
    classes = ", ".join(f'{{ name = "{each["name"]}", color = {each["color"]} }}' for each in CLASSES)
    lines = [
        'name = "own"',
        f"classes = [{classes}]",
        f"[splits.{split}]",
        f'images = "images/{{id}}.{ending}"',
        *([f'masks = "masks/{{id}}.{ending}"'] if masks else []),
        f"[tiles]\n{tiles}",
        more,
    ]
    path.write_text("\n".join(lines) + "\n")
    return path
