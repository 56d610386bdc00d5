"""The stage `pseudo-label`: dense labels from answers and a model's predictions."""

from pathlib import Path
from typing import Any

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer, require_made_from
from stages.artifacts.header import Header, InputRef
from stages.artifacts.model import Model, require_same_classes
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.shards import Fill, Parts, build_shards, join_shards
from stages.artifacts.superpixels import Superpixels
from stages.artifacts.weights import weights_ref
from stages.pseudo_labelling.disambiguation import disambiguate, require_sets
from stages.pseudo_labelling.gating import finish_gated, gate_images, require_masks
from stages.pseudo_labelling.labeller import finish_labels
from stages.pseudo_labelling.sieving import require_dominant, sieve_images
from stages.pseudo_labelling.spreading import Spread, find_references, finish_spread, load_encoder, spread_images
from stages.runtime.errors import BadInput
from stages.runtime.ranks import Ranks, joined_ranks
from stages.runtime.shares import Share
from stages.settings.base import existing
from stages.settings.pseudo_label import PseudoLabelSettings

SHARD_IMAGES = 64


def run(
    dataset: Path,
    annotations: Path,
    model: Path | None,
    output: Path,
    settings: PseudoLabelSettings,
    superpixels: Path | None = None,
    force: bool = False,
    share: Share | None = None,
) -> Path:
    """Publishes dense labels from the answers in the ledger ``annotations`` and the predictions of ``model``.

    Dominant classes are sieved. Each pixel of a region with a class set gets one class, which needs the ``superpixels``
    that were queried. Images without a mask get their prediction if the model's discriminator accepts it. Labels spread
    to similar pixels without a ``model``, or by the features of its backbone; with ``superpixels``, each region takes
    one class. Raises BadInput for a ledger without such answers, and for inputs that do not fit together.
    """
    if share is not None and not settings.divisible:
        raise BadInput(
            "--shard cannot divide --among pool, because every process needs the features of all labelled pixels. Omit "
            "it, start one process per GPU with torchrun, or set --among image."
        )
    with Dataset(dataset) as data, Annotations(annotations) as ledger:
        require_made_from(ledger, "dataset", data)
        trained = used_model(model, settings)
        if trained is not None:
            require_same_classes(trained, data)
        regions = None if superpixels is None else Superpixels(superpixels)
        weights: dict[str, InputRef] = {}
        if settings.spread is not None:
            require_grid(regions, data, ledger)
            encoding = settings.spread.encoding
            weights = {} if encoding is None else weights_ref(output, encoding.weights)
        elif settings.sieving is not None:
            require_dominant(ledger)
            regions = None  # the ledger knows the pixels
        elif settings.gated is not None:
            assert trained is not None
            require_masks(ledger, trained)
            regions = None
        else:
            regions = require_sets(ledger, regions)
        inputs = {"dataset": data, "annotations": ledger, "model": trained, "superpixels": regions}
        request = Request(
            "pseudo-label", "pseudo_labels", output, settings, refer(output, inputs) | weights, share=share
        )
        from stages.runtime.devices import choose_device

        with joined_ranks(choose_device(settings.use.device).type) as ranks:
            return produce(
                request, lambda: build(request, data, ledger, trained, regions, settings, ranks), force, ranks
            )


def used_model(path: Path | None, settings: PseudoLabelSettings) -> Model | None:
    """The model whose predictions or features are used; BadInput if it is not given."""
    if settings.spread is not None and settings.spread.features == "encoder":
        return None
    if path is None:
        remedy = "" if settings.spread is None else ", or set --features encoder"
        raise BadInput(f"Method {settings.method} uses a trained model. Pass --model{remedy}.")
    return Model(path)


def require_grid(regions: Superpixels | None, data: Dataset, ledger: Annotations) -> None:
    """BadInput for regions of another dataset, or on another grid than the answers."""
    if regions is None:
        return
    require_made_from(regions, "dataset", data)
    other = [image for image in regions.ids if regions.sizes[image] != ledger.sizes.get(image, data.sizes[image])]
    if other:
        raise BadInput(
            f"{regions.path} has image {other[0]} on another grid than {ledger.path}. Pass regions on the grid of the "
            "queries, or leave out --superpixels."
        )


def build(
    request: Request,
    data: Dataset,
    ledger: Annotations,
    model: Model | None,
    regions: Superpixels | None,
    settings: PseudoLabelSettings,
    ranks: Ranks,
) -> str:
    ids = sorted(set(ledger.rows) | set(ledger.exact_ids))
    if settings.spread is not None:
        spread = Spread(data, ledger, regions, settings.spread, settings.seed)
        ids, found = spread.ids, find_references(spread)
        encoder = load_encoder(spread, model, settings.checkpoint, settings.use)
        fill = spread_images(spread, found, encoder, request, SHARD_IMAGES, ranks)
    else:
        assert model is not None
        if settings.gated is not None:
            ids = data.ids(settings.gated.split)
        require_room(data, ids, model, settings)
        fill = fill_by(model, data, ledger, regions, settings)
    shards = build_shards(request, ids, SHARD_IMAGES, fill, "labelling", ranks)
    if request.share is not None:
        return shards.told_share()
    ranks.barrier()
    if not ranks.is_main:
        return ""

    def finish(writer: Writer, parts: Parts) -> Header:
        sieve = "max" if settings.sieving is None else settings.sieving.sieve  # recorded for all methods
        attributes = {"classes": data.classes, "method": settings.method, "sieve": sieve}
        if settings.spread is not None:
            counts = finish_spread(writer, parts, spread, ids, found)
        elif settings.gated is not None:
            counts = finish_gated(writer, parts, ids, data, settings.gated.gate)
        else:
            counts = finish_labels(writer, parts, ids, ledger, settings.prototypes is not None)
        return request.header(attributes, ledger.cost() | counts)

    return summary(join_shards(shards, finish).counts, len(ids), settings.method)


def require_room(data: Dataset, ids: list[str], model: Model, settings: PseudoLabelSettings) -> None:
    """StageFailed if the logits of a batch do not fit into memory."""
    from stages.networks.batch_memory import require_prediction_memory

    seen = settings.sieving or settings.gated
    if seen is not None:
        require_prediction_memory(
            "pseudo-label", ids, data.sizes, settings.use, data.bands, model.outputs, seen.input_scale
        )


def fill_by(
    model: Model, data: Dataset, ledger: Annotations, regions: Superpixels | None, settings: PseudoLabelSettings
) -> Fill:
    """The labels by the predictions of ``model``."""
    checkpoint, use = settings.checkpoint, settings.use
    if settings.gated is not None:
        return gate_images(data, ledger, model, settings.gated, checkpoint, use)
    if settings.sieving is not None:
        return sieve_images(data, ledger, model, settings.sieving, checkpoint, use)
    assert regions is not None
    own, predicted, views = settings.prototypes, settings.predicted, existing(settings.views)
    return disambiguate(data, ledger, regions, model, settings.method, own, predicted, views, checkpoint, use)


def summary(counts: dict[str, Any], images: int, method: str) -> str:
    if method == "gated":
        return f"{counts['accepted']} predictions accepted, {counts['refused']} refused, {counts['masks']} masks"
    if method == "neighbours":
        share = counts["labelled_pixels"] / max(counts["pixels"], 1)
        return f"{100 * share:.1f} % of the pixels of {images} images labelled"
    share = counts["kept_pixels"] / max(counts["region_pixels"], 1)
    text = f"{counts['regions']} regions of {images} images"
    if method == "sieve":
        return f"{text}, {counts['sieved_regions']} of them sieved, {100 * share:.1f} % of their pixels kept"
    return f"{text}, {counts['region_pixels']} pixels queried, {counts['labelled_pixels']} labelled"
