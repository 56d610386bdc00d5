"""Image-level classes: one per image, from its name, from a JSON file or from its mask."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from stages.artifacts.dataset import Dataset
from stages.datasets.fields import Name, RelativePath, Table
from stages.pixels.void import VOID

NO_LABEL = -1
_NAMED_IDS = 5  # images listed per fault


class ImageLabels(Table):
    """The source of each image's class.

    "name": the letters its id begins with. "json": ``file``, a mapping of ids to names. The names are
    looked up in ``classes``, whose order defines the indices. "majority": the class of most pixels of its mask.
    """

    source: Literal["name", "json", "majority"]
    classes: tuple[Name, ...] | None = Field(None, min_length=1, max_length=VOID)
    file: RelativePath | None = None

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        faults = []
        if self.source == "majority" and self.classes is not None:
            faults.append('with source = "majority" the classes are those of the pixels. Remove the key classes.')
        if self.source != "majority" and self.classes is None:
            faults.append(f'source = "{self.source}" needs the key classes. List the names in the order of indices.')
        if len(set(self.classes or ())) < len(self.classes or ()):
            faults.append("classes lists a name twice. List each name once.")
        if self.source == "json" and self.file is None:
            faults.append('source = "json" needs the key file. Set it to the path of the JSON file below --root.')
        if self.source != "json" and self.file is not None:
            faults.append(f'source = "{self.source}" reads no file. Remove the key file.')
        if faults:
            raise ValueError(" ".join(faults))
        return self


def labels_by_name(ids: Sequence[str], classes: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """The index in ``classes`` of the letters each id begins with, and a fault for each unknown name.

    Source: als4gan.md 1.2 (``tenniscourt07`` is of the scene tenniscourt).
    """
    beginnings = {id: re.match(r"[^\W\d_]*", id)[0] for id in ids}  # type: ignore[index]  # an empty match is one
    return _looked_up(
        beginnings,
        classes,
        lambda name, which: (
            f"{which} begins with {name!r}, which is not in image_labels.classes. Add it there or rename the files."
        ),
    )


def labels_from_json(path: Path, ids: Sequence[str], classes: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """The index in ``classes`` of the name that the file, a mapping of ids to names, has for each id, and all faults.

    Entries of other images do not matter.
    """
    try:
        mapping = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        return {}, [f"The image labels {path} cannot be read ({error}). Check --root and image_labels.file."]
    if not isinstance(mapping, dict):
        return {}, [f'{path} is not a mapping of image ids to class names. Write {{"<id>": "<class>", ...}}.']
    missing = [id for id in ids if id not in mapping]
    labels, faults = _looked_up(
        {id: mapping[id] for id in ids if id in mapping},
        classes,
        lambda name, which: (
            f"{path} gives {which} the class {name!r}, which is not in image_labels.classes. Add it or rename it."
        ),
    )
    if missing:
        faults.append(f"{path} has no class for {_listed(missing)}. Add it.")
    return labels, faults


def _looked_up(
    names: dict[str, object], classes: Sequence[str], fault: Callable[[object, str], str]
) -> tuple[dict[str, int], list[str]]:
    """The index in ``classes`` of each id's name, and ``fault(name, which images)`` for each unknown name."""
    places: dict[object, int] = {name: place for place, name in enumerate(classes)}
    labels: dict[str, int] = {}
    strange: dict[str, tuple[object, list[str]]] = {}
    for id, name in names.items():
        if isinstance(name, str) and name in places:
            labels[id] = places[name]
        else:  # by spelling: values of a JSON file need not be hashable
            strange.setdefault(repr(name), (name, []))[1].append(id)
    return labels, [fault(name, _listed(ids)) for name, ids in strange.values()]


def _listed(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:_NAMED_IDS])
    if len(ids) == 1:
        return f"image {shown}"
    return f"each of {len(ids)} images ({shown}{', ...' if len(ids) > _NAMED_IDS else ''})"


def majority_label(mask: np.ndarray, classes: int) -> int:
    """The class of most pixels in ``mask`` (H, W) u8, the lowest of several; values from ``classes`` on do not count.

    -1 if no pixel has a class. Source: als4gan.md 1.3.
    """
    counts = np.bincount(mask.ravel(), minlength=256)[:classes]
    return int(counts.argmax()) if counts.any() else NO_LABEL


def image_class(data: Dataset, image: str) -> int:
    """The class of an image: the dataset's own, otherwise that of most pixels of its mask. VOID: the mask has none."""
    if image in data.labels:
        return data.labels[image]
    label = majority_label(data.mask(image), len(data.classes))
    return VOID if label == NO_LABEL else label


def classes_present(mask: np.ndarray, classes: int, share: float) -> np.ndarray:
    """(C,) bool: the classes with at least ``share`` of the pixels that are not void. mask (H,W) u8."""
    counts = np.bincount(mask.ravel(), minlength=256)[:classes]
    return (counts > 0) & (counts >= share * counts.sum())
