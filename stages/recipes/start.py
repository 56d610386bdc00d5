"""`alseg init`: from a folder of images to a run that `alseg next` takes on."""

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.artifacts.dataset import Dataset
from stages.artifacts.publish import make_folder, publish_bytes
from stages.datasets.class_tables import ClassTable, FoundClass, find_classes
from stages.datasets.division import divide_groups
from stages.datasets.listed import ListedFile, file_table
from stages.datasets.survey import Survey, counted, groups_of, survey
from stages.pixels.grids import Size
from stages.recipes.profile import load_profile
from stages.recipes.recipe import Recipe, load_recipe
from stages.recipes.tiled_start import CPU_TILE, FEW, UNDIVIDED, TilePlan, by_blocks, tile_side
from stages.registry import STAGES
from stages.runtime.console import say
from stages.runtime.errors import BadInput, Undecided
from stages.runtime.memory import free_device_memory
from stages.runtime.randomness import stream_key
from stages.runtime.resources import data_folder
from stages.settings.prepare import PrepareSettings
from stages.settings.toml_files import RUN_FILE

DESCRIPTION, FILES, DATASET, PROFILE = "description.toml", "files.csv", "dataset.h5", "profile.toml"
SPLITS = ("train", "val", "test")
SHARES = (0.7, 0.1, 0.2)
CPU_SIDE, GPU_SIDE = 320, 1024  # longer side of the images that are trained on
LARGEST_CROP, CROP_MULTIPLE = 512, 32
BYTES_PER_PIXEL = 6000  # of training on a pixel of a crop in float32: DeepLabV3+ on a ResNet-50 at stride 16
BATCHES = (2, 16)
MANY, AT_A_TIME = 60, 40  # images in the pool that no person is asked about in each round; how many instead
SMALL = 1 / 8  # scale below which a person is told of tiles
CONTROL_SHARE = 0.1


@dataclass(frozen=True)
class Wishes:
    """What a person decides; None: `alseg init` derives it."""

    classes: str | None = None
    masks: Path | None = None
    shares: tuple[float, float, float] | None = None
    recipe: str = "alseg"
    profile: str | None = None
    weights: str | None = None
    rounds: int | None = None
    budget: int | None = None
    long_side: int | None = None
    tile: int | None = None
    seed: int = 0


def parse_shares(text: str | None) -> tuple[float, float, float] | None:
    """Three shares that sum to 1, separated by commas; BadInput otherwise."""
    if text is None:
        return None
    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f"--shares {text}: write three numbers for train, val and test, such as 0.7,0.1,0.2.") from None
    if min(train, val, test) < 0 or abs(train + val + test - 1) > 1e-6:
        raise BadInput(f"--shares {text}: write numbers from 0 to 1 that sum to 1.")
    return train, val, test


def start(images: Path, run: Path, wishes: Wishes, device: str, dry: bool = False) -> None:
    """Says what is in the folder ``images`` and, unless ``dry``, writes the run folder ``run``.

    Raises BadInput with what cannot be told from the files and the option that decides it; then nothing is written.
    """
    if (run / RUN_FILE).exists() and not dry:
        raise BadInput(
            f"{run} is a run already. Continue it with `alseg next {run}`, or choose another folder with -o."
        )
    if wishes.tile is not None and wishes.long_side is not None:
        raise BadInput("--tile cuts images at their full size, --long-side resizes them. Pass one of them.")
    recipe = load_recipe(wishes.recipe)
    found = survey(images, wishes.masks, with_splits=wishes.shares is None)
    table = find_classes(images, sorted(found.masks.values()), wishes.classes)
    tiles, splits, told = tiles_and_splits(found, wishes, device)
    people = not simulated(found, splits)
    profile, sizes_told = own_profile(found.sizes, wishes, device, None if tiles is None else tiles.side)
    rows = [
        ListedFile(found.ids[image], splits[image], image, found.masks.get(image, ""))
        for image in found.images
        if image in splits
    ]
    listed = sorted(rows, key=lambda row: (UNDIVIDED, *SPLITS).index(row.split))
    for line in (*found.notes, *table.notes, *told, *sizes_told):
        say(line)
    say("answers: from people" if people else "answers: simulated from the masks of the pool")
    if dry:
        say(f"nothing was written (--dry-run); without it: {run}")
        return
    make_folder(run)
    publish_bytes(run / FILES, file_table(listed))
    publish_bytes(run / DESCRIPTION, description_text(images, table, found.reading, tiles).encode())
    publish_bytes(run / PROFILE, profile.text.encode())
    settings = PrepareSettings.load({"long_side": profile.long_side})
    STAGES["prepare"].run(str(run / DESCRIPTION), images, run / DATASET, settings)
    most = few_at_a_time(run / DATASET, recipe) if people else None
    if most is not None:
        say(f"each round asks about {most} images drawn at random: most_images in {run / RUN_FILE} changes that")
    total = few_in_all(run / DATASET, recipe, wishes.budget) if people else None
    if total is not None:
        say(f"each round asks about {total} regions in all images together: budget in {run / RUN_FILE} changes that")
    publish_bytes(run / RUN_FILE, run_text(wishes, people, bool(found.masks), most, total).encode())
    say(f"wrote {run}. Go on with `alseg next {shlex.quote(str(run))}`")


def few_at_a_time(dataset: Path, recipe: Recipe) -> int | None:
    """How many images to ask about per round; None: all, as there are not many, or the budget is for all together."""
    of_step = [step.settings for step in recipe.steps if step.stage == "score"]
    units = {each.get("unit", "pixel") for each in (recipe.settings.get("score", {}), *of_step)}
    return AT_A_TIME if units == {"pixel"} and is_large(dataset) else None


def is_large(dataset: Path) -> bool:
    """Whether the pool has more images than a person is asked about in each round."""
    with Dataset(dataset) as data:
        return len(data.ids("train")) > MANY


def few_in_all(dataset: Path, recipe: Recipe, budget: int | None) -> int | None:
    """How many regions to ask about per round in all images together; None: as many per image as the recipe says."""
    choosing = recipe.settings.get("select", {})
    if not choosing.get("per_image", False) or not is_large(dataset):
        return None
    return AT_A_TIME * int(budget or choosing["budget"])


def tiles_and_splits(found: Survey, wishes: Wishes, device: str) -> tuple[TilePlan | None, dict[str, str], list[str]]:
    """The tiles that images are cut into, if they are; the split of each image; both in words.

    A few images with masks, too few to divide them whole, are divided by blocks of tiles.
    """
    side, why = tile_side(found.sizes, wishes.tile, wishes.long_side, device)
    if side is None:
        splits, told = splits_of(found, wishes)
        return None, splits, [told]
    if found.splits or len(found.masks) < len(found.images) or len(found.images) >= FEW:
        splits, told = splits_of(found, wishes)
        return TilePlan(side), splits, [why, told]
    shares = dict(zip(SPLITS, wishes.shares or SHARES, strict=True))
    plan, told = by_blocks(side, list(found.sizes.values()), shares)
    return plan, dict.fromkeys(found.images, UNDIVIDED), [why, told]


def simulated(found: Survey, splits: Mapping[str, str]) -> bool:
    """Whether the pool has all its masks, so that answers can be simulated."""
    return all(image in found.masks for image, split in splits.items() if split == "train")


def splits_of(found: Survey, wishes: Wishes) -> tuple[dict[str, str], str]:
    """The split of each image that is used, and how it was found, in words.

    Images are divided among the splits only if there are masks to evaluate on; images with masks among images without
    are divided alone, and the others are the pool.
    """
    if found.splits and wishes.shares is None:
        if "train" not in found.splits.values():
            raise Undecided("No images are in a split train. Pass --shares to draw splits.", "shares")
        return found.splits, "splits are kept"
    if not found.masks:
        if wishes.shares is not None:
            raise BadInput("--shares divides images that have masks, to evaluate on. There are none; leave it out.")
        return dict.fromkeys(found.images, "train"), "all images are the pool; without masks nothing is held out"
    partly = len(found.masks) < len(found.images)
    candidates = sorted(found.masks) if partly else found.images
    shares = wishes.shares or ((0.0, 0.5, 0.5) if partly else SHARES)
    if partly and shares[0] > 0:
        raise Undecided(
            "Some images have no mask. Pass --shares 0,VAL,TEST to evaluate on those that have one, so that all others "
            "are the pool, or remove the masks from the folder to use all images as the pool.",
            "shares",
        )
    groups = groups_of(candidates)
    drawn = drawn_splits(candidates, groups, shares, wishes.seed)
    kinds = len(set(groups.values()))
    how = f"at random by {kinds} groups of names" if kinds < len(candidates) else "at random, image by image"
    splits = dict.fromkeys(found.images, "train") | drawn
    return splits, f"splits drawn {how}: {counted(splits)} (--shares changes them)"


def drawn_splits(
    images: Sequence[str], groups: Mapping[str, str], shares: Sequence[float], seed: int
) -> dict[str, str]:
    """The split of each image; the images of a group stay together, and groups come in a random order."""
    sizes = Counter(groups[image] for image in images)
    above_zero = {split: max(share, 1e-9) for split, share in zip(SPLITS, shares, strict=True)}
    drawn = divide_groups(sizes, above_zero, lambda name: (stream_key(seed, "init", "split", name), name))
    return {image: drawn[groups[image]] for image in images}


@dataclass(frozen=True)
class OwnProfile:
    """A profile file for the images at hand, and the size to prepare them at; None: as they are."""

    text: str
    long_side: int | None


def own_profile(
    sizes: Mapping[str, Size], wishes: Wishes, device: str, tile: int | None = None
) -> tuple[OwnProfile, list[str]]:
    """The profile that a person named, or `own` (CUDA) or `own-cpu` with size, crop and batch for these images.

    ``tile``: side of the tiles that they are cut into.
    """
    name = wishes.profile or ("own" if device == "cuda" else "own-cpu")
    shipped = load_profile(name)
    path = Path(name) if name.endswith(".toml") else data_folder("profiles") / f"{name}.toml"
    text = path.read_text()
    ordered = sorted(sizes.values(), key=max)
    median = ordered[len(ordered) // 2] if tile is None else (tile, tile)
    side = None if tile else wishes.long_side or min(max(median), GPU_SIDE if device == "cuda" else CPU_SIDE)
    scale = 1.0 if side is None else side / max(median)
    lines = [f'name = "{shipped.name}"  # recipes know it by this name', "", *text.splitlines()]
    told = [] if side is None or max(map(max, sizes.values())) == side else [told_resizing(side, scale)]
    added: dict[str, Any] = {}
    if shipped.settings.get("train", {}).get("crop") is None:
        crop = [crop_side(length * scale) for length in median]
        usual = int(shipped.settings.get("train", {}).get("batch", 8))
        batch = batch_for(crop, device, usual, len(sizes) if tile is None else usual)
        added = {"crop": crop, "batch": batch}
        told.append(f"profile {shipped.name}: crops of {crop[1]}x{crop[0]}, {batch} per batch")
    if wishes.weights is not None:
        added["weights"] = wishes.weights
    return OwnProfile("\n".join(with_settings(lines, added)) + "\n", side), told


def told_resizing(side: int, scale: float) -> str:
    """What is said about the size of images, with the alternative if they become much smaller."""
    told = f"images are resized to a longer side of {side} pixels"
    if scale > SMALL:
        return told
    return f"{told}, {1 / scale:.0f} times smaller (--tile {CPU_TILE} cuts them into tiles of full size instead)"


def with_settings(lines: Sequence[str], added: Mapping[str, Any]) -> list[str]:
    """The lines of a profile with values of [settings.train] replaced or added."""
    rest = [line for line in lines if line.split("=")[0].strip() not in added]
    if "[settings.train]" not in rest:
        rest += ["", "[settings.train]"]
    place = rest.index("[settings.train]") + 1
    return [*rest[:place], *(f"{name} = {json.dumps(value)}" for name, value in added.items()), *rest[place:]]


def crop_side(length: float) -> int:
    """A multiple of CROP_MULTIPLE below the length of the images, and at most LARGEST_CROP."""
    return max(CROP_MULTIPLE, min(LARGEST_CROP, int(length)) // CROP_MULTIPLE * CROP_MULTIPLE)


def batch_for(crop: Sequence[int], device: str, usual: int, images: int) -> int:
    """As many crops as fit in two thirds of the free memory of a GPU; on a CPU the usual number."""
    free = free_device_memory() if device == "cuda" else None
    least, most = BATCHES
    fitting = usual if free is None else int(free * 2 / 3 / (crop[0] * crop[1] * BYTES_PER_PIXEL))
    return max(least, min(most, fitting, images))


def description_text(images: Path, table: ClassTable, reading: Mapping[str, Any], tiles: TilePlan | None = None) -> str:
    """The description, with what its keys mean; ``reading``: those of [images]."""
    keys = [f"{name} = {json.dumps(value)}" for name, value in reading.items()]
    lines = [
        f"# Written by `alseg init`. {FILES} lists the images, their masks and splits: correct it in any editor.",
        f"# alseg prepare {DESCRIPTION} --root {shlex.quote(str(images))} -o {DATASET}",
        'name = "own"',
        f'files = "{FILES}"',
        "",
        "# Names and display colours; values (or colours) are those of the masks.",
        "classes = [",
        *(class_line(each, table.encoding) for each in table.classes),
        "]",
        "",
        "[masks]",
        f'encoding = "{table.encoding}"',
        f"ignore = {json.dumps(table.ignore)}  # void: never learned or evaluated",
        *([] if table.binarise is None else [f"binarise = {table.binarise}  # edges are smoothed"]),
        *(["", "[images]  # how bands and bits are read (docs/how-to/own-data.md)", *keys] if keys else []),
    ]
    lines += tiles.lines() if tiles is not None else []
    return "\n".join(lines) + "\n"


def class_line(each: FoundClass, encoding: str) -> str:
    values = f", values = [{each.value}]" if encoding == "index" and each.value is not None else ""
    return f"    {{ name = {json.dumps(each.name, ensure_ascii=False)}, color = {list(each.colour or ())}{values} }},"


def run_text(
    wishes: Wishes, people: bool, masks: bool, most_images: int | None = None, total: int | None = None
) -> str:
    """run.toml; without ``masks``, some queries are drawn at random to tell how good a model is.

    ``total``: the budget of all images together.
    """
    select = [] if wishes.budget is None else [f"budget = {wishes.budget}"]
    if total is not None:
        select = [f"budget = {total}  # of all images together", "per_image = false"]
    select += (
        [] if masks else [f"control = {CONTROL_SHARE}  # share of the queries drawn at random, to judge models by"]
    )
    lines = [
        "# A run of alseg. `alseg next` does what comes next, `alseg status` tells where it stands.",
        f'dataset = "{DATASET}"',
        f"recipe = {json.dumps(wishes.recipe)}",
        f'profile = "{PROFILE}"',
        f'answers = "{"people" if people else "simulated"}"  # people (on the page), files or simulated',
        *([f"rounds = {wishes.rounds}"] if wishes.rounds is not None else []),
        *(["", "[settings.select]", *select] if select else []),
        *(["", "[settings.score]", f"most_images = {most_images}"] if most_images is not None else []),
    ]
    return "\n".join(lines) + "\n"
