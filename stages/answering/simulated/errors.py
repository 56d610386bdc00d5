"""Errors of a simulated annotator: classes replaced by other classes."""

import numpy as np

from stages.answering.simulated.answered import IN_ERROR, ORACLE
from stages.pixels.void import VOID
from stages.runtime.randomness import stream
from stages.settings.annotate_simulate import ErrorSettings


def with_errors(
    labels: np.ndarray,
    images: dict[str, np.ndarray],
    round_number: int,
    classes: int,
    settings: ErrorSettings,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (Q,) u8 with the annotator's errors, and the annotator of each (Q,) u8; ``images`` maps image to rows."""
    labels, annotator = labels.copy(), np.full(len(labels), ORACLE, dtype=np.uint8)
    if settings.error_rate and round_number >= settings.error_from_round:
        for image, rows in images.items():
            generator = stream(seed, "annotator", round_number, image)
            wrong = rows[wrong_rows(labels[rows], settings.error_rate, generator)]
            labels[wrong] = wrong_classes(labels[wrong], classes, generator)
            annotator[wrong] = IN_ERROR
    return labels, annotator


def wrong_rows(labels: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
    """Positions of the wrong answers: rate * n of them, a fraction rounded up or down at random.

    Drawn among the non-void ones of an image's n answers (Q,) u8 of the round (10 % of 10 is exactly one).
    """
    expected = rate * len(labels)
    count = int(expected + 1e-9)
    count += int(generator.random() < expected - count - 1e-9)
    candidates = np.flatnonzero(labels != VOID)
    return generator.choice(candidates, min(count, len(candidates)), replace=False)


def wrong_classes(labels: np.ndarray, classes: int, generator: np.random.Generator) -> np.ndarray:
    """Another class for each label (Q,), uniform over the C - 1 others: (Q,) u8."""
    return ((labels + generator.integers(1, classes, len(labels))) % classes).astype(np.uint8)
