"""The stage `extract-superpixels`: cut images into regions, or merge base regions by the predictions of a model."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer, require_made_from
from stages.artifacts.model import Model, require_same_classes
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.shards import Parts
from stages.artifacts.superpixels import TABLE, Superpixels
from stages.pixels.grids import Size, grid_size
from stages.regions.cut import CutTask, MergeTask, RegionGraph, cut_image, merge_image
from stages.regions.cutters import CountSettings
from stages.regions.publishing import Found, publish_regions
from stages.runtime.console import say
from stages.runtime.errors import BadInput
from stages.runtime.parts import CUTTERS, MEASURES
from stages.runtime.processes import core_count, map_in_processes
from stages.runtime.ranks import launched_processes
from stages.runtime.shares import Share
from stages.settings.base import existing
from stages.settings.extract_superpixels import ExtractSettings, MergeSettings

SHARD_IMAGES = 16
TOLERANCE = 0.2
"""Share by which the number of regions may be off before a warning."""


def run(
    dataset: Path,
    output: Path,
    settings: ExtractSettings,
    superpixels: Path | None = None,
    model: Path | None = None,
    force: bool = False,
    share: Share | None = None,
) -> Path:
    """Publishes the regions of each image of the split.

    Method adaptive merges the regions of ``superpixels`` by the predictions of ``model``; no other method takes these
    two. Raises BadInput if they are missing or do not fit, for regions that were merged before, for cutters that read
    masks in a split without masks, and for images that the cutter cannot cut.
    """
    if launched_processes() > 1:
        raise BadInput("extract-superpixels starts its own processes (--workers). Run it without torchrun.")
    adaptive = settings.merge is not None
    if adaptive and (superpixels is None or model is None):
        raise BadInput(
            "Method adaptive merges base regions by the predictions of a model. Pass --superpixels and --model."
        )
    if not adaptive and (superpixels is not None or model is not None):
        raise BadInput(f"Method {settings.method} uses neither --superpixels nor --model. Omit them.")
    with Dataset(dataset) as data:
        ids = data.ids(settings.split)
        inputs: dict[str, Any] = {"dataset": data}
        if settings.merge is not None and superpixels is not None and model is not None:
            require_measure(settings.merge.measure)
            base, trained = Superpixels(superpixels), Model(model)
            require_base(base, data, ids, settings.split)
            require_same_classes(trained, data)
            inputs |= {"superpixels": base, "model": trained}
            require_room(data, ids, trained, settings.merge)
        elif reads_masks(settings) and not data.has_masks(settings.split):
            raise BadInput(
                f"{dataset} has no masks in split {settings.split!r}, but method {settings.method} cuts them. Choose "
                "another --method or --split."
            )
        request = Request("extract-superpixels", "superpixels", output, settings, refer(output, inputs), share=share)
        return produce(request, lambda: build(request, ids, settings, **inputs), force)


def reads_masks(settings: ExtractSettings) -> bool:
    """Whether the regions are cut from the ground truth."""
    return settings.merge is None and CUTTERS[settings.method].facts["reads"] == "mask"


def require_measure(name: str) -> None:
    """BadInput unless the measure takes exclusive classes and a single pass."""
    plain = [part.name for part in MEASURES.parts() if part.facts["of"] == "classes" and not part.facts["passes"]]
    if MEASURES[name].name not in plain:
        raise BadInput(f"Measure {name} cannot order regions by one prediction. Choose one of {', '.join(plain)}.")


def require_room(data: Dataset, ids: list[str], model: Model, settings: MergeSettings) -> None:
    """StageFailed if the logits of a batch do not fit into memory."""
    from stages.networks.batch_memory import require_prediction_memory

    require_prediction_memory(
        "extract-superpixels", ids, data.sizes, settings.use, data.bands, model.outputs, settings.input_scale
    )


def require_base(base: Superpixels, data: Dataset, ids: list[str], split: str) -> None:
    """BadInput for regions of other images, and for merged regions: each round starts from the base."""
    require_made_from(base, "dataset", data)
    base.require_images(ids, split)
    if base.method == "adaptive":
        raise BadInput(
            f"{base.path} contains merged regions. Pass the base regions they were merged from "
            f"({base.header.inputs['superpixels'].file}): each round starts from those."
        )


def build(
    request: Request,
    ids: list[str],
    settings: ExtractSettings,
    dataset: Dataset,
    superpixels: Superpixels | None = None,
    model: Model | None = None,
) -> str:
    workers = settings.workers or core_count()

    def work(missing: Sequence[str]) -> Iterator[Found]:
        if settings.merge is not None and superpixels is not None and model is not None:
            return merge_images(dataset, superpixels, model, settings.merge, settings.seed, workers, missing)
        return cut_images(dataset, settings, workers, missing)

    def merged(writer: Writer, parts: Parts, first: np.ndarray, numbers: np.ndarray) -> None:
        """Which base regions became which."""
        if superpixels is None:
            return
        base_numbers = [superpixels.number(image) for image in ids]
        writer.array("base/region", (parts.column("group") + np.repeat(first, base_numbers)).astype(np.int32))
        base_first = np.repeat(superpixels.first_regions, numbers)
        writer.array("regions/root", (parts.column("root") + base_first).astype(np.int32))

    grids = superpixels.sizes if superpixels is not None else cut_grids(dataset, ids, settings)
    privilege = "oracle regions" if reads_masks(settings) else "none"
    if superpixels is not None:
        privilege = superpixels.attributes["oracle_privilege"]
    attributes = {"method": settings.method, "split": settings.split, "oracle_privilege": privilege}

    def warn(counts: Mapping[str, Any]) -> None:
        warn_of_other_number(counts["per_image"]["mean"], grids, settings)

    return publish_regions(request, ids, grids, work, SHARD_IMAGES, "cutting into regions", attributes, merged, warn)


def warn_of_other_number(found: float, grids: Mapping[str, Size], settings: ExtractSettings) -> None:
    """Says so if images were cut into clearly more or fewer regions than asked for, as SEEDS does at some sizes."""
    if not isinstance(settings.of_method, CountSettings) or existing(settings.cut).split_parts:
        return
    asked = float(np.mean([settings.of_method.number(*grids[image]) for image in grids]))
    if not 1 - TOLERANCE <= found / asked <= 1 + TOLERANCE:
        ways = "--levels, --count or --region-pixels" if settings.method == "seeds" else "--count or --region-pixels"
        say(f"Warning: {found:.0f} regions per image instead of {asked:.0f}. Change {ways}.")


def cut_grids(data: Dataset, ids: Sequence[str], settings: ExtractSettings) -> dict[str, Size]:
    """The grid that each image is cut on."""
    scale = existing(settings.cut).grid_scale
    return {image: grid_size(data.sizes[image], scale) for image in ids}


def cut_images(data: Dataset, settings: ExtractSettings, workers: int, ids: Sequence[str]) -> Iterator[Found]:
    """The regions of the images ``ids``, several images at a time in separate processes."""
    read, grids = data.mask if reads_masks(settings) else data.rgb, cut_grids(data, ids, settings)
    split_parts = existing(settings.cut).split_parts
    own = {} if settings.of_method is None else settings.of_method.flat()
    tasks = (
        CutTask(
            image,
            read(image, grids[image]),
            settings.method,
            split_parts,
            own,
            data.without_data(image, grids[image]),
        )
        for image in ids
    )
    for labels, graph in map_in_processes(cut_image, tasks, workers):
        yield {"labels": labels, "graph": graph}


def merge_images(
    data: Dataset,
    base: Superpixels,
    model: Model,
    settings: MergeSettings,
    seed: int,
    workers: int,
    ids: Sequence[str],
) -> Iterator[Found]:
    """The merged regions of the images ``ids``: predictions reduced on the device, merging in processes."""
    tasks = merge_tasks(data, base, model, settings, seed, ids)
    for image, (group, root, graph) in zip(ids, map_in_processes(merge_image, tasks, workers), strict=True):
        labels = np.append(group, np.int32(-1))[base.labels(image)]  # -1, no region, stays -1
        yield {"labels": labels, "graph": graph, "group": group, "root": root}


def merge_tasks(
    data: Dataset, base: Superpixels, model: Model, settings: MergeSettings, seed: int, ids: Sequence[str]
) -> Iterator[MergeTask]:
    """Mean class probabilities and mean uncertainty of each base region (adaptive_superpixel.md 2.5)."""
    import torch

    from stages.networks.predictions import load_image_predictor
    from stages.pixels.maps import lookup
    from stages.regions.reductions import region_means
    from stages.scoring.measuring import plain_measure

    predictor = load_image_predictor(model, settings.checkpoint, settings.use, settings, data)
    measure = plain_measure(settings.measure)
    for image, logits in predictor.of_images(data, ids, settings.use.batch):
        count, size = base.number(image), base.sizes[image]
        labels = torch.from_numpy(base.labels(image)).to(logits.device).long()
        with torch.inference_mode():
            uncertainty = region_means(lookup(measure(logits[None])[0], size), labels, count)
            probabilities = region_means(lookup(logits.softmax(0), size), labels, count).T
        table = {name: base.read(f"regions/{name}", base.rows[image]) for name in TABLE}
        graph = RegionGraph(table, *base.adjacency(image))
        yield MergeTask(image, probabilities.cpu().numpy(), uncertainty.cpu().numpy(), graph, settings, seed)
