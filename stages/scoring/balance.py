"""Class balance: regions of classes that the model predicts everywhere are queried later (ClassBal)."""

import numpy as np


def class_shares(predicted: np.ndarray, sizes: np.ndarray, classes: int, by: str) -> np.ndarray:
    """(C,) f64 share of each predicted class among the regions, summing to 1.

    predicted (R,) u8 and sizes (R,) i32 of all regions of the pool. ``by`` regions: each region counts alike (Cai et
    al. 2021); pixels: by its size (Kim et al. 2023).
    """
    weights = sizes.astype(np.float64) if by == "pixels" else None
    counts = np.bincount(predicted, weights, classes).astype(np.float64)
    return counts / max(counts.sum(), 1)


def rescaled(scores: np.ndarray) -> np.ndarray:
    """(R,) scores shifted and scaled to 0 to 1; equal scores become 0."""
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low if high > low else 1)


def probability_weights(shares: np.ndarray, strength: float) -> np.ndarray:
    """(C,) f64 factors (1 + strength share)^-2 of the pixels' scores (PixBal, Hwang et al. 2023).

    shares (C,): mean predicted probability of each class over the pixels of the pool.
    """
    return (1 + strength * shares) ** -2.0


def class_weights(shares: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """(C,) f64 factors exp(-share) of the scores; ``scale`` shrinks the shares (0.25 as the public code does)."""
    return np.exp(-scale * shares)
