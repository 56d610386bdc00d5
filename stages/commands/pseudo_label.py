"""The stage `pseudo-label`: dense labels from answers and a model's predictions."""

from pathlib import Path
from typing import Any

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer, require_made_from
from stages.artifacts.header import Header
from stages.artifacts.model import Model, require_same_classes
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.shards import Parts, build_shards, join_shards
from stages.artifacts.superpixels import Superpixels
from stages.pseudo_labelling.disambiguation import disambiguate, require_sets
from stages.pseudo_labelling.gating import finish_gated, gate_images, require_masks
from stages.pseudo_labelling.labeller import finish_labels
from stages.pseudo_labelling.sieving import require_dominant, sieve_images
from stages.runtime.ranks import Ranks, joined_ranks
from stages.settings.base import existing
from stages.settings.pseudo_label import PseudoLabelSettings

SHARD_IMAGES = 64


def run(
    dataset: Path,
    annotations: Path,
    model: Path,
    output: Path,
    settings: PseudoLabelSettings,
    superpixels: Path | None = None,
    force: bool = False,
) -> Path:
    """Publishes dense labels from the answers in the ledger ``annotations`` and the predictions of ``model``.

    Dominant classes are sieved. Each pixel of a region with a class set gets one class, which needs the ``superpixels``
    that were queried. Images without a mask get their prediction if the model's discriminator accepts it. Raises
    BadInput for a ledger without such answers, and for inputs that do not fit together.
    """
    with Dataset(dataset) as data, Annotations(annotations) as ledger:
        require_made_from(ledger, "dataset", data)
        trained = Model(model)
        require_same_classes(trained, data)
        regions = None if superpixels is None else Superpixels(superpixels)
        if settings.sieving is not None:
            require_dominant(ledger)
            regions = None  # the ledger knows the pixels
        elif settings.gated is not None:
            require_masks(ledger, trained)
            regions = None
        else:
            regions = require_sets(ledger, regions)
        inputs = {"dataset": data, "annotations": ledger, "model": trained, "superpixels": regions}
        request = Request("pseudo-label", "pseudo_labels", output, settings, refer(output, inputs))
        from stages.runtime.devices import choose_device

        with joined_ranks(choose_device(settings.use.device).type) as ranks:
            return produce(
                request, lambda: build(request, data, ledger, trained, regions, settings, ranks), force, ranks
            )


def build(
    request: Request,
    data: Dataset,
    ledger: Annotations,
    model: Model,
    regions: Superpixels | None,
    settings: PseudoLabelSettings,
    ranks: Ranks,
) -> str:
    checkpoint, use = settings.checkpoint, settings.use
    ids = sorted(set(ledger.rows) | set(ledger.exact_ids))
    if settings.gated is not None:
        ids = data.ids(settings.gated.split)
        fill = gate_images(data, ledger, model, settings.gated, checkpoint, use)
    elif settings.sieving is not None:
        fill = sieve_images(data, ledger, model, settings.sieving, checkpoint, use)
    else:
        assert regions is not None
        own, predicted, views = settings.prototypes, settings.predicted, existing(settings.views)
        fill = disambiguate(data, ledger, regions, model, settings.method, own, predicted, views, checkpoint, use)
    shards = build_shards(request, ids, SHARD_IMAGES, fill, "labelling", ranks.rank, ranks.size)
    ranks.barrier()
    if not ranks.is_main:
        return ""

    def finish(writer: Writer, parts: Parts) -> Header:
        sieve = "max" if settings.sieving is None else settings.sieving.sieve  # recorded for all methods
        attributes = {"classes": data.classes, "method": settings.method, "sieve": sieve}
        if settings.gated is not None:
            counts = finish_gated(writer, parts, ids, data, settings.gated.gate)
        else:
            counts = finish_labels(writer, parts, ids, ledger, settings.prototypes is not None)
        return request.header(attributes, ledger.cost() | counts)

    return summary(join_shards(shards, finish).counts, len(ids), settings.method)


def summary(counts: dict[str, Any], images: int, method: str) -> str:
    if method == "gated":
        return f"{counts['accepted']} predictions accepted, {counts['refused']} refused, {counts['masks']} masks"
    share = counts["kept_pixels"] / max(counts["region_pixels"], 1)
    text = f"{counts['regions']} regions of {images} images"
    if method == "sieve":
        return f"{text}, {counts['sieved_regions']} of them sieved, {100 * share:.1f} % of their pixels kept"
    return f"{text}, {counts['region_pixels']} pixels queried, {counts['labelled_pixels']} labelled"
