"""The units left to query: those that the ledger does not cover yet."""

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.superpixels import Superpixels
from stages.pixels.void import VOID
from stages.runtime.console import Progress

MOSTLY = 0.5
"""Share of a region above which it counts as queried, for rules that spread queries."""


def budget_counts(asked: int, found: int) -> dict[str, int]:
    """Counts of ``found`` queries if the budget was ``asked``: a larger one takes all that is left in the pool."""
    return {"asked": asked, "shortfall": max(asked - found, 0)}


def excluded_pixels(
    data: Dataset, ledger: Annotations | None, exclude_void: bool, image: str, grid: tuple[int, int]
) -> np.ndarray:
    """(H,W) bool on ``grid``: without data, labelled exactly, queried, or void if ``exclude_void`` (simulation)."""
    nothing = data.without_data(image, grid)
    excluded = np.zeros(grid, dtype=bool) if nothing is None else nothing
    if exclude_void:
        excluded |= data.mask(image, grid) == VOID
    if ledger is not None and image in ledger.rows:
        excluded |= ledger.exact_area(image)
    return excluded


def excluded_regions(regions: Superpixels, ledger: Annotations | None, most: float) -> np.ndarray:
    """(R,) bool: more than the share ``most`` of the region's pixels lie in regions queried before, or in masks.

    Regions of the same file are compared by number, which is fast; those of other files by their pixels.
    """
    excluded = np.zeros(regions.count, dtype=bool)
    if ledger is None or most >= 1:
        return excluded
    answers = ledger.answers
    of_regions = answers.of_regions & ledger.in_force
    if {file.digest for file in ledger.region_files} <= {regions.digest} and not ledger.mask_ids:
        excluded[answers.region[of_regions]] = True
        return excluded
    queried = [image for image in regions.ids if of_regions[ledger.rows_of(image)].any() or image in ledger.mask_ids]
    with Progress("looking up queried regions", len(queried)) as bar:
        for image in queried:
            rows = regions.rows[image]
            inside = regions.labels(image)[ledger.queried_area(image) | (image in ledger.mask_ids)]
            covered = np.bincount(inside[inside >= 0], minlength=regions.number(image))
            excluded[rows] = covered > most * regions.region_sizes[rows]
            bar.advance()
    return excluded


def queried_regions(regions: Superpixels, ledger: Annotations | None) -> np.ndarray:
    """(R,) bool: mostly covered by regions queried before, or with a pixel that was queried."""
    queried = excluded_regions(regions, ledger, MOSTLY)
    if ledger is None:
        return queried
    for image in regions.ids:
        y, x = ledger.queried_pixels(image)
        inside = regions.labels(image)[y, x] if len(y) else np.zeros(0, dtype=np.int64)
        queried[regions.rows[image].start + inside[inside >= 0]] = True
    return queried
