"""Reading files of shapes, whatever tool wrote them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stages.datasets.shapes.coco import coco_drawings, is_coco
from stages.datasets.shapes.cvat import cvat_drawings
from stages.datasets.shapes.drawing import Drawing
from stages.datasets.shapes.labelme import is_labelme, labelme_drawing
from stages.runtime.errors import BadInput
from stages.runtime.limited import read_limited

ENDINGS = (".json", ".xml")
MOST_BYTES = 1 << 29


def read_drawings(path: Path) -> list[Drawing]:
    """The shapes of each image in a file of labelme, COCO or CVAT, or in a list of masks; BadInput for others."""
    content = read_limited(path, MOST_BYTES)
    if path.suffix.lower() == ".xml":
        return cvat_drawings(path, content)
    values = parsed_json(path, content)
    if is_labelme(values):
        return [labelme_drawing(path, values)]
    if is_coco(values):
        return coco_drawings(path, values)
    raise BadInput(f"{path} is neither a file of labelme nor a COCO document. Check that it is the right file.")


def parsed_json(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not valid JSON ({error}). Export it again.") from error


def files_below(folder: Path, endings: Iterable[str]) -> list[Path]:
    """The files with these endings in any case below ``folder``, sorted, without hidden ones."""
    wanted = {*endings}
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in wanted
        and file.is_file()
        and not any(part.startswith((".", "__MACOSX")) for part in file.relative_to(folder).parts)
    )
