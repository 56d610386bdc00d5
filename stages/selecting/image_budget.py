"""How many images an active learner of whole images labels: its budget, its seed set, its rounds.

After the image selection of Desai & Ghose (WACV 2022); spec als4gan.md 2.1, with the recommended guards: 0.07 * 100 is
7.000000000000001 in floating point, yet the budget is 7, and no quantity is ever 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

from stages.artifacts.dataset import Dataset
from stages.runtime.errors import BadInput
from stages.settings.select import ImageQueries

SLACK = 1e-9
"""Rounding error up to which a product counts as a whole number."""


@dataclass(frozen=True)
class ImageBudget:
    """Numbers of images, all at least 1 except ``rounds``."""

    budget: int
    """B: images that are chosen and get masks."""
    seed: int
    """n0 <= B: images drawn at random in round 0."""
    query: int
    """q <= n0: images queried in each later round but the last, which may be short."""
    rounds: int
    """T: rounds after round 0; 0 if the seed set is the whole budget."""


def image_budget(
    images: int,
    ratio: float,
    seed_share: float,
    query_share: float,
    seed_in_selection: bool = False,
    pool: int | None = None,
) -> ImageBudget:
    """The budget B = ceil(ratio * images), n0 = floor(seed_share * B), q = ceil(query_share * n0), T = ceil(B / q).

    ``seed_in_selection``: the seed set counts towards B, so only B - n0 images are queried. Otherwise B images are
    queried in addition to the seed set. The query size is a share of the seed set, not of the budget. pool: images that
    may be queried, if the ratio counts others too.

    Raises ValueError for less than one image, a ratio outside (0,1], a share outside [0,1], and if there are too few
    images: a seed set that does not count takes n0 of them in addition to the B chosen ones.
    """
    if images < 1:
        raise ValueError(f"there must be at least 1 image, not {images}")
    if not 0 < ratio <= 1:  # written so that NaN is refused too
        raise ValueError(f"the ratio must be above 0 and at most 1, not {ratio}")
    for name, share in (("seed_share", seed_share), ("query_share", query_share)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must be 0 to 1, not {share}")
    budget = max(1, ceil(ratio * images - SLACK))
    seed = max(1, floor(seed_share * budget + SLACK))
    query = max(1, ceil(query_share * seed - SLACK))
    queried = budget - seed if seed_in_selection else budget
    available = images if pool is None else pool
    if seed + queried > available:
        raise ValueError(
            f"{budget} images plus a seed set of {seed} exceed the {available} of the dataset; lower the ratio or the "
            "seed share, or count the seed set towards the budget (--seed-in-selection)"
        )
    return ImageBudget(budget, seed, query, -(-queried // query))


def counted_images(data: Dataset, pool: Sequence[str], settings: ImageQueries) -> int:
    """How many images the ratio counts: those of its splits, otherwise the ``pool``; BadInput for an empty split."""
    splits = None if settings.share is None else settings.share.ratio_splits
    return len(pool) if splits is None else sum(len(data.ids(split)) for split in dict.fromkeys(splits))


def whole_budget(images: int, settings: ImageQueries, pool: int | None = None) -> ImageBudget:
    """The budget of ``settings``, a ratio of ``images``; without a seed share, all of it is the seed set.

    BadInput if there are too few images in the ``pool`` (none: ``images``).
    """
    assert settings.ratio is not None
    assert settings.share is not None
    share, spent = settings.share.seed_share, settings.share.spent
    try:
        if share is None or spent is None:
            return image_budget(images, settings.ratio, 1.0, 1.0, True, pool)
        return image_budget(images, settings.ratio, share, spent.query_share, spent.seed_in_selection, pool)
    except ValueError as error:
        raise BadInput(f"The budget does not fit: {error}.") from error


def next_count(budget: ImageBudget, round: int, selected_so_far: int, left: int) -> int:
    """Images that a round queries: the seed set in round 0, then min(q, B - selected_so_far, left), 0 when finished.

    selected_so_far: images that count towards B, with the seed set only if it counts; not read in round 0. left:
    images not queried yet. A pool that shrinks ends the selection early, without an error. Raises ValueError for a
    negative number, and in round 0 for a pool smaller than the seed set.
    """
    if min(round, selected_so_far, left) < 0:
        raise ValueError("round, images selected and images left must not be negative")
    if round > 0:
        return max(0, min(budget.query, budget.budget - selected_so_far, left))
    if left < budget.seed:
        raise ValueError(f"the seed set takes {budget.seed} images, but the pool has only {left}")
    return budget.seed
