"""The stage `score`: how much asking about a pixel, a region or an image would teach."""

from pathlib import Path
from typing import Any

from stages.artifacts.annotations import Annotations
from stages.artifacts.clusters import Clusters
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer, require_made_from
from stages.artifacts.header import Header
from stages.artifacts.images_table import require_same_grid, write_images
from stages.artifacts.model import Model, require_same_classes
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.shards import Parts, build_shards, join_shards
from stages.artifacts.superpixels import Superpixels
from stages.pixels.grids import grid_size
from stages.runtime.errors import BadInput
from stages.runtime.ranks import Ranks, joined_ranks
from stages.scoring.images import finish_images, score_images
from stages.scoring.pixels import finish_pixels, score_pixels
from stages.scoring.regions import Pool, finish_regions, score_regions
from stages.settings.score import ScoreSettings

SHARD_IMAGES = 64


def run(
    dataset: Path,
    output: Path,
    settings: ScoreSettings,
    model: Path | None = None,
    superpixels: Path | None = None,
    clusters: Path | None = None,
    annotations: Path | None = None,
    force: bool = False,
) -> Path:
    """Publishes a score per pixel, per region of ``superpixels``, or per image of the split.

    With ``annotations`` regions are scored without the pixels that this ledger covers; with ``clusters`` of the regions
    the scores hold what a rule needs to share a budget out over them. Raises BadInput without a model for any measure
    but random, for a model of another class table or without support heads where they are needed, and for regions that
    are of another split or were merged with another model.
    """
    trained = None if model is None else Model(model)
    known = measure_names()
    if settings.measure not in known:
        raise BadInput(f"There is no measure {settings.measure!r}; known are {', '.join(known)}.")
    if settings.measure == "random":
        trained = None  # the result does not depend on it, so neither does the output's freshness
    elif trained is None:
        raise BadInput(f"The measure {settings.measure} needs --model; only random does without.")
    if (settings.unit == "region") != (superpixels is not None):
        raise BadInput("--unit region and --superpixels belong together; give both or neither.")
    if superpixels is None and (clusters is not None or annotations is not None):
        raise BadInput("--clusters and --annotations are about regions; give --superpixels and --unit region too.")
    if settings.class_balance == "cluster" and clusters is None:
        raise BadInput("--class-balance cluster needs --clusters; give the file that cluster-regions wrote.")
    if clusters is not None and trained is None:
        raise BadInput("Random scores predict no classes, of which --clusters would hold the share; leave it out.")
    with Dataset(dataset) as data:
        ids = data.ids(settings.split)
        if trained is not None:
            require_same_classes(trained, data, of_images=settings.unit == "image")
            if settings.void_output != "drop" and not trained.knows_void:
                raise BadInput(
                    f"{model} never learned void, so it has no output to {settings.void_output}; set --void-output "
                    "drop, or train with --learn-void."
                )
            if settings.needs_support and not trained.has_support:
                raise BadInput(
                    f"{model} has no support heads, of which maturity and lossiness come; train them with --objective "
                    "support."
                )
        regions = None if superpixels is None else Superpixels(superpixels)
        if regions is not None:
            require_made_from(regions, "dataset", data)
            regions.require_images(ids, settings.split)
            if not regions.count:
                raise BadInput(f"{superpixels} holds no region (every pixel is void), so there is nothing to score.")
            if trained is not None:  # merged regions are of one model: what it says of them is what made them
                require_made_from(regions, "model", trained)
        pool = None if regions is None else pool_of(data, regions, annotations, clusters)
        inputs: dict[str, Any] = {"dataset": data, "model": trained, "superpixels": regions}
        if pool is not None:
            inputs |= {"annotations": pool.ledger, "clusters": pool.clusters}
        request = Request("score", "scores", output, settings, refer(output, inputs))
        device = "cpu"
        if trained is not None:
            from stages.runtime.devices import choose_device

            device = choose_device(settings.device).type
        with joined_ranks(device) as ranks:
            return produce(request, lambda: build(request, data, ids, trained, pool, settings, ranks), force, ranks)


def pool_of(data: Dataset, regions: Superpixels, annotations: Path | None, clusters: Path | None) -> Pool:
    """The regions with what is known about them; BadInput for files of other data or other regions."""
    ledger = None if annotations is None else Annotations(annotations)
    if ledger is not None:
        require_made_from(ledger, "dataset", data)
        require_same_grid(ledger, ledger.sizes, regions.sizes)
    grouped = None if clusters is None else Clusters(clusters)
    if grouped is not None:
        require_made_from(grouped, "superpixels", regions)
    return Pool(data, regions, ledger, grouped)


def measure_names() -> list[str]:
    from stages.scoring.measures import MEASURES

    return ["random", *MEASURES]


def build(
    request: Request,
    data: Dataset,
    ids: list[str],
    model: Model | None,
    pool: Pool | None,
    settings: ScoreSettings,
    ranks: Ranks,
) -> str:
    classified = model is not None and model.of_images
    if pool is None:
        grids = {image: grid_size(data.sizes[image], settings.grid_scale) for image in ids}
        fill = score_images(data, model, settings) if classified else score_pixels(data, model, grids, settings)
    else:
        grids = pool.regions.sizes
        fill = score_regions(pool, model, settings)
    shards = build_shards(request, ids, SHARD_IMAGES, fill, "scoring", ranks.rank, ranks.size)
    ranks.barrier()
    if not ranks.is_main:
        return ""

    def finish(writer: Writer, parts: Parts) -> Header:
        write_images(writer, ids, grids)
        if pool is None:
            counts = finish_images(writer, parts, settings) if classified else finish_pixels(writer, parts, ids)
        else:
            counts = finish_regions(writer, parts, pool, model is not None, settings)
        attributes: dict[str, Any] = {"unit": settings.unit, "measure": settings.measure}
        if pool is not None:
            attributes |= {
                "class_balance": settings.class_balance,
                "oracle_privilege": pool.regions.attributes["oracle_privilege"],
            }
        return request.header(attributes, {"images": len(ids)} | counts)

    counts = join_shards(shards, finish).counts
    what = f"{counts['regions']} regions of " if pool is not None else ""
    return f"{settings.measure} for {what}{len(ids)} images, mean {counts['mean']:.4f}"
