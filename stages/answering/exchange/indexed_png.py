"""Answers as one indexed PNG per image, in the folders of PASCAL VOC, which CVAT's segmentation masks use too."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from stages.answering.exchange.outlines import Outlines
from stages.answering.exchange.painted import Painting, Strokes
from stages.answering.exchange.values import UNPAINTED, colours_of, names_of, value_of, values_of
from stages.datasets.encode import png_bytes
from stages.datasets.image_names import image_of, known_names
from stages.datasets.labelmap import LABELMAP_HEADING, read_labelmap
from stages.datasets.mask_files import read_mask
from stages.images.image_files import image_file
from stages.pixels.grids import Size
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput

Ignored = Sequence[int | tuple[int, int, int]]
FOLDER, LIST, LABELS = "SegmentationClass", "ImageSets/Segmentation/default.txt", "labelmap.txt"
BY_TASK = re.compile(r"task-\d+-annotation-\d+-by-.*")  # names of masks that Label Studio exports


def png_files(
    classes: Sequence[str], palette: np.ndarray, images: Iterable[tuple[str, Outlines]]
) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the files for ``images`` (id, shapes): masks, label map, list of images.

    A pixel is the number of its class, or one of the special values (`values.py`). BadInput if a shape has
    several classes.
    """
    colours = colours_of(palette)
    shown = np.zeros((256, 3), dtype=np.uint8)
    shown[list(colours)] = list(colours.values())
    ids = []
    for image, found in images:
        if any(len(values) > 1 for values in found.values):
            raise BadInput(
                f"An answer about image {image} names several classes, but a pixel of a PNG has one. Use a table "
                "(.csv, .json) or COCO (.coco.json)."
            )
        table = np.array([*(values[0] for values in found.values), UNPAINTED], dtype=np.uint8)
        ids.append(image)
        yield f"{FOLDER}/{image}.png", png_bytes(table[found.numbers], shown)
    yield from files_about(classes, palette, ids)


def files_about(classes: Sequence[str], palette: np.ndarray, ids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the files beside the masks: label map, list of images."""
    names = names_of(classes)
    lines = [f"{names[value]}:{red},{green},{blue}::" for value, (red, green, blue) in colours_of(palette).items()]
    yield LABELS, "\n".join([LABELMAP_HEADING, *lines, ""]).encode()
    yield LIST, "".join(f"{image}\n" for image in ids).encode()


def is_masks_folder(path: Path) -> bool:
    """Whether a folder has PNG files in it, whatever else there is."""
    return any(path.rglob("*.png"))


def png_paths(path: Path) -> list[Path]:
    """The masks in a folder, or the one file ``path``; BadInput if there are none."""
    if path.is_file():
        return [path]
    inside = path / FOLDER
    found = sorted((inside if inside.is_dir() else path).rglob("*.png"))
    if not found:
        raise BadInput(f"{path} contains no PNG files. Pass the folder with the masks.")
    return found


def read_png(
    path: Path, classes: Sequence[str], palette: np.ndarray, ignored: Ignored, ids: Collection[str]
) -> dict[str, Painting]:
    """Image id -> its PNG.

    Grey pixels are class numbers. Coloured pixels are looked up in the `labelmap.txt` beside the masks, or without one
    in the dataset's colours; palette indices are colours if there is a label map, otherwise numbers. BadInput for masks
    of images that are not among ``ids``.
    """
    labels = path / LABELS
    colours = named_colours(labels, values_of(classes)) if labels.is_file() else None
    found: dict[str, Painting] = {}
    known = known_names(ids)
    for file in png_paths(path):
        if BY_TASK.fullmatch(file.stem):
            raise BadInput(
                f"{file.name} does not say which image it is of. Export from Label Studio as JSON, or as brush labels "
                "to COCO."
            )
        image = image_of(file.as_posix(), known, str(path))
        if image in found:
            raise BadInput(f"{path} contains image {image} twice. Keep one of them.")
        found[image] = Painting(mode_and_size(file)[1], partial(strokes_in, file, classes, palette, ignored, colours))
    return found


def named_colours(file: Path, values: Mapping[str, int]) -> dict[int, int | str]:
    """Packed colour -> value, or the name in the file if it is not a class."""
    named = {colour: (name, value_of(name, values)) for colour, name in read_labelmap(file).items()}
    return {colour: name if value is None else value for colour, (name, value) in named.items()}


def strokes_in(
    file: Path,
    classes: Sequence[str],
    palette: np.ndarray,
    ignored: Ignored,
    colours: Mapping[int, int | str] | None,
) -> Strokes:
    """All pixels of a PNG as strokes."""
    seen = values_in(file, classes, palette, ignored, colours)
    return Strokes(seen.shape, np.arange(seen.size), seen.ravel())


def values_in(
    file: Path,
    classes: Sequence[str],
    palette: np.ndarray,
    ignored: Ignored,
    colours: Mapping[int, int | str] | None,
) -> np.ndarray:
    """(H,W) u8 values of the pixels of a PNG; BadInput for numbers or colours without a meaning.

    ``ignored`` are the values or colours that the dataset's own masks have for void. They are void here too, unless
    they already mean something else.
    """
    mode, _ = mode_and_size(file)
    if mode in ("RGB", "RGBA") or (mode == "P" and colours is not None):
        known = colours or {packed(*colour): value for value, colour in colours_of(palette).items()}
        void = {packed(*colour): VOID for colour in ignored if not isinstance(colour, int)}
        return by_colour(file, {**void, **known})
    seen, names = read_mask(file, "index"), names_of(classes)
    beside = [value for value in ignored if isinstance(value, int) and value not in names]
    seen = np.where(np.isin(seen, beside), VOID, seen)
    strange = [value for value in np.unique(seen).tolist() if value not in names]
    if strange:
        raise BadInput(f"{file} contains the values {strange}. Use 0 to {len(classes) - 1}, {described(names)}.")
    return seen.astype(np.uint8)


def packed(red: int, green: int, blue: int) -> int:
    return red << 16 | green << 8 | blue


def described(names: Mapping[int, str]) -> str:
    """The special values, in words."""
    return " and ".join(f"{value} ({name})" for value, name in names.items() if value >= UNPAINTED)


def mode_and_size(file: Path) -> tuple[str, Size]:
    """Pillow's mode of the image, and (height, width); BadInput if the file is not a PNG."""
    with image_file(file, ("PNG",)) as image:
        return image.mode, (image.height, image.width)


def by_colour(file: Path, known: Mapping[int, int | str]) -> np.ndarray:
    """(H,W) u8 values of the colours in ``file``."""
    red, green, blue = np.moveaxis(read_mask(file, "color").astype(np.int32), -1, 0)
    seen = red << 16 | green << 8 | blue
    usable = {colour: value for colour, value in known.items() if isinstance(value, int)}
    colours = np.array(sorted(usable), dtype=np.int32)
    place = np.minimum(np.searchsorted(colours, seen), len(colours) - 1)
    strange = seen[colours[place] != seen] if len(colours) else seen.ravel()
    if strange.size:
        first = int(strange[0])
        what = f"colour {list(first.to_bytes(3))}" + (f" ({known[first]})" if first in known else "")
        raise BadInput(f"{file} contains the {what}, which is not a class. Paint with the colours of the classes.")
    return np.array([usable[colour] for colour in colours.tolist()], dtype=np.uint8)[place]
