"""GPU hours and memory of a published row, estimated from training steps that were measured on a CPU."""

import json
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from stages.artifacts.header import canonical
from stages.datasets.description import load_description
from stages.recipes.plan import Plan, build_rules, rounds_of_budget, takes_place
from stages.recipes.recipe import Step
from stages.recipes.rules import Rule
from stages.recipes.tables import Images, PublishedTable, Row
from stages.settings.train import TrainSettings

MEASURED = Path(__file__).parents[2] / "docs" / "results" / "published-steps.json"
# An H100: 989 Tflop/s in bfloat16, 3.35 TB/s; and how fast PyTorch starts kernels one after another
SUSTAINED_FLOPS = 0.3 * 989e12
SUSTAINED_BYTES = 0.6 * 3.35e12
SECONDS_PER_OPERATION = 10e-6
MOVES = 5  # a kept value is written, read by the next layer and in the backward pass, its gradient written and read
GIB = 2**30


@dataclass(frozen=True)
class Estimate:
    """Training steps and hours of one run, and the most memory that a training takes (GiB, float32)."""

    steps: int
    hours: float
    memory: float


@dataclass(frozen=True)
class Pool:
    """Stands for a dataset of which only the numbers of images matter."""

    images: Images

    def ids(self, split: str) -> range:
        return range(getattr(self.images, split))


def measured_steps() -> dict[str, Any]:
    """Key (see `step_key`) -> the measured step."""
    return json.loads(MEASURED.read_text(encoding="utf-8"))["steps"] if MEASURED.is_file() else {}


def step_key(settings: TrainSettings, outputs: int, size: tuple[int, int]) -> str:
    """What decides the cost of a step per image: network, objective, optimiser and size of the input, as JSON."""
    crop = settings.augmentation.crop or size
    cost = {"network": settings.network.recorded(), "objective": settings.objective, "outputs": outputs}
    return canonical(cost | {"crop": list(crop), "optimiser": settings.optimisation.optimiser})


def key_of(table: PublishedTable, plan: Plan, step: Step) -> str:
    """The key of a step that trains."""
    settings = plan.settings(step)
    assert isinstance(settings, TrainSettings)
    dataset = load_description(table.dataset)
    of_images = settings.objective == "image-classes"
    classes = dataset.image_classes if of_images and dataset.image_classes else dataset.class_names
    return step_key(settings, len(classes) + settings.learn_void, table.images.size)


def trainings_of(plan: Plan) -> list[Step]:
    """The steps that train a network."""
    return [step for step in plan.recipe.steps if isinstance(plan.settings(step), TrainSettings)]


def estimate(table: PublishedTable, row: Row, measured: dict[str, Any]) -> Estimate | None:
    """Of one run of ``row``; None if one of its training steps has not been measured."""
    plan = table.plan(row)
    rounds = table.rounds_of(row, plan)
    if rounds is None:
        rounds = rounds_of_budget(plan, Pool(table.images)) if plan.recipe.rounds == "budget" else 1  # type: ignore[arg-type]
    trainings = trainings_of(plan)
    if any(key_of(table, plan, step) not in measured for step in trainings):
        return None
    steps, seconds, memory = 0, 0.0, 0.0
    speeds: dict[str, float] = {}  # of a pass over an image, by the name of the step that trained the network
    for step in trainings:
        settings = plan.settings(step)
        assert isinstance(settings, TrainSettings)
        cost = measured[key_of(table, plan, step)]
        own = seconds_per_step(cost, settings.optimisation.batch)
        memory = max(memory, cost["fixed"] + cost["saved"] * settings.optimisation.batch / cost["batch"])
        crop = settings.augmentation.crop or table.images.size
        pixels = table.images.size[0] * table.images.size[1] / (crop[0] * crop[1])
        speeds[step.name] = own / settings.optimisation.batch / 3 * pixels
        places = 1 if step.rounds == "end" else sum(takes_place(step, number) for number in range(rounds))
        taken = places * settings.optimisation.epochs * steps_per_epoch(table, settings, plan)
        checks = places * ceil(settings.optimisation.epochs / settings.validation.validate_every)
        validated = getattr(table.images, settings.validation.validation_split, 0)
        steps += taken
        seconds += taken * own + checks * validated * speeds[step.name]
    rules = build_rules(plan, rounds, [])
    seconds += sum(passes(table, plan, rule) * speed_of(rule, speeds) for rule in rules)
    return Estimate(steps, seconds / 3600, memory)


def seconds_per_step(cost: dict[str, Any], batch: int) -> float:
    """The longest of arithmetic, memory traffic in bfloat16, and starting kernels."""
    images = batch / cost["batch"]
    arithmetic = cost["flops"] * images / SUSTAINED_FLOPS
    traffic = MOVES * cost["saved"] * GIB / 2 * images / SUSTAINED_BYTES
    return max(arithmetic, traffic, cost["operations"] * SECONDS_PER_OPERATION)


def steps_per_epoch(table: PublishedTable, settings: TrainSettings, plan: Plan) -> int:
    """Batches in an epoch over all training images, or over half the budget where images are bought."""
    given = settings.optimisation.steps_per_epoch
    if given is not None:
        return given
    ratios = [plan.settings(step).flat().get("ratio") for step in plan.recipe.steps if step.stage == "select"]
    share = next((ratio for ratio in ratios if ratio), 1.0)
    growing = 0.5 if settings.objective == "image-classes" else 1.0
    return max(1, ceil(table.images.train * share * growing / settings.optimisation.batch))


def passes(table: PublishedTable, plan: Plan, rule: Rule) -> float:
    """How many images a command other than a training runs its network over; kept predictions count once."""
    if rule.words[0] == "evaluate":
        return 2 * (table.images.test or table.images.val)  # the last weights and the best
    if rule.words[0] == "train" or "--model" not in rule.words:
        return 0
    if "--predictions" in rule.words and rule.removed == "":
        return 0
    step = next(each for each in plan.recipe.steps if rule.target.rpartition("/")[2].startswith(f"{each.name}."))
    values = plan.settings(step).flat()
    views = sum(scale**2 for scale in values.get("scales", (1.0,))) * (2 if values.get("flip") else 1)
    return table.images.train * views * float(values.get("input_scale", 1.0)) ** 2


def speed_of(rule: Rule, speeds: dict[str, float]) -> float:
    """Seconds of a pass over an image with the network that the command reads; 0 for none."""
    names = [need.rpartition("/")[2].removesuffix(".safetensors") for need in rule.needs]
    return max((speeds[name] for name in names if name in speeds), default=0.0)
