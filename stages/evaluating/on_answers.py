"""Evaluates models on the answers of a ledger's last round, and publishes the evaluation."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.artifacts.dataset import Dataset
from stages.artifacts.evaluation import INTERVAL, SAMPLES
from stages.artifacts.hdf5 import Writer, build_in_memory
from stages.artifacts.header import Header
from stages.artifacts.model import Model
from stages.artifacts.publish import publish_together
from stages.artifacts.request import Request
from stages.evaluating.answers import Answered, Compared, compared, joined
from stages.evaluating.results import Entry, entry_report, write_results
from stages.evaluating.samples import Interval, resampled, share_of
from stages.pixels.grids import map_on_grid
from stages.runtime.console import Progress
from stages.runtime.numbers import defined
from stages.runtime.randomness import stream
from stages.settings.evaluate import EvaluateSettings


@dataclass(frozen=True)
class Agreement:
    """How often a model agrees with the answers of a sample: its size, the share with its interval, and the mIoU's."""

    queries: int
    share: float
    interval: Interval
    miou: Interval


def build_on_answers(
    request: Request,
    data: Dataset,
    answered: Answered,
    weights: Sequence[tuple[Model, str]],
    settings: EvaluateSettings,
    main: bool,
) -> str:
    """Publishes how far ``weights`` agree with the answers, if this is the ``main`` process; returns a summary."""
    from stages.evaluating.confusion import mean_iou

    if not main:
        return ""
    classes, ledger = len(data.classes), answered.ledger
    found = [compare(data, answered, model, checkpoint, settings) for model, checkpoint in weights]
    controlled = bool(found[0].of_control.any())
    fair = [each.taken(each.of_control) if controlled else each for each in found]
    entries = [
        Entry(model, checkpoint, epoch_of(model, checkpoint), each.confusion(classes))
        for (model, checkpoint), each in zip(weights, fair, strict=True)
    ]
    every = {"all": [agreement(each, "all", classes, settings) for each in found]}
    if controlled:
        every["control"] = [agreement(each, "control", classes, settings) for each in fair]
    sample = SAMPLES[controlled]
    miou = np.array([mean_iou(entry.confusion, settings.undefined) for entry in entries])
    accuracy = np.array([each.share for each in every[sample]])

    def fill(writer: Writer) -> Header:
        write_results(writer, entries, miou, accuracy)
        writer.strings("answers/sample", list(every))
        writer.array("answers/queries", np.array([each[0].queries for each in every.values()], dtype=np.int32))
        for place, name in enumerate(INTERVAL):
            values = [
                [(each.share, *each.interval)[place] for each in row] for row in zip(*every.values(), strict=True)
            ]
            writer.array(f"answers/{name}", np.array(values, dtype=np.float64))
        for place, name in enumerate(INTERVAL[1:]):
            writer.array(f"answers/miou_{name}", np.array([each.miou[place] for each in every[sample]]))
        images, counts, shares = per_image(found)
        writer.strings("answered/image", [ledger.ids[index] for index in images])
        writer.array("answered/queries", counts)
        writer.array("answered/share", shares)
        attributes = {"classes": data.classes, "split": "answers", "measured_at": "answers", "sample": sample}
        counted = {"images": len(images), "models": len(entries), "best_miou": defined(miou.max())}
        return request.header(attributes, counted | {"round": ledger.next_round - 1})

    content = build_in_memory(fill)
    report = {
        "measured_at": "answers",
        "sample": sample,
        "round": ledger.next_round - 1,
        "classes": data.classes,
        "dataset": str(data.path),
        "annotations": str(ledger.path),
        "models": [
            entry_report(entry, data.classes, settings.undefined, float(accuracy[row]))
            | {"answers": {name: agreement_report(each[row]) for name, each in every.items()}}
            for row, entry in enumerate(entries)
        ],
    }
    text = (json.dumps(report, indent=1) + "\n").encode()
    publish_together({request.path_beside(".json"): text, request.output: content})
    return told(every, ledger.next_round - 1)


def told(every: dict[str, list[Agreement]], number: int) -> str:
    """The agreement of the first weights in words."""
    first = every["all"][0]
    text = f"agrees with {100 * first.share:.1f} % of {first.queries} answers of round {number}"
    if "control" not in every:
        return f"{text}; queries selected by score are harder than others (select --control draws some at random)"
    fair = every["control"][0]
    low, high = fair.interval
    return (
        f"{text}, and with {100 * fair.share:.1f} % of {fair.queries} drawn at random "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f})"
    )


def epoch_of(model: Model, checkpoint: str) -> int:
    return int(model.header.counts["epochs"] if checkpoint == "last" else model.attributes["best_epoch"])


def compare(data: Dataset, answered: Answered, model: Model, checkpoint: str, settings: EvaluateSettings) -> Compared:
    """The answers beside the predictions of one set of weights."""
    from stages.networks.predictor import by_size, image_batches, load_predictor
    from stages.runtime.devices import choose_device

    predictor = load_predictor(model, checkpoint, choose_device(settings.use.device), settings.use.precision)
    ledger, rows = answered.ledger, answered.rows
    found, classes = [], len(data.classes)
    with Progress("evaluating", len(rows)) as bar:
        for batch in image_batches(data, by_size(sorted(rows), data.sizes), settings.use.batch):
            predicted = predictor.classes(batch.images, classes, settings.flip, settings.scales)
            for image, own in zip(batch.ids, predicted.cpu().numpy(), strict=True):
                on_grid = map_on_grid(own, ledger.sizes[image])
                found.append(compared(ledger, image, rows[image], on_grid, classes))
                bar.advance()
    return joined(found)


def agreement(found: Compared, sample: str, classes: int, settings: EvaluateSettings) -> Agreement:
    """The agreement with one sample; only for the one drawn at random an interval means anything."""
    from stages.evaluating.confusion import mean_iou

    generator = stream(settings.seed, "evaluate", "answers", sample)
    share, interval = share_of(found.right, found.weight, generator)
    nothing = (float("nan"), float("nan"))
    if sample == "all":
        return Agreement(len(found), share, nothing, nothing)

    def measure(cells: np.ndarray) -> float:
        return mean_iou(cells.reshape(classes, classes), settings.undefined)

    cells = classes * classes
    miou = resampled(len(found), found.owner, found.pixels, found.cell, cells, measure, generator)
    return Agreement(len(found), share, interval, miou)


def agreement_report(found: Agreement) -> dict[str, Any]:
    interval, miou = ([defined(each) for each in pair] for pair in (found.interval, found.miou))
    return {"queries": found.queries, "share": defined(found.share), "interval": interval, "miou_interval": miou}


def per_image(found: Sequence[Compared]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """images (I,) i64, answers of each (I,) i32, and the share of their pixels that is right (M,I) f64."""
    images, place = np.unique(found[0].image, return_inverse=True)
    shares = [np.bincount(place, each.right) / np.bincount(place, each.weight) for each in found]
    return images, np.bincount(place).astype(np.int32), np.array(shares)
