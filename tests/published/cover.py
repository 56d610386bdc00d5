"""Which rows need a run of their own: the others do nothing at full size that one of them does not do as well."""

from collections.abc import Iterable

from stages.artifacts.header import canonical
from stages.recipes.recipe import Step
from stages.settings.train import TrainSettings
from tests.published.short import Case
from tests.reference.costs import key_of

SIZED = {
    "extract-superpixels": (
        "method",
        "count",
        "region_pixels",
        "colour",
        "levels",
        "bins",
        "grid_scale",
        "input_scale",
    ),
    "cluster-regions": ("encoder",),
    "score": ("unit", "lossiness", "input_scale", "grid_scale"),
    "pseudo-label": ("method", "input_scale", "scales", "flip"),
    "evaluate": ("at", "crop", "scales", "flip"),
}
"""Settings by stage that decide what a command does with large images, beside the network."""

Work = frozenset[str]


def work_of(case: Case) -> Work:
    """What the steps of a row do with images of one dataset, prepared by one command."""
    plan = case.table.plan(case.row)

    def told(step: Step) -> str:
        settings = plan.settings(step)
        if isinstance(settings, TrainSettings):
            return f"train {key_of(case.table, plan, step)}"
        values = settings.flat()
        if values.get("measure") == "random":
            return f"{step.stage} random"
        sized = {name: values[name] for name in SIZED.get(step.stage, ()) if name in values}
        return f"{step.stage} {canonical(sized)}"

    return frozenset({case.table.prepare, *map(told, plan.recipe.steps)})


def representatives(cases: Iterable[Case]) -> dict[str, list[str]]:
    """Name of each row to run -> the rows whose work is part of its own."""
    works = {case.name: work_of(case) for case in cases}
    chosen: dict[str, list[str]] = {}
    for name in sorted(works, key=lambda each: -len(works[each])):  # a stable sort: of equal ones the first
        owner = next((other for other in chosen if works[name] <= works[other]), None)
        chosen.setdefault(owner or name, []).extend([] if owner is None else [name])
    return chosen
