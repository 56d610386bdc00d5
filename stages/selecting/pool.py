"""What is left to ask: the candidates without those that a ledger already covers."""

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.superpixels import Superpixels
from stages.pixels.void import VOID
from stages.runtime.console import Progress
from stages.runtime.errors import BadInput


def excluded_pixels(
    data: Dataset, ledger: Annotations | None, exclude_void: bool, image: str, grid: tuple[int, int]
) -> np.ndarray:
    """(H,W) bool on ``grid``: asked before, or void where the simulation may know."""
    excluded = np.zeros(grid, dtype=bool)
    if exclude_void:
        excluded |= data.mask(image, grid) == VOID
    if ledger is not None:
        excluded[ledger.queried_pixels(image)] = True
    return excluded


def require_pool(budget: int, left: int, what: str) -> None:
    """BadInput unless ``left`` of ``what`` suffice for the ``budget``."""
    if left == 0:
        raise BadInput(f"There are no {what} left to ask about; the ledger already covers the pool.")
    if budget > left:
        raise BadInput(f"The budget of {budget} {what} is larger than the {left} left in the pool; lower --budget.")


def excluded_regions(regions: Superpixels, ledger: Annotations | None, most: float) -> np.ndarray:
    """(R,) bool: more than the share ``most`` of the region's pixels lie in regions asked before.

    Regions of one and the same file are compared by number, which is instant; those of other files by their pixels.
    """
    excluded = np.zeros(regions.count, dtype=bool)
    if ledger is None or most >= 1:
        return excluded
    answers = ledger.answers
    of_regions = answers.of_regions
    if {file.digest for file in ledger.region_files} <= {regions.digest}:
        excluded[answers.region[of_regions]] = True
        return excluded
    asked = [image for image in regions.ids if of_regions[ledger.rows_of(image)].any()]
    with Progress("looking up what was asked before", len(asked)) as bar:
        for image in asked:
            rows = regions.rows[image]
            index, _ = answers.areas.pixels(ledger.rows_of(image))
            inside = regions.labels(image).ravel()[np.unique(index)]
            covered = np.bincount(inside[inside >= 0], minlength=regions.number(image))
            excluded[rows] = covered > most * regions.region_sizes[rows]
            bar.advance()
    return excluded
