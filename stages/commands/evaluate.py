"""The stage `evaluate`: mIoU, IoU per class, accuracy and confusion of models on a split, or on new answers."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer, build_in_memory, require_made_from
from stages.artifacts.header import Header
from stages.artifacts.model import Model, require_same_classes
from stages.artifacts.publish import publish_together
from stages.artifacts.request import Request, produce, refer
from stages.evaluating.answers import Answered, rows_to_compare
from stages.evaluating.on_answers import build_on_answers
from stages.evaluating.on_masks import Evaluations
from stages.evaluating.privileges import choosing_privileges, recorded_privilege
from stages.evaluating.results import Entry, entry_report, write_counts, write_results
from stages.evaluating.views import EvaluationView
from stages.runtime.console import say
from stages.runtime.errors import BadInput
from stages.runtime.numbers import defined
from stages.runtime.ranks import Ranks, joined_ranks
from stages.runtime.shares import Share
from stages.settings.base import existing
from stages.settings.common import Checkpoint
from stages.settings.evaluate import EvaluateSettings, MaskSettings


def run(
    dataset: Path,
    models: Sequence[Path],
    output: Path,
    settings: EvaluateSettings,
    annotations: Path | None = None,
    force: bool = False,
    share: Share | None = None,
) -> Path:
    """Publishes the confusion matrices of ``models`` and the measures derived from them, as HDF5 and JSON.

    They are evaluated on the masks of a split or, with ``annotations``, on the answers of that ledger's last round.
    Raises BadInput for a split without masks, for a model of other classes, for a model that is passed twice, and for
    one that learned from the answers.
    """
    settings = settings.settled(str(annotations or dataset), truth="masks" if annotations is None else "answers")
    if share is not None and not settings.divisible:
        raise BadInput("--shard divides the images of a split, not answers. Omit it, or omit --annotations.")
    with Dataset(dataset) as data:
        answered = None if annotations is None else open_answers(annotations, data)
        ledger = None if answered is None else answered.ledger
        views = None if settings.masks is None else open_views(data, settings.masks)
        opened = [Model(path) for path in models]
        if len({model.digest for model in opened}) < len(opened):
            raise BadInput("Two of the models are the same. Pass each model once.")
        for model in opened:
            require_same_classes(model, data)
            if ledger is not None:
                require_not_learned(model, ledger)
        names = ["model"] if len(opened) == 1 else [f"model{number}" for number in range(len(opened))]
        inputs = {"dataset": data, **dict(zip(names, opened, strict=True)), "annotations": ledger}
        request = Request("evaluate", "evaluation", output, settings, refer(output, inputs), (".json",), share)
        from stages.runtime.devices import choose_device

        with joined_ranks(choose_device(settings.use.device).type) as ranks:
            if answered is not None:
                weights = all_checkpoints(opened, settings.checkpoint)
                build = partial(build_on_answers, request, data, answered, weights, settings, ranks.is_main)
            else:
                assert views is not None
                build = partial(build_on_masks, request, *views, opened, settings, ranks)
            return produce(request, build, force, ranks)


def open_views(data: Dataset, settings: MaskSettings) -> tuple[EvaluationView, EvaluationView | None]:
    """The split to evaluate on, and the one to choose weights on; BadInput if either has no masks of that size."""
    choosing = settings.choose_on
    view = open_view(data, settings.split, "--split", settings)
    return view, None if choosing is None else open_view(data, choosing, "--choose-on", settings)


def open_answers(annotations: Path, data: Dataset) -> Answered:
    """The answers to evaluate on; BadInput for a ledger of another dataset, and without answers to compare with."""
    ledger = Annotations(annotations)
    require_made_from(ledger, "dataset", data)
    return Answered(ledger, rows_to_compare(ledger))


def require_not_learned(model: Model, ledger: Annotations) -> None:
    """BadInput if ``model`` was trained on ``ledger``, so that its agreement would say nothing."""
    labels = model.header.inputs.get("labels")
    if labels is not None and labels.digest == ledger.digest:
        raise BadInput(f"{model.path} learned from {ledger.path}. Pass the model of the round before.")


def open_view(data: Dataset, split: str, option: str, settings: MaskSettings) -> EvaluationView:
    """What is evaluated of ``split``, which ``option`` names; BadInput if it has no masks, or none of that size."""
    if data.ids(split) and not data.has_masks(split):
        raise BadInput(f"{data.path} has no masks in split {split!r}. Choose another {option}.")
    return EvaluationView(data, split, settings.at, settings.crop)


def require_room(view: EvaluationView, models: Sequence[Model], settings: EvaluateSettings) -> None:
    """StageFailed if the logits of a batch do not fit into memory."""
    from stages.networks.batch_memory import require_prediction_memory
    from stages.networks.predictor import by_size

    ids, bands, outputs = by_size(view.ids, view.sizes), view.data.bands, models[0].outputs
    require_prediction_memory("evaluate", ids, view.sizes, settings.use, bands, outputs, max(settings.scales))


def build_on_masks(
    request: Request,
    view: EvaluationView,
    choosing: EvaluationView | None,
    models: Sequence[Model],
    settings: EvaluateSettings,
    ranks: Ranks,
) -> str:
    from stages.evaluating.confusion import mean_iou, pixel_accuracy

    require_room(view, models, settings)
    data, ids, masks = view.data, view.ids, existing(settings.masks)
    weights, chosen = all_checkpoints(models, settings.checkpoint), None
    views = [view] if choosing is None else [choosing, view]
    evaluations = Evaluations(request, views, weights, settings, ranks)
    if request.share is not None:
        return evaluations.build_share()
    if choosing is not None:
        candidates = evaluations.of(choosing, weights)
        found = [mean_iou(entry.confusion, settings.undefined) for entry in candidates]
        best = first_best(found)
        chosen = {
            "split": masks.choose_on,
            "miou": defined(found[best]),
            "candidates": [
                {"file": entry.model.path.name, "checkpoint": entry.checkpoint, "miou": defined(value)}
                for entry, value in zip(candidates, found, strict=True)
            ],
        }
        weights = [weights[best]]
    entries = evaluations.of(view, weights)
    ranks.barrier()  # the main process removes what all have read
    if not ranks.is_main:
        return ""
    privileges = evaluation_privileges(data, entries, settings)
    if privileges:
        say(f"Oracle privilege: {'; '.join(privileges)}. The evaluation records it.")
    miou = np.array([mean_iou(entry.confusion, settings.undefined) for entry in entries])
    accuracy = np.array([pixel_accuracy(entry.confusion) for entry in entries])

    def fill(writer: Writer) -> Header:
        write_results(writer, entries, miou, accuracy)
        write_counts(writer, ids, entries)
        counts = {"images": len(ids), "models": len(models), "best_miou": defined(miou.max())}
        attributes = {"classes": data.classes, "split": masks.split, "image_sizes": view.size_range}
        return request.header(attributes | recorded_privilege(privileges), counts)

    content = build_in_memory(fill)
    report = {
        "split": masks.split,
        "images": len(ids),
        "image_sizes": view.size_range,
        "undefined": settings.undefined,
        "classes": data.classes,
        "dataset": str(data.path),
        **({} if chosen is None else {"chosen_on": chosen}),
        **recorded_privilege(privileges),
        "models": [
            entry_report(entry, data.classes, settings.undefined, float(accuracy[row]))
            for row, entry in enumerate(entries)
        ],
    }
    text = (json.dumps(report, indent=1) + "\n").encode()
    publish_together({request.path_beside(".json"): text, request.output: content})
    evaluations.shards.remove()
    shown = ", ".join(f"{entry.checkpoint} {100 * miou[row]:.2f}" for row, entry in enumerate(entries))
    return f"mIoU on {masks.split} ({len(ids)} images of {view.size_range}): {shown}"


def evaluation_privileges(data: Dataset, entries: Sequence[Entry], settings: EvaluateSettings) -> list[str]:
    """What was privileged in training or choosing the weights that are reported, in words, each once."""
    masks = existing(settings.masks)
    found = [each for entry in entries for each in entry.model.attributes.get("oracle_privilege", "").split("; ")]
    for entry in entries:
        if entry.checkpoint == "best":
            validated = entry.model.header.settings.get("validation_split", "")
            found += choosing_privileges(data, validated, pool=(), reported=masks.split)
    if masks.choose_on is not None:
        found += choosing_privileges(data, masks.choose_on, reported=masks.split)
    return [each for each in dict.fromkeys(found) if each]


def all_checkpoints(models: Sequence[Model], chosen: Checkpoint | Literal["both"]) -> list[tuple[Model, str]]:
    """The sets of weights to evaluate."""
    return [
        (model, checkpoint)
        for model in models
        for checkpoint in (model.checkpoints() if chosen == "both" else [chosen])
    ]


def first_best(found: Sequence[float]) -> int:
    """Index of the highest number, the first one in a tie; NaN ranks below all numbers."""
    return int(np.nan_to_num(np.array(found), nan=-1.0).argmax())
