"""Queries and answers as a COCO document, with RLE per shape and class."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from stages.answering.exchange.outlines import Outlines
from stages.answering.exchange.values import UNPAINTED, names_of
from stages.pixels.runs import areas_of


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
