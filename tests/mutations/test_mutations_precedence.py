"""Guards the precedence of exact masks over answers about regions, whichever came first.

The simulated annotator names a wrong class for each region, so region answers and exact masks contradict each other
nearly everywhere; void in a full mask must erase what a region answer says there.
"""

from pathlib import Path

import numpy as np
import pytest
from worlds import (
    AnnotateSettings,
    ScoreSettings,
    SelectSettings,
    random_masks,
    region_round,
    write_dataset,
    write_superpixels,
)

from stages.artifacts.annotations import Annotations
from stages.commands import annotate_simulate, score, select
from stages.pixels.void import VOID

IMAGES = ["a", "b", "c"]
CLASSES = 4
TRUTH = random_masks(IMAGES, (32, 32), CLASSES, void=0.2)
WRONG = {"error_rate": 1.0, "error_from_round": 0, "void_policy": "exclude"}  # each region gets a class
MASKED = 2  # images that get a full mask


class Made:
    """A ledger that grows by one round of answers at a time."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.dataset = write_dataset(folder / "d.h5", TRUTH, CLASSES)
        self.superpixels = write_superpixels(folder, self.dataset)
        self.ledger: Path | None = None
        self.number = 0

    def regions(self, answer: str, budget: int, wrong: bool) -> None:
        self.ledger = region_round(
            self.folder,
            self.dataset,
            self.number,
            self.superpixels,
            self.ledger,
            select_settings={"answer": answer, "budget": budget, "exclude_queried": 1.0},
            annotate_settings=WRONG if wrong else {},
        )
        self.number += 1

    def wrong_regions(self) -> None:
        """A wrong class for all regions."""
        self.regions("dominant", 0, wrong=True)

    def exact_regions(self) -> None:
        """Exact labels of some regions."""
        self.regions("precise", 12, wrong=False)

    def masks(self) -> None:
        """Full masks of some images."""
        path, number = self.folder, self.number
        scored = ScoreSettings(measure="random", unit="image", seed=number)
        scores = score.run(self.dataset, path / f"scores{number}.h5", scored)
        chosen = SelectSettings(rule="top", budget=MASKED, image_answer="mask")
        queries = select.run(self.dataset, scores, path / f"queries{number}.h5", chosen, self.ledger)
        output = path / f"ledger{number}.h5"
        self.ledger = annotate_simulate.run(self.dataset, queries, output, AnnotateSettings(), self.ledger)
        self.number += 1


def sparse_map(ledger: Annotations, image: str) -> np.ndarray:
    """What the answers that name one class of a region say about ``image``, later ones over earlier ones."""
    answers, labels = ledger.answers, np.full((32, 32), VOID, np.uint8)
    rows = ledger.rows_of(image)
    rows = rows[(answers.region[rows] >= 0) & (answers.label[rows] != VOID)]
    index, owner = answers.areas.pixels(rows)
    labels.ravel()[index] = answers.label[rows][owner]
    return labels


def exact_area(ledger: Annotations, image: str) -> np.ndarray:
    """(H,W) bool: inside regions of ``image`` that were labelled exactly."""
    answers, inside = ledger.answers, np.zeros((32, 32), bool)
    rows = ledger.rows_of(image)
    rows = rows[(answers.region[rows] >= 0) & (answers.label[rows] == VOID)]
    inside.ravel()[answers.areas.pixels(rows)[0]] = True
    return inside


@pytest.mark.parametrize(
    "rounds",
    [("wrong_regions", "masks"), ("masks", "wrong_regions"), ("wrong_regions", "masks", "wrong_regions")],
    ids=["masks last", "masks first", "masks between"],
)
def test_full_masks_hold_over_answers_about_regions(tmp_path: Path, rounds: tuple[str, ...]) -> None:
    made = Made(tmp_path)
    for name in rounds:
        getattr(made, name)()
    with Annotations(made.ledger) as ledger:
        assert len(ledger.mask_ids) == MASKED
        for image in IMAGES:
            truth, sparse = TRUTH[image], sparse_map(ledger, image)
            assert (sparse != VOID).all()  # also where the mask says void
            assert (sparse != truth).mean() > 0.5
            masked = image in ledger.mask_ids
            np.testing.assert_array_equal(ledger.label_map(image), truth if masked else sparse)
            # void as a class of its own
            known = np.where(truth == VOID, CLASSES, truth)
            np.testing.assert_array_equal(ledger.label_map(image, CLASSES), known if masked else sparse)
            # the same over labels from elsewhere, such as pseudo-labels
            np.testing.assert_array_equal(ledger.painted_exactly(image, sparse.copy()), truth if masked else sparse)


@pytest.mark.parametrize(
    "rounds",
    [
        ("wrong_regions", "exact_regions"),
        ("exact_regions", "wrong_regions"),
        ("wrong_regions", "exact_regions", "wrong_regions"),
    ],
    ids=["exact last", "exact first", "exact between"],
)
def test_exact_regions_hold_over_answers_with_one_class(tmp_path: Path, rounds: tuple[str, ...]) -> None:
    made = Made(tmp_path)
    for name in rounds:
        getattr(made, name)()
    contradicted = 0
    with Annotations(made.ledger) as ledger:
        for image in IMAGES:
            truth, sparse, inside = TRUTH[image], sparse_map(ledger, image), exact_area(ledger, image)
            assert (sparse != VOID).all()
            exact = inside & (truth != VOID)
            contradicted += int((exact & (sparse != truth)).sum())
            for labels in (ledger.label_map(image), ledger.painted_exactly(image, sparse.copy())):
                np.testing.assert_array_equal(labels[exact], truth[exact])
                # exact labels of some regions say nothing about the others
                np.testing.assert_array_equal(labels[~inside], sparse[~inside])
    assert contradicted > 100
