"""From mask files to class indices with 255 = ignore: any format that holds class values without loss."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from stages.datasets.description import DatasetDescription, mask_values
from stages.datasets.matlab import MATLAB, read_matlab_mask
from stages.images.image_files import LOSSY_FORMATS, UnknownImage, image_file, pictures, raw_mode, stored_pixels
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput

Encoding = Literal["index", "color"]

STRETCH = {"L;2": 85, "L;4": 17}  # factors by which Pillow stretches grey values of 2 and 4 bits to 0..255
NAMED_VALUES = 5  # unknown values listed per mask
DOUBLED = 257  # a byte b written twice is the 16-bit value 257 b
BORDER = 9  # objects' borders of void are narrower, in pixels

ALPHA_NOTE = "its alpha channel is left out"
CHANNEL_NOTE = "the classes are in one of its colour channels, and the others are 0"
DOUBLED_NOTE = "its 16-bit values are bytes written twice (257 for class value 1)"
FLOAT_NOTE = "its classes are floating-point numbers"
EMPTY_NOTE = "it has no pixel with a class, so it labels nothing"


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
class StoredMask:
    """A mask as stored: (H, W) u8 or u16 values, or (H, W, 3) u8 colours; how they were found, if not as they are."""

    values: np.ndarray
    note: str = ""


def class_lookup(description: DatasetDescription) -> ClassLookup:
    """The lookup that turns raw masks of this dataset into class indices."""
    encoding, ignore = description.masks.encoding, description.masks.ignore
    assert encoding != "polygons"  # these are read by `stages.datasets.shapes.masks`
    table = np.full(65536 if encoding == "index" else 1 << 24, VOID, np.uint8)
    for index, item in enumerate(description.classes):
        table[_keys(np.array(mask_values(index, item, encoding)), encoding)] = index
    ignored = None
    if ignore != "others":
        ignored = _keys(np.array(ignore, np.int64).reshape((-1,) if encoding == "index" else (-1, 3)), encoding)
    return ClassLookup(encoding, table, ignored, description.masks.binarise)


def read_mask(path: Path, encoding: Encoding) -> np.ndarray:
    """The values of `stored_mask`."""
    return stored_mask(path, encoding).values


def stored_mask(path: Path, encoding: Encoding, lossy: bool = False) -> StoredMask:
    """The mask in the file: palette indices or other values, or with ``encoding`` "color" what viewers show.

    ``lossy``: also from a JPEG. Raises BadInput for a file that is unreadable, damaged, contains several pictures or
    does not match ``encoding``.
    """
    if not path.is_file():
        raise BadInput(f"{path} does not exist. Check --root and the description.")
    if path.suffix.lower() == MATLAB:
        if encoding != "index":
            raise BadInput(f'{path} contains class numbers, not colours. Set masks.encoding = "index".')
        return StoredMask(read_matlab_mask(path))
    opened = opened_mask(path, lossy)
    if opened is None:
        pixels, _ = stored_pixels(path)
        return values_in(path, pixels, encoding)
    image, stretched = opened
    note = ALPHA_NOTE if has_transparency(image) else ""
    if image.format in LOSSY_FORMATS:
        image = ImageOps.exif_transpose(image).convert("L" if encoding == "index" else "RGB")
    if encoding == "color":
        return StoredMask(np.array(image.convert("RGB")), note)
    pixels = np.array(image)
    if image.mode in ("1", "L", "P"):
        return StoredMask(pixels.astype(np.uint8) // np.uint8(stretched))
    if image.mode[0] not in "IF" and image.mode not in ("LA", "PA", "RGB", "RGBA"):
        raise BadInput(f"{path} (mode {image.mode}) contains no class values. Store masks as grey or palette PNG.")
    found = values_in(path, pixels if pixels.ndim == 3 else pixels[..., None], encoding)
    return StoredMask(found.values, found.note or note)


def opened_mask(path: Path, lossy: bool) -> tuple[Image.Image, int] | None:
    """The decoded file and the factor of its stretched values; None if Pillow cannot read it without loss."""
    try:
        with image_file(path) as image:
            if image.format in LOSSY_FORMATS and not lossy:
                raise BadInput(
                    f"{path} is a JPEG, whose compression changes class values. Store masks as PNG, or set "
                    "masks.binarise = 128 for masks of two values, 0 and 255."
                )
            if len(pictures(image)) > 1:
                raise BadInput(f"{path} contains several pictures. Save the mask as a file of its own.")
            mode = raw_mode(image)
            if ";16" in mode and image.mode[0] not in "IF":
                return None
            image.load()
    except UnknownImage:
        return None
    return image, STRETCH.get(mode, 1)


def has_transparency(image: Image.Image) -> bool:
    return image.mode in ("LA", "PA", "RGBA") and image.getextrema()[-1] != (255, 255)


def values_in(path: Path, pixels: np.ndarray, encoding: Encoding) -> StoredMask:
    """The class values in the channels (H, W, B) of a file: one channel, equal ones, or one beside zeros."""
    if encoding == "color":
        if pixels.shape[2] < 3 or pixels.dtype != np.uint8:
            raise BadInput(f'{path} contains no colours of 8 bits. Set masks.encoding = "index", or use colour PNG.')
        return StoredMask(np.ascontiguousarray(pixels[..., :3]))
    without_alpha = {2: 1, 4: 3}.get(pixels.shape[2], pixels.shape[2])
    channels = np.moveaxis(pixels[..., :without_alpha], 2, 0)
    filled = [channel for channel in channels if channel.any()] or [channels[0]]
    if any((channel != filled[0]).any() for channel in filled[1:]):
        raise BadInput(colours_fault(path))
    note = CHANNEL_NOTE if len(filled) < len(channels) and filled[0].any() else ""
    values = filled[0]
    if values.dtype.kind == "f":
        if not np.array_equal(values, np.floor(values)):
            raise BadInput(f"{path} contains fractions, which are no class values. Store masks as grey or palette PNG.")
        note = note or FLOAT_NOTE
    if values.min() < 0 or values.max() > 65535:
        raise BadInput(f"{path} contains values below 0 or above 65535, which are no class values. Store 0 to 65535.")
    return StoredMask(np.ascontiguousarray(values, np.uint8 if values.dtype == np.uint8 else np.uint16), note)


def colours_fault(path: Path | str) -> str:
    return f'{path} contains colours, not class values. Set masks.encoding = "color", or use index files.'


def decode_mask(raw: np.ndarray, lookup: ClassLookup, name: str = "The mask") -> np.ndarray:
    """The classes (H, W) u8, 255 = ignore, of a mask (called ``name`` in messages) as ``read_mask`` returns it.

    Raises BadInput for values that are neither a class nor ignored.
    """
    return decoded(StoredMask(raw), lookup, name)[0]


def decoded(stored: StoredMask, lookup: ClassLookup, name: str) -> tuple[np.ndarray, str]:
    """The classes as for `decode_mask`, and how they were found, in words, if not as they are."""
    raw, note = stored.values, stored.note
    if lookup.encoding == "index" and is_doubled(raw, lookup):
        raw, note = (raw // DOUBLED).astype(np.uint8), DOUBLED_NOTE
    if lookup.binarise is not None:
        raw = raw >> 8 if raw.dtype == np.uint16 and raw.max() > VOID else raw
        raw = np.where(raw >= lookup.binarise, np.uint8(255), np.uint8(0))
    keys = _keys(raw, lookup.encoding)
    mask = lookup.table.take(keys)
    if lookup.ignored is not None:
        others = keys[mask == VOID]
        unknown = others[~np.isin(others, lookup.ignored)]
        if unknown.size and note == CHANNEL_NOTE:
            raise BadInput(colours_fault(name))
        if unknown.size:
            raise BadInput(advice(raw, unknown, lookup, name) or _unknown_faults(unknown, lookup.encoding, name))
    return mask, note or ("" if (mask != VOID).any() else EMPTY_NOTE)


def is_doubled(raw: np.ndarray, lookup: ClassLookup) -> bool:
    """Whether 16-bit values are bytes written twice: multiples of 257 that have no meaning as they are."""
    if raw.dtype != np.uint16 or raw.max() < DOUBLED or (raw % DOUBLED).any():
        return False
    large = np.flatnonzero(np.bincount(raw.ravel(), minlength=DOUBLED)[DOUBLED:]) + DOUBLED
    meant = lookup.table[large] != VOID
    return not (meant.any() or (lookup.ignored is not None and np.isin(large, lookup.ignored).any()))


def advice(raw: np.ndarray, unknown: np.ndarray, lookup: ClassLookup, name: str) -> str | None:
    """What to set in the description, if it is plain from the ``unknown`` values (n,) of a mask; None otherwise."""
    of_objects = lookup.encoding == "index" and np.unique(raw).size > 2
    if of_objects and (unknown == VOID).all() and is_border(raw == VOID):
        return (
            f"{name} contains {unknown.size} pixels of value 255, only at the borders of objects, where it usually "
            "means no class. Set ignore = [255] under [masks] in the description."
        )
    ends = (0, 255)
    known = np.flatnonzero(lookup.table != VOID)
    two_valued = np.isin(_channels(known, lookup.encoding), ends).all() and known.max() >= 255
    smooth = np.unique(unknown).size > 2 and np.isin(raw, ends).mean() > 0.5
    if two_valued and smooth and lookup.binarise is None:
        return (
            f"{name} contains {unknown.size} pixels of values between 0 and 255, as smoothed edges and lossy "
            "compression make them. Set binarise = 128 under [masks] in the description."
        )
    return None


def is_border(pixels: np.ndarray) -> bool:
    """Whether the set ``pixels`` (H, W) are nowhere as wide as BORDER, and most others are not set."""
    wide = Image.fromarray(pixels.astype(np.uint8)).filter(ImageFilter.MinFilter(BORDER))
    return not np.array(wide)[BORDER // 2 : -(BORDER // 2), BORDER // 2 : -(BORDER // 2)].any() and pixels.mean() < 0.5


def _channels(keys: np.ndarray, encoding: Encoding) -> np.ndarray:
    """What `_keys` packed, as channels (..., 3); values are their own channel."""
    return keys if encoding == "index" else np.stack([keys >> 16, keys >> 8 & 255, keys & 255], -1)


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
    for value, count in zip(values[order[:NAMED_VALUES]].tolist(), counts[order].tolist(), strict=False):
        what = f"value {value}" if encoding == "index" else f"colour {list(value.to_bytes(3))}"
        faults.append(
            f"{name} contains {count} pixels of {what}, which is not in the class table. Add it to a "
            "class or to ignore."
        )
    if len(order) > NAMED_VALUES:
        faults.append(f"{name} contains {len(order) - NAMED_VALUES} more values that are not in the class table.")
    return faults
