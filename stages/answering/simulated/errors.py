"""Annotators err: answers that name a class, replaced by another class."""

import numpy as np

from stages.answering.simulated.answered import IN_ERROR, ORACLE
from stages.pixels.void import VOID
from stages.runtime.randomness import stream
from stages.settings.annotate_simulate import AnnotateSettings


def with_errors(
    labels: np.ndarray, images: dict[str, np.ndarray], round_number: int, classes: int, settings: AnnotateSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (Q,) u8 with the annotator's errors, and who gave each (Q,) u8; ``images`` maps image to its rows."""
    labels, annotator = labels.copy(), np.full(len(labels), ORACLE, dtype=np.uint8)
    if settings.error_rate and round_number >= settings.error_from_round:
        for image, rows in images.items():
            generator = stream(settings.seed, "annotator", round_number, image)
            wrong = rows[wrong_rows(labels[rows], settings.error_rate, generator)]
            labels[wrong] = wrong_classes(labels[wrong], classes, generator)
            annotator[wrong] = IN_ERROR
    return labels, annotator


def wrong_rows(labels: np.ndarray, rate: float, generator: np.random.Generator) -> np.ndarray:
    """Positions of the answers that go wrong: rate * n of them, a fraction rounded up or down at random.

    Drawn among the non-void answers; n counts all of an image's answers of the round (10 % of 10 is exactly one).
    """
    expected = rate * len(labels)
    count = int(expected + 1e-9)
    count += int(generator.random() < expected - count - 1e-9)
    candidates = np.flatnonzero(labels != VOID)
    return generator.choice(candidates, min(count, len(candidates)), replace=False)


def wrong_classes(labels: np.ndarray, classes: int, generator: np.random.Generator) -> np.ndarray:
    """For each label another class, uniform over the C - 1 others."""
    return ((labels + generator.integers(1, classes, len(labels))) % classes).astype(np.uint8)
