"""Queries of pixels by score maps: in each image, or anywhere in the dataset."""

from typing import Any

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.scores import Scores
from stages.runtime.console import Progress
from stages.runtime.errors import BadInput
from stages.runtime.randomness import stream
from stages.selecting.candidates import Candidates
from stages.selecting.chooser import Chooser
from stages.selecting.coverage import mean_coverage
from stages.selecting.pool import budget_counts, excluded_pixels
from stages.settings.select import PixelQueries

Columns = dict[str, np.ndarray]


def choose_pixels(
    data: Dataset,
    scores: Scores,
    ledger: Annotations | None,
    settings: PixelQueries,
    budget: int,
    chooser: Chooser,
) -> tuple[Columns, dict[str, Any]]:
    """Queries (columns image, y, x, score in rank order) and counts; ``budget`` is that of one image."""
    require_pixel_budget(budget)
    pick = pick_per_image if settings.scope == "image" else pick_from_dataset
    chosen = pick(data, scores, ledger, settings, budget, chooser)
    widths = np.array([scores.sizes[image][1] for image in scores.ids])
    image, index = chosen["image"], chosen["index"]
    y, x = index // widths[image], index % widths[image]
    counts = pixel_counts(image, y, x, budget * len(scores.ids))
    return {"image": image, "y": y, "x": x, "score": chosen["score"]}, counts


def require_pixel_budget(budget: int) -> None:
    if budget == 0:
        raise BadInput("--budget 0 (all) is for regions and images only. Set --budget to 1 or more for pixels.")


def pixel_counts(image: np.ndarray, y: np.ndarray, x: np.ndarray, asked: int) -> dict[str, Any]:
    """Counts of queries (n,) if ``asked`` were requested."""
    return budget_counts(asked, len(image)) | {"mean_coverage": mean_coverage(image, y, x)}


def pick_per_image(
    data: Dataset,
    scores: Scores,
    ledger: Annotations | None,
    settings: PixelQueries,
    budget: int,
    chooser: Chooser,
) -> Columns:
    """The budget in each image (or, with image_share, the whole budget in some of them)."""
    ids = scores.ids
    share = 1.0 if settings.within is None else settings.within.image_share
    budgets = image_budgets(len(ids), budget, share, stream(chooser.seed, "image_share", chooser.round))
    parts: list[tuple[int, np.ndarray, np.ndarray]] = []
    with Progress("selecting", len(ids)) as bar:
        for number, image in enumerate(ids):
            if budgets[number]:
                values, eligible = eligible_pixels(data, scores, ledger, settings, image)
                row = np.broadcast_to(np.int64(number), len(eligible))
                pool = Candidates(
                    unit="pixel", scores=values[eligible], image=row, total=len(values), round=chooser.round
                )
                found = eligible[chooser.positions(pool, int(budgets[number]), image)]
                parts.append((number, found, values[found]))
            bar.advance()
    return {
        "image": np.concatenate([np.full(len(found), number) for number, found, _ in parts]),
        "index": np.concatenate([found for _, found, _ in parts]),
        "score": np.concatenate([values for _, _, values in parts]),
    }


def image_budgets(images: int, budget: int, share: float, generator: np.random.Generator) -> np.ndarray:
    """(images,) i64 pixels per image: the budget, or with a ``share`` below 1 all budgets in that share of them."""
    if share == 1:
        return np.full(images, budget, dtype=np.int64)
    some = np.sort(generator.choice(images, max(1, int(images * share + 1e-9)), replace=False))
    budgets = np.zeros(images, dtype=np.int64)
    budgets[some] = split_budget(budget * images, len(some), generator)
    return budgets


def split_budget(total: int, images: int, generator: np.random.Generator) -> np.ndarray:
    """(images,) i64 pixels per image that sum to ``total``: equal shares, the remainder on randomly chosen images."""
    shares = np.full(images, total // images, dtype=np.int64)
    shares[generator.choice(images, total % images, replace=False)] += 1
    return shares


def pick_from_dataset(
    data: Dataset,
    scores: Scores,
    ledger: Annotations | None,
    settings: PixelQueries,
    budget: int,
    chooser: Chooser,
) -> Columns:
    """The budget of all images together, spent on pixels of any image."""
    values, images, indices, total = [], [], [], 0
    with Progress("selecting", len(scores.ids)) as bar:
        for number, image in enumerate(scores.ids):
            flat, eligible = eligible_pixels(data, scores, ledger, settings, image)
            values.append(flat[eligible])
            images.append(np.full(len(eligible), number, dtype=np.int32))
            indices.append(eligible.astype(np.int32))
            total += len(flat)
            bar.advance()
    pool = Candidates(
        unit="pixel",
        scores=np.concatenate(values),
        image=np.concatenate(images),
        total=total,
        round=chooser.round,
    )
    asked = budget * len(scores.ids)
    found = chooser.positions(pool, asked, "dataset")
    return {"image": pool.image[found], "index": np.concatenate(indices)[found], "score": pool.scores[found]}


def eligible_pixels(
    data: Dataset, scores: Scores, ledger: Annotations | None, settings: PixelQueries, image: str
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of all pixels of an image (H*W,) f32, and the flat indices of those that may be queried, ascending.

    Excluded pixels are not candidates, so they cannot be chosen even if scores are saturated.
    """
    excluded = excluded_pixels(data, ledger, settings.exclude_void, image, scores.sizes[image])
    return scores.map(image).ravel(), np.flatnonzero(~excluded.ravel())
