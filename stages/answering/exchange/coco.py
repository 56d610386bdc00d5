"""Queries and answers as a COCO document: written as RLE per shape and class, read as RLE, polygons or boxes."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.answering.exchange.names import image_of, known_names
from stages.answering.exchange.outlines import Outlines
from stages.answering.exchange.painted import Painting, Strokes
from stages.answering.exchange.values import UNPAINTED, names_of, value_of, values_of
from stages.pixels.grids import Size
from stages.pixels.runs import areas_of, spans
from stages.runtime.errors import BadInput

ImageSide = Annotated[int, Field(ge=1, le=1 << 16)]
Coordinate = Annotated[float, Field(ge=-(1 << 17), le=1 << 17, allow_inf_nan=False)]  # pycocotools crashes beyond


class Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Category(Lenient):
    id: int
    name: str


class CocoImage(Lenient):
    id: int
    file_name: str
    height: ImageSide
    width: ImageSide


class Runs(Lenient):
    size: Size
    counts: list[Annotated[int, Field(ge=0, le=1 << 32)]] | str


class Shape(Lenient):
    id: int = -1
    image_id: int
    category_id: int
    segmentation: Runs | list[list[Coordinate]] = []
    bbox: list[Coordinate] = []


class Document(Lenient):
    """The fields that are read from a COCO file."""

    categories: list[Category]
    images: list[CocoImage]
    annotations: list[Shape]


def coco_document(classes: Sequence[str], description: str, images: Iterable[tuple[str, Outlines]]) -> bytes:
    """The document for ``images`` (file name, shapes).

    Category ids are the classes counted from 1, then the special values. Shapes are uncompressed RLE with `iscrowd`,
    which all COCO readers accept and none changes.
    """
    names = {value: name for value, name in names_of(classes).items() if value != UNPAINTED}
    category = {value: number for number, value in enumerate(names, start=1)}
    pictures, shapes = [], []
    for number, (image, found) in enumerate(images, start=1):
        height, width = found.numbers.shape
        pictures.append({"id": number, "file_name": image, "height": height, "width": width})
        for values, shape in zip(found.values, encoded_shapes(found.numbers, len(found.values)), strict=True):
            shapes += [shape | {"image_id": number, "category_id": category[value]} for value in values]
    document = {
        "info": {"description": description},
        "licenses": [],
        "categories": [{"id": category[value], "name": name, "supercategory": ""} for value, name in names.items()],
        "images": pictures,
        "annotations": [{"id": number} | shape for number, shape in enumerate(shapes, start=1)],
    }
    return json.dumps(document, ensure_ascii=False).encode()


def encoded_shapes(numbers: np.ndarray, count: int) -> Iterator[dict[str, Any]]:
    """`segmentation`, `area`, `bbox` and `iscrowd` of the shapes 0..count-1 in numbers (H,W) i32."""
    from pycocotools import mask as coco

    height, width = numbers.shape
    areas = areas_of(
        np.ascontiguousarray(numbers.T), np.arange(count, dtype=np.int32)
    )  # COCO's runs go down the columns
    for first, last in zip(areas.offsets[:-1].tolist(), areas.offsets[1:].tolist(), strict=True):
        start, length = areas.start[first:last].astype(np.int64), areas.length[first:last].astype(np.int64)
        edges = np.concatenate([[0], np.stack([start, start + length], 1).ravel(), [numbers.size]])
        counts = np.diff(edges).tolist()  # outside, inside, outside, ...
        segmentation = {"size": [height, width], "counts": counts if counts[-1] else counts[:-1]}
        packed = coco.frPyObjects(segmentation, height, width)
        box = coco.toBbox(packed).tolist()
        yield {"segmentation": segmentation, "area": int(length.sum()), "bbox": box, "iscrowd": 1}


def read_coco(path: Path, content: Any, classes: Sequence[str], ids: Collection[str]) -> dict[str, Painting]:
    """Image id -> its shapes, later ones on top of earlier ones; ``content`` is the document as JSON values.

    Images without shapes are left out. BadInput for a file of another form, for images that are not among ``ids``, and
    for categories in use that are not classes.
    """
    try:
        document = Document.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{path} is not a COCO document ({place}: {first['msg']}). Export it again.") from error
    values, names = values_of(classes), {category.id: category.name for category in document.categories}
    meaning = {number: value for number, name in names.items() if (value := value_of(name, values)) is not None}
    unknown = {shape.category_id for shape in document.annotations} - meaning.keys()
    if unknown:
        wrong = ", ".join(repr(names.get(number, number)) for number in sorted(unknown))
        raise BadInput(f"{path} contains unknown categories ({wrong}). Rename them to one of {', '.join(values)}.")
    pictures = {picture.id: picture for picture in document.images}
    shapes: dict[int, list[Shape]] = {}
    for shape in document.annotations:
        if shape.image_id not in pictures:
            raise BadInput(
                f"{path}: annotation {shape.id} refers to image {shape.image_id}, which is not in the file. Export "
                "it again."
            )
        shapes.setdefault(shape.image_id, []).append(shape)
    found: dict[str, Painting] = {}
    known = known_names(ids)
    for number, drawn in shapes.items():
        picture = pictures[number]
        image = image_of(picture.file_name, known, str(path))
        if image in found:
            raise BadInput(f"{path} contains image {image} twice. Keep one of them.")
        size = picture.height, picture.width
        painted = [meaning[shape.category_id] for shape in drawn]
        found[image] = Painting(size, partial(strokes_of, path, size, drawn, painted))
    return found


def strokes_of(path: Path, size: Size, shapes: Sequence[Shape], values: Sequence[int]) -> Strokes:
    """The ``shapes`` (n) of an image, painted with ``values`` (n)."""
    height, width = size
    runs: list[np.ndarray] = []
    for shape in shapes:
        try:
            runs.append(whole_runs(shape, size))
        except ValueError as error:
            raise BadInput(f"{path}: annotation {shape.id} {error}. Export it again.") from error
    # Every second run is inside the shape and begins where the runs before it end
    start = np.concatenate([(each.cumsum() - each)[1::2] for each in runs])
    length = np.concatenate([each[1::2] for each in runs])
    down, run = spans(start, length)
    shape_of_run = np.repeat(np.arange(len(runs)), [len(each) // 2 for each in runs])
    return Strokes(size, down % height * width + down // height, np.array(values, dtype=np.uint8)[shape_of_run[run]])


def whole_runs(shape: Shape, size: Size) -> np.ndarray:
    """(n,) i64 lengths of the runs outside, inside, outside, ... down the columns; ValueError if the sum is wrong."""
    runs, pixels = runs_of(shape, size), size[0] * size[1]
    if (runs < 0).any() or (runs > pixels).any() or runs.sum() != pixels:
        raise ValueError(f"has runs that do not add up to the {pixels} pixels of its image")
    return runs


def runs_of(shape: Shape, size: Size) -> np.ndarray:
    """The runs of a shape as the document has them."""
    from pycocotools import mask as coco

    if isinstance(shape.segmentation, Runs):
        counts = shape.segmentation.counts
        if tuple(shape.segmentation.size) != tuple(size):
            own = shape.segmentation.size
            raise ValueError(f"has the size {own}, but its image has {tuple(size)} (rows, columns)")
        return string_counts(counts) if isinstance(counts, str) else np.array(counts, dtype=np.int64)
    polygons = shape.segmentation
    if not polygons and len(shape.bbox) == 4:
        x, y, wide, high = shape.bbox
        polygons = [[x, y, x + wide, y, x + wide, y + high, x, y + high]]
    if not polygons or any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        raise ValueError("has neither a mask nor polygons with three corners or more")
    packed = coco.merge(coco.frPyObjects(polygons, *size))
    return string_counts(packed["counts"].decode())


def string_counts(text: str) -> np.ndarray:
    """(n,) i64 runs in COCO's compressed string; ValueError for a malformed or truncated string.

    Six bits per character, least significant first; from the fourth run on, differences to the run two before.
    """
    codes = np.frombuffer(text.encode("latin-1", "replace"), dtype=np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("has runs that are not a COCO string, or only a part of one")
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 10:
        raise ValueError("has runs that are not a COCO string")
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    runs = np.add.reduceat((codes & 31) << (5 * place), starts)
    runs -= np.where(codes[ends] & 16, 1 << (5 * (ends - starts + 1)), 0)  # the sign is the highest bit
    runs[1::2], runs[2::2] = runs[1::2].cumsum(), runs[2::2].cumsum()
    return runs
