"""The stage `annotate-simulate`: answers queries from the ground truth. The only stage that opens the pool's masks."""

from pathlib import Path

from stages.answering.ledger import append_answers, ledger_counts, publish_ledger
from stages.answering.simulated.answered import ANNOTATORS, IN_ERROR
from stages.answering.simulated.images import class_answers, classes_answers, mask_answers
from stages.answering.simulated.pixels import pixel_answers
from stages.answering.simulated.regions import region_answers
from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import require_made_from
from stages.artifacts.queries import Queries
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.superpixels import Superpixels, regions_of
from stages.runtime.errors import BadInput
from stages.settings.annotate_simulate import AnnotateSettings

ANSWERING = {
    "class": pixel_answers,
    "mask": mask_answers,
    "image-class": class_answers,
    "image-classes": classes_answers,
}


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

    Queries of regions need the ``superpixels`` they are of. Raises BadInput when the queries were not chosen against
    this ledger or among these regions, and for a dataset without masks.
    """
    with Dataset(dataset) as data, Queries(queries) as asked:
        require_made_from(asked, "dataset", data)
        before = None if annotations is None else Annotations(annotations)
        asked.require_ledger(before)
        if settings.error_rate and asked.answer not in ("class", "dominant", "image-class"):
            raise BadInput(f"Errors are simulated where one class is named, not for answers of kind {asked.answer}.")
        regions = regions_of(superpixels, data, asked)
        inputs = {"dataset": data, "queries": asked, "annotations": before, "superpixels": regions}
        request = Request("annotate-simulate", "annotations", output, settings, refer(output, inputs))
        return produce(request, lambda: build(request, data, asked, before, regions, settings), force)


def build(
    request: Request,
    data: Dataset,
    queries: Queries,
    before: Annotations | None,
    regions: Superpixels | None,
    settings: AnnotateSettings,
) -> str:
    if regions is not None:
        answered = region_answers(data, queries, regions, before, settings)
    else:
        answered = ANSWERING[queries.answer](data, queries, settings)
    new = answered.answers
    ledger = append_answers(before, queries.ids, queries.sizes, new, ANNOTATORS, answered.masks, regions)
    of_images = queries.answer in ("image-class", "image-classes")
    counts = ledger_counts(ledger, new, data.image_level_classes if of_images else data.classes)
    counts["last_round"] |= answered.counts
    counts["wrong"] = int((ledger.answers.annotator == ledger.annotators.index(ANNOTATORS[IN_ERROR])).sum())

    publish_ledger(request, ledger, data, counts)
    return (
        f"round {queries.round}, {len(new)} new answers ({counts['last_round']['void']} void), "
        f"{counts['clicks']:.0f} clicks and {counts['seconds']:.0f} s so far"
    )
