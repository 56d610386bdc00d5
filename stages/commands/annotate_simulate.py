"""The stage `annotate-simulate`: answer queries from the ground truth. The only stage that opens the pool's masks."""

from pathlib import Path

import numpy as np

from stages.answering.ledger import append_answers, ledger_counts, publish_ledger
from stages.answering.simulated.answered import ANNOTATORS, IN_ERROR, Answered
from stages.answering.simulated.images import class_answers, classes_answers, mask_answers
from stages.answering.simulated.pixels import pixel_answers
from stages.answering.simulated.regions import region_answers
from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import require_made_from
from stages.artifacts.queries import Queries
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.superpixels import Superpixels, regions_of
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.base import existing


def run(
    dataset: Path,
    queries: Path,
    output: Path,
    settings: AnnotateSettings,
    annotations: Path | None = None,
    superpixels: Path | None = None,
    force: bool = False,
) -> Path:
    """Publishes the ledger ``annotations`` with the answers to ``queries`` appended.

    Queries of regions need the ``superpixels`` they were selected from. Raises BadInput if the queries were selected
    with another ledger or from other regions, for settings that do not apply to the kind of answer queried, and for a
    dataset without masks.
    """
    with Dataset(dataset) as data, Queries(queries) as queried:
        settings = settings.settled(str(queries), answer=queried.answer)
        require_made_from(queried, "dataset", data)
        ledger = None if annotations is None else Annotations(annotations)
        queried.require_ledger(ledger)
        regions = regions_of(superpixels, data, queried)
        inputs = {"dataset": data, "queries": queried, "annotations": ledger, "superpixels": regions}
        request = Request("annotate-simulate", "annotations", output, settings, refer(output, inputs))
        return produce(request, lambda: build(request, data, queried, ledger, regions, settings), force)


def simulated_answers(
    data: Dataset,
    queries: Queries,
    ledger: Annotations | None,
    regions: Superpixels | None,
    settings: AnnotateSettings,
) -> Answered:
    """The answers to ``queries``; ``settings`` must be settled for their kind of answer."""
    budget, seed = settings.click_budget, settings.seed
    if regions is not None:
        click, stop = existing(settings.click), existing(settings.stop)
        errors, void, sight = settings.errors, settings.void, settings.sight
        return region_answers(data, queries, regions, ledger, click, stop, errors, void, sight, budget, seed)
    match queries.answer:
        case "mask":
            return mask_answers(data, queries, existing(settings.mask), budget)
        case "image-classes":
            stop, presence = existing(settings.stop), existing(settings.presence)
            return classes_answers(data, queries, existing(settings.click), stop, presence, budget)
        case "image-class":
            return class_answers(data, queries, existing(settings.click), existing(settings.errors), budget, seed)
        case _:
            return pixel_answers(data, queries, existing(settings.click), existing(settings.errors), budget, seed)


def build(
    request: Request,
    data: Dataset,
    queries: Queries,
    before: Annotations | None,
    regions: Superpixels | None,
    settings: AnnotateSettings,
) -> str:
    answered = simulated_answers(data, queries, before, regions, settings)
    new = answered.answers
    ledger = append_answers(before, queries.ids, queries.sizes, new, ANNOTATORS, answered.masks, regions)
    of_images = queries.answer in ("image-class", "image-classes")
    counts = ledger_counts(ledger, new, data.image_level_classes if of_images else data.classes)
    counts["last_round"] |= answered.counts
    counts["wrong"] = int((ledger.answers.annotator == ledger.annotators.index(ANNOTATORS[IN_ERROR])).sum())

    publish_ledger(request, ledger, data, counts)
    unspent = 0.0 if settings.click_budget is None else settings.click_budget - float(new.clicks.sum(dtype=np.float64))
    return (
        f"round {queries.round}, {len(new)} new answers ({counts['last_round']['void']} void), "
        f"{counts['clicks']:.0f} clicks and {counts['seconds']:.0f} s so far"
        + (f", {unspent:.0f} clicks fewer than budgeted (no more were queried)" if unspent > 0 else "")
    )
