"""XML files of CVAT ("CVAT for images"): the shapes on many images."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

from stages.datasets.shapes.drawing import Drawing, Form, Patch, Point, Shape, box, ellipse, polygons
from stages.datasets.shapes.runs import patch_of_runs
from stages.pixels.grids import Size
from stages.runtime.errors import BadInput

DECLARED = re.compile(rb"<!(?:DOCTYPE|ENTITY)")
MOST_SIDE = 1 << 16
Element = ElementTree.Element


def parsed_xml(path: Path, content: bytes) -> Element:
    """The root of an XML file without declarations of entities, which could expand without end."""
    if DECLARED.search(content) or b"\0" in content:
        raise BadInput(f"{path} declares a document type or is not UTF-8, as no file of CVAT. Export it again.")
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise BadInput(f"{path} is not valid XML ({error}). Export it again.") from error


def cvat_drawings(path: Path, content: bytes) -> list[Drawing]:
    """The shapes of each image, lower layers (z_order) first; BadInput for a file of another form."""
    root = parsed_xml(path, content)
    if root.tag != "annotations" or root.find("track") is not None or root.find("image") is None:
        raise BadInput(f'{path} is no export of CVAT with images. Export the task as "CVAT for images 1.1".')
    return [drawing_of(path, image) for image in root.iter("image")]


def drawing_of(path: Path, image: Element) -> Drawing:
    name = image.get("name", "")
    where = f"{path}, image {name}"
    size = whole(image, "height", where), whole(image, "width", where)
    if not (1 <= size[0] <= MOST_SIDE and 1 <= size[1] <= MOST_SIDE):
        raise BadInput(f"{where} has a size of {size[1]}x{size[0]}. Export it again.")
    layers = []
    for number, each in enumerate(image):
        if each.tag == "tag":  # about the whole image
            continue
        place = f"{where}: {each.tag} {number} ({each.get('label')})"
        if each.tag not in FORMS:
            raise BadInput(f"{place} has no area. Draw a polygon or a mask instead, or remove it.")
        shapes = [Shape(each.get("label", ""), form, place) for form in FORMS[each.tag](each, size, place)]
        layers.append((whole(each, "z_order", place, 0), shapes))
    layers.sort(key=lambda layer: layer[0])
    return Drawing((name,), size, where, tuple(shape for _, shapes in layers for shape in shapes))


def polygon_form(shape: Element, size: Size, where: str) -> list[Form]:
    return [polygons([corners(shape, where)], where)]


def box_form(shape: Element, size: Size, where: str) -> list[Form]:
    left, top, right, bottom = (number(shape, name, where) for name in ("xtl", "ytl", "xbr", "ybr"))
    return [box(left, top, right, bottom, number(shape, "rotation", where, 0), where)]


def ellipse_form(shape: Element, size: Size, where: str) -> list[Form]:
    x, y, across, down = (number(shape, name, where) for name in ("cx", "cy", "rx", "ry"))
    return [ellipse(x, y, across, down, number(shape, "rotation", where, 0), where)]


def point_forms(shape: Element, size: Size, where: str) -> list[Form]:
    return [Point(x, y) for x, y in corners(shape, where)]


def mask_form(shape: Element, size: Size, where: str) -> list[Form]:
    left, top, width, height = (whole(shape, name, where) for name in ("left", "top", "width", "height"))
    inside = left >= 0 and top >= 0 and 0 < width <= size[1] - left and 0 < height <= size[0] - top
    try:
        if not inside:
            raise ValueError("leads out of the image")
        return [Patch(left, top, patch_of_runs(shape.get("rle", ""), height, width))]
    except ValueError as error:
        raise BadInput(f"{where} has a mask that cannot be read ({error}). Export it again.") from error


FORMS: dict[str, Callable[[Element, Size, str], list[Form]]] = {
    "polygon": polygon_form,
    "box": box_form,
    "ellipse": ellipse_form,
    "points": point_forms,
    "mask": mask_form,
}


def corners(shape: Element, where: str) -> list[tuple[float, float]]:
    """The attribute points, "x,y;x,y;..."."""
    found = []
    for pair in shape.get("points", "").split(";"):
        try:
            x, y = (float(part) for part in pair.split(","))
        except ValueError:
            unusable(where, "points", pair)
        if not (math.isfinite(x) and math.isfinite(y)):
            unusable(where, "points", pair)
        found.append((x, y))
    return found


def number(element: Element, name: str, where: str, default: float | None = None) -> float:
    text = element.get(name, "" if default is None else str(default))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    return value if math.isfinite(value) else unusable(where, name, text)


def whole(element: Element, name: str, where: str, default: int | None = None) -> int:
    value = number(element, name, where, default)
    return int(value) if value.is_integer() else unusable(where, name, str(value))


def unusable(where: str, name: str, text: str) -> NoReturn:
    raise BadInput(f"{where} has {name} = {text[:40]!r}, which is no number or place. Export it again.")
