"""The stage `import-labels`: labels that exist already as a ledger, so that a run starts from them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.answering.exchange.label_names import LabelNames, parse_map, read_names
from stages.answering.exchange.labels import Gathering, LabelFiles, Labels, label_files, read_labels
from stages.answering.ledger import append_answers, ledger_counts, publish_ledger
from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import DRAWN, RegionFile
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import require_made_from
from stages.artifacts.header import digest_of
from stages.artifacts.publish import bytes_digest
from stages.artifacts.request import Request, files_reference, produce, refer, reference
from stages.datasets.originals import FileSizes
from stages.pixels.grids import Size, grid_size
from stages.runtime.console import say
from stages.settings.import_labels import ImportLabelsSettings


def run(
    dataset: Path,
    labels: Sequence[Path],
    output: Path,
    settings: ImportLabelsSettings,
    annotations: Path | None = None,
    names: Path | None = None,
    images: Path | None = None,
    force: bool = False,
) -> Path:
    """Publishes the ledger ``annotations`` with the labels in the files and folders ``labels`` appended as a round.

    Tables are points, JSON and XML files shapes, image files masks. ``names`` is a table of labels and their classes,
    ``images`` the folder of the original files, whose sizes are needed for coordinates that come without one. Raises
    BadInput with the first faults of all files: unknown images and labels, places outside of images, contradictions.
    """
    table = parse_map(settings.map) | ({} if names is None else read_names(names))
    files = label_files(labels)
    with Dataset(dataset) as data:
        ids = data.ids(settings.split)
        ledger = None if annotations is None else Annotations(annotations)
        if ledger is not None:
            require_made_from(ledger, "dataset", data)
        sizes = FileSizes(data, ids, images)
        inputs = refer(output, {"dataset": data, "annotations": ledger})
        for number, path in enumerate(labels, start=1):
            inputs[f"labels {number}"] = files_reference(output, path, files.every)
        if names is not None:
            inputs["names"] = reference(output, names, bytes_digest(names))
        if images is not None:
            inputs["images"] = reference(output, images, digest_of(sizes.known))
        request = Request("import-labels", "annotations", output, settings, inputs)
        return produce(request, lambda: build(request, data, ids, files, table, sizes, ledger, settings), force)


def build(
    request: Request,
    data: Dataset,
    ids: Sequence[str],
    files: LabelFiles,
    table: Mapping[str, str],
    sizes: FileSizes,
    ledger: Annotations | None,
    settings: ImportLabelsSettings,
) -> str:
    grids: dict[str, Size] = {image: grid_size(data.sizes[image], settings.grid_scale) for image in ids}
    seconds = settings.seconds_per_label
    gathering = Gathering(
        data,
        ids,
        grids,
        LabelNames(data.classes, table, settings.others),
        sizes.of,
        settings.overlap,
        0 if ledger is None else ledger.next_round,
        (float(seconds > 0), seconds),
    )
    found = read_labels(files, gathering, settings.unlabelled, settings.annotator)
    drawn = None
    if found.answers.of_regions.any():
        digest = digest_of([reference.digest for role, reference in request.inputs.items() if role != "annotations"])
        drawn = RegionFile(digest, DRAWN, found.mean_area)
    grown = append_answers(ledger, ids, grids, found.answers, found.annotators, found.masks, drawn)
    publish_ledger(request, grown, data, ledger_counts(grown, found.answers, data.classes))
    for what, count in gathering.faults.left_out.items():
        if count:
            say(f"left out {count} {what}")
    for what, why in (
        ("points_in_one_pixel", "points in a pixel of another one"),
        ("shapes_without_pixels", "shapes that cover no pixel, or are covered by others"),
    ):
        if found.counts.get(what):
            say(f"left out {found.counts[what]} {why}")
    return summary(found, gathering.round)


def summary(found: Labels, number: int) -> str:
    kinds = [
        f"{found.counts[name]} {said}"
        for name, said in (
            ("points", "points"),
            ("shapes", "shapes"),
            ("partial_masks", "partial masks"),
            ("masks", "whole masks"),
        )
        if found.counts.get(name)
    ]
    images = len(set(found.answers.image.tolist()))
    return f"round {number}, {', '.join(kinds)} in {images} images"
