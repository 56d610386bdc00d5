"""Reading files of shapes, whatever tool wrote them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stages.datasets.shapes.coco import coco_drawings, is_coco
from stages.datasets.shapes.cvat import cvat_drawings
from stages.datasets.shapes.drawing import Drawing
from stages.datasets.shapes.label_studio import is_label_studio, label_studio_drawings
from stages.datasets.shapes.labelme import is_labelme, labelme_drawing
from stages.runtime.errors import BadInput
from stages.runtime.limited import read_limited

ENDINGS = (".json", ".xml")
MOST_BYTES = 1 << 29


def read_drawings(path: Path) -> list[Drawing]:
    """The shapes of each image in a file of COCO, CVAT, labelme or Label Studio, or in a list of masks.

    BadInput for others.
    """
    content = read_limited(path, MOST_BYTES)
    if path.suffix.lower() == ".xml":
        return cvat_drawings(path, content)
    return json_drawings(path, parsed_json(path, content))


def json_drawings(path: Path, values: Any, of_sets: bool = False) -> list[Drawing]:
    """The shapes in the JSON ``values`` of ``path``; one shape may have several labels if ``of_sets``."""
    if is_labelme(values):
        return [labelme_drawing(path, values)]
    if is_coco(values):
        return coco_drawings(path, values)
    if is_label_studio(values):
        return label_studio_drawings(path, values, of_sets)
    raise BadInput(
        f"{path} is neither a COCO document nor a file of labelme or Label Studio. Check that it is the right file."
    )


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
