"""The stage `score`: rank unlabelled pixels, regions or images by how useful their labels would be."""

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
from stages.pixels.grids import Size, grid_size
from stages.runtime.console import say
from stages.runtime.errors import BadInput
from stages.runtime.free_memory import require_memory
from stages.runtime.randomness import stream
from stages.runtime.ranks import Ranks, joined_ranks
from stages.runtime.shares import Share
from stages.scoring.contradiction import contradicted_pixels, contradicted_regions
from stages.scoring.images import finish_images, score_images
from stages.scoring.pixels import finish_pixels, score_pixels, write_maps
from stages.scoring.regions import Pool, bytes_to_finish, finish_regions, score_regions
from stages.settings.score import CONTRADICTION, ScoreSettings

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
    share: Share | None = None,
) -> Path:
    """Publishes a score per pixel, per region of ``superpixels``, or per image of the split.

    With ``annotations``, region scores exclude the pixels that this ledger covers. With ``clusters`` of the regions,
    the scores contain what a rule needs to divide a budget among them. Raises BadInput without a model for any measure
    but random, for a model with other classes or without support heads if they are needed, and for regions of another
    split or merged with another model.
    """
    trained = None if model is None or settings.measure == "random" else Model(model)
    if settings.network is not None and trained is None:
        raise BadInput(f"--measure {settings.measure} requires --model; only random does not.")
    if (settings.region is not None) != (superpixels is not None):
        raise BadInput("--unit region requires --superpixels, and vice versa.")
    of_answers = settings.measure == CONTRADICTION
    if of_answers and annotations is None:
        raise BadInput("--measure contradiction scores answers. Pass their ledger with --annotations.")
    if superpixels is None and (clusters is not None or (annotations is not None and not of_answers)):
        raise BadInput("--clusters and --annotations require --unit region with --superpixels.")
    balance = None if settings.region is None else settings.region.balance
    if balance is not None and balance.class_balance == "cluster" and clusters is None:
        raise BadInput("--class-balance cluster requires --clusters, the output of cluster-regions.")
    if clusters is not None and balance is None:
        raise BadInput(
            f"--measure {settings.measure} predicts no classes, so --clusters has nothing to count. Omit it."
        )
    with Dataset(dataset) as data:
        ids = drawn_images(data.ids(settings.split), settings, trained)
        if trained is not None:
            require_model(trained, data, settings)
        regions = None if superpixels is None else Superpixels(superpixels)
        if regions is not None:
            require_made_from(regions, "dataset", data)
            regions.require_images(ids, settings.split)
            if not regions.count:
                raise BadInput(f"{superpixels} has no regions, because every pixel is void. There is nothing to score.")
            if trained is not None and balance is not None and balance.merged_by == "model":
                require_made_from(regions, "model", trained)
        grids = grids_of(data, ids, regions, settings)
        ledger = None if annotations is None else open_ledger(annotations, data, grids)
        pool = None if regions is None else pool_of(data, regions, ledger, clusters)
        inputs: dict[str, Any] = {"dataset": data, "model": trained, "superpixels": regions, "annotations": ledger}
        inputs["clusters"] = None if pool is None else pool.clusters
        request = Request("score", "scores", output, settings, refer(output, inputs), share=share)
        device = "cpu"
        if settings.network is not None:
            from stages.runtime.devices import choose_device

            device = choose_device(settings.network.use.device).type
        with joined_ranks(device) as ranks:
            return produce(
                request, lambda: build(request, data, ids, grids, trained, pool, ledger, settings, ranks), force, ranks
            )


def drawn_images(ids: list[str], settings: ScoreSettings, model: Model | None) -> list[str]:
    """``ids``, or some of them if the settings limit their number: others for each model, so for each round.

    Contradictions are looked for in all answers.
    """
    most = None if settings.pixel is None else settings.pixel.most_images
    if most is None or most >= len(ids) or settings.measure == CONTRADICTION:
        return ids
    generator = stream(settings.seed, "most_images", "" if model is None else model.digest)
    return [ids[place] for place in sorted(generator.choice(len(ids), most, replace=False).tolist())]


def require_model(model: Model, data: Dataset, settings: ScoreSettings) -> None:
    """BadInput unless ``model`` predicts the classes of ``data`` and everything else that the scores need."""
    require_same_classes(model, data, of_images=settings.unit == "image")
    balance = None if settings.region is None else settings.region.balance
    if balance is not None and balance.void_output != "drop" and not model.knows_void:
        raise BadInput(
            f"{model.path} did not learn void, which --void-output {balance.void_output} needs. Set it to drop, or "
            "train with --learn-void."
        )
    if settings.network is not None and settings.network.discount_void and not model.knows_void:
        raise BadInput(
            f"{model.path} did not learn void, which --discount-void needs. Omit it, or train with --learn-void."
        )
    if settings.network is not None and settings.network.needs_support and not model.has_support:
        raise BadInput(
            f"{model.path} has no support heads, which maturity and lossiness need. Train them with --objective "
            "support."
        )


def grids_of(data: Dataset, ids: list[str], regions: Superpixels | None, settings: ScoreSettings) -> dict[str, Size]:
    """The grid of each image that is scored: that of its regions, or a scaled one."""
    if regions is not None:
        return regions.sizes
    scale = 1.0 if settings.pixel is None else settings.pixel.grid_scale
    return {image: grid_size(data.sizes[image], scale) for image in ids}


def open_ledger(annotations: Path, data: Dataset, grids: dict[str, Size]) -> Annotations:
    """The ledger; BadInput for one of another dataset or on other grids."""
    ledger = Annotations(annotations)
    require_made_from(ledger, "dataset", data)
    require_same_grid(ledger, ledger.sizes, grids)
    return ledger


def pool_of(data: Dataset, regions: Superpixels, ledger: Annotations | None, clusters: Path | None) -> Pool:
    """The regions with their ledger and clusters; BadInput for clusters of other regions."""
    grouped = None if clusters is None else Clusters(clusters)
    if grouped is not None:
        require_made_from(grouped, "superpixels", regions)
    return Pool(data, regions, ledger, grouped)


def require_room(
    data: Dataset, ids: list[str], model: Model | None, pool: Pool | None, settings: ScoreSettings
) -> None:
    """StageFailed if the logits of a batch, or the tables of all regions at the end, do not fit into memory."""
    if pool is not None:
        needed = bytes_to_finish(pool.regions.count, settings.feature_size, model is not None, pool.ledger is None)
        require_memory(needed, "score", f"for {pool.regions.count} regions")
    if model is not None and not model.of_images and settings.network is not None:
        from stages.networks.batch_memory import require_prediction_memory

        use, scale, batch = settings.network.use, settings.network.input_scale, 1 if settings.passes else None
        require_prediction_memory("score", ids, data.sizes, use, data.bands, model.outputs, scale, batch)


def build(
    request: Request,
    data: Dataset,
    ids: list[str],
    grids: dict[str, Size],
    model: Model | None,
    pool: Pool | None,
    ledger: Annotations | None,
    settings: ScoreSettings,
    ranks: Ranks,
) -> str:
    classifier = model if model is not None and model.of_images else None
    require_room(data, ids, model, pool, settings)
    if settings.measure == CONTRADICTION:
        assert model is not None
        assert ledger is not None
        if pool is not None:
            fill = contradicted_regions(data, model, ledger, pool.regions, settings)
        else:
            fill = write_maps(contradicted_pixels(data, model, ledger, grids, settings), settings)
    elif pool is not None:
        fill = score_regions(pool, model, settings)
    elif classifier is not None:
        fill = score_images(data, classifier, settings)
    else:
        fill = score_pixels(data, model, grids, settings)
    shards = build_shards(request, ids, SHARD_IMAGES, fill, "scoring", ranks)
    if request.share is not None:
        return shards.told_share()
    ranks.barrier()
    if not ranks.is_main:
        return ""

    def finish(writer: Writer, parts: Parts) -> Header:
        write_images(writer, ids, grids)
        attributes: dict[str, Any] = {"unit": settings.unit, "measure": settings.measure}
        if pool is not None:
            assert settings.region is not None
            counts = finish_regions(writer, parts, pool, settings.region)
            balance = settings.region.balance
            attributes |= {
                "class_balance": "none" if balance is None else balance.class_balance,
                "oracle_privilege": pool.regions.attributes["oracle_privilege"],
            }
        elif classifier is not None:
            counts = finish_images(writer, parts, settings)
        else:
            counts = finish_pixels(writer, parts, ids, data.classes, settings)
            unpredicted = [name for name, share in counts.get("share", {}).items() if not share]
            if unpredicted:
                say(f"note: the model predicts {', '.join(unpredicted)} in no pixel")
        return request.header(attributes, {"images": len(ids)} | counts)

    counts = join_shards(shards, finish).counts
    what = f"{counts['regions']} regions of " if pool is not None else ""
    return f"{settings.measure} for {what}{len(ids)} images, mean {counts['mean']:.4f}"
