"""COCO documents, and the lists of masks that SAM and programs like it write."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.datasets.shapes.drawing import FURTHEST, Drawing, Polygons, Runs, Shape
from stages.datasets.shapes.runs import string_runs, whole_runs
from stages.pixels.grids import Size
from stages.runtime.errors import BadInput

ImageSide = Annotated[int, Field(ge=1, le=1 << 16)]
Coordinate = Annotated[float, Field(ge=-FURTHEST, le=FURTHEST, allow_inf_nan=False)]


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


class Encoded(Lenient):
    size: Size
    counts: list[Annotated[int, Field(ge=0, le=1 << 32)]] | str


class Annotation(Lenient):
    id: int = -1
    image_id: int
    category_id: int = -1
    segmentation: Encoded | list[list[Coordinate]] = []
    bbox: list[Coordinate] = []


class Document(Lenient):
    """The fields that are read from a COCO file."""

    categories: list[Category]
    images: list[CocoImage]
    annotations: list[Annotation]

    @property
    def names(self) -> dict[int, str]:
        """The names of the categories."""
        return {category.id: category.name for category in self.categories}

    def by_image(self, path: Path) -> list[tuple[CocoImage, list[Annotation]]]:
        """Each image with its annotations, in the order of the first; images without any come last.

        BadInput for annotations of images that are not in the file.
        """
        pictures = {picture.id: picture for picture in self.images}
        found: dict[int, list[Annotation]] = {}
        for each in self.annotations:
            if each.image_id not in pictures:
                raise BadInput(
                    f"{path}: annotation {each.id} refers to image {each.image_id}, which is not in the file. Export "
                    "it again."
                )
            found.setdefault(each.image_id, []).append(each)
        return [(pictures[number], found.get(number, [])) for number in dict.fromkeys([*found, *pictures])]


def read_document(path: Path, content: Any) -> Document:
    """The document with these JSON values; BadInput for a file of another form."""
    listed = content.get("annotations") if isinstance(content, Mapping) else None
    if isinstance(listed, list) and any(isinstance(each, Mapping) and "segments_info" in each for each in listed):
        raise BadInput(f"{path} is panoptic COCO, whose masks are PNG files. Pass the file of instances instead.")
    try:
        return Document.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{path} is not a COCO document ({place}: {first['msg']}). Export it again.") from error


def form_of(annotation: Annotation, size: Size) -> Runs | Polygons:
    """The mask, the polygons or the box of an annotation on an image of ``size``; ValueError says what is wrong."""
    found = annotation.segmentation
    if isinstance(found, Encoded):
        if tuple(found.size) != tuple(size):
            raise ValueError(f"has the size {found.size}, but its image has {tuple(size)} (rows, columns)")
        counts = found.counts
        lengths = string_runs(counts) if isinstance(counts, str) else np.array(counts, dtype=np.int64)
        return Runs(whole_runs(lengths, size))
    if not found and len(annotation.bbox) == 4:
        x, y, wide, high = annotation.bbox
        found = [[x, y, x + wide, y, x + wide, y + high, x, y + high]]
    if not found or any(len(ring) < 6 or len(ring) % 2 for ring in found):
        raise ValueError("has neither a mask nor polygons with three corners or more")
    return Polygons(tuple(np.array(ring, dtype=np.float64).reshape(-1, 2) for ring in found))


def is_coco(content: Any) -> bool:
    """Whether JSON values are a COCO document, or masks as `as_document` takes them."""
    if isinstance(content, list):
        return bool(content) and all(isinstance(each, Mapping) and "segmentation" in each for each in content)
    return isinstance(content, Mapping) and "annotations" in content and ("images" in content or "image" in content)


def as_document(path: Path, content: Any) -> Any:
    """COCO for the masks of one image: a list of annotations, or {image, annotations} as in SA-1B.

    The image of a list has the name of the file and the size of the first mask.
    """
    if isinstance(content, Mapping) and "images" in content:
        return content
    if isinstance(content, Mapping):
        listed, image = content["annotations"], content["image"]
        image = dict(image) | {"id": 0} if isinstance(image, Mapping) else image
    else:
        listed, segmentation = content, content[0]["segmentation"]
        height, width = segmentation.get("size", (0, 0)) if isinstance(segmentation, Mapping) else (0, 0)
        image = {"id": 0, "file_name": path.name, "height": height, "width": width}
    if not isinstance(listed, list) or not all(isinstance(each, Mapping) for each in listed):
        return {"categories": [], "images": [image], "annotations": listed}
    plain = [{"segmentation": each.get("segmentation", []), "bbox": each.get("bbox", [])} for each in listed]
    numbered = [{"id": number, "image_id": 0} | each for number, each in enumerate(plain)]
    return {"categories": [], "images": [image], "annotations": numbered}


def coco_drawings(path: Path, content: Any) -> list[Drawing]:
    """The shapes of each image, labelled with the names of their categories."""
    document = read_document(path, as_document(path, content))
    names, drawings = document.names, []
    for picture, annotations in document.by_image(path):
        size, shapes = (picture.height, picture.width), []
        for each in annotations:
            where = f"{path}: annotation {each.id}"
            try:
                shapes.append(Shape(names.get(each.category_id, str(each.category_id)), form_of(each, size), where))
            except ValueError as error:
                raise BadInput(f"{where} {error}. Export it again.") from error
        drawings.append(Drawing((picture.file_name, path.name), size, str(path), tuple(shapes)))
    return drawings
