"""Masks of images that were chosen for their classes (Desai & Ghose 2022, ALS4GAN; spec als4gan.md 2)."""

import numpy as np

from stages.selecting.candidates import Candidates
from stages.selecting.rules import rule


@rule("answered", units=("image",), needs=("answered",), budget=False, orders=True)
def answered(pool: Candidates, budget: int, settings: None, generator: np.random.Generator) -> np.ndarray:
    """Take all images whose class was answered before, except the seed set."""
    return pool.answered
