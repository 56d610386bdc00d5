"""Checks that a dataset has what the steps of a run need, before the run starts."""

from collections.abc import Callable, Sequence
from pathlib import Path

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.evaluating.views import evaluation_size_fault
from stages.recipes.recipe import Step
from stages.runtime.errors import BadInput
from stages.runtime.parts import OBJECTIVES
from stages.settings.base import StageSettings

SPLITS = ("split", "unlabelled_split", "choose_on")
"""Settings that name a split which must exist."""
LEARNT = {"class-sets": "class sets of regions", "image-classes": "classes of images"}
"""What objectives learn from that only answers have, and labels of other programs do not."""
EVALUATED = {"evaluate": {"at": "split"}, "train": {"validate_at": "validation_split"}}
"""Per stage the setting for the size to evaluate at, and the one that names the split."""


def dataset_faults(data: Dataset, steps: Sequence[tuple[Step, StageSettings]]) -> list[str]:
    """What ``data`` lacks for ``steps`` with their settings, one sentence each with its remedy."""
    splits = set(data.splits.values())
    faults: dict[str, None] = {}
    if len(data.classes) < 2:
        faults[f"{data.path} has {len(data.classes)} class; a segmentation needs two or more. Prepare it again."] = None
    for step, settings in steps:
        if step.stage == "evaluate" and "annotations" in step.reads:  # on answers, which need no masks
            continue
        values = settings.flat()
        for name in SPLITS:
            split = values.get(name)
            if split is not None and split not in splits:
                faults[
                    f"{data.path} has no split {split!r} ({step.stage}.{name}); its splits are "
                    f"{', '.join(sorted(splits))}. Set {step.stage}.{name}."
                ] = None
        if step.stage == "evaluate" and values["split"] in splits and not data.has_masks(values["split"]):
            faults[
                f"{data.path} has no masks in split {values['split']!r}, so nothing can be evaluated on it. Set "
                "evaluate.split."
            ] = None
        for name, split in EVALUATED.get(step.stage, {}).items():
            if values[name] == "original" and data.has_masks(values[split]):
                fault = evaluation_size_fault(data, values[split])
                faults |= {} if fault is None else {fault: None}
        if step.stage == "train" and values["crop"] is not None:
            for fault in crop_faults(data, values["crop"], values["scale_range"][1]):
                faults[fault] = None
    faults |= dict.fromkeys(answer_faults(data, steps))
    return list(faults)


def crop_faults(data: Dataset, crop: Sequence[int], largest: float) -> list[str]:
    """Faults of a crop larger than all images at the largest scale, which would train on padding."""
    heights, widths = zip(*data.sizes.values(), strict=True)
    size = max(heights), max(widths)
    if all(side <= int(most * largest + 1e-9) for side, most in zip(crop, size, strict=True)):
        return []
    return [
        f"A crop of {crop[0]}x{crop[1]} exceeds the images of {data.path} (up to {size[0]}x{size[1]}, scaled by up to "
        f"{largest:g}). Use another profile, or set train.crop (none: the largest image)."
    ]


def require_learnable(labels: Path, steps: Sequence[Step], settings: Callable[[Step], StageSettings]) -> None:
    """BadInput if round 0 learns what the ledger ``labels``, which takes the place of its answers, does not have.

    A ledger that is not written yet is checked when it is read.
    """
    if not labels.is_file():
        return
    ledger = Annotations(labels)
    there = {"class-sets": ledger.answers.class_sets.any(), "image-classes": len(ledger.image_rows) > 0}
    for step in steps:
        if step.stage != "train" or step.rounds == "later":
            continue
        learns = OBJECTIVES[settings(step).flat()["objective"]].facts["labels"]
        if not there.get(learns, True):
            raise BadInput(
                f"{labels} has no {LEARNT[learns]}, which step {step.name} learns from, so this recipe cannot start "
                "from it. Use a recipe that learns from labelled pixels, regions or masks, or omit the labels."
            )


def answer_faults(data: Dataset, steps: Sequence[tuple[Step, StageSettings]]) -> list[str]:
    """Faults of a pool without the ground truth that simulated answers need."""
    if not any(step.stage == "annotate-simulate" for step, _ in steps):
        return []
    pools = {settings.flat()["split"] for step, settings in steps if step.stage == "score"}
    asked = {settings.flat().get("image_answer") for step, settings in steps if step.stage == "select"}
    faults = []
    for pool in sorted(pools & set(data.splits.values())):
        ids = data.ids(pool)
        if data.has_masks(pool) or (asked == {"class"} and all(image in data.labels for image in ids)):
            continue
        faults.append(
            f"{data.path} has no masks in split {pool!r}, so no answers can be simulated. Use `alseg annotate`."
        )
    return faults
