"""The classes of a folder of images: from an option, from the tables of other tools, checked against the masks."""

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stages.datasets.labelmap import COLOURED, LABELMAP_HEADING
from stages.datasets.mask_files import DOUBLED, Encoding, read_mask
from stages.images.image_files import image_file
from stages.images.rasters import is_large, open_raster
from stages.pixels.resize import target_size
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput, Undecided
from stages.runtime.randomness import stream

Colour = tuple[int, int, int]
MOST_MASKS = 100  # looked into; prepare checks all
LARGE_SIDE = 4096  # longest side at which masks are looked into that are too large to be read whole
MOST_LISTED = 12
NAME_LISTS = ("classes.txt", "labels.txt", "obj.names", "_classes.txt")
VOID_NAMES = ("void", "ignore", "ignored", "unlabeled", "unlabelled", "undefined")
HEX = re.compile(r"#([0-9a-fA-F]{6})")
# Colours that differ from each other for people with any colour vision, Tol's "muted" and "bright"
COLOURS: tuple[Colour, ...] = (
    (51, 34, 136), (221, 204, 119), (17, 119, 51), (204, 102, 119), (136, 204, 238), (170, 68, 153), (153, 153, 51),
    (68, 170, 153), (136, 34, 85), (102, 153, 204), (238, 119, 51), (187, 187, 187),
)  # fmt: skip


@dataclass(frozen=True)
class FoundClass:
    """A class with the values or the colour that masks have for it, if they are known."""

    name: str
    value: int | None = None
    colour: Colour | None = None


@dataclass(frozen=True)
class ClassTable:
    """What a description says about classes; ``ignore`` are values or colours of void; ``binarise``: see `Masks`."""

    classes: tuple[FoundClass, ...]
    encoding: Encoding
    ignore: tuple[int, ...] | tuple[Colour, ...]
    notes: tuple[str, ...]
    binarise: int | None = None


@dataclass(frozen=True)
class MaskContents:
    """How often each value or colour occurs in the masks that were looked into."""

    encoding: Encoding
    counts: Mapping[Any, int]


def find_classes(root: Path, masks: Sequence[str], given: str | None) -> ClassTable:
    """The classes that ``given`` names (as in --classes), or the tables found below ``root``.

    BadInput if they cannot be told, or do not fit the masks.
    """
    contents = mask_contents([root / mask for mask in masks]) if masks else None
    if given is not None:
        classes, source = parse_classes(given), "--classes"
    else:
        classes, source = classes_in_files(root)
    if not classes:
        raise Undecided(unnamed(root, contents), "classes")
    names = Counter(each.name for each in classes)
    if twice := [name for name, count in names.items() if count > 1]:
        raise BadInput(f"{source} names the class {twice[0]!r} twice. Use each name once.")
    void = [each for each in classes if each.name.lower() in VOID_NAMES]
    kept = [each for each in classes if each not in void]
    notes = [f"{len(kept)} classes from {source}: {', '.join(each.name for each in kept)}"]
    if contents is None:
        return ClassTable(tuple(coloured(kept)), "index", (VOID,), tuple(notes))
    if contents.encoding == "color" and not any(each.colour for each in classes):
        contents = in_one_channel(contents, notes)
    if contents.encoding == "color":
        return colour_table(kept, void, contents, notes)
    return index_table(kept, void, contents, notes)


def parse_classes(text: str) -> list[FoundClass]:
    """``road,car=3,tree=#6b8e23``: names, with the value or the colour in masks if there are masks."""
    found = []
    for word in text.split(","):
        name, equals, value = (part.strip() for part in word.partition("="))
        if not name or (equals and not value):
            raise BadInput(f"--classes {text}: {word!r} is no class. Write NAME, NAME=VALUE or NAME=#RRGGBB.")
        if colour := HEX.fullmatch(value):
            red, green, blue = bytes.fromhex(colour[1])
            found.append(FoundClass(name, colour=(red, green, blue)))
        elif value and not value.isdigit():
            raise BadInput(f"--classes {text}: {value!r} is neither a value nor a colour #RRGGBB. Correct it.")
        else:
            found.append(FoundClass(name, int(value) if value else None))
    return found


def classes_in_files(root: Path) -> tuple[list[FoundClass], str]:
    """The classes of a labelmap.txt (CVAT), a list of names, or the categories of COCO, and the file they are from."""
    for path in sorted(root.rglob("labelmap.txt")):
        found = []
        for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
            parts = COLOURED.fullmatch(line)
            if parts is not None and not line.startswith("#") and line != LABELMAP_HEADING:
                red, green, blue = (int(part) for part in parts.groups()[1:])
                found.append(FoundClass(parts[1], colour=(red, green, blue)))
        return found, path.name
    for name in NAME_LISTS:
        for path in sorted(root.rglob(name)):
            lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
            return [FoundClass(line.strip()) for line in lines if line.strip()], path.name
    for path in sorted(root.rglob("*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8-sig")) if path.stat().st_size < 1 << 28 else None
        except (ValueError, RecursionError):
            continue
        if isinstance(document, dict) and isinstance(document.get("categories"), list):
            listed = [each.get("name") for each in document["categories"] if isinstance(each, dict)]
            return [FoundClass(name) for name in listed if isinstance(name, str)], path.name
    return [], ""


def mask_contents(masks: Sequence[Path]) -> MaskContents:
    """What is in the masks, or in some of them drawn at random; BadInput if some are coloured and some are not."""
    if len(masks) > MOST_MASKS:
        chosen = stream(0, "init", "masks").choice(len(masks), MOST_MASKS, replace=False)
        masks = [masks[place] for place in sorted(chosen.tolist())]
    kinds: dict[Encoding, Path] = {}
    counts: Counter[Any] = Counter()
    black = 0  # pixels of RGB masks of zeros, which are values as well as colours
    for path in masks:
        encoding, pixels = contents_of_large(path) if is_large(path) else contents_of_mask(path)
        if encoding == "color" and not pixels.any():
            black += pixels[..., 0].size
            continue
        if encoding == "color" and (pixels == pixels[..., :1]).all():
            encoding, pixels = "index", pixels[..., 0]
        kinds.setdefault(encoding, path)
        flat = pixels.reshape(-1, 3) if encoding == "color" else pixels.ravel()
        values, number = np.unique(flat, axis=0, return_counts=True)
        names = map(tuple, values.tolist()) if encoding == "color" else values.tolist()
        counts.update(dict(zip(names, number.tolist(), strict=True)))
    if len(kinds) > 1:
        raise BadInput(f"{kinds['color']} has colours and {kinds['index']} has values. Use one kind of masks.")
    kind: Encoding = next(iter(kinds), "index")
    if black:
        counts[0 if kind == "index" else (0, 0, 0)] += black
    return MaskContents(kind, counts)


def in_one_channel(contents: MaskContents, notes: list[str]) -> MaskContents:
    """Colours as values if all are in one channel, beside zeros, as `prepare` reads them."""
    used = [channel for channel in range(3) if any(colour[channel] for colour in contents.counts)]
    if len(used) != 1:
        return contents
    notes.append(f"class values are in the {('red', 'green', 'blue')[used[0]]} channel of the masks")
    return MaskContents("index", {colour[used[0]]: count for colour, count in contents.counts.items()})


def halved(contents: MaskContents, known: Collection[int | None], notes: list[str]) -> MaskContents:
    """Bytes that are written twice as bytes, unless they are ``known`` as they are, as `prepare` reads them."""
    doubled = [value for value in contents.counts if value > VOID]
    if not doubled or any(value % DOUBLED for value in contents.counts) or {*doubled} & {*known}:
        return contents
    notes.append(f"16-bit values of the masks are bytes written twice ({DOUBLED} for value 1)")
    return MaskContents("index", {value // DOUBLED: count for value, count in contents.counts.items()})


def is_smoothed(contents: MaskContents) -> bool:
    """Whether masks of two values, 0 and 255, have smoothed edges."""
    exact = sum(contents.counts.get(value, 0) for value in (0, VOID))
    return len(contents.counts) > 4 and exact > sum(contents.counts.values()) / 2 and max(contents.counts) <= VOID


def contents_of_mask(path: Path) -> tuple[Encoding, np.ndarray]:
    with image_file(path) as image:
        encoding: Encoding = "color" if image.mode in ("RGB", "RGBA") else "index"
    return encoding, read_mask(path, encoding)


def contents_of_large(path: Path) -> tuple[Encoding, np.ndarray]:
    """The values of evenly spaced pixels of a mask that is too large to be read whole."""
    with open_raster(path) as raster:
        pixels = raster.reduced(target_size(*raster.size, long_side=min(LARGE_SIDE, max(raster.size))))
        colours = raster.colour_bands
    return ("color", pixels[..., colours[:3]]) if len(colours) >= 3 else ("index", pixels[..., colours[0]])


def unnamed(root: Path, contents: MaskContents | None) -> str:
    """What to do about classes without names."""
    if contents is None:
        return f"{root} has no table of classes (labelmap.txt, classes.txt). Name them with --classes road,car,..."
    listed = listing(contents)
    if contents.encoding == "color":
        return f"The masks have the colours {listed}. Name them with --classes NAME=#RRGGBB,..."
    return f"The masks have the values {listed}. Name them with --classes NAME=VALUE,..."


def listing(contents: MaskContents) -> str:
    values = sorted(contents.counts)
    total = sum(contents.counts.values())
    told = [f"{shown(value)} ({100 * contents.counts[value] / total:.1f} %)" for value in values[:MOST_LISTED]]
    return ", ".join([*told, *(["..."] if len(values) > MOST_LISTED else [])])


def shown(value: Any) -> str:
    return str(value) if isinstance(value, int) else "#{:02x}{:02x}{:02x}".format(*value)


def index_table(
    classes: Sequence[FoundClass], void: Sequence[FoundClass], contents: MaskContents, notes: list[str]
) -> ClassTable:
    """Classes with their values; BadInput if the values of the masks are not theirs."""
    numbered = [each.value is not None for each in classes]
    if any(numbered) and not all(numbered):
        raise BadInput("--classes gives values for some classes. Give a value for each, NAME=VALUE, or for none.")
    found = [each if each.value is not None else replace(each, value=place) for place, each in enumerate(classes)]
    known, ignore = ({each.value for each in several if each.value is not None} for several in (found, void))
    contents = halved(contents, known | ignore, notes)
    if is_smoothed(contents) and known == {0, VOID}:
        notes.append("the masks have smoothed edges: values from 128 on count as 255, others as 0 (binarise)")
        return ClassTable(tuple(coloured(found)), "index", tuple(sorted(ignore)), tuple(notes), binarise=128)
    others = sorted(set(contents.counts) - known - ignore)
    if others == [VOID] and {*contents.counts} != {0, VOID}:
        ignore.add(VOID)
        notes.append("value 255 is void")
        others = []
    if others and is_smoothed(contents) and len(found) == 2:
        raise Undecided(
            "The masks have values between 0 and 255, as smoothed edges make them. Pass --classes NAME=0,NAME=255.",
            "classes",
        )
    if others:
        raise Undecided(
            f"The masks have the values {listing(contents)}, but the classes have "
            f"{', '.join(map(str, sorted(known)))}. Pass --classes NAME=VALUE,... for all values; name one void if it "
            "is not learned.",
            "classes",
        )
    if not any(numbered):
        notes.append(f"mask values in this order: {', '.join(f'{each.value} {each.name}' for each in found[:6])}")
    missing = [each.name for each in found if each.value not in contents.counts]
    if missing:
        notes.append(f"not in the masks looked into: {', '.join(missing)}")
    return ClassTable(tuple(coloured(found)), "index", tuple(sorted(ignore)), tuple(notes))


def colour_table(
    classes: Sequence[FoundClass], void: Sequence[FoundClass], contents: MaskContents, notes: list[str]
) -> ClassTable:
    """Classes with their colours; BadInput if the colours of the masks are not theirs."""
    if lacking := [each.name for each in classes if each.colour is None]:
        raise Undecided(
            f"The masks have the colours {listing(contents)}, but class {lacking[0]} has none. Pass --classes "
            "NAME=#RRGGBB,...",
            "classes",
        )
    known = {each.colour for each in (*classes, *void)}
    if others := sorted(set(contents.counts) - known):
        raise Undecided(
            f"The masks have colours that no class has, such as {shown(others[0])}: {listing(contents)}. Pass all with "
            "--classes NAME=#RRGGBB,...; name a colour void if it is not to be learned.",
            "classes",
        )
    return ClassTable(
        tuple(classes), "color", tuple(each.colour for each in void if each.colour is not None), tuple(notes)
    )


def coloured(classes: Sequence[FoundClass]) -> list[FoundClass]:
    """The classes with a colour for display each, all different."""
    taken = {each.colour for each in classes if each.colour is not None}
    free = [colour for colour in COLOURS if colour not in taken]
    found = []
    for place, each in enumerate(classes):
        colour = each.colour
        if colour is None:
            colour = free.pop(0) if free else more_colours(place)
        found.append(replace(each, colour=colour))
    return found


def more_colours(place: int) -> Colour:
    """A colour for class number ``place`` beyond the list."""
    red, green, blue = stream(0, "class colour", place).integers(40, 240, 3).tolist()
    return red, green, blue
