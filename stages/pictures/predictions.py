"""What a model says about one image: classes, uncertainty, and what its support heads make of it."""

from dataclasses import dataclass, field

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from stages.artifacts.dataset import VOID, Dataset
from stages.artifacts.model import Model
from stages.inference.devices import choose_device
from stages.inference.edges import edge_mask
from stages.inference.predictor import load_predictor
from stages.pictures.curves import to_png
from stages.pictures.panels import Canvas, Colour, class_legend, colourise
from stages.scoring.maps import score_terms
from stages.settings.stages import ScoreSettings

CHECKPOINT = "last"
SCORING = ScoreSettings(measure="entropy", maturity="pixel", lossiness=True)
PANEL = 5.0  # inches wide: four of them and their colour bars fill a screen
BAR, HEADING, REST = 0.8, 0.3, 0.9  # inches beside a panel, above it, and in all for the title and the legend
# Of the side classifiers: blue, yellow and vermilion of Okabe and Ito. They and what is mixed of them differ in
# brightness and from blue to yellow, which any colour vision tells apart.
SIDES: dict[str, Colour] = {"early": (0, 114, 178), "middle": (240, 228, 66), "late": (213, 94, 0)}


@dataclass(frozen=True)
class Prediction:
    """Of one image: predicted classes (H,W) u8, void as class C; heat maps (H,W) f32 by title with what each ends at.

    ``mixing`` (3,H,W) f32 are the weights of the side classifiers, None without support heads.
    """

    classes: np.ndarray
    heats: dict[str, tuple[np.ndarray, float | None]] = field(default_factory=dict)
    mixing: np.ndarray | None = None


def draw_model(model: Model, data: Dataset, image: str) -> bytes:
    """Image, predicted classes, truth where the dataset has it, entropy; with support heads all that makes the score.

    The network sees the image in its own size. A void output is predicted like a class, but for the entropy and the
    score it is left out.
    """
    pixels = data.image(image)
    truth = data.mask(image) if f"masks/{image}" in data else None
    predicted = predict(model, data, pixels)
    panels = 2 + (truth is not None) + (predicted.mixing is not None) + len(predicted.heats)
    columns = panels if panels < 4 else 2 if panels == 4 else 4
    figure, found = grid_of_panels(pixels, panels, columns)
    figure.suptitle(
        f"{image} ({data.splits[image]}) by {model.path.name}, {CHECKPOINT} weights"
        f" (epoch {model.header.counts['epochs']})",
        fontsize=11,
    )
