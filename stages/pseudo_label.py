"""The stage `pseudo-label`: dense labels from answers and what a model makes of the pixels."""

from pathlib import Path

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer, require_made_from
from stages.artifacts.header import Header
from stages.artifacts.images_table import write_images
from stages.artifacts.model import Model, require_same_classes
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.shards import Parts, build_shards, join_shards
from stages.artifacts.superpixels import Superpixels
from stages.labelling.disambiguation import disambiguate, require_sets
from stages.labelling.gating import finish_gated, gate_images, require_masks
from stages.labelling.labeller import PROTOTYPE_COLUMNS
from stages.labelling.sieving import require_dominant, sieve_images
from stages.ranks import Ranks, joined_ranks
from stages.settings.regions import PseudoLabelSettings

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
    """Publishes dense labels made of the answers in ``annotations``, with what ``model`` predicts.

    Dominant classes are sieved; of classes named together every pixel gets one, which needs the ``superpixels`` that
    were asked about; beside full masks the other images get what is predicted, if the model's discriminator accepts it.
    Raises BadInput for a ledger without such answers, and for inputs that do not fit together.
    """
    with Dataset(dataset) as data, Annotations(annotations) as ledger:
        require_made_from(ledger, "dataset", data)
        trained = Model(model)
        require_same_classes(trained, data)
        regions = None if superpixels is None else Superpixels(superpixels)
        if settings.method == "sieve":
            require_dominant(ledger)
            regions = None  # the ledger knows the pixels
        elif settings.method == "gated":
            require_masks(ledger, trained)
            regions = None
        else:
            regions = require_sets(ledger, regions)
        inputs = {"dataset": data, "annotations": ledger, "model": trained, "superpixels": regions}
        request = Request("pseudo-label", "pseudo_labels", output, settings, refer(output, inputs))
        from stages.inference.devices import choose_device

        with joined_ranks(choose_device(settings.device).type) as ranks:
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
    gated = settings.method == "gated"
    ids = data.ids(settings.split) if gated else sorted(set(ledger.rows) | set(ledger.exact_ids))
    if gated:
        fill = gate_images(data, ledger, model, settings)
    elif regions is None:
        fill = sieve_images(data, ledger, model, settings)
    else:
        fill = disambiguate(data, ledger, regions, model, settings)
    shards = build_shards(request, ids, SHARD_IMAGES, fill, "labelling", ranks.rank, ranks.size)
    ranks.barrier()
    if not ranks.is_main:
        return ""

    def finish(writer: Writer, parts: Parts) -> Header:
        attributes = {"classes": data.classes, "method": settings.method, "sieve": settings.sieve}
        if gated:
            return request.header(attributes, ledger.cost() | finish_gated(writer, parts, ids, data, settings))
        labelled = parts.merged("labelled")
        write_images(writer, ids, ledger.sizes)
        writer.array("images/labelled_pixels", np.array([labelled[image] for image in ids], dtype=np.int64))
        rows, pixels, kept = parts.column("answer"), parts.column("pixels"), parts.column("kept")
        order = np.argsort(rows)
        for name, values in {"answer": rows, "pixels": pixels, "kept": kept}.items():
            writer.array(f"regions/{name}", values[order].astype(np.int32))
        writer.array("regions/threshold", parts.column("threshold")[order].astype(np.float32))
        if settings.method == "prototypes":
            for name in PROTOTYPE_COLUMNS:
                writer.array(name, parts.column(name))
        counts = ledger.cost() | {
            "images": ledger.header.counts["images"],
            "regions": len(rows),
            "sieved_regions": int((kept < pixels).sum()),
            "region_pixels": int(pixels.sum()),
            "kept_pixels": int(kept.sum()),
            "labelled_pixels": int(sum(labelled.values())),
        }
        return request.header(attributes, counts)

    counts = join_shards(shards, finish).counts
    if gated:
        return f"{counts['accepted']} predictions accepted, {counts['refused']} refused, {counts['masks']} masks"
    share = counts["kept_pixels"] / max(counts["region_pixels"], 1)
    text = f"{counts['regions']} regions of {len(ids)} images"
    if settings.method == "sieve":
        return f"{text}, {counts['sieved_regions']} of them sieved, {100 * share:.1f} % of their pixels kept"
    return f"{text}, {counts['region_pixels']} pixels asked about, {counts['labelled_pixels']} labelled"
