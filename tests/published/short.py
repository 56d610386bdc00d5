"""A published row cut short: the fewest rounds, steps and labels that go through all of its stages."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from stages.recipes.plan import Plan, build_rules
from stages.recipes.recipe import Step
from stages.recipes.rules import Rule
from stages.recipes.tables import PublishedTable, Row, load_table, table_names

ROUNDS = 2
NO_SPLIT = "unwatched"  # no dataset has it
REGIONS = "40"  # per round, in all images
TRAINING = {"epochs": "1", "steps-per-epoch": "1", "batch": "2", "device": "cpu"}
SELF_TRAINING = {"self-training-from": "0", "gate": "0.01"}
BUDGET_OF_IMAGES = {"ratio": "0.25", "seed-share": "0.5"}
VIEWS = "0.5,1"  # of pseudo-labels at several scales
LITTLE_ALIKE = "0.002"  # a model of one step predicts alike nearly everywhere, and one region would be left


@dataclass(frozen=True)
class Case:
    """A row of a table."""

    table: PublishedTable
    row: Row

    @property
    def name(self) -> str:
        return f"{self.table.name}/{self.row.folder}"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the prepared images."""
        return self.table.images.size

    def overrides(self) -> list[str]:
        """What cuts the row short, as typed after --set."""
        plan = self.table.plan(self.row)
        found: dict[str, str] = {}
        for step in plan.recipe.steps:
            found |= {f"{step.name}.{name}": value for name, value in shortened(plan, step).items()}
        return [f"{name}={value}" for name, value in found.items()]

    def rules(self) -> list[Rule]:
        """The commands of the row, cut short: each once, not again in a later round unless another one needs it."""
        rules = self.commands(self.overrides())
        first = {told(rule): rule.target for rule in reversed(rules)}
        return with_needs(rules, first.values())

    def training_rules(self) -> list[Rule]:
        """The commands that the first training with each step's name takes, without validation."""
        plan = self.table.plan(self.row)
        names = [step.name for step in plan.recipe.steps if step.stage == "train"]
        unwatched = [f"{name}.validation-split={NO_SPLIT}" for name in names]
        unwatched += [  # without validation there are no best weights
            f"{step.name}.checkpoint=last"
            for step in plan.recipe.steps
            if step.stage in ("train", "pseudo-label") and plan.settings(step).flat().get("checkpoint") == "best"
        ]
        rules = self.commands([*self.overrides(), *unwatched])
        firsts = (next(rule.target for rule in rules if rule.target.endswith(f"/{name}.safetensors")) for name in names)
        return with_needs(rules, firsts)

    def commands(self, overrides: list[str]) -> list[Rule]:
        plan = self.table.plan(self.row, overrides)
        rounds = self.table.rounds_of(self.row, plan)
        common = [["--recipe", self.row.recipe], ["--profile", self.table.profile]]
        return build_rules(plan, ROUNDS if rounds is None else min(ROUNDS, rounds), common)


def told(rule: Rule) -> str:
    """The command of ``rule`` without the number of its round."""
    return re.sub(r"/round-\d+/", "/", " ".join(rule.words))


def with_needs(rules: Sequence[Rule], targets: Iterable[str]) -> list[Rule]:
    """The rules of ``targets`` and of all that they need."""
    wanted = set(targets)
    for rule in reversed(rules):
        wanted |= set(rule.needs) if rule.target in wanted else set()
    return [rule for rule in rules if rule.target in wanted]


def shortened(plan: Plan, step: Step) -> dict[str, str]:
    """The settings of a step that differ from the published ones."""
    values = plan.settings(step).flat()
    if step.stage == "train":
        more = {} if "model" in step.reads and "support" in values["objective"] else {"weights": "none"}
        return TRAINING | more | (SELF_TRAINING if "gate" in values else {})
    found = {"workers": "1"} if step.stage in ("extract-superpixels", "cluster-regions") else {}
    if step.stage == "cluster-regions":
        found["weights"] = "none"
    if values.get("method") == "adaptive":
        found["epsilon"] = LITTLE_ALIKE
    if step.stage == "select":
        found |= {name: value for name, value in BUDGET_OF_IMAGES.items() if values.get(name.replace("-", "_"))}
        found |= {"budget": REGIONS} if whole_regions(plan, values) else {}
    if step.stage == "pseudo-label" and len(values.get("scales", ())) > 1:
        found["scales"] = VIEWS
    if values.get("click_budget") is not None:
        found["click-budget"] = REGIONS
    return found


def whole_regions(plan: Plan, values: dict[str, Any]) -> bool:
    """Whether a step `select` queries regions as a whole, with a budget for all images together."""
    units = {plan.settings(step).flat()["unit"] for step in plan.recipe.steps if step.stage == "score"}
    return units == {"region"} and values["budget"] > 0 and values.get("answer") != "pixel"


def cases() -> dict[str, Case]:
    """Every row of every table, by name."""
    found = [Case(table, row) for table in map(load_table, table_names()) for row in table.rows]
    return {case.name: case for case in found}
