"""The stage `prepare`: check a dataset and pack it into one HDF5 file."""

import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.artifacts.hdf5 import Writer
from stages.artifacts.header import Header, InputRef, canonical, digest_of
from stages.artifacts.images import FOLDERS, StoredFile, image_folder, write_image_files
from stages.artifacts.in_place import original_of, write_originals
from stages.artifacts.publish import bytes_digest, require_space
from stages.artifacts.request import Request, produce
from stages.artifacts.shards import Parts, build_shards, join_shards
from stages.artifacts.tiling import write_tiling
from stages.datasets.archives import fetch_archives
from stages.datasets.cutting import OpenFiles, cut, load_tile, require_rasters, tile_values, tiling_of
from stages.datasets.decode import LoadedSample, described_reading, load_sample
from stages.datasets.description import DatasetDescription, load_description
from stages.datasets.division import divide
from stages.datasets.files import Sample, find_samples, stamp
from stages.datasets.image_labels import NO_LABEL, majority_label
from stages.datasets.mask_files import ClassLookup, class_lookup
from stages.datasets.scenes import generate_scene, scene_id
from stages.datasets.several_files import publish_image_files, remove_other_image_files
from stages.datasets.shapes.masks import shape_masks
from stages.images.reading import AS_SHOWN, UNSCALED, Reading, Values, measured_levels, read_values
from stages.pixels.resize import place_vertices, resize_image, resize_mask, target_size
from stages.pixels.void import VOID
from stages.runtime.console import say
from stages.runtime.errors import BadInput
from stages.runtime.shares import Share
from stages.settings.prepare import PrepareSettings
from stages.settings.score import ScoreSettings

SHARD_IMAGES = 64
LEVELS_TOLD = 4  # bands whose levels are printed
SHARD_PIXELS = 1 << 24  # of tiles, which may be larger than images usually are
GREY_LEVELS = np.arange(256) / 255
Loaded = tuple[Sample, LoadedSample | list[str]]


def run(
    description: str,
    root: Path | None,
    output: Path,
    settings: PrepareSettings,
    force: bool = False,
    share: Share | None = None,
) -> Path:
    """Publishes the dataset ``description`` (shipped name or TOML file) with the files below ``root``.

    Raises BadInput with all faults of the description, the file layout and the files.
    """
    described = load_description(description)
    if share is not None and not settings.divisible:
        raise BadInput(
            "--shard does not go with --download. Unpack the archives below --root first, then pass --shard."
        )
    if settings.download:
        require_downloadable(described)
    if settings.evaluation_scale is not None and described.division is not None:
        raise BadInput(
            f"{described.name} is divided into splits after its images are read, so none can be kept at an evaluation "
            "size. Remove --evaluation-scale."
        )
    if settings.every > 1 and described.division is not None:
        raise BadInput(f"{described.name} is divided into splits after its images are read. Remove --every.")
    if described.tiles is not None and (settings.long_side is not None or settings.size is not None):
        raise BadInput(f"{described.name} is cut into tiles, which --scale resizes. Pass --scale instead.")
    require_files(described, settings)
    if described.generator is not None:
        samples = generated_samples(described)
        source = InputRef(described.name, digest_of(described.meaning()))
    else:
        if root is None:
            raise BadInput(f"{described.name} is read from files. Pass the folder that contains them with --root.")
        if settings.download:
            fetch_archives(described.archives, root)
        samples, faults = find_samples(described, root)
        if faults:
            raise BadInput(faults + file_faults(samples, described, settings, placeholder(described, samples)))
        source = InputRef(str(root), source_digest(described, samples, settings.verify_files))
    samples = thinned(samples, pool_split(described), settings.every)
    request = Request("prepare", "dataset", output, settings, {"source": source}, share=share)
    return produce(request, lambda: build(request, described, samples, settings, root), force)


def require_files(description: DatasetDescription, settings: PrepareSettings) -> None:
    """BadInput if images are to stay in their files, but are made of more than one file each or of none."""
    if not settings.in_place:
        return
    why = {
        "is generated": description.generator is not None,
        "is cut into tiles": description.tiles is not None,
        "has images that are resized to their masks": description.masks.resize_images,
    }
    for words, holds in why.items():
        if holds:
            raise BadInput(f"{description.name} {words}, so they cannot stay in their files. Omit --in-place.")


def thinned(samples: list[Sample], pool: str, every: int) -> list[Sample]:
    """``samples`` without those of the pool that are not each ``every``-th, from the first on."""
    left_out = {id(sample) for place, sample in enumerate(s for s in samples if s.split == pool) if place % every}
    return [sample for sample in samples if id(sample) not in left_out]


def require_downloadable(description: DatasetDescription) -> None:
    """BadInput, with what to do instead, unless ``description`` lists archives."""
    if description.by_hand is not None:
        raise BadInput(f"{description.name} cannot be downloaded automatically. {description.by_hand}")
    if not description.archives:
        raise BadInput(f"The description of {description.name} lists no archives. Omit --download.")


def generated_samples(description: DatasetDescription) -> list[Sample]:
    assert description.generator is not None
    return [
        Sample(scene_id(split, index), split, Path(str(index)), None)
        for split, count in description.generator.images.items()
        for index in range(count)
    ]


def source_digest(description: DatasetDescription, samples: Sequence[Sample], verify: bool = False) -> str:
    """A digest that identifies the content: of the description and the stamps of the files, or of what is in them.

    The key ``polygons`` is included only for splits that have such files.
    """
    described = description.meaning()
    outlined = {sample.split for sample in samples if sample.polygons is not None}
    for name in described["splits"].keys() - outlined:
        del described["splits"][name]["polygons"]
    if description.files is not None:
        described["listed"] = [[sample.id, sample.split] for sample in samples]
    return digest_of([described, *(identified(sample, verify) for sample in samples)])


def identified(sample: Sample, verify: bool) -> list[Any]:
    """The names of a sample's files, each with its bytes' digest (``verify``) or its `stamp`; its label."""
    label = [] if sample.label == NO_LABEL else [sample.label]
    files = [path for path in (sample.image, sample.mask, sample.polygons) if path is not None]
    return [sample.id, *([path.name, bytes_digest(path)] if verify else stamp(path) for path in files), *label]


def file_faults(
    samples: Sequence[Sample], description: DatasetDescription, settings: PrepareSettings, reading: Reading
) -> list[str]:
    """The faults inside the files, to report them together with those of the layout."""
    if description.tiles is not None:
        return require_rasters(samples)
    loaded = load_all(samples, description, settings, reading)
    return [fault for _, found in loaded if isinstance(found, list) for fault in found]


def placeholder(description: DatasetDescription, samples: Sequence[Sample]) -> Reading:
    """A reading to find faults with, for which nothing was measured."""
    if not samples:
        return AS_SHOWN
    try:
        found = described_reading(description.images, samples[0].image)
    except BadInput:
        return AS_SHOWN  # the first file is one of the faults
    return found if description.images.percentiles is None else replace(found, levels=UNSCALED)


def chosen_reading(description: DatasetDescription, samples: Sequence[Sample], settings: PrepareSettings) -> Reading:
    """How to read the images of ``samples``, with the levels measured over those of the pool if that is asked for."""
    if description.generator is not None:
        return AS_SHOWN
    reading, shares = described_reading(description.images, samples[0].image), description.images.percentiles
    if shares is None:
        return reading
    pool = [sample for sample in samples if sample.split == pool_split(description)]
    unscaled = replace(reading, levels=UNSCALED)
    try:
        with OpenFiles() as files:

            def read(sample: Sample) -> Values:
                if sample.tile is not None:
                    return tile_values(sample, unscaled, files)
                return read_values(sample.image, unscaled)

            levels = measured_levels(pool or samples, read, shares)
    except BadInput as error:
        raise BadInput(file_faults(samples, description, settings, placeholder(description, samples))) from error
    levels = levels[:1] if len({*levels}) == 1 else levels
    told = ", ".join(f"{low:g} to {high:g}" for low, high in levels[:LEVELS_TOLD])
    say(f"levels (percentiles {shares[0]:g} and {shares[1]:g}): {told}{', ...' if levels[LEVELS_TOLD:] else ''}")
    return replace(reading, levels=levels)


def load_all(
    samples: Sequence[Sample], description: DatasetDescription, settings: PrepareSettings, reading: Reading
) -> Iterator[Loaded]:
    """Samples with their decoded and resized arrays and their labels, or with their faults, in order."""
    lookup = shape_masks(description) if description.masks.encoding == "polygons" else class_lookup(description)
    generator, queried, files = description.generator, pool_split(description), OpenFiles()

    def load(sample: Sample) -> LoadedSample | list[str]:
        if generator is not None:
            index = int(sample.image.name)
            image, mask = generate_scene(settings.seed, sample.split, index, generator.height, generator.width)
            found: LoadedSample | list[str] = LoadedSample(image, mask)
        elif sample.tile is not None:
            assert isinstance(lookup, ClassLookup)  # descriptions refuse tiles of polygons
            found = load_tile(sample, lookup, files, reading)
        else:
            found = load_sample(sample, lookup, description.masks.resize_images, reading)
        if isinstance(found, list):
            return found
        stored = labelled(sample, resized(found, settings), description)
        if isinstance(stored, list) or sample.split == queried:
            return stored
        return replace(stored, evaluated=evaluated(found, settings))

    with files, ThreadPoolExecutor(settings.workers or None) as pool:
        several = map if description.tiles is not None else pool.map  # tiles of one open file come one after the other
        yield from zip(samples, several(load, samples), strict=True)


def pool_split(description: DatasetDescription) -> str:
    """The split that is queried, of which no other stage than `annotate-simulate` may have masks."""
    fields = ScoreSettings.model_fields
    return str(description.defaults.get("score", {}).get("split", fields["split"].default))


def evaluated(sample: LoadedSample, settings: PrepareSettings) -> tuple[np.ndarray, np.ndarray] | None:
    """Image and mask of ``sample`` at the evaluation size; None if there is no such size or no mask."""
    if settings.evaluation_scale is None or sample.mask is None:
        return None
    height, width = sample.image.shape[:2]
    size = target_size(height, width, settings.evaluation_scale)
    return resize_image(sample.image, *size, settings.filter), resize_mask(sample.mask, *size)


def resized(sample: LoadedSample, settings: PrepareSettings) -> LoadedSample:
    """``sample`` at the size to store, with its vertices in pixels of that size; see `target_size`."""
    height, width = sample.image.shape[:2]
    size = target_size(height, width, settings.scale, settings.long_side, settings.size)
    vertices = None if sample.vertices is None else place_vertices(sample.vertices, (height, width), size)
    if size == (height, width):
        return replace(sample, vertices=vertices, file_size=size)
    mask = None if sample.mask is None else resize_mask(sample.mask, *size)
    nothing = None if sample.without_data is None else resize_mask(sample.without_data, *size)
    image = resize_image(sample.image, *size, settings.filter)
    return LoadedSample(image, mask, vertices, file_size=(height, width), note=sample.note, without_data=nothing)


def labelled(sample: Sample, loaded: LoadedSample, description: DatasetDescription) -> LoadedSample | list[str]:
    """``loaded`` with its image-level class: that of ``sample``, or the majority class of the mask as stored."""
    if description.image_labels is None or description.image_labels.source != "majority" or loaded.mask is None:
        return replace(loaded, label=sample.label)
    label = majority_label(loaded.mask, len(description.classes))
    if label == NO_LABEL:
        name = sample.mask or f"The mask of image {sample.id}"
        return [
            f"{name}: no pixel has a class at the stored size, so it gives no label. Correct it or remove the image."
        ]
    return replace(loaded, label=label)


def build(
    request: Request,
    description: DatasetDescription,
    samples: list[Sample],
    settings: PrepareSettings,
    root: Path | None,
) -> str:
    shard_images = SHARD_IMAGES
    if description.tiles is not None:
        samples = cut(samples, description, settings.seed)
        shard_images = max(1, min(SHARD_IMAGES, SHARD_PIXELS // math.prod(description.tiles.size)))
    places = {sample.id: place for place, sample in enumerate(samples)}
    announced, queried, noted = False, pool_split(description), set[str]()
    reading = chosen_reading(description, samples, settings)
    if description.mean is not None and len(description.mean) != reading.count:
        raise BadInput(f"mean and std have {len(description.mean)} values for {reading.count} bands. Correct them.")

    def fill(writer: Writer, part: Sequence[Sample]) -> dict[str, Any]:
        nonlocal announced
        table, faults = [], []
        for sample, loaded in load_all(part, description, settings, reading):
            if isinstance(loaded, list):
                faults += loaded
                continue
            if not announced:
                announced = True
                held_out = 0 if settings.evaluation_scale is None else sum(each.split != queried for each in samples)
                scale = settings.evaluation_scale or 0
                announce(request, loaded, len(samples), held_out, scale, settings.in_place)
            if loaded.note and loaded.note not in noted:
                noted.add(loaded.note)
                say(f"{sample.mask}: {loaded.note} (told once; other masks may be alike)")
            if not settings.in_place:
                writer.array(f"images/{sample.id}", loaded.image, compress=False)
            if loaded.mask is not None:
                writer.array(f"masks/{sample.id}", loaded.mask)
            if loaded.without_data is not None:
                writer.array(f"without_data/{sample.id}", loaded.without_data.astype(np.uint8))
            if loaded.vertices is not None:
                writer.array(f"polygons/{sample.id}", loaded.vertices)
            height, width = loaded.image.shape[:2]
            row = ImageRow(sample.id, sample.split, height, width, loaded.label, *levels(loaded.image))
            if loaded.evaluated is not None:
                image, mask = loaded.evaluated
                if not settings.in_place:
                    writer.array(f"evaluation_images/{sample.id}", image, compress=False)
                writer.array(f"evaluation_masks/{sample.id}", mask)
                row = replace(row, evaluation_height=mask.shape[0], evaluation_width=mask.shape[1])
            table.append(asdict(row))
        if faults:  # check the rest too, to report all faults at once
            rest = samples[places[part[-1].id] + 1 :]
            raise BadInput(faults + file_faults(rest, description, settings, reading))
        return {"table": table}

    shards = build_shards(request, samples, shard_images, fill, "preparing")
    if request.share is not None:
        return shards.told_share()

    stored: list[StoredFile] = []

    def apart(paths: Sequence[Path]) -> Sequence[str]:
        stored.extend(publish_image_files(request, paths, settings.file_gb * 1e9))
        return FOLDERS if stored else ()

    def finish(writer: Writer, parts: Parts) -> Header:
        shard_rows = [[ImageRow(**row) for row in part["table"]] for part in parts.sums]
        shard_rows = divided(shard_rows, description, settings.seed)
        rows = [row for part in shard_rows for row in part]
        if description.division is not None:
            rows.sort(key=lambda row: (description.split_names.index(row.split), row.id))
        writer.strings("index/id", [row.id for row in rows])
        writer.strings("index/split", [row.split for row in rows])
        writer.array("index/height", np.array([row.height for row in rows], dtype=np.int32))
        writer.array("index/width", np.array([row.width for row in rows], dtype=np.int32))
        writer.array("index/label", np.array([row.label for row in rows], dtype=np.int32))
        if settings.evaluation_scale is not None:
            for name in ("evaluation_height", "evaluation_width"):
                writer.array(f"index/{name}", np.array([getattr(row, name) for row in rows], dtype=np.int32))
        splits = [row.split for row in rows]
        mean, deviation = statistics(shard_rows, "train" if "train" in splits else splits[0])
        attributes = {
            "name": description.name,
            "classes": description.class_names,
            "palette": description.palette.tolist(),
            "ignore_index": VOID,
            "mean": list(description.mean or mean.tolist()),
            "std": list(description.std or deviation.tolist()),
            "licence": description.licence,
        }
        if description.image_labels is not None:
            attributes["image_classes"] = description.image_classes
        listed = () if description.masks.ignore == "others" else description.masks.ignore
        if ignored := [each for each in listed if each != VOID and not isinstance(each, str)]:
            attributes["ignored"] = canonical(ignored)  # for masks that people paint in other tools
        if reading != AS_SHOWN:
            attributes["reading"] = canonical(reading.recorded())
        if settings.in_place:
            assert root is not None
            attributes["root"] = str(root.resolve())
            write_originals(writer, [original_of(samples[places[row.id]].image, root) for row in rows])
        if stored:
            write_image_files(writer, stored, [row.id for row in rows])
        if description.tiles is not None:
            attributes["tiles"] = canonical({"size": description.tiles.size, "overlap": description.tiles.overlap})
            write_tiling(writer, tiling_of([samples[places[row.id]] for row in rows]))
        if description.defaults:
            attributes["defaults"] = canonical(description.defaults)
        counts = {split: splits.count(split) for split in dict.fromkeys(splits)}
        return request.header(json.loads(canonical(attributes)), counts)

    header = join_shards(shards, finish, apart)
    remove_other_image_files(request.output, stored)
    told = ", ".join(f"{count} {split}" for split, count in header.counts.items()) + " images"
    files = "one file" if len(stored) == 1 else f"{len(stored)} files"
    return told + (f", in {files} below {image_folder(request.output)}" if stored else "")


@dataclass(frozen=True)
class ImageRow:
    """Data of an image that a shard stores for the tables and statistics; for ``sums`` and ``squares`` see `levels`."""

    id: str
    split: str
    height: int
    width: int
    label: int
    sums: list[float]
    squares: list[float]
    evaluation_height: int = 0
    evaluation_width: int = 0


def levels(image: np.ndarray) -> tuple[list[float], list[float]]:
    """Sum and sum of squares over the pixels of ``image`` (H, W, B) u8 per channel, values scaled to 0..1."""
    bands = np.moveaxis(image, 2, 0)
    histogram = np.array([Image.fromarray(np.ascontiguousarray(band)).histogram() for band in bands], dtype=np.float64)
    return (histogram @ GREY_LEVELS).tolist(), (histogram @ GREY_LEVELS**2).tolist()


def divided(parts: list[list[ImageRow]], description: DatasetDescription, seed: int) -> list[list[ImageRow]]:
    """The rows of each shard, with new splits for the images of the split that the description divides.

    Called after all images are decoded, because the division is stratified by labels, which may come from masks.
    """
    division = description.division
    if division is None or description.tiles is not None:  # tiles are divided before they are cut
        return parts
    labels = {row.id: row.label for part in parts for row in part if row.split == division.split}
    splits = divide(labels, division.shares, seed)
    return [[replace(row, split=splits.get(row.id, row.split)) for row in part] for part in parts]


def statistics(parts: list[list[ImageRow]], split: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (B,) f64 of the channels over all pixels of ``split``, summed shard by shard."""
    bands = len(parts[0][0].sums)
    sums, squares, pixels = np.zeros((len(parts), bands)), np.zeros((len(parts), bands)), 0
    for place, part in enumerate(parts):
        for row in part:
            if row.split == split:
                sums[place] += row.sums
                squares[place] += row.squares
                pixels += row.height * row.width
    mean = np.sum(list(sums), 0) / pixels
    return mean, np.sqrt(np.maximum(np.sum(list(squares), 0) / pixels - mean**2, 1e-12))


def announce(
    request: Request, first: LoadedSample, count: int, held_out: int, scale: float, in_place: bool = False
) -> None:
    """Prints the expected size of the file; StageFailed if it does not fit on the disk.

    ``held_out`` images are stored a second time, resized by ``scale``. ``in_place``: their masks alone are.
    """
    # the shards and the joined file exist on disk at the same time
    bands = first.image.shape[2]
    bytes_per_pixel = (0 if in_place else bands) + (0 if first.mask is None else 1 / 8)
    pixels = first.image.nbytes / bands * count + math.prod(first.file_size) * scale**2 * held_out
    size = int(bytes_per_pixel * pixels)
    say(f"{request.output} will take about {size / 1e6:.0f} MB")
    require_space(request.output.parent, 2 * size, f"Preparing {request.output.name}")
