"""The georeference of a GeoTIFF, copied from an image to its mask, which has the same pixels."""

from pathlib import Path
from typing import Any

from stages.images.image_files import tiff_tags
from stages.pixels.boxes import MapGrid

PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, KEYS, NUMBERS, TEXTS = 33550, 33922, 34264, 34735, 34736, 34737
GEO_TAGS = (PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, KEYS, NUMBERS, TEXTS)
# Keys of the directory in tag KEYS, and their values (OGC 19-008r4, annex B)
MODEL_TYPE, PROJECTED, LINEAR_UNITS, METRE = 1024, 1, 3076, 9001


def georeference(path: Path) -> dict[int, Any]:
    """The tags that place a TIFF on the Earth, by number; empty for other files."""
    tags = tiff_tags(path)
    found = {tag: tags[tag] for tag in GEO_TAGS if tag in tags}
    return found if PIXEL_SCALE in found or TRANSFORMATION in found else {}


def metres_per_pixel(tags: dict[int, Any]) -> float | None:
    """The side of a pixel of a projected GeoTIFF in metres, the root of its area; None if it is unknown."""
    directory = tags.get(KEYS, ())
    values = {directory[place]: directory[place + 3] for place in range(4, len(directory) - 3, 4)}
    if PIXEL_SCALE not in tags or values.get(MODEL_TYPE) != PROJECTED or values.get(LINEAR_UNITS, METRE) != METRE:
        return None
    across, down, *_ = tags[PIXEL_SCALE]
    return float(abs(across * down) ** 0.5)


def metres_on_map(map_grid: MapGrid | None) -> float | None:
    """The side of a pixel in metres, the root of its area; None unless the coordinate system is projected in metres."""
    if map_grid is None or not map_grid.crs:
        return None
    from rasterio.crs import CRS

    crs = CRS.from_wkt(map_grid.crs)
    if not crs.is_projected or crs.linear_units_factor[1] != 1:
        return None
    a, b, _, d, e, _ = map_grid.transform
    return float(abs(a * e - b * d) ** 0.5)
