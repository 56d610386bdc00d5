"""What is in a folder of images that nobody described: images, their masks, splits, classes.

Nothing is guessed in silence: each finding is a sentence, and what can be read in two ways is a fault that names the
option that decides.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from stages.datasets.shapes.files import ENDINGS as SHAPES
from stages.datasets.shapes.files import files_below, read_drawings
from stages.images.image_files import ENDINGS, Contents
from stages.images.rasters import contents_of_file, images_among
from stages.pixels.grids import Size
from stages.runtime.errors import BadInput, Undecided

LOSSLESS = (".png", ".tif", ".tiff", ".bmp", ".gif", ".npy")
"""Endings that masks can have."""
MOST_LOOKED_INTO = 20  # files that may contain shapes
MASK_WORDS = "masks?|labels?|labelled|labeled|gt|annotations?|annot|ann|seg|segmentation|segmentationclass|truth|l"
MASK_SUFFIX = re.compile(rf"^(?P<stem>.+?)[_.\- ]+(?:{MASK_WORDS})$", re.I)
IMAGE_SUFFIX = re.compile(r"^(?P<stem>.+?)[_.\- ]+(?:images?|img|rgb|sat|photo)$", re.I)
MASK_FOLDER = re.compile(rf"^(?:.*[_.\- ])?(?:{MASK_WORDS})s?$|^.+(?:annot|masks?|labels?)$", re.I)
IMAGE_FOLDER = re.compile(r"^(?:.*[_.\- ])?(?:images?|imgs?|jpegimages|photos?|rgb|pictures?|data)$", re.I)
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
          "test": "test", "testing": "test"}  # fmt: skip
SPLIT_FOLDER = re.compile(rf"^({'|'.join(SPLITS)})(?:[_.\- ]?(?:{MASK_WORDS}|images?|img))?$", re.I)
COLOURS_AND_ALPHA = 4
USUAL_PERCENTILES = (1, 99)
NUMBER = re.compile(
    r"^(?:(?P<group>.+?)(?:[_.\- ]+(?:x|y|r|c|f|row|col|tile|frame)?[_\-]?\d+)+|(?P<series>[a-z]*)\d+)$", re.I
)


@dataclass(frozen=True)
class Survey:
    """The images of a folder by path relative to it, sorted, with what belongs to them.

    masks: image -> mask; splits: image -> split, empty if neither folders nor lists name any; sizes: (height, width);
    notes: findings in words. reading: keys for [images] of the description, by which the images can be read.
    """

    root: Path
    images: list[str]
    masks: dict[str, str]
    splits: dict[str, str]
    sizes: dict[str, Size]
    notes: list[str] = field(default_factory=list)
    reading: dict[str, Any] = field(default_factory=dict)

    @property
    def ids(self) -> dict[str, str]:
        """image -> a short unique name: the path without its ending and without folders that all images share."""
        parts = {image: PurePosixPath(image).with_suffix("").parts for image in self.images}
        shared = 0
        while all(len(each) > shared + 1 for each in parts.values()) and len({p[shared] for p in parts.values()}) == 1:
            shared += 1
        return {image: "/".join(each[shared:]) for image, each in parts.items()}


def survey(root: Path, masks: Path | None = None, with_splits: bool = True) -> Survey:
    """Looks at all image files below ``root``; ``masks``: the folder below which the masks are.

    ``with_splits``: whether to look for splits in the names of folders and in lists.

    BadInput for a folder without images, for files that cannot be read, and for what can be read in two ways.
    """
    if not root.is_dir():
        raise BadInput(f"{root} is not a folder. Pass the folder with your images.")
    found = [file for file in root.rglob("*") if file.is_file() and not hidden(file.relative_to(root))]
    files = sorted(file.relative_to(root).as_posix() for file in images_among(found))
    if not files:
        raise BadInput(f"{root} contains no images ({', '.join(ENDINGS)}). Pass the folder with your images.")
    pairs, how = paired(files, None if masks is None else below(root, masks))
    images = sorted(set(files) - set(pairs.values()) - masks_beside(files) - orphans(files, pairs, how))
    sizes, reading, notes = measured(root, images)
    notes += mask_notes(root, images, pairs, how) + shape_notes(root)
    splits, told = split_of_images(root, images) if with_splits else ({}, [])
    return Survey(root, images, pairs, splits, sizes, notes + told, reading)


def hidden(path: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def below(root: Path, folder: Path) -> str:
    """``folder`` relative to ``root``, where it may be given so already."""
    for found in (folder, root / folder):
        if found.is_dir() and root.resolve() in (found.resolve(), *found.resolve().parents):
            return found.resolve().relative_to(root.resolve()).as_posix()
    raise BadInput(f"--masks {folder} is not a folder below {root}. Pass one.")


def paired(files: Sequence[str], folder: str | None) -> tuple[dict[str, str], str]:
    """image -> mask, and how they belong together: by names such as a_mask.png beside a.jpg, or by folders.

    BadInput if both ways find masks.
    """
    beside = masks_beside(files)
    if folder is not None:
        inside = [file for file in files if file.startswith(f"{folder}/")]
        others = beside | {*inside}
        return by_ending([file for file in files if file not in others], inside, folder), f"in {folder}"
    by_name = by_suffix(files)
    masks = [file for file in files if in_mask_folder(file)]
    images = [file for file in files if not in_mask_folder(file) and file not in beside]
    by_place = by_folder(images, masks) if images else {}
    if by_name and by_place:
        raise Undecided(
            f"Masks are found beside images ({next(iter(by_name.values()))}) and in folders of their own "
            f"({next(iter(by_place.values()))}). Pass the folder of the masks with --masks.",
            "masks",
        )
    if by_place:
        folders = sorted({PurePosixPath(mask).parent.as_posix() for mask in by_place.values()})
        return by_place, f"in {', '.join(folders[:3])}{', ...' if len(folders) > 3 else ''}"
    return by_name, "beside the images"


def masks_beside(files: Sequence[str]) -> set[str]:
    """The files whose names say that they are masks of an image beside them."""
    stems: set[tuple[PurePosixPath, str]] = set()
    found: dict[str, tuple[PurePosixPath, str]] = {}
    for path in map(PurePosixPath, files):
        image, mask = IMAGE_SUFFIX.match(path.stem), MASK_SUFFIX.match(path.stem)
        stems.add((path.parent, (image["stem"] if image else path.stem).lower()))
        if mask and path.suffix.lower() in LOSSLESS:
            found[path.as_posix()] = path.parent, mask["stem"].lower()
    return {file for file, stem in found.items() if stem in stems}


def by_suffix(files: Sequence[str]) -> dict[str, str]:
    """Pairs in one folder: a_mask.png belongs to a.jpg, a.png, or a_image.png."""
    images: dict[tuple[str, str], list[str]] = defaultdict(list)
    masks: dict[tuple[str, str], list[str]] = defaultdict(list)
    for file in files:
        path = PurePosixPath(file)
        found = MASK_SUFFIX.match(path.stem)
        if found and path.suffix.lower() in LOSSLESS:
            masks[path.parent.as_posix(), found["stem"].lower()].append(file)
        image = IMAGE_SUFFIX.match(path.stem)
        images[path.parent.as_posix(), (image["stem"] if image else path.stem).lower()].append(file)
    return only_pairs({key: [each for each in images[key] if each not in masks[key]] for key in masks}, masks)


def by_folder(images: Sequence[str], masks: Sequence[str]) -> dict[str, str]:
    """Pairs in parallel folders: the same name below the folders that say what they contain."""
    left: dict[tuple[str, ...], list[str]] = defaultdict(list)
    right: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for files, found in ((images, left), (masks, right)):
        for file in files:
            found[plain_name(file)].append(file)
    return only_pairs(left, right)


def by_ending(images: Sequence[str], masks: Sequence[str], folder: str) -> dict[str, str]:
    """Pairs for a given folder of masks: the path of an image ends with that of its mask below the folder."""
    plain: dict[str, list[str]] = defaultdict(list)
    for image in images:
        plain[plain_name(image)[-1]].append(image)
    left: dict[str, list[str]] = {}
    for mask in masks:
        name = plain_name(mask.removeprefix(f"{folder}/"))
        left[mask] = [image for image in plain[name[-1]] if plain_name(image)[-len(name) :] == name]
    return only_pairs(left, {mask: [mask] for mask in masks})


def plain_name(file: str) -> tuple[str, ...]:
    """The parts of a path without words for images, masks and splits of images, in lower case."""
    path = PurePosixPath(file)
    folders = []
    for part in path.parts[:-1]:
        split = SPLIT_FOLDER.match(part)
        if split:
            folders.append(SPLITS[split[1].lower()])
        elif not MASK_FOLDER.match(part) and not IMAGE_FOLDER.match(part):
            folders.append(part.lower())
    stem = path.stem
    for pattern in (MASK_SUFFIX, IMAGE_SUFFIX):
        found = pattern.match(stem)
        stem = found["stem"] if found else stem
    return (*folders, stem.lower())


def in_mask_folder(file: str) -> bool:
    path = PurePosixPath(file)
    return path.suffix.lower() in LOSSLESS and any(MASK_FOLDER.match(part) for part in path.parts[:-1])


def only_pairs(images: Mapping[Any, Sequence[str]], masks: Mapping[Any, Sequence[str]]) -> dict[str, str]:
    """image -> mask of equal keys; BadInput if one has several partners."""
    found = {}
    for key, given in masks.items():
        having = images.get(key, [])
        if len(having) > 1 or (having and len(given) > 1):
            names = ", ".join([*having, *given])
            raise Undecided(
                f"{names}: it is not clear which mask belongs to which image. Pass --masks, or rename them.", "masks"
            )
        if having:
            found[having[0]] = given[0]
    return found


def orphans(files: Iterable[str], pairs: Mapping[str, str], how: str) -> set[str]:
    """Masks without an image, which are no images either."""
    known = {*pairs, *pairs.values()}
    folders = {PurePosixPath(mask).parent for mask in pairs.values()} if how != "beside the images" else set()
    rest = {file for file in files if file not in known}
    return {file for file in rest if PurePosixPath(file).parent in folders} | {
        file for file in rest if pairs and how == "beside the images" and MASK_SUFFIX.match(PurePosixPath(file).stem)
    }


def measured(root: Path, images: Sequence[str]) -> tuple[dict[str, Size], dict[str, Any], list[str]]:
    """The size of each image, the keys by which they can be read, and what kinds there are, in words.

    BadInput with the faults of all that cannot be read, for several pictures in one file, and for bands that differ.
    """
    found: dict[str, Contents] = {}
    faults: list[str] = []
    for image in images:
        try:
            found[image] = contents_of_file(root / image)
            if found[image].pages > 1:
                faults.append(
                    f"{root / image} contains {found[image].pages} pictures. Save each that you need as a file of its "
                    "own, or write a description with page under [images] (docs/how-to/own-data.md)."
                )
        except BadInput as error:
            faults += error.faults
    if faults:
        raise BadInput(faults)
    sizes = {image: each.size for image, each in found.items()}
    smallest, largest = min(sizes.values(), key=area), max(sizes.values(), key=area)
    across = told_size(smallest) if smallest == largest else f"{told_size(smallest)} to {told_size(largest)}"
    kinds, bands, depths = (
        Counter(values(each) for each in found.values())
        for values in (lambda each: each.form, lambda each: each.bands, lambda each: told_depth(each))
    )
    named = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    noun = "band" if {*bands} == {1} else "bands"
    several = f"{', '.join(map(str, sorted(bands)))} {noun} of {', '.join(sorted(depths))}"
    reading, notes = reading_of(found.values())
    return sizes, reading, [f"{len(images)} images: {named}, {across}, {several}", *notes]


def told_depth(found: Contents) -> str:
    kind = "floating point" if found.dtype.kind == "f" else "bits"
    return f"{8 * found.dtype.itemsize} {kind}" if kind == "bits" else f"{8 * found.dtype.itemsize}-bit {kind}"


def reading_of(found: Iterable[Contents]) -> tuple[dict[str, Any], list[str]]:
    """The keys for [images] that images of these contents need, and what they mean, in words."""
    reading: dict[str, Any] = {}
    notes = []
    bands = {each.bands for each in found}
    if max(bands) > COLOURS_AND_ALPHA:
        if len(bands) > 1:
            numbers = ", ".join(map(str, sorted(bands)))
            raise BadInput(
                f"The images have different numbers of bands ({numbers}). Put each kind into its own folder."
            )
        reading["bands"] = "all"
        notes.append('all bands go into the network (bands = "all"); the first three are shown as red, green and blue')
    if any(each.form == "TIFF" and each.bands == COLOURS_AND_ALPHA for each in found):
        notes.append('the fourth band is left out; set bands = "all" under [images] if it is no transparency')
    if any(each.is_deep for each in found):
        reading["percentiles"] = list(USUAL_PERCENTILES)
        notes.append(
            "values are scaled to 8 bits between the {} and {} % percentiles of the pool (percentiles)".format(
                *USUAL_PERCENTILES
            )
        )
    return reading, notes


def area(size: Size) -> int:
    return size[0] * size[1]


def told_size(size: Size) -> str:
    return f"{size[1]}x{size[0]}"


def mask_notes(root: Path, images: Sequence[str], pairs: Mapping[str, str], how: str) -> list[str]:
    if not pairs:
        return ["no masks: people answer"]
    lacking = [image for image in images if image not in pairs]
    notes = [f"{len(pairs)} of {len(images)} images have masks, {how}, such as {next(iter(pairs.values()))}"]
    return notes + ([f"without a mask: {', '.join(lacking[:3])}{', ...' if lacking[3:] else ''}"] if lacking else [])


def shape_notes(root: Path) -> list[str]:
    """Shapes that somebody drew are no masks unless somebody says so: they may be of a few objects only."""
    found = files_below(root, SHAPES)
    readable = next((file for file in found[:MOST_LOOKED_INTO] if has_shapes(file)), None)
    if readable is None:
        return []
    others = f" and {len(found) - 1} more files" if len(found) > 1 else ""
    return [
        f"shapes that somebody drew, such as {readable.relative_to(root).as_posix()}{others}, are not read as masks: "
        'pass them to alseg import-labels, or describe them as masks with encoding = "polygons"'
    ]


def has_shapes(file: Path) -> bool:
    with suppress(BadInput):
        return any(drawing.shapes for drawing in read_drawings(file))
    return False


def split_of_images(root: Path, images: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The split of each image by folders such as train/, or by lists such as train.txt; empty if there are none."""
    by_place = {image: SPLITS[match[1].lower()] for image in images if (match := split_folder(image))}
    if by_place:
        lacking = [image for image in images if image not in by_place]
        if lacking:
            raise Undecided(
                f"{len(lacking)} images, such as {lacking[0]}, are in no folder of a split, but others are in "
                f"{', '.join(sorted(set(by_place.values())))}. Move them into one, or pass --shares to draw splits.",
                "shares",
            )
        return by_place, [f"splits by folders: {counted(by_place)}"]
    lists = {file: SPLITS[file.stem.lower()] for file in sorted(root.rglob("*.txt")) if file.stem.lower() in SPLITS}
    stems: dict[str, list[str]] = defaultdict(list)
    for image in images:
        stems[PurePosixPath(image).stem].append(image)
    found: dict[str, str] = {}
    for file, split in lists.items():
        for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines():
            word = line.split()[0] if line.split() else ""
            path = PurePosixPath(word)
            named = path.stem if path.suffix.lower() in ENDINGS else path.name
            for image in stems.get(named, []):
                if found.setdefault(image, split) != split:
                    raise BadInput(f"{file}: {image} is also in split {found[image]}. Keep it in one list.")
    unlisted = [image for image in images if image not in found]
    if found and unlisted:
        return found, [f"splits by lists: {counted(found)}; {len(unlisted)} images are in no list and are left out"]
    return found, [f"splits by lists: {counted(found)}"] if found else []


def split_folder(image: str) -> re.Match[str] | None:
    return next(filter(None, map(SPLIT_FOLDER.match, PurePosixPath(image).parts[:-1])), None)


def counted(splits: Mapping[str, str]) -> str:
    return ", ".join(f"{count} {split}" for split, count in Counter(splits.values()).most_common())


def groups_of(images: Sequence[str]) -> dict[str, str]:
    """image -> what it has in common with others in name: the video of a frame, the scene of a tile, its folder.

    Names are cut before the numbers at their end. If that leaves one group, or none with two images, each image is one.
    """
    groups = {}
    for image in images:
        path = PurePosixPath(image)
        found = NUMBER.match(path.stem)
        name = path.stem if found is None else found["group"] or found["series"]
        groups[image] = f"{path.parent.as_posix()}/{name}"
    counts = Counter(groups.values())
    if len(counts) < 3 or max(counts.values()) < 2:
        return {image: image for image in images}
    return groups
