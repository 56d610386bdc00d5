"""Checks that a dataset has what the steps of a run need, before the run starts."""

from collections.abc import Sequence

from stages.artifacts.dataset import Dataset
from stages.evaluating.views import evaluation_size_fault
from stages.recipes.recipe import Step
from stages.settings.base import StageSettings

SPLITS = ("split", "unlabelled_split", "choose_on")
"""Settings that name a split which must exist."""
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
