"""JSON files of labelme: the shapes on one image."""

import base64
import binascii
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from stages.datasets.shapes.drawing import Drawing, Form, Patch, Point, Shape, box, ellipse, polygons
from stages.images.image_files import image_file
from stages.pixels.grids import Size
from stages.runtime.errors import BadInput


class LabelmeShape(BaseModel):
    model_config = ConfigDict(extra="ignore")

    label: str
    points: list[tuple[FiniteFloat, FiniteFloat]]
    shape_type: str | None = "polygon"
    mask: str | None = None


class LabelmeFile(BaseModel):
    """The keys that are read."""

    model_config = ConfigDict(extra="ignore")

    shapes: list[LabelmeShape]
    image_path: str = Field("", alias="imagePath")
    height: int | None = Field(None, alias="imageHeight", ge=1, le=1 << 16)
    width: int | None = Field(None, alias="imageWidth", ge=1, le=1 << 16)


def is_labelme(content: Any) -> bool:
    """Whether JSON values are a file of labelme."""
    return isinstance(content, Mapping) and "shapes" in content


def labelme_drawing(path: Path, content: Any) -> Drawing:
    """The shapes of the image; BadInput for a file of another form, and for shapes that cover no area."""
    try:
        file = LabelmeFile.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{path} is not a file of labelme ({place}: {first['msg']}). Save it again.") from error
    size = None if file.height is None or file.width is None else (file.height, file.width)
    shapes: list[Shape] = []
    for number, each in enumerate(file.shapes):
        where = f"{path}: shape {number} ({each.label})"
        shapes += [Shape(each.label, form, where) for form in forms_of(each, size, where)]
    return Drawing((file.image_path, path.name) if file.image_path else (path.name,), size, str(path), tuple(shapes))


def forms_of(shape: LabelmeShape, size: Size | None, where: str) -> list[Form]:
    """What a shape covers; several forms for a shape of several points."""
    points, kind = shape.points, shape.shape_type or "polygon"
    if kind in ("point", "points"):
        return [Point(x, y) for x, y in points]
    if kind == "polygon":
        return [polygons([points], where)]
    if kind in ("rectangle", "circle", "mask") and len(points) != 2:
        raise BadInput(f"{where} is a {kind} of {len(points)} points instead of 2. Draw it again, or remove it.")
    if kind == "rectangle":
        (left, top), (right, bottom) = points
        return [box(left, top, right, bottom, 0, where)]
    if kind == "circle":
        (x, y), rim = points
        radius = math.dist((x, y), rim)
        return [ellipse(x, y, radius, radius, 0, where)]
    if kind == "mask":
        return [patch_of(shape, size, where)]
    raise BadInput(f"{where} is a {kind}, which has no area. Draw a polygon instead, or remove it.")


def patch_of(shape: LabelmeShape, size: Size | None, where: str) -> Patch:
    """The mask of a shape, a PNG in base64, with its upper left pixel at the first point."""
    left, top = (int(value) for value in shape.points[0])
    try:
        content = base64.b64decode(shape.mask or "", validate=True)
    except binascii.Error as error:
        raise BadInput(f"{where} has a mask that is not base64 ({error}). Draw it again, or remove it.") from error
    try:
        with image_file(io.BytesIO(content), ("PNG",)) as image:
            inside = np.array(image.convert("L")) > 0
    except BadInput as error:
        raise BadInput(f"{where} has a mask that is not a PNG. Draw it again, or remove it.") from error
    height, width = inside.shape
    if left < 0 or top < 0 or (size is not None and (top + height > size[0] or left + width > size[1])):
        raise BadInput(f"{where} has a mask that leads out of the image. Draw it again, or remove it.")
    return Patch(left, top, inside)
