"""From the files of a sample to arrays: its image, its mask as class indices, its polygons as their vertices."""

import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from stages.datasets.description import Images
from stages.datasets.files import Sample
from stages.datasets.image_labels import NO_LABEL
from stages.datasets.mask_files import EMPTY_NOTE, ClassLookup, decoded, stored_mask
from stages.datasets.shapes.masks import ShapeMasks
from stages.images.rasters import contents_of_file
from stages.images.reading import AS_SHOWN, Reading, read_image
from stages.pixels.resize import resize_image
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput

_NAMED_FAULTS = 5  # faults listed per polygon file


@dataclass(frozen=True)
class LoadedSample:
    """A decoded sample: ``image`` (H, W, B) u8 and, if there is one, ``mask`` (H, W) u8 with 255 = ignore.

    ``vertices`` (V, 2) (y, x), if there is a polygon file: f64 as in the file, anywhere; i32 and inside the image once
    they are placed in it (``stages.pixels.resize.place_vertices``). ``label``: the class of the whole image, -1 = none.
    ``file_size``: height and width in the file, once it was resized. ``evaluated``: image and mask at the evaluation
    size, if they are kept. ``note``: how the mask was read, if not as it is. ``without_data`` (H, W) bool: pixels of a
    tile without data, if there are any.
    """

    image: np.ndarray
    mask: np.ndarray | None
    vertices: np.ndarray | None = None
    label: int = NO_LABEL
    file_size: tuple[int, int] = (0, 0)
    evaluated: tuple[np.ndarray, np.ndarray] | None = None
    note: str = ""
    without_data: np.ndarray | None = None


class PolygonObject(BaseModel):
    """One outlined object: the corners of its polygon as [x, y]."""

    model_config = ConfigDict(strict=True)

    polygon: list[tuple[FiniteFloat, FiniteFloat]]


class PolygonFile(BaseModel):
    """The keys that are read from a polygon file of Cityscapes; all others, including the labels, are ignored."""

    model_config = ConfigDict(strict=True)

    imgHeight: int
    imgWidth: int
    objects: list[PolygonObject]


def described_reading(images: Images, first: Path) -> Reading:
    """The reading that a description asks for, without the levels that it asks to measure.

    With ``bands`` "all" they are those of the image file ``first``. BadInput if it cannot be read, or if levels do not
    fit the bands.
    """
    bands = images.bands if images.bands != "all" else tuple(range(1, contents_of_file(first).bands + 1))
    levels = images.levels
    pairs = None if levels is None else (levels,) if isinstance(levels[0], float) else levels
    found = Reading(bands, pairs, images.page, images.display)
    if pairs is not None and len(pairs) not in (1, found.count):
        raise BadInput(
            f"images.levels has {len(pairs)} pairs, but {first} has {found.count} bands. Write one pair for all, or "
            "one for each."
        )
    if not set(images.display or ()) <= set(bands or images.display or ()):
        raise BadInput(f"images.display names bands that {first} does not have. It has {found.count}.")
    return found


def load_sample(
    sample: Sample, lookup: ClassLookup | ShapeMasks, resize_images: bool = False, reading: Reading = AS_SHOWN
) -> LoadedSample | list[str]:
    """``sample`` decoded, or all its faults as sentences (returned, not raised, to cross process boundaries whole).

    With ``resize_images`` an image is resized to its mask if their sizes differ, which otherwise is a fault.
    """
    faults: list[str] = []
    image = mask = vertices = None
    note = ""
    try:
        image = read_image(sample.image, reading)
    except BadInput as error:
        faults += error.faults
    if sample.mask is not None and isinstance(lookup, ShapeMasks):
        try:
            height, width = (0, 0) if image is None else image.shape[:2]
            mask = None if image is None else lookup.mask(sample.mask, sample.image, (height, width))
            note = "" if mask is None or (mask != VOID).any() else EMPTY_NOTE
        except BadInput as error:
            faults += error.faults
    elif sample.mask is not None and isinstance(lookup, ClassLookup):
        try:
            raw = stored_mask(sample.mask, lookup.encoding, lookup.binarise is not None)
            height, width = raw.values.shape[:2]
            if image is not None and resize_images:
                image = resize_image(image, height, width)
            if image is not None and (height, width) != image.shape[:2]:
                faults.append(
                    f"{sample.mask} ({width}x{height}) and {sample.image} "
                    f"({image.shape[1]}x{image.shape[0]}) differ in size. Use files of the same width and height."
                )
            mask, note = decoded(raw, lookup, str(sample.mask))
        except BadInput as error:
            faults += error.faults
    if sample.polygons is not None:
        try:
            size, vertices = read_polygons(sample.polygons)
            if image is not None and size != image.shape[:2]:
                faults.append(
                    f"{sample.polygons} is for an image of {size[1]}x{size[0]}, but {sample.image} is "
                    f"{image.shape[1]}x{image.shape[0]}. Use the polygons of this image."
                )
        except BadInput as error:
            faults += error.faults
    if image is None or faults:
        return faults
    return LoadedSample(image, mask, vertices, note=note)


def read_polygons(path: Path) -> tuple[tuple[int, int], np.ndarray]:
    """The (height, width) of the image and the vertices (V, 2) f64 (y, x) of all its polygons, in the file's order.

    The form is that of Cityscapes, ``<id>_gtFine_polygons.json``: {"imgHeight": 1024, "imgWidth": 2048, "objects":
    [{"label": "road", "polygon": [[x, y], ...]}, ...]}. All objects count, whatever their labels.
    Raises BadInput with the file's first faults, one sentence each.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}). Replace it.") from error
    try:
        file = PolygonFile.model_validate_json(content)
    except ValidationError as error:
        found = [_polygon_fault(path, item) for item in error.errors(include_url=False)]
        rest = len(found) - _NAMED_FAULTS
        if rest > 0:
            found[_NAMED_FAULTS:] = [f"{path} has {rest} more faults of this kind. Write the file again."]
        raise BadInput(found) from error
    corners = [corner for item in file.objects for corner in item.polygon]
    vertices = np.array(corners, np.float64).reshape(-1, 2)[:, ::-1]
    return (file.imgHeight, file.imgWidth), vertices


def _polygon_fault(path: Path, item: Any) -> str:
    """One pydantic error about a polygon file as a sentence with the place in the file and a remedy."""
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"]).lstrip(".")
    match item["type"]:
        case "json_invalid":
            return f"{path} is not valid JSON ({item['ctx']['error']}). Replace it."
        case "missing" if isinstance(item["loc"][-1], int):
            return f"{path}: {place} is missing. Write each vertex as two numbers [x, y]."
        case "missing":
            return f"{path}: {place} is missing. Use the format of Cityscapes."
        case "float_type" | "finite_number" | "tuple_type" | "too_long":
            found = reprlib.repr(item["input"])
            return f"{path}: {place} = {found} is not a number or a pair. Write each vertex as two numbers [x, y]."
    found = reprlib.repr(item["input"])
    reason = item["msg"][0].lower() + item["msg"][1:]
    return f"{path}: {place or 'the file'} = {found}: {reason}. Use the format of Cityscapes."
