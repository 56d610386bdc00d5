"""From files to arrays: images as RGB, masks as class indices with 255 = ignore, polygons as their vertices."""

import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from stages.datasets.description import DatasetDescription, mask_values
from stages.datasets.files import Sample
from stages.datasets.image_files import LOSSY_FORMATS, image_file
from stages.datasets.image_labels import NO_LABEL
from stages.datasets.matlab import MATLAB, read_matlab_mask
from stages.pixels.resize import resize_image
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput

Encoding = Literal["index", "color"]

_STRETCH = {"L;2": 85, "L;4": 17}  # factors by which Pillow stretches grey values of 2 and 4 bits to 0..255
_NAMED_VALUES = 5  # unknown values listed per mask
_NAMED_FAULTS = 5  # faults listed per polygon file


@dataclass(frozen=True)
class ClassLookup:
    """The class of each mask value.

    ``table`` is u8, indexed by value (65536,) or by packed colour r<<16 | g<<8 | b (2**24,), and contains 255 for
    values of no class. ``ignored`` lists the values (i64) to ignore; None: all values of no class.
    """

    encoding: Encoding
    table: np.ndarray
    ignored: np.ndarray | None
    binarise: int | None = None


@dataclass(frozen=True)
class LoadedSample:
    """A decoded sample: ``image`` (H, W, 3) u8 and, if there is one, ``mask`` (H, W) u8 with 255 = ignore.

    ``vertices`` (V, 2) (y, x), if there is a polygon file: f64 as in the file, anywhere; i32 and inside the image once
    they are placed in it (``stages.pixels.resize.place_vertices``). ``label``: the class of the whole image, -1 = none.
    ``file_size``: height and width in the file, once it was resized. ``evaluated``: image and mask at the evaluation
    size, if they are kept.
    """

    image: np.ndarray
    mask: np.ndarray | None
    vertices: np.ndarray | None = None
    label: int = NO_LABEL
    file_size: tuple[int, int] = (0, 0)
    evaluated: tuple[np.ndarray, np.ndarray] | None = None


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


def load_sample(sample: Sample, lookup: ClassLookup, resize_images: bool = False) -> LoadedSample | list[str]:
    """``sample`` decoded, or all its faults as sentences (returned, not raised, to cross process boundaries whole).

    With ``resize_images`` an image is resized to its mask if their sizes differ, which otherwise is a fault.
    """
    faults: list[str] = []
    image = mask = vertices = None
    try:
        image = read_image(sample.image)
    except BadInput as error:
        faults += error.faults
    if sample.mask is not None:
        try:
            raw = read_mask(sample.mask, lookup.encoding)
            if image is not None and resize_images:
                image = resize_image(image, *raw.shape[:2])
            if image is not None and raw.shape[:2] != image.shape[:2]:
                faults.append(
                    f"{sample.mask} ({raw.shape[1]}x{raw.shape[0]}) and {sample.image} "
                    f"({image.shape[1]}x{image.shape[0]}) differ in size. Use files of the same width and height."
                )
            mask = decode_mask(raw, lookup, str(sample.mask))
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
    return LoadedSample(image, mask, vertices)


def read_image(path: Path) -> np.ndarray:
    """The image in the file as RGB, (H, W, 3) u8, upright by its EXIF orientation; grey, palette, alpha are converted.

    Raises BadInput for a file that is unreadable, damaged or deeper than 8 bits.
    """
    image, _ = _open(path)
    return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def read_mask(path: Path, encoding: Encoding) -> np.ndarray:
    """The mask in the file as stored: (H, W) u8 or u16 values or palette indices, or (H, W, 3) u8 colours.

    Raises BadInput for a file that is unreadable, damaged or does not match ``encoding``.
    """
    if path.suffix.lower() == MATLAB:
        if encoding != "index":
            raise BadInput(f'{path} contains class numbers, not colours. Set masks.encoding = "index".')
        return read_matlab_mask(path)
    image, rawmode = _open(path, deep=encoding == "index")
    if image.format in LOSSY_FORMATS:
        raise BadInput(f"{path} is a JPEG, whose compression changes class values. Store masks as PNG.")
    if encoding == "color":
        return np.array(image.convert("RGB"))
    pixels = np.array(image)
    if image.mode in ("RGB", "RGBA"):
        if (pixels[..., :3] != pixels[..., :1]).any():
            raise BadInput(
                f'{path} contains colours, not class values. Set masks.encoding = "color", or use index files.'
            )
        return np.ascontiguousarray(pixels[..., 0])
    if image.mode in ("1", "L", "P"):
        return pixels.astype(np.uint8) // np.uint8(_STRETCH.get(rawmode, 1))
    if image.mode.startswith("I") and pixels.min() >= 0 and pixels.max() <= 65535:
        return pixels.astype(np.uint16)
    raise BadInput(f"{path} (mode {image.mode}) contains no class values. Store masks as grey or palette PNG.")


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


def _open(path: Path, deep: bool = False) -> tuple[Image.Image, str]:
    """The fully decoded file, so that damage is found here, and Pillow's name of its pixel format.

    Raises BadInput if decoding fails, and for more than 8 bits per channel, which ``deep`` permits for grey pixels.
    """
    if not path.is_file():
        raise BadInput(f"{path} does not exist. Check --root and the description.")
    with image_file(path) as image:
        rawmode = str(image.tile[0].args) if image.tile else ""  # load() forgets it
        image.load()
    grey = image.mode[0] in "IF"
    if (grey and not deep) or (not grey and ";16" in rawmode):
        raise BadInput(f"{path} has more than 8 bits per channel (mode {image.mode}, {rawmode}). Convert it to 8 bits.")
    return image, rawmode


def class_lookup(description: DatasetDescription) -> ClassLookup:
    """The lookup that turns raw masks of this dataset into class indices."""
    encoding, ignore = description.masks.encoding, description.masks.ignore
    table = np.full(65536 if encoding == "index" else 1 << 24, VOID, np.uint8)
    for index, item in enumerate(description.classes):
        table[_keys(np.array(mask_values(index, item, encoding)), encoding)] = index
    ignored = None
    if ignore != "others":
        ignored = _keys(np.array(ignore, np.int64).reshape((-1,) if encoding == "index" else (-1, 3)), encoding)
    return ClassLookup(encoding, table, ignored, description.masks.binarise)


def decode_mask(raw: np.ndarray, lookup: ClassLookup, name: str = "The mask") -> np.ndarray:
    """The classes (H, W) u8, 255 = ignore, of a mask (called ``name`` in messages) as ``read_mask`` returns it.

    Raises BadInput for values that are neither a class nor ignored.
    """
    if lookup.binarise is not None:
        raw = np.where(raw >= lookup.binarise, np.uint8(255), np.uint8(0))
    keys = _keys(raw, lookup.encoding)
    mask = lookup.table.take(keys)
    if lookup.ignored is None:
        return mask
    others = keys[mask == VOID]
    unknown = others[~np.isin(others, lookup.ignored)]
    if unknown.size:
        raise BadInput(_unknown_faults(unknown, lookup.encoding, name))
    return mask


def _keys(values: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Places in the lookup table: the values themselves, or the colours (..., 3) packed into one integer each."""
    if encoding == "index":
        return values
    red, green, blue = np.moveaxis(values.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def _unknown_faults(unknown: np.ndarray, encoding: Encoding, name: str) -> list[str]:
    """A sentence for each of the most frequent values in ``unknown`` (n,) and one for the rest of them."""
    values, counts = np.unique(unknown, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    faults = []
    for value, count in zip(values[order[:_NAMED_VALUES]].tolist(), counts[order].tolist(), strict=False):
        what = f"value {value}" if encoding == "index" else f"colour {list(value.to_bytes(3))}"
        faults.append(
            f"{name} contains {count} pixels of {what}, which is not in the class table. Add it to a "
            "class or to ignore."
        )
    if len(order) > _NAMED_VALUES:
        faults.append(f"{name} contains {len(order) - _NAMED_VALUES} more values that are not in the class table.")
    return faults
