"""The description of a dataset: classes, mask values and file layout, read from a TOML file."""

import reprlib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, PrivateAttr, ValidationError, model_validator

from stages.datasets.archives import Archive
from stages.datasets.division import Division
from stages.datasets.fields import (
    Band,
    Color,
    Count,
    Deviation,
    Fraction,
    MaskPatterns,
    MaskValue,
    Name,
    Pair,
    Pattern,
    Percentile,
    RelativePath,
    RelativePaths,
    Table,
)
from stages.datasets.image_labels import ImageLabels
from stages.datasets.listed import FileTable, read_file_table
from stages.datasets.patterns import field_names
from stages.datasets.scenes import CLASS_NAMES as SCENE_CLASSES
from stages.datasets.tiles import Tiles
from stages.runtime.errors import BadInput
from stages.runtime.resources import find_toml
from stages.settings.common import Overlap
from stages.settings.toml_files import read_toml


class DatasetClass(Table):
    """One class; its place in the list is its index in all artifacts."""

    name: str = Field(min_length=1)
    color: Color
    values: tuple[MaskValue, ...] | None = Field(None, min_length=1)
    colors: tuple[Color, ...] | None = Field(None, min_length=1)
    labels: tuple[Name, ...] | None = Field(None, min_length=1)


IGNORED: dict[str, tuple[type, str]] = {
    "index": (int, "integers"),
    "color": (tuple, "[r, g, b] colours"),
    "polygons": (str, "names of labels"),
}


class Masks(Table):
    """How mask files encode classes: grey values or palette indices ("index"), RGB ("color"), or shapes ("polygons").

    With ``binarise`` each value, or each channel of a colour, counts as 255 from that value on, and as 0 below it. With
    ``resize_images`` an image whose mask has another size is resized to it; otherwise that is a fault.

    Shapes are files of labelme, COCO or CVAT. ``overlap`` says which of two shapes is on top, ``rest`` which class has
    no shapes: void, if it is not set.
    """

    encoding: Literal["index", "color", "polygons"] = "index"
    ignore: Literal["others"] | tuple[MaskValue, ...] | tuple[Color, ...] | tuple[Name, ...] = ()
    binarise: Annotated[int, Field(strict=True, ge=1, le=255)] | None = None
    resize_images: Annotated[bool, Field(strict=True)] = False
    overlap: Overlap | None = None
    rest: Name | None = None

    @model_validator(mode="after")
    def _check_ignore(self) -> Self:
        wanted, kind = IGNORED[self.encoding]
        if self.ignore != "others" and not all(isinstance(value, wanted) for value in self.ignore):
            raise ValueError(f'with encoding = "{self.encoding}" the key ignore must list {kind}.')
        return self

    @model_validator(mode="after")
    def _check_shapes(self) -> Self:
        wrong = ("binarise", "resize_images") if self.encoding == "polygons" else ("overlap", "rest")
        given = [key for key in wrong if getattr(self, key)]
        if given:
            raise ValueError(f'{given[0]} does not apply to encoding = "{self.encoding}". Remove it.')
        return self


class Images(Table):
    """How image files are read that are not plain photographs.

    ``levels`` are the values that become black and white, once or for each band; ``percentiles`` measures them over all
    images of the pool. ``bands``: those that the network sees, numbered from 1, or "all". ``page``: the picture of
    files with several. ``display``: the bands shown to people as red, green and blue.
    """

    levels: Pair | tuple[Pair, ...] | None = None
    percentiles: tuple[Percentile, Percentile] | None = None
    bands: Literal["all"] | Annotated[tuple[Band, ...], Field(min_length=1)] | None = None
    page: Annotated[int, Field(strict=True, ge=1)] | None = None
    display: tuple[Band, Band, Band] | None = None

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if self.levels is not None and self.percentiles is not None:
            raise ValueError("levels and percentiles are mutually exclusive. Set one of them.")
        if self.percentiles is not None and not self.percentiles[0] < self.percentiles[1]:
            raise ValueError("percentiles do not rise. Write the lower one first, as in [1, 99].")
        if self.levels == ():
            raise ValueError("levels is empty. Write [LOW, HIGH].")
        pairs = 1 if self.levels is None or isinstance(self.levels[0], float) else len(self.levels)
        count = len(self.bands) if isinstance(self.bands, tuple) else 3 if self.bands is None else pairs
        if pairs not in (1, count):
            raise ValueError(f"levels has {pairs} pairs for {count} bands. Write one pair for all, or one for each.")
        read = {1, 2, 3} if self.bands is None else set(self.display or ()) if self.bands == "all" else set(self.bands)
        if not set(self.display or ()) <= read:
            raise ValueError("display names bands that are not read. List them in bands.")
        return self


class Layout(Table):
    """Where the files of a split lie, relative to the root.

    Patterns are those of ``stages.datasets.patterns``; ``{id}`` is the image id. The mask of an image is the file
    whose fields are the same, of several patterns the first that has one, and so is its polygon file: the outlines
    people drew, as JSON in the form of Cityscapes (see ``stages.datasets.decode.read_polygons``). A split without any
    of these polygon files has no vertices. Masks without ``{id}`` are one file of shapes for all images.
    """

    images: Pattern
    masks: MaskPatterns | None = None
    polygons: Pattern | None = None

    @property
    def mask_patterns(self) -> tuple[str, ...]:
        return (self.masks,) if isinstance(self.masks, str) else self.masks or ()

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        if len({frozenset(field_names(each)) for each in self.mask_patterns}) > 1:
            raise ValueError("the masks patterns differ in their fields. Use the same fields in each.")
        for key, pattern in (*(("masks", each) for each in self.mask_patterns), ("polygons", self.polygons)):
            unknown = set(field_names(pattern or "")) - set(field_names(self.images))
            if unknown:
                names = ", ".join(f"{{{name}}}" for name in sorted(unknown))
                raise ValueError(
                    f"the {key} pattern uses {names}, which the images pattern does not define. Add it there."
                )
        return self


class Split(Layout):
    """The files of one split; ``layouts`` are other places where they may lie.

    ``list`` names files with ids to use, ``without`` one with ids of these not to use.
    """

    list_files: RelativePaths | None = Field(None, alias="list")
    without: RelativePath | None = None
    layouts: tuple[Layout, ...] = ()

    @property
    def lists(self) -> tuple[str, ...]:
        return (self.list_files,) if isinstance(self.list_files, str) else self.list_files or ()

    @model_validator(mode="after")
    def _check_lists(self) -> Self:
        if self.without is not None and not self.lists:
            raise ValueError("without removes ids from list. Set list, or remove it.")
        return self

    def in_layout(self, layout: Layout) -> "Split":
        """The same split in one of its layouts."""
        return self.model_copy(update=dict(layout), deep=False)


class Generator(Table):
    """A built-in source of images instead of files: see ``stages.datasets.scenes``."""

    name: Literal["scenes"]
    height: Annotated[int, Field(strict=True, ge=48)] = 96
    width: Annotated[int, Field(strict=True, ge=64)] = 128
    images: dict[str, Count] = Field(min_length=1)


class DatasetDescription(Table):
    """A dataset: ``splits`` of files, a table of ``files``, or a ``generator``.

    Use ``load_description``, which checks all of it.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str = ""
    licence: str = ""
    homepage: str = ""
    notes: str = ""
    classes: tuple[DatasetClass, ...] = Field(min_length=1, max_length=255)
    masks: Masks = Masks()
    images: Images = Images()
    mean: tuple[Fraction, ...] | None = None
    std: tuple[Deviation, ...] | None = None
    splits: dict[str, Split] = Field(default_factory=dict)
    files: RelativePath | None = None
    """A table of the files instead of patterns: see ``stages.datasets.listed``. Relative to the description."""
    generator: Generator | None = None
    image_labels: ImageLabels | None = None
    division: Division | None = None
    tiles: Tiles | None = None
    archives: tuple[Archive, ...] = ()
    """What `prepare --download` fetches."""
    by_hand: str | None = Field(None, min_length=1)
    """What to do by hand instead, in one sentence, if the files cannot be fetched."""
    defaults: dict[str, dict[str, Any]] = Field(default_factory=dict)
    _folder: Path = PrivateAttr(Path())
    """Settings per stage that suit the dataset, such as the split to evaluate; recipes and options override them."""

    @cached_property
    def listed(self) -> FileTable:
        """The files of the table ``files``; BadInput if it cannot be read."""
        assert self.files is not None
        return read_file_table(self._folder / self.files)

    @property
    def split_names(self) -> list[str]:
        """The splits that the prepared dataset can have, in order; with a division, those it creates."""
        names: list[str] = []
        every = self.generator.images if self.generator is not None else self.splits or self.listed.splits
        for name in every:
            divided = self.division is not None and self.division.split == name
            names += self.division.shares if self.division is not None and divided else [name]
        return names

    @property
    def image_classes(self) -> list[str]:
        """The names of the image-level classes; empty if images have no class of their own."""
        if self.image_labels is None:
            return []
        return list(self.image_labels.classes or self.class_names)

    def meaning(self) -> dict[str, Any]:
        """The description as plain JSON values, without keys that are newer and not used.

        This way a dataset that does not use them keeps its digest.
        """
        values = self.model_dump(mode="json", by_alias=True)
        new_keys = (
            ("image_labels", "division", "files", "tiles"),
            ("binarise", "resize_images", "overlap", "rest"),
        )
        for table, keys in zip((values, values["masks"]), new_keys, strict=True):
            for key in keys:
                if not table[key]:
                    del table[key]
        values["images"] = {key: value for key, value in values["images"].items() if value is not None}
        if not values["images"]:
            del values["images"]
        for item in values["classes"]:
            if item["labels"] is None:
                del item["labels"]
        for split in values["splits"].values():
            del split["layouts"]  # where else the same files may lie changes nothing either
            if split["without"] is None:
                del split["without"]
        for key in ("defaults", "archives", "by_hand"):  # they change nothing in the dataset
            del values[key]
        return values

    @property
    def class_names(self) -> list[str]:
        return [item.name for item in self.classes]

    @property
    def palette(self) -> np.ndarray:
        """The display colours, (C, 3) u8."""
        return np.array([item.color for item in self.classes], np.uint8)


def mask_values(index: int, item: DatasetClass, encoding: str) -> tuple[int, ...] | tuple[Color, ...] | tuple[str, ...]:
    """The values of class number ``index`` in mask files: integers, colours, or labels, as ``encoding`` says."""
    if encoding == "color":
        return item.colors or (item.color,)
    if encoding == "polygons":
        return item.labels or (item.name,)
    return item.values or (index,)


def load_description(name_or_path: str) -> DatasetDescription:
    """The dataset description called ``name_or_path``: a shipped name (``camvid``) or the path of a TOML file.

    Raises BadInput with one sentence per fault, all of them at once.
    """
    path = find_toml("datasets", name_or_path)
    raw = read_toml(path)
    faults = []
    try:
        description = DatasetDescription.model_validate(raw)
    except ValidationError as error:
        # One wrong value of a union type gives an error per member, hence the dict.
        faults = list(dict.fromkeys(_sentence(item) for item in error.errors()))
    faults += _faults_between_keys(raw)
    if faults:
        raise BadInput([f"{path}: {fault}" for fault in faults])
    description._folder = path.parent
    return description


def _sentence(error: Any) -> str:
    """One pydantic error as a sentence with the path of the key and a remedy."""
    if error["loc"][:2] == ("masks", "ignore"):
        kinds = "integers 0 to 65535, of [r, g, b] colours or of labels"
        return f'masks.ignore must be the word "others", or a list of {kinds}.'
    if error["loc"][:2] == ("images", "levels"):
        return "images.levels must be a rising pair [LOW, HIGH], or a list of such pairs, one for each band."
    if error["loc"][:2] == ("images", "bands"):
        return 'images.bands must be "all" or a list of numbers of bands, from 1.'
    key = ".".join(str(part) for part in error["loc"])
    match error["type"]:
        case "missing":
            return f"{key} is missing. Add it."
        case "extra_forbidden":
            return f"{key} is an unknown key. Remove it or correct its spelling."
        case "value_error":
            return f"{key}: {error['ctx']['error']}"
        case "model_type" | "dict_type":
            return f"{key} = {reprlib.repr(error['input'])}: must be a table."
        case "tuple_type":
            return f"{key} = {reprlib.repr(error['input'])}: must be a list."
        case "too_short":
            return f"{key} is empty. List at least one item."
        case "too_long":
            return (
                f"{key} lists {error['ctx']['actual_length']} items; at most {error['ctx']['max_length']} are allowed."
            )
    return f"{key} = {reprlib.repr(error['input'])}: {error['msg'][0].lower()}{error['msg'][1:]}."


def _faults_between_keys(raw: dict[str, Any]) -> list[str]:
    """Faults between keys that are each valid by themselves.

    Ignores all other faults: pydantic would validate a whole model only once each key is valid.
    """
    listed = raw.get("classes")
    classes = {i: item for i, part in enumerate(listed if isinstance(listed, list) else []) if (item := _class(part))}
    faults = _name_faults(classes) + _value_faults(classes, raw.get("masks", {}))
    if sum(key in raw for key in ("splits", "generator", "files")) != 1:
        faults.append(
            "Write [splits.<name>] tables, a [generator] table, or files = a table of files: one of the three."
        )
    if "generator" in raw and tuple(item.name for item in classes.values()) != SCENE_CLASSES:
        faults.append(f"classes: the generator draws {', '.join(SCENE_CLASSES)}. List these names in this order.")
    splits = _table(raw, "splits")
    if _table(raw, "masks").get("resize_images") and any("polygons" in _table(splits, name) for name in splits):
        faults.append("masks.resize_images: polygons are outlines in the image as it is. Remove one of the two.")
    if ("mean" in raw) != ("std" in raw):
        faults.append("mean and std belong together. Set both, or neither to compute them.")
    bands = _table(raw, "images").get("bands")
    count = 3 if bands is None else len(bands) if isinstance(bands, list) else None
    faults += [
        f"{key} has {len(raw[key])} values for {count} bands. Write one for each."
        for key in ("mean", "std")
        if isinstance(raw.get(key), list) and count not in (None, len(raw[key]))
    ]
    return faults + _division_faults(raw) + _tiles_faults(raw) + _shape_faults(raw, classes)


def _shape_faults(raw: dict[str, Any], classes: dict[int, DatasetClass]) -> list[str]:
    """Faults about masks drawn as shapes; any table may be wrong in any way."""
    masks, splits = _table(raw, "masks"), _table(raw, "splits")
    if masks.get("encoding") != "polygons":
        layouts = [(name, layout) for name in splits for layout in _layouts(_table(splits, name))]
        return [
            f"splits.{name}.masks: {pattern!r} has no {{id}} field. Write {{id}} for the part of the path that differs "
            "between images."
            for name, layout in layouts
            for pattern in _listed(layout.get("masks"))
            if isinstance(pattern, str) and "id" not in field_names(pattern)
        ]
    faults = []
    if "tiles" in raw:
        faults.append("tiles: masks are read part by part, and shapes are not. Remove tiles, or use another encoding.")
    names = [item.name for item in classes.values()]
    if isinstance(masks.get("rest"), str) and masks["rest"] not in (*names, "void"):
        faults.append(f"masks.rest: {masks['rest']!r} is not a class. Use {', '.join(names)} or void.")
    return faults


def _layouts(split: dict[str, Any]) -> list[dict[str, Any]]:
    others = split.get("layouts")
    return [split, *(each for each in (others if isinstance(others, list) else []) if isinstance(each, dict))]


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _tiles_faults(raw: dict[str, Any]) -> list[str]:
    """Faults between tiles and other keys."""
    if "tiles" not in raw:
        return []
    splits = _table(raw, "splits")
    faults = []
    if "generator" in raw:
        faults.append("tiles: generated images are not cut. Remove one of tiles and generator.")
    if _table(raw, "masks").get("resize_images"):
        faults.append("tiles: masks must have the size of their image. Remove one of tiles and masks.resize_images.")
    if any("polygons" in _table(splits, name) for name in splits):
        faults.append("tiles: polygons are outlines in whole images. Remove one of tiles and polygons.")
    if "block" in _table(raw, "tiles") and "division" not in raw:
        faults.append("tiles.block: blocks are what [division] divides into splits. Add [division], or remove block.")
    return faults


def _division_faults(raw: dict[str, Any]) -> list[str]:
    """Faults between image labels, division and splits or generator; any table may be wrong in any way."""
    labels, division, generator = (_table(raw, key) for key in ("image_labels", "division", "generator"))
    faults = []
    if "generator" in raw and labels.get("source") in ("name", "json"):
        faults.append('image_labels: generated images have labels only in their masks. Set source = "majority".')
    splits = _table(generator, "images") if "generator" in raw else _table(raw, "splits")
    if (split := division.get("split")) is not None and "files" not in raw and split not in list(splits):
        faults.append(f"division.split: unknown split {split!r}. Use one of {', '.join(splits)}.")
    faults += [
        f"division.shares: {name} is the name of another split. Choose another name."
        for name in _table(division, "shares")
        if name in splits and name != split
    ]
    return faults


def _table(values: dict[str, Any], key: str) -> dict[str, Any]:
    found = values.get(key)
    return found if isinstance(found, dict) else {}


def _class(part: object) -> DatasetClass | None:
    try:
        return DatasetClass.model_validate(part)
    except ValidationError:
        return None


def _name_faults(classes: dict[int, DatasetClass]) -> list[str]:
    first: dict[str, int] = {}
    return [
        f"classes.{index}.name: {item.name!r} is also the name of classes.{first[item.name]}. Choose another name."
        for index, item in classes.items()
        if first.setdefault(item.name, index) != index
    ]


def _value_faults(classes: dict[int, DatasetClass], masks: Any) -> list[str]:
    """Mask values with two meanings; ``masks`` is the table as read, which may be wrong in any way."""
    encoding = masks.get("encoding", "index") if isinstance(masks, dict) else None
    if encoding not in IGNORED:
        return []
    faults = []
    meaning: dict[int | Color | str, str] = {}
    for index, item in classes.items():
        name = f"classes.{index} ({item.name})"
        for value in mask_values(index, item, encoding):
            if meaning.setdefault(value, name) != name:
                faults.append(f"{name}: mask value {value} also means {meaning[value]}. Remove it from one of them.")
    ignore = masks.get("ignore")
    for listed in ignore if isinstance(ignore, list) else []:
        value = tuple(listed) if isinstance(listed, list) else listed
        faults += [
            f"masks.ignore: {listed} also means {name}. Remove it from one of them."
            for other, name in meaning.items()
            if other == value
        ]
    if "binarise" in masks:
        faults += [
            f"{name}: no mask has the {'value' if isinstance(value, int) else 'colour'} {value} after masks.binarise "
            f"set each {'value' if isinstance(value, int) else 'channel'} to 0 or 255. Correct it."
            for value, name in meaning.items()
            if not {0, 255}.issuperset([value] if isinstance(value, int) else value)
        ]
    return faults
