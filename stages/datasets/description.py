"""What a dataset is: classes, mask values and file layout, read from a TOML file."""

import reprlib
import tomllib
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.datasets.patterns import field_names, fill
from stages.datasets.scenes import CLASS_NAMES as SCENE_CLASSES
from stages.errors import BadInput
from stages.resources import find_toml

IGNORE_INDEX = 255  # in every decoded mask and on disk, whatever the dataset's own files use


def _check_relative(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise ValueError(f"{path!r} is no path below the root; write it relative to --root and without '..'.")
    return path


def _check_pattern(pattern: str) -> str:
    _check_relative(pattern)
    if {"{", "}"} & set(fill(pattern, {})):
        raise ValueError(f"{pattern!r} has a brace that belongs to no field; write fields as {{name}}.")
    if "id" not in field_names(pattern):
        raise ValueError(f"{pattern!r} has no {{id}} field; put {{id}} where the file name tells images apart.")
    return pattern


Byte = Annotated[int, Field(strict=True, ge=0, le=255)]
Color = tuple[Byte, Byte, Byte]
MaskValue = Annotated[int, Field(strict=True, ge=0, le=65535)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=1)]
RelativePath = Annotated[str, AfterValidator(_check_relative)]
Pattern = Annotated[str, AfterValidator(_check_pattern)]
Count = Annotated[int, Field(strict=True, ge=1)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetClass(_Model):
    """One class; its place in the list is its index in every artifact."""

    name: str = Field(min_length=1)
    color: Color
    values: tuple[MaskValue, ...] | None = Field(None, min_length=1)
    colors: tuple[Color, ...] | None = Field(None, min_length=1)


class Masks(_Model):
    """How mask files spell classes: as grey values or palette indices ("index"), or as RGB ("color")."""

    encoding: Literal["index", "color"] = "index"
    ignore: Literal["others"] | tuple[MaskValue, ...] | tuple[Color, ...] = ()

    @model_validator(mode="after")
    def _check_ignore(self) -> Self:
        wanted = int if self.encoding == "index" else tuple
        if self.ignore != "others" and not all(isinstance(value, wanted) for value in self.ignore):
            kind = "integers" if self.encoding == "index" else "[r, g, b] colours"
            raise ValueError(f'with encoding = "{self.encoding}" the key ignore must list {kind}.')
        return self


class Split(_Model):
    """Where the files of one split lie, relative to the root.

    Patterns are those of ``stages.datasets.patterns``; ``{id}`` is the image id. The mask of an image is the file
    whose fields are the same, and so is its polygon file: the outlines people drew, as JSON in the form of Cityscapes
    (see ``stages.datasets.decode.read_polygons``). A split that has none of the polygon files named here does without.
    """

    images: Pattern
    masks: Pattern | None = None
    polygons: Pattern | None = None
    list_file: RelativePath | None = Field(None, alias="list")

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        for key, pattern in (("masks", self.masks), ("polygons", self.polygons)):
            unknown = set(field_names(pattern or "")) - set(field_names(self.images))
            if unknown:
                names = ", ".join(f"{{{name}}}" for name in sorted(unknown))
                raise ValueError(
                    f"the {key} pattern uses {names}, which the images pattern does not define; add it there."
                )
        return self


class Generator(_Model):
    """A built-in source of images instead of files: see ``stages.datasets.scenes``."""

    name: Literal["scenes"]
    height: Annotated[int, Field(strict=True, ge=48)] = 96
    width: Annotated[int, Field(strict=True, ge=64)] = 128
    images: dict[str, Count] = Field(min_length=1)


class DatasetDescription(_Model):
    """A dataset: either ``splits`` of files or a ``generator``. Made by ``load_description``, which checks it whole."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str = ""
    licence: str = ""
    homepage: str = ""
    notes: str = ""
    classes: tuple[DatasetClass, ...] = Field(min_length=1, max_length=255)
    masks: Masks = Masks()
    mean: tuple[Fraction, Fraction, Fraction] | None = None
    std: tuple[Deviation, Deviation, Deviation] | None = None
    splits: dict[str, Split] = {}
    generator: Generator | None = None

    @property
    def class_names(self) -> list[str]:
        return [item.name for item in self.classes]

    @property
    def palette(self) -> np.ndarray:
        """The display colours, (C, 3) u8."""
        return np.array([item.color for item in self.classes], np.uint8)


def mask_values(index: int, item: DatasetClass, encoding: str) -> tuple[int, ...] | tuple[Color, ...]:
    """What stands for class number ``index`` in mask files: integers, or RGB colours when ``encoding`` is "color"."""
    if encoding == "color":
        return item.colors or (item.color,)
    return item.values or (index,)


def load_description(name_or_path: str) -> DatasetDescription:
    """The dataset description called ``name_or_path``: a shipped name (``camvid``) or the path of a TOML file.

    Raises BadInput with one sentence per fault, all of them at once.
    """
    path = find_toml("datasets", name_or_path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # bad syntax and bad UTF-8 alike
        raise BadInput(f"{path} is not valid TOML: {error}.") from error
    faults = []
    try:
        description = DatasetDescription.model_validate(raw)
    except ValidationError as error:
        # One wrong value of a union type gives an error per member, hence the dict.
        faults = list(dict.fromkeys(_sentence(item) for item in error.errors()))
    faults += _faults_between_keys(raw)
    if faults:
        raise BadInput([f"{path}: {fault}" for fault in faults])
    return description


def _sentence(error: Any) -> str:
    """One pydantic error as a sentence with the path of the key and a remedy."""
    if error["loc"][:2] == ("masks", "ignore"):
        return 'masks.ignore must be the word "others", a list of integers 0 to 65535 or a list of [r, g, b] colours.'
    key = ".".join(str(part) for part in error["loc"])
    match error["type"]:
        case "missing":
            return f"{key} is missing; add it."
        case "extra_forbidden":
            return f"{key} is no known key; remove it or mend its spelling."
        case "value_error":
            return f"{key}: {error['ctx']['error']}"
        case "model_type" | "dict_type":
            return f"{key} = {reprlib.repr(error['input'])}: must be a table."
        case "tuple_type":
            return f"{key} = {reprlib.repr(error['input'])}: must be a list."
        case "too_short":
            return f"{key} lists nothing; give at least one item."
        case "too_long":
            return f"{key} lists {error['ctx']['actual_length']} items; {error['ctx']['max_length']} is the most."
    return f"{key} = {reprlib.repr(error['input'])}: {error['msg'][0].lower()}{error['msg'][1:]}."


def _faults_between_keys(raw: dict[str, Any]) -> list[str]:
    """What is wrong with keys that are each right by themselves.

    Looks past whatever else is wrong: pydantic's validators of a whole model would wait until every key is mended.
    """
    listed = raw.get("classes")
    classes = {i: item for i, part in enumerate(listed if isinstance(listed, list) else []) if (item := _class(part))}
    faults = _name_faults(classes) + _value_faults(classes, raw.get("masks", {}))
    if ("splits" in raw) == ("generator" in raw):
        faults.append("Give either [splits.<name>] tables or a [generator] table, and not both.")
    if "generator" in raw and tuple(item.name for item in classes.values()) != SCENE_CLASSES:
        faults.append(f"classes: the generator draws {', '.join(SCENE_CLASSES)}; list these names in this order.")
    if ("mean" in raw) != ("std" in raw):
        faults.append("mean and std belong together; give both, or neither to have them computed.")
    return faults


def _class(part: object) -> DatasetClass | None:
    try:
        return DatasetClass.model_validate(part)
    except ValidationError:
        return None


def _name_faults(classes: dict[int, DatasetClass]) -> list[str]:
    first: dict[str, int] = {}
    return [
        f"classes.{index}.name: {item.name!r} is the name of classes.{first[item.name]} already; give each its own."
        for index, item in classes.items()
        if first.setdefault(item.name, index) != index
    ]


def _value_faults(classes: dict[int, DatasetClass], masks: Any) -> list[str]:
    """Mask values with two meanings; ``masks`` is the table as read, which may be wrong in any way."""
    encoding = masks.get("encoding", "index") if isinstance(masks, dict) else None
    if encoding not in ("index", "color"):
        return []
    faults = []
    meaning: dict[int | Color, str] = {}
    for index, item in classes.items():
        name = f"classes.{index} ({item.name})"
        for value in mask_values(index, item, encoding):
            if meaning.setdefault(value, name) != name:
                faults.append(f"{name}: mask value {value} means {meaning[value]} already; remove it from one of them.")
    ignore = masks.get("ignore")
    for listed in ignore if isinstance(ignore, list) else []:
        value = tuple(listed) if isinstance(listed, list) else listed
        faults += [
            f"masks.ignore: {listed} means {name}; remove it from one of them."
            for other, name in meaning.items()
            if other == value
        ]
    return faults
