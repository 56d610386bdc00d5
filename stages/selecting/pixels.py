"""Queries of pixels by score maps: in each image, or anywhere in the dataset."""

from collections.abc import Callable
from typing import Any

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.scores import Scores
from stages.runtime.console import Progress
from stages.runtime.errors import BadInput
from stages.runtime.free_memory import require_memory
from stages.runtime.randomness import stream
from stages.selecting.candidates import Candidates
from stages.selecting.chooser import Chooser
from stages.selecting.coverage import mean_coverage
from stages.selecting.extra import Columns, Extra, Mixture
from stages.selecting.pool import budget_counts, excluded_pixels
from stages.settings.select import PixelQueries

# Of each candidate of `pick_from_dataset` a score f32, its image and its place i32, of all images and joined
CANDIDATE_BYTES = 2 * (4 + 4 + 4)


def choose_pixels(
    data: Dataset,
    scores: Scores,
    ledger: Annotations | None,
    settings: PixelQueries,
    total: int,
    chooser: Chooser,
    mixture: Mixture,
) -> tuple[Columns, dict[str, Any]]:
    """Queries (columns image, y, x, score in rank order) and counts; ``total`` is the budget of all images."""

    def excluded(number: int) -> np.ndarray:
        image = scores.ids[number]
        return excluded_pixels(data, ledger, settings.exclude_void, image, scores.sizes[image])

    if settings.scope == "dataset":
        pixels = fewest_candidates(data, scores, ledger, settings.exclude_void)
        why = f"for {pixels} pixels of {len(scores.ids)} images together"
        remedy = "Set --scope image, or score fewer images (--most-images) or a coarser grid (--grid-scale)."
        require_memory(CANDIDATE_BYTES * pixels, "select", why, remedy)
    extra = extra_pixels(scores, excluded, mixture, total)
    pick = pick_per_image if settings.scope == "image" else pick_from_dataset
    chosen = pick(scores, ledger, excluded, settings, total, chooser, extra)
    widths = np.array([scores.sizes[image][1] for image in scores.ids])
    image, index = chosen["image"], chosen["index"]
    y, x = index // widths[image], index % widths[image]
    counts = pixel_counts(image, y, x, total)
    purpose = {"purpose": chosen["purpose"]} if "purpose" in chosen else {}
    return {"image": image, "y": y, "x": x, "score": chosen["score"]} | purpose, counts


def fewest_candidates(data: Dataset, scores: Scores, ledger: Annotations | None, exclude_void: bool) -> int:
    """Pixels of all images that are candidates for certain; 0 if whole areas of unknown size are none."""
    if exclude_void or data.tiling is not None or (ledger is not None and (ledger.exact_ids or ledger.drawn.any())):
        return 0
    every = sum(height * width for height, width in (scores.sizes[image] for image in scores.ids))
    return max(0, every - (0 if ledger is None else len(ledger.answers)))


def extra_pixels(
    scores: Scores,
    excluded: Callable[[int], np.ndarray],
    mixture: Mixture,
    total: int,
) -> Extra:
    """The pixels among ``total`` queries that no rule chooses; ``excluded`` maps an image to its queried pixels."""
    known = mixture.known("pixel", scores, None, total)

    def unavailable(number: int) -> np.ndarray:
        taken = excluded(number)
        taken.ravel()[known.index[known.rows_of(number)]] = True
        return taken

    return known.followed_by(mixture.control_pixels(scores.ids, scores.sizes, unavailable, total))


def pixel_budget(budget: int, images: int) -> int:
    """The budget of all ``images`` together; BadInput for 0."""
    if budget == 0:
        raise BadInput("--budget 0 (all) is for regions and images only. Set --budget to 1 or more for pixels.")
    return budget * images


def pixel_counts(image: np.ndarray, y: np.ndarray, x: np.ndarray, asked: int) -> dict[str, Any]:
    """Counts of queries (n,) if ``asked`` were requested."""
    return budget_counts(asked, len(image)) | {"mean_coverage": mean_coverage(image, y, x)}


def pick_per_image(
    scores: Scores,
    ledger: Annotations | None,
    excluded: Callable[[int], np.ndarray],
    settings: PixelQueries,
    total: int,
    chooser: Chooser,
    extra: Extra,
) -> Columns:
    """An equal share of the budget in each image (or, with image_share, the whole budget in some of them)."""
    ids = scores.ids
    share = 1.0 if settings.within is None else settings.within.image_share
    given = extra.per_image(len(ids))
    budgets = image_budgets(given, total, share, stream(chooser.seed, "image_share", chooser.round))
    parts: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []
    with Progress("selecting", len(ids)) as bar:
        for number, image in enumerate(ids):
            if budgets[number] or given[number]:
                rows = extra.rows_of(number)
                values, eligible = eligible_pixels(scores, image, excluded(number), extra.index[rows])
                row = np.broadcast_to(np.int64(number), len(eligible))
                pool = Candidates(
                    unit="pixel",
                    scores=values[eligible],
                    image=row,
                    total=len(values),
                    round=chooser.round,
                    kept=scores.kept,
                    lazy=what_rules_read(scores, ledger, row, eligible),
                )
                found = np.concatenate(
                    [extra.index[rows], eligible[chooser.positions(pool, int(budgets[number]), image)]]
                )
                parts.append((number, found, values[found], padded(extra.purpose[rows], len(found))))
            bar.advance()
    return {
        "image": np.concatenate([np.full(len(found), number) for number, found, *_ in parts]),
        "index": np.concatenate([found for _, found, *_ in parts]),
        "score": np.concatenate([values for _, _, values, _ in parts]),
        "purpose": np.concatenate([purpose for *_, purpose in parts]),
    }


def padded(purpose: np.ndarray, length: int) -> np.ndarray:
    """``purpose`` (n,) u8, followed by zeros: (length,)."""
    return np.concatenate([purpose, np.zeros(length - len(purpose), dtype=np.uint8)])


def image_budgets(given: np.ndarray, total: int, share: float, generator: np.random.Generator) -> np.ndarray:
    """(images,) i64 pixels that the rule chooses per image; of the ``total``, ``given`` (images,) are queried anyway.

    The rest of the images' equal shares, or with a ``share`` below 1 the rest of all in that share of the images.
    """
    images, rest = len(given), max(total - int(given.sum()), 0)
    if share == 1:
        equal = split_budget(total, images, generator) if total % images else total // images
        budgets = np.maximum(equal - given, 0)
        while (excess := int(budgets.sum()) - rest) > 0:  # where more are given than the budget of an image
            open_images = np.flatnonzero(budgets)
            budgets[generator.choice(open_images, min(excess, len(open_images)), replace=False)] -= 1
        return budgets
    some = np.sort(generator.choice(images, max(1, int(images * share + 1e-9)), replace=False))
    budgets = np.zeros(images, dtype=np.int64)
    budgets[some] = split_budget(rest, len(some), generator)
    return budgets


def split_budget(total: int, images: int, generator: np.random.Generator) -> np.ndarray:
    """(images,) i64 pixels per image that sum to ``total``: equal shares, the remainder on randomly chosen images."""
    shares = np.full(images, total // images, dtype=np.int64)
    shares[generator.choice(images, total % images, replace=False)] += 1
    return shares


def pick_from_dataset(
    scores: Scores,
    ledger: Annotations | None,
    excluded: Callable[[int], np.ndarray],
    settings: PixelQueries,
    total: int,
    chooser: Chooser,
    extra: Extra,
) -> Columns:
    """The budget of all images together, spent on pixels of any image."""
    values, images, indices, pixels = [], [], [], 0
    known = np.zeros(len(extra.image), dtype=np.float32)
    with Progress("selecting", len(scores.ids)) as bar:
        for number, image in enumerate(scores.ids):
            rows = extra.rows_of(number)
            flat, eligible = eligible_pixels(scores, image, excluded(number), extra.index[rows])
            known[rows] = flat[extra.index[rows]]
            values.append(flat[eligible])
            images.append(np.full(len(eligible), number, dtype=np.int32))
            indices.append(eligible.astype(np.int32))
            pixels += len(flat)
            bar.advance()
    owners, places = np.concatenate(images), np.concatenate(indices)
    pool = Candidates(
        unit="pixel",
        scores=np.concatenate(values),
        image=owners,
        total=pixels,
        round=chooser.round,
        kept=scores.kept,
        lazy=what_rules_read(scores, ledger, owners, places),
    )
    found = chooser.positions(pool, max(total - len(known), 0), "dataset")
    chosen = {"image": owners[found], "index": places[found], "score": pool.scores[found]}
    return extra.before(chosen, {"image": extra.image, "index": extra.index, "score": known})


def what_rules_read(
    scores: Scores, ledger: Annotations | None, image: np.ndarray, index: np.ndarray
) -> dict[str, Callable[..., Any]]:
    """What `Candidates` reads if a rule does: of the pixels ``index`` (N,) of the images ``image`` (N,), ascending."""

    def per_image(rows: np.ndarray, read: Callable[[str, np.ndarray], np.ndarray]) -> np.ndarray:
        """``read`` of each image and those of its pixels that are at ``rows`` (n,), in their order."""
        order = np.argsort(image[rows], kind="stable")
        numbers, first = np.unique(image[rows][order], return_index=True)
        parts = zip(numbers.tolist(), np.split(index[rows][order], first[1:]), strict=True)
        values = np.concatenate([read(scores.ids[number], pixels) for number, pixels in parts])
        found = np.empty_like(values)
        found[order] = values
        return found

    def queried() -> np.ndarray:
        parts = [scores.pixel_features(scores.ids[image[0]], index[:0])]
        if ledger is not None:
            for name in (scores.ids[number] for number in np.unique(image).tolist()):
                y, x = ledger.queried_pixels(name)
                parts.append(scores.pixel_features(name, y * np.int64(scores.sizes[name][1]) + x))
        return np.concatenate(parts)

    return {
        "predicted": lambda: per_image(
            np.arange(len(image)), lambda name, pixels: scores.predicted(name).ravel()[pixels].astype(np.int64)
        ),
        "features_of": lambda rows: per_image(rows, scores.pixel_features),
        "queried_features": queried,
    }


def eligible_pixels(
    scores: Scores, image: str, excluded: np.ndarray, taken: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of all pixels of an image (H*W,) f32, and the flat indices of those that may be chosen, ascending.

    Pixels ``excluded`` (H,W) bool or ``taken`` (n,) are not candidates, so they cannot be chosen even if scores are
    saturated.
    """
    excluded.ravel()[taken] = True
    return scores.map(image).ravel(), np.flatnonzero(~excluded.ravel())
