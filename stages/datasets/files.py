"""The files of a dataset: images by split, each with its mask and its polygon file."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from stages.datasets.description import DatasetDescription, Split
from stages.datasets.image_labels import NO_LABEL, labels_by_name, labels_from_json
from stages.datasets.patterns import Match, field_names, fill, find_matches, literal_length
from stages.datasets.tiles import Tile
from stages.images.image_files import ENDINGS
from stages.runtime.file_names import is_utf8, readable


@dataclass(frozen=True)
class Sample:
    """One image of a dataset with its mask and its polygon file, if it has them.

    ``label``: its class by its name or by the JSON file; -1 if there is none, or if the mask decides. ``tile``: the
    part of the files that it is, if they are cut.
    """

    id: str
    split: str
    image: Path
    mask: Path | None
    polygons: Path | None = None
    label: int = NO_LABEL
    tile: Tile | None = None


def find_samples(description: DatasetDescription, root: Path) -> tuple[list[Sample], list[str]]:
    """The samples of all splits below ``root``, and the faults found, one sentence each.

    Samples are sorted by (place of the split in the description, id). Ids that occur in several splits begin with the
    split, and those that occur in several folders are the path of the image without its ending. Nothing is opened but
    list files and the JSON file of image labels.
    A description with a generator has no files and gives two empty lists.
    """
    if description.generator is None and not root.is_dir():
        return [], [f"--root {root} is not a folder. Pass the folder with the files of {description.name}."]
    samples: list[Sample] = []
    faults: list[str] = []
    if description.files is not None:
        samples, faults = _listed_samples(description, root)
    for name, split in description.splits.items():
        found, wrong = _find_split(name, split, root)
        samples += found
        faults += wrong
    labels, wrong = _find_labels(description, root, list(dict.fromkeys(sample.id for sample in samples)))
    samples = [replace(sample, label=labels.get(sample.id, NO_LABEL)) for sample in samples]
    samples = _with_unique_ids(samples, root)
    return samples, faults + _id_faults(samples) + _utf8_faults(samples) + wrong


def _with_unique_ids(samples: list[Sample], root: Path) -> list[Sample]:
    """``samples`` with longer ids where several have the same."""
    alike: dict[str, list[Sample]] = {}
    for sample in samples:
        alike.setdefault(sample.id, []).append(sample)
    ids: dict[int, str] = {}
    for rivals in alike.values():
        if len(rivals) == 1:
            continue
        by_split = len({sample.split for sample in rivals}) == len(rivals)
        for sample in rivals:
            path = sample.image.relative_to(root).with_suffix("").as_posix()
            ids[id(sample)] = f"{sample.split}/{sample.id}" if by_split else path
    return [replace(sample, id=ids.get(id(sample), sample.id)) for sample in samples]


def _id_faults(samples: list[Sample]) -> list[str]:
    """A fault for each image in two splits, and for each two images of one name in one folder."""
    images: dict[Path, Sample] = {}
    ids: dict[str, Sample] = {}
    faults = []
    for sample in samples:
        same, alike = images.setdefault(sample.image, sample), ids.setdefault(sample.id, sample)
        if same is not sample:
            faults.append(
                f"The image {sample.image} is in split {same.split} and in split {sample.split}. Keep it in one of "
                "them."
            )
        elif alike is not sample:
            faults.append(
                f"{alike.image} and {sample.image} are both image {sample.id!r}. Rename one of them, or name both in "
                "a table of files."
            )
    return faults


def stamp(path: Path) -> list[Any]:
    """What changes with a file, read without opening it: size and modification time alone can be set back."""
    found = path.stat()
    return [path.name, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _utf8_faults(samples: list[Sample]) -> list[str]:
    """A fault for each file whose name is not UTF-8, which no text can contain."""
    return [
        f"The name of {readable(str(path))} is not UTF-8. Rename the file."
        for sample in samples
        for path in (sample.image, sample.mask, sample.polygons)
        if path is not None and not is_utf8(str(path))
    ]


def _find_labels(description: DatasetDescription, root: Path, ids: list[str]) -> tuple[dict[str, int], list[str]]:
    """The image-level classes of ``ids`` that are known without opening images or masks, and the faults found."""
    wanted = description.image_labels
    if wanted is None or not ids:
        return {}, []
    if wanted.source == "name":
        return labels_by_name(ids, description.image_classes)
    if wanted.file is not None:
        return labels_from_json(root / wanted.file, ids, description.image_classes)
    return {}, []


def _listed_samples(description: DatasetDescription, root: Path) -> tuple[list[Sample], list[str]]:
    """The samples of a table of files, and a fault for each file that does not exist."""
    places = description.listed.splits
    rows = sorted(description.listed.rows, key=lambda row: (places.index(row.split), row.id))
    samples = [Sample(row.id, row.split, root / row.image, root / row.mask if row.mask else None) for row in rows]
    files = [path for sample in samples for path in (sample.image, sample.mask) if path is not None]
    faults = [
        f"{description.listed.path} lists {path}, which does not exist. Check --root and the table."
        for path in files
        if not path.is_file()
    ]
    return samples, faults


def _find_split(name: str, split: Split, root: Path) -> tuple[list[Sample], list[str]]:
    split, matches = _present(split, root)
    masks_found = [find_matches(root, pattern) for pattern in split.mask_patterns]
    images = sorted(_without_masks(split, matches, masks_found), key=lambda image: image.fields["id"])
    if not images:
        wanted = ", ".join(fill(layout.images, {}) for layout in (split, *split.layouts))
        return [], [f"Split {name}: nothing matches {wanted} under {root}. Check --root and splits.{name}.images."]
    faults: list[str] = []
    if split.lists:
        listed, faults = _read_lists(split, images, root)
        images = [image for image in images if image.fields["id"] in listed]
    masks: list[Path | None] = [None] * len(images)
    if split.mask_patterns:
        masks, wrong = _pair_masks(name, split, images, masks_found, root)
        faults += wrong
    polygons: list[Path | None] = [None] * len(images)
    if split.polygons is not None:
        polygons, wrong = _pair_polygons(name, split, split.polygons, images, root)
        faults += wrong
    samples = [
        Sample(image.fields["id"], name, image.path, mask, outlines)
        for image, mask, outlines in zip(images, masks, polygons, strict=True)
    ]
    return samples, faults


def _present(split: Split, root: Path) -> tuple[Split, list[Match]]:
    """``split`` in the first of its layouts that has images, and these; as it is if none has any."""
    for layout in (split, *split.layouts):
        if matches := find_matches(root, layout.images):
            return split.in_layout(layout), matches
    return split, []


def _without_masks(split: Split, images: list[Match], masks: list[list[Match]]) -> list[Match]:
    """``images`` without the files that a mask pattern describes more closely, as a_mask.png beside a.png."""
    own = literal_length(split.images)
    patterns = zip(split.mask_patterns, masks, strict=True)
    closer = {match.path for pattern, found in patterns if literal_length(pattern) > own for match in found}
    return [image for image in images if image.path not in closer]


def _read_lists(split: Split, images: list[Match], root: Path) -> tuple[set[str], list[str]]:
    """The ids in the list files of ``split`` without those that it leaves out, and a fault for each unusable one.

    A line is an id, or the name or the path of an image, with or without its ending.
    """
    names = _names_of(images, root)
    removed, faults = (set(), []) if split.without is None else _read_list(root / split.without, names)
    known, ids = {image.fields["id"] for image in images}, set()
    for file in split.lists:
        listed, wrong = _read_list(root / file, names)
        ids |= listed
        faults += [
            f"{root / file} lists {id!r}, but {fill(split.images, {'id': id})} does not exist. Add the file or remove "
            "the id."
            for id in sorted(listed - known - removed)
        ] + wrong
    return ids - removed, faults


def _names_of(images: list[Match], root: Path) -> dict[str, str]:
    """The ids of ``images`` by what a list may call them; names of several images are left out."""
    found: dict[str, set[str]] = {}
    for image in images:
        path = PurePosixPath(image.path.relative_to(root).as_posix())
        for name in (path.as_posix(), path.with_suffix("").as_posix(), path.name, path.stem):
            found.setdefault(name, set()).add(image.fields["id"])
    own = {image.fields["id"]: image.fields["id"] for image in images}
    return {name: ids.pop() for name, ids in found.items() if len(ids) == 1} | own


def _listed_id(line: str, names: dict[str, str]) -> str:
    """The id of the image that a list calls ``line``; ``line`` without an ending if there is none."""
    path = PurePosixPath(line.replace("\\", "/"))
    bare = path.with_suffix("") if path.suffix.lower() in ENDINGS else path
    ways = (line, path.as_posix(), bare.as_posix(), path.name, bare.name)
    return next((names[way] for way in ways if way in names), bare.as_posix())


def _read_list(path: Path, names: dict[str, str]) -> tuple[set[str], list[str]]:
    """The ids in the list file ``path``, one per line, and a fault for each that cannot be used.

    ``names``: see `_names_of`.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        return set(), [f"The list {path} cannot be read ({error}). Check --root and the key list."]
    listed = Counter(line.strip() for line in lines if line.strip())
    if not listed:
        return set(), [f"The list {path} is empty. Write one id per line."]
    return {_listed_id(line, names) for line in listed}, [
        f"{path} lists {id!r} {times} times. List it once." for id, times in listed.items() if times > 1
    ]


def _pair_masks(
    name: str, split: Split, images: list[Match], masks: list[list[Match]], root: Path
) -> tuple[list[Path | None], list[str]]:
    """The mask of each image, and a fault for each image or mask without a partner.

    ``masks``: the files that each mask pattern matches.
    """
    patterns, known = split.mask_patterns, {image.path for image in images}
    found = [[match for match in each if match.path not in known] for each in masks]
    if not any(found):
        wanted = " or ".join(fill(pattern, {}) for pattern in patterns)
        return [None] * len(images), [
            f"Split {name} has no masks at all: nothing matches {wanted} under {root}. "
            f"Correct splits.{name}.masks, or remove it for a pool without masks."
        ]
    files, taken = list(found[0]), {match.fields.get("id") for match in found[0]}
    for later in found[1:]:  # an image has the mask of the first pattern that gives it one
        files += [match for match in later if match.fields.get("id") not in taken]
        taken |= {match.fields.get("id") for match in later}
    return _pair(split, patterns, images, files, root, "mask", "Add the mask or remove the image")


def _pair_polygons(
    name: str, split: Split, pattern: str, images: list[Match], root: Path
) -> tuple[list[Path | None], list[str]]:
    """The polygon file of each image, and a fault for each image or file without a partner; no files at all are fine.

    Datasets are often distributed without them, and the counts of some images could not be compared with the rest.
    """
    files = find_matches(root, pattern)
    shared = field_names(pattern)
    if split.lists:  # polygon files of other splits are not those of this one
        known = {_key(image, shared) for image in images}
        files = [match for match in files if _key(match, shared) in known]
    if not files:
        return [None] * len(images), []
    remedy = f"Add it, or remove splits.{name}.polygons from the description to use none"
    return _pair(split, (pattern,), images, files, root, "polygon file", remedy)


def _pair(
    split: Split,
    patterns: tuple[str, ...],
    images: list[Match],
    files: list[Match],
    root: Path,
    noun: str,
    remedy: str,
) -> tuple[list[Path | None], list[str]]:
    """The one of ``files`` (found by ``patterns``, a ``noun`` each) that has the fields of each image, and the faults.

    ``remedy`` is what to do about an image that has no file.
    """
    shared = field_names(patterns[0])
    partners: dict[tuple[str, ...], list[Path]] = {}
    for match in files:
        partners.setdefault(_key(match, shared), []).append(match.path)
    faults = []
    for image in images:
        found = partners.get(_key(image, shared), [])
        if not found:
            wanted = " or ".join(str(root / fill(pattern, image.fields)) for pattern in patterns)
            faults.append(f"The image {image.path} has no {noun} {wanted}. {remedy}.")
        if len(found) > 1:
            rivals = ", ".join(map(str, found))
            faults.append(f"The image {image.path} has {len(found)} {noun}s ({rivals}). Keep one.")
    if not split.lists:  # with a list, further files belong to images of other splits
        known = {_key(image, shared) for image in images}
        for rest, paths in partners.items():
            if rest not in known:
                lacking = root / fill(split.images, dict(zip(shared, rest, strict=True)))
                faults += [
                    f"The {noun} {path} has no image {lacking}. Add the image or remove the {noun}." for path in paths
                ]
    return [partners.get(_key(image, shared), [None])[0] for image in images], faults


def _key(match: Match, shared: list[str]) -> tuple[str, ...]:
    return tuple(match.fields[field] for field in shared)
