"""People in place of the simulated annotator: on the page, or by files that they fill in and bring back."""

from collections.abc import Sequence
from typing import Literal

from stages.recipes.recipe import Recipe, Step

SIMULATED, PAGE, FILES, EXPORT = "annotate-simulate", "annotate", "import-answers", "export-queries"
"""Stages that write the ledger of a round (the first three), and the one that writes what people fill in."""
LEDGERS = (SIMULATED, PAGE, FILES)
Way = Literal["page", "files"]
STAGE_OF: dict[Way, str] = {"page": PAGE, "files": FILES}
TO_ANSWER, ANSWERS, IMAGES = "to-answer", "answers", "images"
"""Names in the folder of a round: what is exported, what people bring back; in that of the run: the queried images."""


def with_people(recipe: Recipe, way: Way) -> Recipe:
    """``recipe`` with people in place of the simulated annotator, whose settings do not apply to them."""
    steps = [
        step.model_copy(update={"stage": STAGE_OF[way], "settings": {}}) if step.stage == SIMULATED else step
        for step in recipe.steps
    ]
    settings = {stage: values for stage, values in recipe.settings.items() if stage != SIMULATED}
    return recipe.model_copy(update={"steps": steps, "settings": settings})


def answering_step(recipe: Recipe) -> Step | None:
    """The first step that writes a ledger; None if the recipe asks nothing."""
    return next((step for step in recipe.steps if step.stage in LEDGERS), None)


def on_answers(recipe: Recipe, blind: Sequence[Step]) -> Recipe:
    """``recipe`` with the answers of the next round in place of the masks that the steps ``blind`` lack."""
    asking = [step for step in recipe.steps if step.stage in LEDGERS]
    kept = [step for step in recipe.steps if step not in blind]
    place = kept.index(asking[-1]) + 1
    added = [
        Step(
            name=f"{step.name.removesuffix('evaluation')}agreement",
            stage="evaluate",
            rounds="later",
            reads={"models": f"{step.reads['models']}@before", "annotations": asking[-1].name},
        )
        for step in blind
        if step.rounds == "all"
    ]
    return recipe.model_copy(update={"steps": [*kept[:place], *added, *kept[place:]]})


def to_do(exported: str, brought: str) -> str:
    """What people do with the exported queries, in a sentence."""
    if exported.endswith(".csv"):
        return f"Fill in the column class of {exported} and save it as {brought}"
    return f"Paint the queries in the folder {exported} and save it as {brought}"
