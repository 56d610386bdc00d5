"""A model's output for one image: classes, uncertainty, and the outputs of its support heads."""

import math
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from stages.artifacts.dataset import Dataset
from stages.artifacts.model import Model
from stages.networks.predictor import load_predictor
from stages.pixels.void import VOID
from stages.reporting.colours import Colour
from stages.reporting.pictures.curves import to_png
from stages.reporting.pictures.panels import Canvas, axes_of, class_legend, colourise, rgb_text
from stages.runtime.devices import choose_device
from stages.scoring.maps import score_terms
from stages.scoring.measuring import plain_measure
from stages.settings.score import NetworkScores

CHECKPOINT = "last"
SCORING = NetworkScores.load({"maturity": "pixel", "lossiness": True})
PANEL = 5.0  # inches wide, for large images too: four fit on a screen
BAR, PANEL_TITLE, REST = 0.7, 0.35, 1.0  # inches: a colour bar, a panel's title, the figure's title with the legends
# Okabe and Ito's blue, yellow and vermilion. Their mixtures differ in brightness and from blue to yellow, which is
# visible with any colour vision.
SIDES: dict[str, Colour] = {"early": (0, 114, 178), "middle": (240, 228, 66), "late": (213, 94, 0)}


class Heat(NamedTuple):
    """A map (H,W) f32 that is drawn from 0 to ``most``; None: up to its highest value."""

    title: str
    values: np.ndarray
    most: float | None = None


class Prediction(NamedTuple):
    """Predicted classes (H,W) u8 with void as class C and weights of the side classifiers (3,H,W) f32, of one image."""

    classes: np.ndarray
    mixing: np.ndarray | None
    heats: list[Heat]


def draw_model(model: Model, data: Dataset, image: str) -> bytes:
    """Image, predicted classes, truth if the dataset has it, entropy; with support heads, all terms of the score.

    The network gets the image at the size stored in the dataset. A network that learned void may predict it, but
    entropy and score are computed over the other classes.
    """
    pixels = data.rgb(image)
    truth = data.mask(image) if f"masks/{image}" in data else None
    found = predict(model, len(data.classes), data.image(image))
    number = 2 + (truth is not None) + (found.mixing is not None) + len(found.heats)
    figure, panels = figure_of(pixels, number)
    left = iter(panels)
    figure.suptitle(f"{image} ({data.splits[image]}): {model.path.name}, {CHECKPOINT} weights", fontsize=11)
    show_picture(next(left), pixels, "image")
    show_classes(next(left), found.classes, data, truth)
    present = [np.unique(found.classes)]
    if truth is not None:
        void = "; white: void" if (truth == VOID).any() else ""
        show_picture(next(left), colourise(truth, data.palette), f"ground truth{void}")
        present.append(np.unique(truth[truth != VOID]))
    if found.mixing is not None:
        show_mixing(next(left), found.mixing)
    for heat in found.heats:
        show_heat(figure, next(left), heat)
    class_legend(figure, data, np.unique(np.concatenate(present)))
    return to_png(figure)


def predict(model: Model, classes: int, pixels: np.ndarray) -> Prediction:
    """The network's output for an image (H,W,B) u8."""
    predictor, entropy = load_predictor(model, CHECKPOINT, choose_device("auto"), "auto"), plain_measure("entropy")
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(predictor.device)
    with torch.inference_mode():
        if not model.has_support:
            logits = predictor.logits(images)
            doubt = entropy(logits[:, :classes])
            return Prediction(decided(logits), None, [Heat("entropy", array(doubt))])
        logits, support = predictor.support_maps(images)
        terms = score_terms(logits[:, :classes], support, images, entropy, SCORING)
    assert terms.maturity is not None
    assert terms.factor is not None
    heats = [
        Heat("entropy", array(terms.measure)),
        Heat("maturity: divergence of the side classifiers", array(terms.maturity)),
        Heat("predicted lossiness, at edges and elsewhere", array(terms.factor.log()), 1.0),
        Heat("score: (entropy + maturity) x exp(lossiness)", array(terms.score)),
    ]
    return Prediction(decided(logits), array(support.mixing), heats)


def decided(logits: Tensor) -> np.ndarray:
    """(1,C,H,W) -> (H,W) u8; ties go to the first class."""
    return array(logits.max(1).indices).astype(np.uint8)


def array(maps: Tensor) -> np.ndarray:
    """The maps of the only image in a batch."""
    return maps[0].cpu().numpy()


def figure_of(pixels: np.ndarray, number: int) -> tuple[Figure, list[Axes]]:
    """A figure with ``number`` panels, in one row up to three and otherwise in two."""
    rows = 1 if number < 4 else 2
    columns = math.ceil(number / rows)
    height, width = pixels.shape[:2]
    size = (columns * (PANEL + BAR), rows * (PANEL * height / width + PANEL_TITLE) + REST)
    figure = Figure(figsize=size, layout="constrained")
    return figure, axes_of(figure, columns, rows)


def show_picture(axes: Axes, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture)
    axes.set_title(title, fontsize=9)


def show_classes(axes: Axes, classes: np.ndarray, data: Dataset, truth: np.ndarray | None) -> None:
    """Draws the predicted ``classes`` (H,W) u8, void striped, with the share that is right."""
    canvas = Canvas(colourise(classes, data.palette))
    canvas.paint_classes(classes, classes == len(data.classes), data.palette, 1)
    canvas.show(axes)
    title = "predicted classes"
    if truth is not None and (truth != VOID).any():
        title += f": {100 * (classes == truth)[truth != VOID].mean():.1f} % right"
    axes.set_title(title, fontsize=9)


def show_mixing(axes: Axes, mixing: np.ndarray) -> None:
    """Draws the colours of the side classifiers, mixed at each pixel by their weights (3,H,W) f32 with sum 1."""
    means = ", ".join(f"{mean:.2f}" for mean in mixing.mean((1, 2)).tolist())
    show_picture(axes, mixed(mixing), f"weights of the side classifiers; mean {means}")
    handles = [
        Patch(facecolor=rgb_text(colour), edgecolor="0.5", linewidth=0.5, label=f"{name} side classifier")
        for name, colour in SIDES.items()
    ]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, fontsize=7, frameon=False)


def mixed(mixing: np.ndarray) -> np.ndarray:
    """(3,H,W) f32 weights -> (H,W,3) u8."""
    colours = np.array(list(SIDES.values()), dtype=np.float32)
    return np.einsum("khw,kc->hwc", mixing, colours).round().clip(0, 255).astype(np.uint8)


def show_heat(figure: Figure, axes: Axes, heat: Heat) -> None:
    shown = axes.imshow(heat.values, cmap="inferno", vmin=0, vmax=heat.most)
    axes.set_title(f"{heat.title}; mean {heat.values.mean():.2f}", fontsize=9)
    figure.colorbar(shown, ax=axes, shrink=0.9, aspect=30, pad=0.02)
