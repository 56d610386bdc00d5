"""The stage `import-regions`: the regions of any other program, so that they are scored, selected and answered."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer
from stages.artifacts.request import Request, files_reference, produce, refer
from stages.artifacts.shards import Parts
from stages.datasets.image_names import first_image_of, is_image, known_names
from stages.datasets.originals import is_original
from stages.datasets.shapes.files import files_below, read_drawings
from stages.pixels.grids import grid_size
from stages.regions.imported import (
    IMPORTED,
    MAPS,
    NONE,
    SHAPES,
    ImportTask,
    Part,
    RegionSource,
    bare_name,
    complete,
    only_drawing,
    read_map,
)
from stages.regions.publishing import Found, publish_regions
from stages.runtime.errors import BadInput
from stages.runtime.parts import CUTTERS
from stages.runtime.processes import core_count, map_in_processes
from stages.settings.import_regions import ImportRegionsSettings

SHARD_IMAGES = 16


def run(
    dataset: Path, regions: Sequence[Path], output: Path, settings: ImportRegionsSettings, force: bool = False
) -> Path:
    """Publishes the regions of each image of the split as the files ``regions`` and those in such folders have them.

    Raises BadInput for images without regions, for maps of another size than the image or its file, and for files that
    contain no regions.
    """
    if settings.rest != NONE and CUTTERS[settings.rest].facts["reads"] == "mask":
        raise BadInput(f"--rest {settings.rest} cuts the ground truth. Choose a cutter that reads images.")
    with Dataset(dataset) as data:
        ids = data.ids(settings.split)
        files = region_files(regions)
        inputs = refer(output, {"dataset": data})
        for number, path in enumerate(regions, start=1):
            inputs[f"regions {number}"] = files_reference(output, path, files)
        request = Request("import-regions", "superpixels", output, settings, inputs)
        return produce(request, lambda: build(request, data, ids, files, settings), force)


def region_files(given: Sequence[Path]) -> list[Path]:
    """The files ``given`` and those in the folders ``given``; BadInput for what is none."""
    endings, found = (*MAPS, *SHAPES), []
    for path in given:
        inside = files_below(path, endings) if path.is_dir() else [path]
        if not inside or not all(file.is_file() and file.suffix.lower() in endings for file in inside):
            raise BadInput(f"{path} contains no regions. Pass files ({', '.join(endings)}) or folders of them.")
        found += inside
    return found


def sources_of(files: Sequence[Path], data: Dataset, ids: Sequence[str]) -> dict[str, RegionSource]:
    """The regions of each of ``ids``: a file with its name, or a part of a file with masks of many images.

    Of tiles, files of the whole file that they were cut from will do too. BadInput for images without regions or with
    several files, and for files that belong to no image.
    """
    known, found = known_names(data.all_ids), dict[str, RegionSource]()
    wholes = {} if data.tiling is None else known_names(data.tiling.ids)
    for path in files:
        for names, source in named_sources(path, known | wholes):
            for image, own in of_images(names, source, data, known, wholes):
                if image in found:
                    raise BadInput(f"{found[image].path} and {path} both have image {image}. Keep one of them.")
                found[image] = own
    missing = [image for image in ids if image not in found]
    if missing:
        raise BadInput(
            f"{files[0].parent} has no map of {len(missing)} of {len(ids)} images, such as {missing[0]}. Pass the maps "
            "or masks of the whole split."
        )
    return {image: found[image] for image in ids}


def of_images(
    names: Sequence[str],
    source: RegionSource,
    data: Dataset,
    known: Mapping[str, str | None],
    wholes: Mapping[str, str | None],
) -> list[tuple[str, RegionSource]]:
    """The images that ``names`` call, each with its regions: one, or all tiles of a file."""
    tiling = data.tiling
    if tiling is None or any(is_image(name, known) for name in names) or not any(is_image(n, wholes) for n in names):
        return [(first_image_of(names, known, str(source.path)), source)]
    whole = first_image_of([name for name in names if is_image(name, wholes)], wholes, str(source.path))
    if source.path.suffix.lower() in SHAPES:
        source = replace(source, drawing=source.drawing or only_drawing(source.path))
    size, read = tiling.sizes[tiling.places[whole]], lru_cache(maxsize=1)(read_map)  # its tiles follow one another
    return [
        (data.all_ids[tile], replace(source, part=Part(tiling.box(tile), size), read=read))
        for tile in tiling.of_source(whole).tolist()
    ]


def named_sources(path: Path, known: Mapping[str, str | None]) -> list[tuple[tuple[str, ...], RegionSource]]:
    """What the file calls its images, and their regions: of one image with its name, or masks of any number."""
    own = bare_name(path.as_posix())
    if path.suffix.lower() not in SHAPES or is_image(own, known):
        return [((own,), RegionSource(path))]
    return [(drawing.names, RegionSource(path, drawing)) for drawing in read_drawings(path)]


def build(
    request: Request, data: Dataset, ids: list[str], files: Sequence[Path], settings: ImportRegionsSettings
) -> str:
    sources = sources_of(files, data, ids)
    grids = {image: grid_size(data.sizes[image], settings.grid_scale) for image in ids}
    own = {} if settings.of_rest is None else settings.of_rest.flat()

    def tasks(missing: Sequence[str]) -> Iterator[ImportTask]:
        for image in missing:
            fits = partial(is_original, data, image)
            numbers = sources[image].numbers(fits, data.sizes[image], grids[image])
            if settings.background is not None:
                numbers[numbers == settings.background] = -1
            cuts = settings.rest != NONE and bool((numbers < 0).any())
            pixels = data.rgb(image, grids[image]) if cuts else None
            yield ImportTask(image, numbers, pixels, settings.rest, own, settings.min_pixels)

    def work(missing: Sequence[str]) -> Iterator[Found]:
        for labels, source, graph in map_in_processes(complete, tasks(missing), settings.workers or core_count()):
            yield {"labels": labels, "graph": graph, "source": source}

    def numbered(writer: Writer, parts: Parts, first: np.ndarray, numbers: np.ndarray) -> None:
        writer.array("regions/source", parts.column("source").astype(np.int32))

    attributes = {"method": IMPORTED, "split": settings.split, "oracle_privilege": "none"}
    return publish_regions(request, ids, grids, work, SHARD_IMAGES, "importing regions", attributes, numbered)
