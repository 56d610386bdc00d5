"""Adds the answers of a round to the ledger: new rows, the counts of its header, the published file."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from stages.answering.journal import remove_finished
from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import ANSWERED_VOID, MOST_ANNOTATORS, Answers, Ledger, RegionFile, ledger_cost
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer, build_in_memory
from stages.artifacts.header import Header
from stages.artifacts.images_table import require_same_grid, rows_by_image
from stages.artifacts.publish import destination, publish_bytes
from stages.artifacts.purposes import purpose_counts
from stages.artifacts.request import Request
from stages.artifacts.superpixels import Superpixels
from stages.pixels.grids import Size
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput
from stages.runtime.numbers import mean_defined


def append_answers(
    before: Annotations | None,
    ids: Sequence[str],
    sizes: dict[str, Size],
    new: Answers,
    annotators: Sequence[str],
    masks: Mapping[str, np.ndarray] | None = None,
    superpixels: Superpixels | RegionFile | None = None,
) -> Ledger:
    """The ledger ``before`` with the rows of ``new`` appended.

    The columns image and annotator of ``new`` index ``ids`` and ``annotators``, which may be new to the ledger.
    ``masks`` are exact labels (H,W) u8 that came with the answers, ``superpixels`` is the file of their regions, or
    what the ledger records of it.
    BadInput if an image was queried on a different grid before.
    """
    if before is not None:
        require_same_grid(before, before.sizes, sizes)
    old = Ledger([], {}, Answers.of(0, new.votes.shape[1] - 1), []) if before is None else before.ledger()
    known, numbers = extended(old.ids, ids)
    people, people_numbers = extended(old.annotators, annotators)
    if len(people) > MOST_ANNOTATORS:
        raise BadInput(
            f"{len(people)} annotators exceed the {MOST_ANNOTATORS} that fit into a ledger. Use fewer names."
        )
    files = list(old.region_files)
    if superpixels is not None:
        files, (place,) = extended(files, [recorded(superpixels)])
        new = replace(new, superpixels=np.where(new.of_regions, place, -1).astype(np.int32))
    new = replace(
        new,
        image=np.array(numbers, dtype=np.int32)[new.image],
        annotator=np.array(people_numbers, dtype=np.uint8)[new.annotator],
    )
    exact = dict(old.masks)
    for image, mask in (masks or {}).items():
        exact[image] = np.where(mask == VOID, exact[image], mask) if image in exact else mask
    return Ledger(known, old.sizes | sizes, old.answers.followed_by(new), people, exact, files)


def recorded(superpixels: Superpixels | RegionFile) -> RegionFile:
    """What a ledger records of a file of regions."""
    if isinstance(superpixels, RegionFile):
        return superpixels
    mean_size = float(superpixels.region_sizes.mean(dtype=np.float64))
    return RegionFile(superpixels.digest, superpixels.method, mean_size)


def extended(known: Sequence[Any], names: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """``known`` followed by the new ones of ``names``, and the index of each of ``names`` in that list."""
    every = list(dict.fromkeys([*known, *names]))
    place = {name: number for number, name in enumerate(every)}
    return every, [place[name] for name in names]


def ledger_counts(ledger: Ledger, new: Answers, classes: list[str]) -> dict[str, Any]:
    """The counts in the header of a ledger: cost so far, and those of the last round."""
    answers = ledger.answers
    histogram = np.bincount(new.label, minlength=256)
    groups = rows_by_image(new.image, [str(number) for number in range(new.image.max(initial=-1) + 1)])
    return ledger_cost(answers) | {
        "rounds": int(answers.round.max(initial=-1)) + 1,
        "images": len(np.unique(answers.image)),
        "void": int((answers.state == ANSWERED_VOID).sum()),
        "last_round": {
            "answers": len(new),
            "void": int((new.state == ANSWERED_VOID).sum()),
            "per_class": {name: int(histogram[index]) for index, name in enumerate(classes)},
            "mean_distinct_classes": mean_defined([distinct_classes(new.label[rows]) for rows in groups.values()]),
            **purpose_counts(new.purpose),
        },
    }


def distinct_classes(labels: np.ndarray) -> int:
    """Number of distinct classes among (Q,) u8 labels, without 255."""
    return len(np.unique(labels[labels != VOID]))


def publish_ledger(request: Request, ledger: Ledger, data: Dataset, counts: dict[str, Any]) -> None:
    """Publishes ``ledger`` as the output of ``request``, with the classes that answers about ``data`` may name.

    It contains all answers of the ledger before, whose journal is no longer needed.
    """

    def fill(writer: Writer) -> Header:
        ledger.write(writer)
        return request.header({"classes": data.classes, "image_classes": data.image_level_classes}, counts)

    publish_bytes(request.output, build_in_memory(fill))
    before = request.inputs.get("annotations")
    if before is not None:
        remove_finished(destination(request.output.parent / before.file))
