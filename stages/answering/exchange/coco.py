"""Queries and answers as a COCO document: written as RLE per shape and class, read as RLE, polygons or boxes."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stages.answering.exchange.outlines import Outlines
from stages.answering.exchange.painted import Painting, Strokes
from stages.answering.exchange.values import UNPAINTED, names_of, value_of, values_of
from stages.datasets.image_names import image_of, known_names
from stages.datasets.shapes.coco import Annotation, form_of, read_document
from stages.datasets.shapes.drawing import pixels_of
from stages.pixels.grids import Size
from stages.pixels.runs import areas_of
from stages.runtime.errors import BadInput


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
    document = read_document(path, content)
    values, names = values_of(classes), document.names
    meaning = {number: value for number, name in names.items() if (value := value_of(name, values)) is not None}
    unknown = {each.category_id for each in document.annotations} - meaning.keys()
    if unknown:
        wrong = ", ".join(repr(names.get(number, number)) for number in sorted(unknown))
        raise BadInput(f"{path} contains unknown categories ({wrong}). Rename them to one of {', '.join(values)}.")
    found: dict[str, Painting] = {}
    known = known_names(ids)
    for picture, drawn in document.by_image(path):
        if not drawn:
            continue
        image = image_of(picture.file_name, known, str(path))
        if image in found:
            raise BadInput(f"{path} contains image {image} twice. Keep one of them.")
        size = picture.height, picture.width
        painted = [meaning[each.category_id] for each in drawn]
        found[image] = Painting(size, partial(strokes_of, path, size, drawn, painted))
    return found


def strokes_of(path: Path, size: Size, annotations: Sequence[Annotation], values: Sequence[int]) -> Strokes:
    """The ``annotations`` (n) of an image, painted with ``values`` (n)."""
    indices: list[np.ndarray] = []
    for each in annotations:
        try:
            indices.append(pixels_of(form_of(each, size), size, size))
        except ValueError as error:
            raise BadInput(f"{path}: annotation {each.id} {error}. Export it again.") from error
    lengths = [len(index) for index in indices]
    return Strokes(size, np.concatenate(indices), np.repeat(np.array(values, dtype=np.uint8), lengths))
