"""The stage `import-queries`: queries that another program selected."""

from pathlib import Path

import numpy as np

from stages.answering.exchange.selections import Images, Selection, read_selection
from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer, build_in_memory, require_made_from
from stages.artifacts.header import Header
from stages.artifacts.images_table import require_same_grid, write_images
from stages.artifacts.publish import bytes_digest, publish_bytes
from stages.artifacts.request import Request, produce, refer, reference
from stages.artifacts.superpixels import Superpixels
from stages.datasets.pickle_files import MOST_BYTES
from stages.pixels.grids import Size, grid_size
from stages.runtime.console import say
from stages.runtime.errors import BadInput
from stages.runtime.limited import read_limited
from stages.settings.import_queries import ImportQueriesSettings

ANSWERS = {"pixel": ("class",), "region": ("dominant", "class-set", "precise"),
           "image": ("mask", "image-class", "image-classes")}  # fmt: skip
PRIVILEGE = "selected by another program"


def run(
    dataset: Path,
    selection: Path,
    output: Path,
    settings: ImportQueriesSettings,
    annotations: Path | None = None,
    superpixels: Path | None = None,
    order: Path | None = None,
    force: bool = False,
) -> Path:
    """Publishes what ``selection`` selects as queries of the next round, without what ``annotations`` covers.

    ``selection`` is a file or folder in one of the forms of `stages.answering.exchange.selections`. Selected regions
    need their ``superpixels``. ``order`` is a text file with the ids of the images in the order of the other program,
    if that is not alphabetical. Raises BadInput for other forms, and for images, regions or pixels that there are not.
    """
    with Dataset(dataset) as data:
        ids = data.ids(settings.split)
        ledger = None if annotations is None else Annotations(annotations)
        regions = None if superpixels is None else Superpixels(superpixels)
        if ledger is not None:
            require_made_from(ledger, "dataset", data)
        if regions is not None:
            require_made_from(regions, "dataset", data)
        try:
            digest = bytes_digest(selection)
        except OSError as error:
            raise BadInput(f"Cannot read {selection}: {error.strerror}. Pass the file with the selection.") from error
        listed = ids if order is None else listed_ids(order, ids)
        inputs = refer(output, {"dataset": data, "annotations": ledger, "superpixels": regions})
        inputs["selection"] = reference(output, selection, digest)
        if order is not None:
            inputs["order"] = reference(output, order, bytes_digest(order))
        request = Request("import-queries", "queries", output, settings, inputs)
        found = read_selection(selection, listed, settings.stride)
        return produce(request, lambda: build(request, data, listed, found, ledger, regions, settings), force)


def listed_ids(path: Path, ids: list[str]) -> list[str]:
    """The ids of the split in the order of the text file ``path``, one name per line; BadInput for other images."""
    images = Images(ids, path)
    found = [
        images.ids[images.place(name)] for name in read_limited(path, MOST_BYTES).decode("utf-8-sig", "replace").split()
    ]
    if sorted(found) != ids:
        raise BadInput(
            f"{path} lists {len(found)} images ({len(set(found))} different), and the split has {len(ids)}. List each "
            "image of the split once."
        )
    return found


def build(
    request: Request,
    data: Dataset,
    ids: list[str],
    found: Selection,
    ledger: Annotations | None,
    regions: Superpixels | None,
    settings: ImportQueriesSettings,
) -> str:
    source, answer = request.inputs["selection"].file, settings.answer or ANSWERS[found.unit][0]
    if answer not in ANSWERS[found.unit]:
        raise BadInput(f"{source} selects {found.unit}s. Set --answer to one of {', '.join(ANSWERS[found.unit])}.")
    if found.unit != "region":
        if regions is not None:
            raise BadInput(f"{source} selects {found.unit}s, not regions. Omit --superpixels.")
        grids = grids_of(found, data, ids, source)
    else:
        if regions is None:
            raise BadInput(f"{source} selects regions. Pass --superpixels, the regions that they are numbers of.")
        regions.require_images(sorted(ids), settings.split)
        grids = regions.sizes
    region = np.full(len(found), -1) if regions is None else global_regions(found, ids, regions, source)
    if ledger is not None:
        require_same_grid(ledger, ledger.sizes, grids)
    covered = queried_before(found, region, ids, ledger, regions)
    round_number = 0 if ledger is None else ledger.next_round
    left, region = found.taken(~covered), region[~covered]
    if not len(left):
        raise BadInput(f"{source} selects nothing that is not in the ledger already. Check that it is the right file.")
    table = sorted(ids)
    place = np.array([table.index(image) for image in ids]) if table != ids else np.arange(len(ids))
    columns = {"image": place[left.image], "y": left.y, "x": left.x, "region": region}

    def fill(writer: Writer) -> Header:
        write_images(writer, table, grids)
        for name, values in (columns | {"cluster": np.full(len(left), -1)}).items():
            writer.array(f"queries/{name}", values.astype(np.int32))
        writer.array("queries/score", left.score.astype(np.float32))
        attributes = {"unit": left.unit, "answer": answer, "round": round_number, "oracle_privilege": PRIVILEGE}
        return request.header(attributes, {"queries": len(left), "images": len(np.unique(left.image))})

    publish_bytes(request.output, build_in_memory(fill))
    if covered.any():
        say(f"{source}: skipped {int(covered.sum())} {left.unit}s that the ledger covers")
    return f"round {round_number}, {len(left)} {left.unit} queries in {len(np.unique(left.image))} images"


def grids_of(found: Selection, data: Dataset, ids: list[str], source: str) -> dict[str, Size]:
    """The grid of each image: all are resized by the same factor. BadInput if those of the selection are not."""
    if not found.grids:
        return {image: data.sizes[image] for image in ids}
    first, (height, _) = next(iter(found.grids.items()))
    scale = height / data.sizes[first][0]
    if scale > 1:
        raise BadInput(f"{source}: image {first} is larger than in the dataset. Prepare the dataset in that size.")
    grids = {image: grid_size(data.sizes[image], scale) for image in ids}
    for image, grid in found.grids.items():
        if grids[image] != grid:
            theirs, ours = (f"{height} x {width}" for height, width in (grid, data.sizes[image]))
            raise BadInput(
                f"{source}: image {image} is {theirs} pixels, which is not {ours} resized by the factor {scale:g} of "
                f"image {first}. Prepare the dataset in the size that the selection was made on."
            )
    return grids


def global_regions(found: Selection, ids: list[str], regions: Superpixels, source: str) -> np.ndarray:
    """(n,) i64 index of each selected region; BadInput for numbers that no region has."""
    region = np.full(len(found), -1, dtype=np.int64)
    numbers = regions.numbers
    for place in np.unique(found.image):
        rows, of_image = np.flatnonzero(found.image == place), regions.rows[ids[place]]
        theirs = numbers[of_image]  # ascending
        index = np.searchsorted(theirs, found.region[rows])
        known = index < len(theirs)
        known[known] = theirs[index[known]] == found.region[rows][known]
        if not known.all():
            raise BadInput(
                f"{source}: image {ids[place]} has no region {found.region[rows][~known][0]} in {regions.path}. Import "
                "the regions that the selection was made on (import-regions)."
            )
        region[rows] = of_image.start + index
    return region


def queried_before(
    found: Selection, region: np.ndarray, ids: list[str], ledger: Annotations | None, regions: Superpixels | None
) -> np.ndarray:
    """(n,) bool: the ledger has an answer to the pixel, to the region of the same file, or a mask of the image."""
    covered = np.zeros(len(found), dtype=bool)
    if ledger is None:
        return covered
    if regions is not None:
        files = [file.digest for file in ledger.region_files]
        if regions.digest in files:
            same = ledger.answers.superpixels == files.index(regions.digest)
            covered = np.isin(region, ledger.answers.region[same])
        return covered
    for place in np.unique(found.image):
        rows = np.flatnonzero(found.image == place)
        if found.unit == "pixel":
            queried = np.zeros(ledger.sizes.get(ids[place], (0, 0)), dtype=bool)
            queried[ledger.queried_pixels(ids[place])] = True
            covered[rows] = queried[found.y[rows], found.x[rows]] if queried.size else False
        else:
            covered[rows] = ids[place] in ledger.mask_ids
    return covered
