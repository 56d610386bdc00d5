"""The stage `select`: which pixels, regions or images are asked next."""

from pathlib import Path
from typing import Any

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer, build_in_memory, require_made_from
from stages.artifacts.header import Header
from stages.artifacts.images_table import require_same_grid, write_images
from stages.artifacts.publish import publish_bytes
from stages.artifacts.queries import COORDINATES
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.scores import Scores
from stages.artifacts.superpixels import Superpixels, regions_of
from stages.runtime.console import Progress
from stages.runtime.errors import BadInput
from stages.runtime.randomness import stream
from stages.selecting.best_pixels import Generators, choose_best_pixels
from stages.selecting.choice import RULES, choose_pixels, pool_size
from stages.selecting.images import choose_images
from stages.selecting.pool import excluded_pixels, excluded_regions, require_pool
from stages.selecting.statistics import mean_coverage, split_budget
from stages.settings.select import SelectSettings

IMAGE_ANSWERS = {"mask": "mask", "class": "image-class", "classes": "image-classes"}


def run(
    dataset: Path,
    scores: Path,
    output: Path,
    settings: SelectSettings,
    annotations: Path | None = None,
    superpixels: Path | None = None,
    force: bool = False,
) -> Path:
    """Publishes the queries of the next round; what ``annotations`` already asked is excluded.

    Scores of regions need the ``superpixels`` they are of. Raises BadInput when the budget exceeds what is left to ask,
    and for scores, regions or a ledger of another dataset.
    """
    with Dataset(dataset) as data, Scores(scores) as scored:
        require_made_from(scored, "dataset", data)
        ledger = None if annotations is None else Annotations(annotations)
        if ledger is not None:
            require_made_from(ledger, "dataset", data)
            require_same_grid(ledger, ledger.sizes, scored.sizes)
        regions = regions_of(superpixels, data, scored)
        if scored.unit != "region" and (settings.answer == "pixel" or settings.rule == "clusters"):
            raise BadInput(
                f"The answer pixel and the rule clusters are about regions, and {scores} scores {scored.unit}s."
            )
        if scored.unit != "pixel" and (settings.exclude_void or settings.image_share < 1):
            raise BadInput(f"exclude_void and image_share are about pixels, and {scores} scores {scored.unit}s.")
        inputs = {"dataset": data, "scores": scored, "annotations": ledger, "superpixels": regions}
        request = Request("select", "queries", output, settings, refer(output, inputs))
        return produce(request, lambda: build(request, data, scored, ledger, regions, settings), force)


def build(
    request: Request,
    data: Dataset,
    scores: Scores,
    ledger: Annotations | None,
    regions: Superpixels | None,
    settings: SelectSettings,
) -> str:
    round_number = 0 if ledger is None else ledger.next_round
    unit = "pixel" if settings.answer == "pixel" and regions is not None else scores.unit
    if regions is not None and unit == "pixel":
        generators = random_streams(settings, round_number)
        chosen, counts = choose_best_pixels(regions, scores, ledger, settings, generators)
    elif regions is not None:
        chosen, counts = choose_regions(regions, scores, ledger, settings, round_number)
    elif scores.unit == "image":
        generator = random_streams(settings, round_number)("dataset")
        chosen, counts = choose_images(scores, ledger, settings, round_number, generator)
    else:
        chosen, counts = choose_in_pixels(data, scores, ledger, settings, round_number)
    answers = {"pixel": "class", "region": settings.answer, "image": IMAGE_ANSWERS[settings.image_answer]}
    privilege = "void excluded from the draw" if settings.exclude_void else "none"
    if regions is not None:
        privilege = regions.attributes["oracle_privilege"]

    def fill(writer: Writer) -> Header:
        write_images(writer, scores.ids, scores.sizes)
        nowhere = np.full(len(chosen["image"]), -1)
        for name in COORDINATES:
            writer.array(f"queries/{name}", chosen.get(name, nowhere).astype(np.int32))
        writer.array("queries/score", chosen["score"].astype(np.float32))
        attributes = {
            "unit": unit,
            "answer": answers[unit],
            "round": round_number,
            "measure": scores.attributes["measure"],
            "oracle_privilege": privilege,
        }
        return request.header(attributes, counts)

    publish_bytes(request.output, build_in_memory(fill))
    missing = f", {counts['shortfall']} fewer than asked for" if counts.get("shortfall") else ""
    return f"round {round_number}, {counts['queries']} {unit} queries in {counts['images']} images{missing}"


def random_streams(settings: SelectSettings, round_number: int) -> Generators:
    """A stream per image, or one legacy stream over all images in order (comparable with published draws)."""
    if settings.stream == "legacy":
        shared = np.random.RandomState(settings.seed + round_number)
        return lambda image: shared  # type: ignore[return-value,unused-ignore]
    return lambda image: stream(settings.seed, "select", round_number, image)


def choose_in_pixels(
    data: Dataset, scores: Scores, ledger: Annotations | None, settings: SelectSettings, round_number: int
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Pixel queries (columns image, y, x, score in rank order) and counts."""
    if settings.budget == 0:
        raise BadInput("A budget of 0 asks for all images, and these scores are of pixels; set --budget to 1 or more.")
    pick = pick_per_image if settings.scope == "image" else pick_from_dataset
    flat = pick(data, scores, ledger, settings, round_number)
    widths = np.array([scores.sizes[image][1] for image in scores.ids])
    image, index = flat["image"], flat["index"]
    y, x = index // widths[image], index % widths[image]
    asked = settings.budget * len(scores.ids)
    counts = {
        "queries": len(image),
        "images": len(np.unique(image)),
        "asked": asked,
        "shortfall": asked - len(image),
        "mean_score": float(flat["score"].mean(dtype=np.float64)),
        "mean_coverage": mean_coverage(image, y, x),
    }
    return {"image": image, "y": y, "x": x, "score": flat["score"]}, counts


def pick_per_image(
    data: Dataset, scores: Scores, ledger: Annotations | None, settings: SelectSettings, round_number: int
) -> dict[str, np.ndarray]:
    """The budget in every image (or, with image_share, the whole budget in some of them)."""
    ids, generators, rule = scores.ids, random_streams(settings, round_number), RULES[settings.rule]
    budgets = np.full(len(ids), settings.budget)
    if settings.image_share < 1:
        sharing = stream(settings.seed, "image_share", round_number)
        some = np.sort(sharing.choice(len(ids), max(1, int(len(ids) * settings.image_share + 1e-9)), replace=False))
        budgets = np.zeros(len(ids), dtype=np.int64)
        budgets[some] = split_budget(settings.budget * len(ids), len(some), sharing)
    left = 0
    parts: list[tuple[int, np.ndarray, np.ndarray]] = []
    with Progress("selecting", len(ids)) as bar:
        for number, image in enumerate(ids):
            if budgets[number]:
                excluded = excluded_pixels(data, ledger, settings.exclude_void, image, scores.sizes[image])
                left += excluded.size - int(excluded.sum())
                values = scores.map(image)
                found = choose_pixels(
                    values, excluded, int(budgets[number]), settings.fraction, rule, generators(image)
                )
                parts.append((number, found, values.ravel()[found]))
            bar.advance()
    require_pool(settings.budget * len(ids), left, "pixels")
    image_column = np.concatenate([np.full(len(found), number) for number, found, _ in parts])
    index = np.concatenate([found for _, found, _ in parts])
    score = np.concatenate([values for _, _, values in parts])
    return {"image": image_column, "index": index, "score": score}


def pick_from_dataset(
    data: Dataset, scores: Scores, ledger: Annotations | None, settings: SelectSettings, round_number: int
) -> dict[str, np.ndarray]:
    """The budget of all images together, spent wherever the rule finds its pixels."""
    values, images, indices, pixels = [], [], [], 0
    with Progress("selecting", len(scores.ids)) as bar:
        for number, image in enumerate(scores.ids):
            eligible = np.flatnonzero(
                ~excluded_pixels(data, ledger, settings.exclude_void, image, scores.sizes[image]).ravel()
            )
            values.append(scores.map(image).ravel()[eligible])
            images.append(np.full(len(eligible), number, dtype=np.int32))
            indices.append(eligible.astype(np.int32))
            pixels += scores.sizes[image][0] * scores.sizes[image][1]
            bar.advance()
    score = np.concatenate(values)
    budget = settings.budget * len(scores.ids)
    require_pool(budget, len(score), "pixels")
    generator = random_streams(settings, round_number)("dataset")
    found = np.sort(RULES[settings.rule](score, budget, pool_size(pixels, settings.fraction), generator))
    found = found[np.argsort(-score[found], kind="stable")]
    return {"image": np.concatenate(images)[found], "index": np.concatenate(indices)[found], "score": score[found]}


def choose_regions(
    regions: Superpixels, scores: Scores, ledger: Annotations | None, settings: SelectSettings, round_number: int
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Region queries: the budget's regions of all images together, ties by image and region."""
    excluded = excluded_regions(regions, ledger, settings.exclude_queried)
    left = np.flatnonzero(~excluded)
    budget = settings.budget or len(left)
    require_pool(budget, len(left), "regions")
    values = scores.region_scores()[left]
    pool = pool_size(regions.count, settings.fraction)
    found = np.sort(RULES[settings.rule](values, budget, pool, random_streams(settings, round_number)("dataset")))
    found = found[np.argsort(-values[found], kind="stable")]
    region = left[found]
    image = regions.images_of(region)
    counts = {
        "queries": len(region),
        "images": len(np.unique(image)),
        "excluded": int(excluded.sum()),
        "pixels": int(regions.region_sizes[region].sum(dtype=np.int64)),
        "mean_score": float(values[found].mean(dtype=np.float64)),
    }
    return {"image": image, "region": region, "score": values[found]}, counts
