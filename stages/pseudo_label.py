"""The stage `pseudo-label`: dense labels from answers about regions and what a model makes of their pixels."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import VOID, Dataset
from stages.artifacts.hdf5 import Writer, require_made_from
from stages.artifacts.header import Header
from stages.artifacts.images_table import write_images
from stages.artifacts.model import Model, require_same_classes
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.shards import Parts, build_shards, join_shards
from stages.errors import BadInput
from stages.ranks import Ranks, joined_ranks
from stages.regions.sieve import sieve
from stages.settings.regions import PseudoLabelSettings

if TYPE_CHECKING:
    from torch import Tensor

SHARD_IMAGES = 64
Fill = Callable[[Writer, Sequence[str]], dict[str, Any]]


def run(
    dataset: Path, annotations: Path, model: Path, output: Path, settings: PseudoLabelSettings, force: bool = False
) -> Path:
    """Publishes the labels of ``annotations`` without the pixels of which ``model`` does not believe them.

    Every region asked in any round is sieved anew. Raises BadInput for a ledger without a region answer, and for a
    ledger or a model of another dataset.
    """
    with Dataset(dataset) as data, Annotations(annotations) as ledger:
        require_made_from(ledger, "dataset", data)
        if not (ledger.answers.of_regions & (ledger.answers.label != VOID)).any():
            raise BadInput(
                f"{annotations} has no region with a class, so there is nothing to sieve; train on it as it is."
            )
        trained = Model(model)
        require_same_classes(trained, data)
        inputs = {"dataset": data, "annotations": ledger, "model": trained}
        request = Request("pseudo-label", "pseudo_labels", output, settings, refer(output, inputs))
        from stages.inference.devices import choose_device

        with joined_ranks(choose_device(settings.device).type) as ranks:
            return produce(request, lambda: build(request, data, ledger, trained, settings, ranks), force, ranks)


def build(
    request: Request, data: Dataset, ledger: Annotations, model: Model, settings: PseudoLabelSettings, ranks: Ranks
) -> str:
    ids = sorted(set(ledger.rows) | set(ledger.exact_ids))
    shards = build_shards(
        request, ids, SHARD_IMAGES, sieve_images(data, ledger, model, settings), "sieving", ranks.rank, ranks.size
    )
    ranks.barrier()
    if not ranks.is_main:
        return ""

    def finish(writer: Writer, parts: Parts) -> Header:
        labelled = parts.merged("labelled")
        write_images(writer, ids, data.sizes)
        writer.array("images/labelled_pixels", np.array([labelled[image] for image in ids], dtype=np.int64))
        rows, pixels, kept = parts.column("answer"), parts.column("pixels"), parts.column("kept")
        order = np.argsort(rows)
        for name, values in {"answer": rows, "pixels": pixels, "kept": kept}.items():
            writer.array(f"regions/{name}", values[order].astype(np.int32))
        writer.array("regions/threshold", parts.column("threshold")[order].astype(np.float32))
        counts = ledger.cost() | {
            "images": ledger.header.counts["images"],
            "regions": len(rows),
            "sieved_regions": int((kept < pixels).sum()),
            "region_pixels": int(pixels.sum()),
            "kept_pixels": int(kept.sum()),
            "labelled_pixels": int(sum(labelled.values())),
        }
        return request.header({"classes": data.classes, "sieve": settings.sieve}, counts)

    counts = join_shards(shards, finish).counts
    share = counts["kept_pixels"] / max(counts["region_pixels"], 1)
    return (
        f"{counts['regions']} regions of {len(ids)} images, {counts['sieved_regions']} of them sieved, "
        f"{100 * share:.1f} % of their pixels kept"
    )


def smallest_sieved(ledger: Annotations, settings: PseudoLabelSettings) -> int:
    """Regions of fewer pixels are kept whole; by default twice the mean of the regions that were asked about first."""
    if settings.min_pixels is not None:
        return settings.min_pixels
    return round(2 * ledger.region_files[0].mean_size)


def sieve_images(data: Dataset, ledger: Annotations, model: Model, settings: PseudoLabelSettings) -> Fill:
    from stages.inference.devices import choose_device
    from stages.inference.predictor import image_batches, load_predictor
    from stages.regions.reductions import lookup

    device = choose_device(settings.device)
    predictor = load_predictor(model, settings.checkpoint, device, settings.precision)
    answers, least = ledger.answers, smallest_sieved(ledger, settings)

    def confidence(logits: "Tensor", size: tuple[int, int], index: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """(P,) f32 probability of the class ``labels`` (P,) at the flat pixels ``index`` (P,); logits (C,h,w)."""
        import torch

        flat = lookup(logits.softmax(0), size).flatten(1)
        classes, pixels = (torch.from_numpy(values.astype(np.int64)).to(device) for values in (labels, index))
        return flat[classes, pixels].cpu().numpy()

    def fill(writer: Writer, part: Sequence[str]) -> dict[str, Any]:
        columns: dict[str, list[np.ndarray]] = {name: [] for name in ("answer", "pixels", "kept", "threshold")}
        labelled: dict[str, int] = {}
        for batch in image_batches(data, part, settings.batch):
            for image, logits in zip(
                batch.ids, predictor.scaled_logits(batch.images, settings.input_scale), strict=True
            ):
                size = data.sizes[image]
                rows = ledger.rows_of(image)
                rows = rows[answers.of_regions[rows] & (answers.label[rows] != VOID)]
                index, owner = answers.areas.pixels(rows)
                given = answers.label[rows][owner]
                kept, threshold = sieve(
                    confidence(logits, size, index, given),
                    owner,
                    len(rows),
                    settings.sieve,
                    settings.samples,
                    least,
                    settings.min_delta,
                )
                labels = np.full(size, VOID, dtype=np.uint8)
                labels.ravel()[index[kept]] = given[kept]  # of several answers for a pixel the last one stays
                labels = ledger.painted_exactly(image, labels)
                writer.array(f"labels/{image}", labels)
                labelled[image] = int((labels != VOID).sum())
                columns["answer"].append(rows)
                columns["pixels"].append(np.bincount(owner, minlength=len(rows)))
                columns["kept"].append(np.bincount(owner[kept], minlength=len(rows)))
                columns["threshold"].append(threshold)
        for name, arrays in columns.items():
            writer.rows(name, np.concatenate(arrays))
        return {"labelled": labelled}

    return fill
