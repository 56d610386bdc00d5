"""The stage `extract-superpixels`: every image cut into regions, or base regions merged with a model's predictions."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer, require_made_from
from stages.artifacts.header import Header
from stages.artifacts.images_table import write_images
from stages.artifacts.model import Model, require_same_classes
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.shards import Parts, build_shards, join_shards
from stages.artifacts.superpixels import TABLE, Superpixels
from stages.pixels.grids import Size, grid_size
from stages.regions.cut import Graph, MergeTask, cut, merge_image
from stages.regions.segmentation import require_ximgproc
from stages.runtime.errors import BadInput
from stages.runtime.processes import core_count, map_in_processes
from stages.runtime.ranks import launched_processes
from stages.settings.extract_superpixels import ExtractSettings

SHARD_IMAGES = 16
Found = dict[str, Any]


def run(
    dataset: Path,
    output: Path,
    settings: ExtractSettings,
    superpixels: Path | None = None,
    model: Path | None = None,
    force: bool = False,
) -> Path:
    """Publishes the regions of every image of the split.

    Method adaptive merges the regions of ``superpixels`` where ``model`` predicts alike; it alone takes these two.
    Raises BadInput where they are missing or do not fit, for regions that were merged already, for method oracle
    without masks, and when OpenCV lacks its contributed modules.
    """
    if launched_processes() > 1:
        raise BadInput("extract-superpixels starts its own processes (--workers); run it without torchrun.")
    adaptive = settings.method == "adaptive"
    if adaptive and (superpixels is None or model is None):
        raise BadInput("The method adaptive merges base regions with a model; give --superpixels and --model.")
    if adaptive and settings.grid_scale != 1:
        raise BadInput("Merged regions live on the grid of their base; leave --grid-scale out for the method adaptive.")
    if not adaptive and (superpixels is not None or model is not None):
        raise BadInput(f"The method {settings.method} takes neither --superpixels nor --model; leave them out.")
    if settings.method in ("seeds", "slic", "lsc"):
        require_ximgproc()
    with Dataset(dataset) as data:
        ids = data.ids(settings.split)
        inputs: dict[str, Any] = {"dataset": data}
        if superpixels is not None and model is not None:
            base, trained = Superpixels(superpixels), Model(model)
            require_base(base, data, ids, settings)
            require_same_classes(trained, data)
            inputs |= {"superpixels": base, "model": trained}
        elif settings.method == "oracle" and not data.has_masks(settings.split):
            raise BadInput(f"{dataset} has no masks in split {settings.split!r}, and oracle regions are made of them.")
        request = Request("extract-superpixels", "superpixels", output, settings, refer(output, inputs))
        return produce(request, lambda: build(request, ids, settings, **inputs), force)


def require_base(base: Superpixels, data: Dataset, ids: list[str], settings: ExtractSettings) -> None:
    """BadInput for regions of other images, and for merged ones: every round starts from the base."""
    require_made_from(base, "dataset", data)
    base.require_images(ids, settings.split)
    if base.method == "adaptive":
        raise BadInput(
            f"{base.path} was merged already; give the base regions it came from "
            f"({base.header.inputs['superpixels'].file}), for every round starts from those."
        )
    from stages.scoring.measures import MEASURES

    if settings.measure not in MEASURES:
        raise BadInput(f"There is no measure {settings.measure!r}; known are {', '.join(MEASURES)}.")


def build(
    request: Request,
    ids: list[str],
    settings: ExtractSettings,
    dataset: Dataset,
    superpixels: Superpixels | None = None,
    model: Model | None = None,
) -> str:
    def work(missing: Sequence[str]) -> Iterator[Found]:
        if superpixels is not None and model is not None:
            return merged(dataset, superpixels, model, settings, missing)
        return segmented(dataset, settings, missing)

    def fill(writer: Writer, part: Iterable[tuple[str, Found]]) -> dict[str, Any]:
        """Label maps go to the file; tables are put together over all images at the join."""
        numbers: dict[str, int] = {}
        for image, found in part:
            writer.array(f"labels/{image}", found.pop("labels"))
            graph: Graph = found.pop("graph")
            columns = graph.table | {"degree": np.diff(graph.offsets), "neighbours": graph.neighbours} | found
            for name, values in columns.items():
                writer.rows(name, values)
            numbers[image] = graph.count
        return {"regions": numbers}

    shards = build_shards(request, ids, SHARD_IMAGES, fill, "cutting into regions", work=work)
    grids = grids_of(dataset, ids, settings) if superpixels is None else superpixels.sizes

    def finish(writer: Writer, parts: Parts) -> Header:
        regions = parts.merged("regions")
        numbers = np.array([regions[image] for image in ids], dtype=np.int64)
        first = np.concatenate([[0], np.cumsum(numbers)[:-1]]).astype(np.int64)
        write_images(writer, ids, grids)
        writer.array("images/first_region", first)
        writer.array("images/num_regions", numbers.astype(np.int32))
        writer.array("regions/image", np.repeat(np.arange(len(ids), dtype=np.int32), numbers))
        writer.array("regions/label", (np.arange(numbers.sum()) - np.repeat(first, numbers)).astype(np.int32))
        for name in TABLE:
            writer.array(f"regions/{name}", parts.column(name).astype(np.int32))
        degree = parts.column("degree")
        writer.array("adjacency/offsets", np.concatenate([[0], np.cumsum(degree)]).astype(np.int64))
        neighbours = parts.column("neighbours")  # in place and in 32 bits: Cityscapes has 140 million of them
        neighbours += np.repeat(np.repeat(first.astype(np.int32), numbers), degree)
        writer.array("adjacency/neighbours", neighbours)
        privilege = "oracle regions" if settings.method == "oracle" else "none"
        if superpixels is not None:
            privilege = superpixels.attributes["oracle_privilege"]
            base_numbers = [superpixels.number(image) for image in ids]
            writer.array("base/region", (parts.column("group") + np.repeat(first, base_numbers)).astype(np.int32))
            base_first = np.repeat(superpixels.first_regions, numbers)
            writer.array("regions/root", (parts.column("root") + base_first).astype(np.int32))
        attributes = {
            "method": settings.method,
            "split": settings.split,
            "oracle_privilege": privilege,
        }
        return request.header(attributes, region_counts(numbers, parts.column("size")))

    counts = join_shards(shards, finish).counts
    sizes = counts["size_percentiles"]
    return (
        f"{counts['regions']} regions in {len(ids)} images ({counts['per_image']['mean']:.1f} per image), "
        f"median {sizes['50']:.0f} pixels"
    )


def region_counts(numbers: np.ndarray, sizes: np.ndarray) -> dict[str, Any]:
    """What was achieved: regions per image, and how large they are."""
    percentiles = (0, 1, 5, 25, 50, 75, 95, 99, 100)
    found = np.percentile(sizes, percentiles) if len(sizes) else np.zeros(len(percentiles))
    return {
        "regions": int(numbers.sum()),
        "per_image": {"mean": float(numbers.mean()), "minimum": int(numbers.min()), "maximum": int(numbers.max())},
        "mean_size": float(sizes.mean()) if len(sizes) else 0.0,
        "size_percentiles": {str(name): float(value) for name, value in zip(percentiles, found, strict=True)},
    }


def grids_of(data: Dataset, ids: Sequence[str], settings: ExtractSettings) -> dict[str, Size]:
    """The grid that each image is cut on."""
    return {image: grid_size(data.sizes[image], settings.grid_scale) for image in ids}


def process_count(settings: ExtractSettings) -> int:
    return settings.workers or core_count()


def segmented(data: Dataset, settings: ExtractSettings, ids: Sequence[str]) -> Iterator[Found]:
    """The regions of the images ``ids``, several images at a time in processes of their own."""
    read, grids = data.mask if settings.method == "oracle" else data.image, grids_of(data, ids, settings)
    tasks = ((read(image, grids[image]), settings) for image in ids)
    for labels, graph in map_in_processes(cut, tasks, process_count(settings)):
        yield {"labels": labels, "graph": graph}


def merged(
    data: Dataset, base: Superpixels, model: Model, settings: ExtractSettings, ids: Sequence[str]
) -> Iterator[Found]:
    """The merged regions of the images ``ids``: predictions reduced on the device, merging in processes."""
    tasks = merge_tasks(data, base, model, settings, ids)
    for image, (group, root, graph) in zip(
        ids, map_in_processes(merge_image, tasks, process_count(settings)), strict=True
    ):
        labels = base.labels(image)
        merged_labels = np.append(group, np.int32(-1))[labels]  # -1, no region, stays -1
        yield {"labels": merged_labels, "graph": graph, "group": group, "root": root}


def merge_tasks(
    data: Dataset, base: Superpixels, model: Model, settings: ExtractSettings, ids: Sequence[str]
) -> Iterator[MergeTask]:
    """Mean class probabilities and mean uncertainty of every base region (spec adaptive_superpixel.md 2.5)."""
    import torch

    from stages.networks.predictor import image_logits, load_predictor
    from stages.pixels.maps import lookup
    from stages.regions.reductions import region_means
    from stages.runtime.devices import choose_device
    from stages.scoring.measures import MEASURES

    device = choose_device(settings.device)
    predictor = load_predictor(model, settings.checkpoint, device, settings.precision)
    measure = MEASURES[settings.measure]
    for image, logits in image_logits(predictor, data, ids, settings.batch, settings.input_scale):
        count, size = base.number(image), base.sizes[image]
        labels = torch.from_numpy(base.labels(image)).to(device).long()
        with torch.inference_mode():
            uncertainty = region_means(lookup(measure(logits[None])[0], size), labels, count)
            probabilities = region_means(lookup(logits.softmax(0), size), labels, count).T
        table = {name: base.read(f"regions/{name}", base.rows[image]) for name in TABLE}
        graph = Graph(table, *base.adjacency(image))
        yield MergeTask(image, probabilities.cpu().numpy(), uncertainty.cpu().numpy(), graph, settings)
