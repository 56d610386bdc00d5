"""Exports of Label Studio (JSON, JSON-MIN and CSV): the shapes on many images, and the choices about them."""

import base64
import binascii
import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from stages.datasets.shapes.drawing import Drawing, Form, Patch, Point, Shape, ellipse, polygons, turned
from stages.datasets.shapes.rle_pack import unpack_mask
from stages.images.image_files import image_file
from stages.pixels.grids import Size
from stages.runtime.errors import BadInput

MOST_SIDE = 1 << 16
MOST_CHARACTERS = 1 << 30  # of a cell, which may be a mask or an image
LABELS = "labels"  # what the keys of labels end with: brushlabels, polygonlabels, ...
CHOICES, SINGLE = "choices", ("label", "choice")  # SINGLE: names of controls whose only choice is a plain text
BESIDE = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"}  # of JSON-MIN and CSV


@dataclass(frozen=True)
class Task:
    """An image: what it may be called, the values that somebody gave it, and the seconds that this took, if known.

    ``results``: mappings with the keys of Label Studio's `value`, and `original_width` and `original_height`.
    """

    names: tuple[str, ...]
    results: Sequence[Mapping[str, Any]]
    seconds: float | None
    where: str

    @property
    def choices(self) -> list[str]:
        """What was chosen about the whole image."""
        return [str(each) for value in self.results for each in value.get(CHOICES, [])]


def is_label_studio(content: Any) -> bool:
    """Whether JSON values are an export, whole or small."""
    if not isinstance(content, list) or not content or not all(isinstance(each, Mapping) for each in content):
        return False
    return all("data" in each for each in content) or all("annotation_id" in each for each in content)


def label_studio_table(path: Path, content: bytes) -> list[dict[str, Any]] | None:
    """The rows of an export as CSV or TSV, in the form of JSON-MIN; None for other tables."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    heading = text.partition("\n")[0]
    separator = "\t" if "\t" in heading else ","
    if not {"annotation_id", "lead_time"} <= {name.strip('" \r') for name in heading.split(separator)}:
        return None
    csv.field_size_limit(MOST_CHARACTERS)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise BadInput(f"{path} is not a CSV table ({error}). Export it again.") from error
    return [{str(name): parsed_cell(cell) for name, cell in row.items()} for row in rows]


def parsed_cell(cell: Any) -> Any:
    """A cell with a list or an object as JSON values, other cells as they are."""
    if isinstance(cell, str) and cell[:1] in ("[", "{"):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    return cell


def tasks_of(path: Path, content: Sequence[Mapping[str, Any]]) -> list[Task]:
    """The images of an export that somebody annotated.

    Of several annotations of one image the last one counts; cancelled ones do not. BadInput for other forms.
    """
    found: dict[Any, Task] = {}
    for number, each in enumerate(content):
        where = f"{path}: task {each.get('id', number)}"
        try:
            task = whole_task(each, where) if "data" in each else small_task(each, where)
        except (TypeError, AttributeError, ValueError) as error:
            raise BadInput(f"{where} is not as Label Studio exports it ({error}). Export it again.") from error
        if task is not None:
            found[each.get("id", number)] = task
    return list(found.values())


def whole_task(task: Mapping[str, Any], where: str) -> Task | None:
    """The task of a JSON export; None if nobody annotated it."""
    given = [each for each in task.get("annotations", []) if not each.get("was_cancelled")]
    if not given:
        return None
    last = max(given, key=lambda each: str(each.get("updated_at", "")))
    results = [{**each["value"], **sides(each)} for each in last["result"] if isinstance(each.get("value"), Mapping)]
    uploaded = [str(task[name]) for name in ("file_upload",) if task.get(name)]
    names = (*file_names(task["data"].values()), *file_names(uploaded))
    return Task(names, results, seconds_in(last), where)


def small_task(task: Mapping[str, Any], where: str) -> Task | None:
    """The task of a JSON-MIN or CSV export, whose lists are what was given under the name of each control."""
    about = {name: value for name, value in task.items() if name not in BESIDE}
    lists = [value for value in about.values() if isinstance(value, list)]
    results = [each for value in lists for each in value if isinstance(each, Mapping)]
    one = [value for value in about.values() if isinstance(value, Mapping) and CHOICES in value]
    names = file_names(about.values())
    chosen = [{CHOICES: [about[name]]} for name in SINGLE if isinstance(about.get(name), str) and about[name]]
    return Task(names, [*results, *one, *chosen], seconds_in(task), where)


def sides(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: result.get(name) for name in ("original_width", "original_height")}


def seconds_in(annotation: Mapping[str, Any]) -> float | None:
    try:
        seconds = float(annotation.get("lead_time") or math.nan)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def file_names(values: Any) -> tuple[str, ...]:
    """The names of files among ``values``: paths, and addresses of uploaded or served files."""
    found = []
    for value in values:
        if isinstance(value, str) and value and not value.startswith("data:"):
            address = urlsplit(value)
            served = parse_qs(address.query).get("d")  # of a folder that Label Studio serves
            found.append(served[0] if served else unquote(address.path))
    return tuple(dict.fromkeys(found))


def label_studio_drawings(path: Path, content: Sequence[Mapping[str, Any]], of_sets: bool = False) -> list[Drawing]:
    """The shapes of each image, one per label; BadInput for shapes of several labels unless ``of_sets``."""
    return [drawing_of(task, of_sets) for task in tasks_of(path, content) if task.names]


def drawing_of(task: Task, of_sets: bool) -> Drawing:
    shapes, sizes = [], set()
    for number, value in enumerate(task.results):
        labels = labels_of(value)
        if not labels:
            continue
        where = f"{task.where}, result {number} ({', '.join(labels)})"
        if len(labels) > 1 and not of_sets:
            raise BadInput(f"{where} has several labels. Keep one of them.")
        size = size_of(value, where)
        sizes.add(size)
        form = form_of(value, size, where)
        shapes += [Shape(label, form, where) for label in labels]
    if len(sizes) > 1:
        raise BadInput(f"{task.where} has images of several sizes. Export one image per task.")
    return Drawing(task.names, next(iter(sizes), None), task.where, tuple(shapes))


def labels_of(value: Mapping[str, Any]) -> list[str]:
    """The labels of a shape; none for results that are no shapes."""
    return [str(label) for name, listed in value.items() if name.endswith(LABELS) for label in listed or []]


def size_of(value: Mapping[str, Any], where: str) -> Size:
    width, height = (value.get(name) for name in ("original_width", "original_height"))
    if not all(isinstance(side, int) and 1 <= side <= MOST_SIDE for side in (width, height)):
        raise BadInput(f"{where} does not say how large its image is. Export it again.")
    return int(str(height)), int(str(width))


def form_of(value: Mapping[str, Any], size: Size, where: str) -> Form:
    """What a shape covers; its coordinates are in percent of the image, rectangles turn about their first corner."""
    height, width = size
    try:
        if "rle" in value:
            return Patch(0, 0, unpack_mask(bytes(value["rle"]), size))
        if "imageDataURL" in value:
            return Patch(0, 0, drawn_bits(value["imageDataURL"], size))
        if "points" in value:
            return polygons([np.array(value["points"], dtype=np.float64) * (width / 100, height / 100)], where)
        x, y, turn = (number(value, name) for name in ("x", "y", "rotation"))
        x, y = x * width / 100, y * height / 100
        if "radiusX" in value:
            across, down = number(value, "radiusX") * width / 100, number(value, "radiusY") * height / 100
            return ellipse(x, y, across, down, turn, where)
        if "height" in value:
            right, bottom = x + number(value, "width") * width / 100, y + number(value, "height") * height / 100
            corners = np.array([(x, y), (right, y), (right, bottom), (x, bottom)])
            return turned(corners, turn, (x, y), where)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{where} cannot be read ({error}). Draw it again, or remove it.") from error
    return Point(x, y)


def number(value: Mapping[str, Any], name: str) -> float:
    found = float(value.get(name) or 0)
    if not math.isfinite(found):
        raise ValueError(f"{name} is {found}")
    return found


def drawn_bits(address: str, size: Size) -> np.ndarray:
    """(H,W) bool of the PNG in a data address; ValueError if it is none of this size."""
    kind, _, content = address.partition(",")
    if not kind.startswith("data:image/png;base64"):
        raise ValueError("is no PNG")
    try:
        with image_file(io.BytesIO(base64.b64decode(content, validate=True)), ("PNG",)) as image:
            pixels = np.array(image.convert("RGBA"))
    except (BadInput, binascii.Error) as error:
        raise ValueError("is no PNG") from error
    if pixels.shape[:2] != tuple(size):
        raise ValueError(f"is a mask of {pixels.shape[1]}x{pixels.shape[0]} pixels, not {size[1]}x{size[0]}")
    return (pixels[..., 3] > 0) & (pixels[..., :3] > 0).any(-1)
