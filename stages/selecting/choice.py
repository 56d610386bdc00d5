"""Rules: which candidates to ask, given their scores. Plain functions over flat arrays, ties in index order."""

from collections.abc import Callable

import numpy as np


def pool_size(pixels: int, fraction: float) -> int:
    """How many candidates the pool holds: floor(pixels * fraction), at least 1.

    ``pixels`` counts all of them, void and labelled ones included (PixelPick; 360x480 at 0.05 gives 8640).
    """
    return max(1, int(pixels * fraction + 1e-9))


def highest(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` highest of (N,) scores, highest first, ties by index; all of them if N is smaller.

    A partial sort finds the threshold, only what lies above it is sorted.
    """
    count = min(count, len(scores))
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
    above = np.flatnonzero(scores > threshold)
    level = np.flatnonzero(scores == threshold)[: count - len(above)]
    found = np.concatenate([above, level])
    return found[np.argsort(-scores[found], kind="stable")]


def draw_from_pool(scores: np.ndarray, budget: int, pool: int, generator: np.random.Generator) -> np.ndarray:
    """``budget`` of the ``pool`` highest, uniformly without replacement (PixelPick's diversity draw)."""
    candidates = highest(scores, max(pool, budget))
    return generator.choice(candidates, min(budget, len(candidates)), replace=False)


def highest_of_draw(scores: np.ndarray, budget: int, pool: int, generator: np.random.Generator) -> np.ndarray:
    """The ``budget`` highest among ``pool`` uniformly drawn ones (PixelPick's reverse variant)."""
    count = min(max(pool, budget), len(scores))
    drawn = np.sort(generator.choice(len(scores), count, replace=False))  # sorted: ties by index
    return drawn[highest(scores[drawn], budget)]


def highest_only(scores: np.ndarray, budget: int, pool: int, generator: np.random.Generator) -> np.ndarray:
    """The ``budget`` highest; neither pool nor generator is used."""
    return highest(scores, budget)


def uniform(scores: np.ndarray, budget: int, pool: int, generator: np.random.Generator) -> np.ndarray:
    """``budget`` of all, uniformly without replacement, whatever the scores."""
    return generator.choice(len(scores), min(budget, len(scores)), replace=False)


Rule = Callable[[np.ndarray, int, int, np.random.Generator], np.ndarray]
RULES: dict[str, Rule] = {
    "pool": draw_from_pool,
    "reverse-pool": highest_of_draw,
    "top": highest_only,
    "uniform": uniform,
}


def choose_pixels(
    scores: np.ndarray, excluded: np.ndarray, budget: int, fraction: float, rule: Rule, generator: np.random.Generator
) -> np.ndarray:
    """Flat indices of the chosen pixels of one image, highest score first.

    scores (H,W) f32, excluded (H,W) bool: excluded pixels are not candidates at all, so none can come back however
    saturated the scores. Returns at most ``budget`` indices; fewer when fewer are eligible.
    """
    flat = scores.ravel()
    eligible = np.flatnonzero(~excluded.ravel())
    candidates = flat if len(eligible) == len(flat) else flat[eligible]
    picked = np.sort(rule(candidates, budget, pool_size(len(flat), fraction), generator))
    chosen = picked if len(eligible) == len(flat) else eligible[picked]
    return chosen[np.argsort(-flat[chosen], kind="stable")]
