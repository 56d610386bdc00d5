"""What a model would answer: computed beside the page, so that nobody waits for it."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.answering.questions import Questions
from stages.artifacts.model import Model, require_same_classes
from stages.pixels.grids import read_place
from stages.runtime.errors import BadInput

if TYPE_CHECKING:
    from stages.networks.predictor import Predictor

NAMED = ("class", "dominant")  # answers that a segmentation model can suggest


@dataclass(frozen=True)
class Suggestion:
    """The likeliest class of the queried pixels, and its mean probability in percent."""

    label: int
    percent: int


class Suggestions:
    """The suggestions of a model for ``questions``, as far as they are computed."""

    def __init__(self, model: Model, questions: Questions):
        self.model, self.questions = model, questions
        self.found: dict[int, Suggestion] = {}
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.compute, name="suggestions", daemon=True)

    def of(self, query: int) -> dict[str, Any] | None:
        """The suggestion for a query, for the page; None if there is none yet."""
        found = self.found.get(query)
        return None if found is None else {"label": found.label, "percent": found.percent}

    def compute(self) -> None:
        """Predicts image by image, in the order in which they are asked."""
        from stages.networks.predictor import load_predictor
        from stages.runtime.devices import choose_device

        predictor = load_predictor(self.model, "last", choose_device("auto"), "auto")
        for image in self.questions.rows:
            if self.stopped.is_set():
                return
            self.found |= suggested(predictor, self.questions, image)


def load_suggestions(path: Path, questions: Questions) -> Suggestions:
    """The suggestions of the model in ``path``; BadInput if it cannot suggest answers to ``questions``."""
    if questions.queries.answer not in NAMED:
        raise BadInput(f"{questions.queries.path} does not ask for one class of a pixel or region. Omit --suggest.")
    model = Model(path)
    require_same_classes(model, questions.data)
    return Suggestions(model, questions)


def suggested(predictor: "Predictor", questions: Questions, image: str) -> dict[int, Suggestion]:
    """The suggestion for each query of an image."""
    import torch

    pixels = torch.from_numpy(np.array(questions.data.image(image))).permute(2, 0, 1)[None]
    probabilities = predictor.probabilities(pixels)[0, : len(questions.classes)].cpu().numpy()
    size, grid, rows = questions.data.sizes[image], questions.queries.sizes[image], questions.rows[image]
    index, owner = questions.areas(image).pixels(np.arange(len(rows)))
    y, x = (read_place(place, grid[axis], size[axis]) for axis, place in enumerate(np.divmod(index, grid[1])))
    below = probabilities[:, y, x]
    sums = np.stack([np.bincount(owner, weights=each, minlength=len(rows)) for each in below])
    means = sums / np.bincount(owner, minlength=len(rows))
    best = means.argmax(0)
    return {
        int(query): Suggestion(int(label), round(100 * float(mean)))
        for query, label, mean in zip(rows, best, means.max(0), strict=True)
    }
