"""Pseudo-labels that a discriminator accepted, beside those it refused."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stages.artifacts.dataset import Dataset
from stages.artifacts.model import Model
from stages.artifacts.opening import open_input
from stages.artifacts.pseudo_labels import PseudoLabels
from stages.pixels.void import VOID
from stages.reporting.pictures.curves import to_png
from stages.reporting.pictures.panels import Canvas, axes_of, class_legend, colourise, figure_for
from stages.reporting.pictures.sheet import Cell, Section, draw_sheet, spread_out
from stages.runtime.errors import BadInput

MOST = 12  # images on a sheet, accepted and refused each
BATCH = 4  # images per forward pass


class Judged(NamedTuple):
    """An image with its score (NaN: it has a full mask) and the result.

    labels (H,W) u8, void as class C: the answered, accepted or refused labels; None if they are no longer available.
    truth (H,W) u8 if the dataset has it.
    """

    pixels: np.ndarray
    labels: np.ndarray | None
    truth: np.ndarray | None
    score: float

    @property
    def right(self) -> float | None:
        """Share of the labels that are right; None if unknown."""
        if self.labels is None or self.truth is None:
            return None
        known = self.truth != VOID
        return float((self.labels == self.truth)[known].mean()) if known.any() else None

    @property
    def classes(self) -> np.ndarray:
        """The classes (n,) u8 that are drawn, without 255."""
        found = np.unique(np.concatenate([each.ravel() for each in (self.labels, self.truth) if each is not None]))
        return found[found != VOID]


def draw_gated(pseudo: PseudoLabels, data: Dataset, image: str | None) -> bytes:
    """Image, its accepted or refused labels, and the truth if there is a mask; without ``image`` a sheet of many.

    The file contains the accepted labels. Refused ones are predicted again by the recorded model; if that is missing,
    the faded image is shown instead.
    """
    if image is None:
        return draw_many(pseudo, data)
    (judged,) = judge(pseudo, data, [pseudo.ids.index(image)])
    pictures = pictures_of(judged, data)
    figure = figure_for(judged.pixels, len(pictures))
    title = "full mask" if math.isnan(judged.score) else verdict(pseudo, judged)
    truth = "ground truth; white: void" if judged.truth is not None and (judged.truth == VOID).any() else "ground truth"
    for axes, picture, told in zip(axes_of(figure, len(pictures)), pictures, (image, title, truth), strict=False):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(told, fontsize=9)
    class_legend(figure, data, judged.classes)
    return to_png(figure)


def verdict(pseudo: PseudoLabels, judged: Judged) -> str:
    """Whether the prediction was accepted, its score and its accuracy."""
    gate = pseudo.header.settings["gate"]
    found = f"{'accepted' if judged.score > gate else 'refused'}: z = {judged.score:.4f} (gate {gate:g})"
    if judged.labels is None:
        return f"{found}; the model that predicted it is missing"
    return found if judged.right is None else f"{found}, {100 * judged.right:.1f} % right"


def draw_many(pseudo: PseudoLabels, data: Dataset) -> bytes:
    """Accepted and refused images by descending score; of many, those at even steps of the rank from first to last."""
    scores, accepted = pseudo.read("images/score"), pseudo.read("images/accepted").astype(bool)
    falling = np.argsort(-scores, kind="stable")  # NaN last
    falling = falling[~np.isnan(scores[falling])]
    if not len(falling):
        raise BadInput(f"{pseudo.path} judged no prediction: each image has a full mask. Pass --image.")
    gate = pseudo.header.settings["gate"]
    sections, present, pictures = [], [np.zeros(0, dtype=np.uint8)], 2
    for name, rows in (
        (f"accepted (z > {gate:g})", falling[accepted[falling]]),
        (f"refused (z up to {gate:g})", falling[~accepted[falling]]),
    ):
        cells, shares = [], []
        shown = rows[spread_out(len(rows), MOST)]
        for judged, image in zip(judge(pseudo, data, shown.tolist()), shown.tolist(), strict=True):
            share = judged.right
            right = "" if share is None else f", {100 * share:.1f} % right"
            cells.append(Cell((pseudo.ids[image], f"z = {judged.score:.4f}{right}"), pictures_of(judged, data)))
            present.append(judged.classes)
            pictures = max(pictures, len(cells[-1].pictures))
            shares += [] if share is None else [share]
        told = f"{name}: {len(rows)} images, {len(cells)} shown by descending score"
        mean = f", {100 * np.mean(shares):.1f} % right on average" if shares else ""
        sections.append(Section(told + mean, cells))
    what = "image, prediction, ground truth (white: void)" if pictures == 3 else "image, prediction"
    title = f"Predictions judged by the discriminator; each: {what}"
    return draw_sheet(title, sections, 3 if pictures == 3 else 4, data, np.unique(np.concatenate(present)))


def pictures_of(judged: Judged, data: Dataset) -> list[np.ndarray]:
    """Image, labels in their colours (if unknown, the faded image), and the truth if there is a mask."""
    if judged.labels is None:
        canvas = Canvas(judged.pixels)
        canvas.fade(np.ones(canvas.size, dtype=bool))
        labels = canvas.picture
    else:
        labels = colourise(judged.labels, data.palette)
    return [judged.pixels, labels, *([] if judged.truth is None else [colourise(judged.truth, data.palette)])]


def judge(pseudo: PseudoLabels, data: Dataset, rows: Sequence[int]) -> list[Judged]:
    """What is known about the images ``rows`` of the pseudo-labels."""
    scores, accepted = pseudo.read("images/score"), pseudo.read("images/accepted").astype(bool)
    refused = [pseudo.ids[row] for row in rows if not accepted[row] and not math.isnan(scores[row])]
    predicted = predict_again(pseudo, data, refused)
    found = []
    for row in rows:
        image = pseudo.ids[row]
        labels = predicted.get(image) if image in refused else pseudo.label_map(image, len(data.classes))
        truth = data.mask(image) if f"masks/{image}" in data else None
        found.append(Judged(data.rgb(image), labels, truth, float(scores[row])))
    return found


def predict_again(pseudo: PseudoLabels, data: Dataset, images: Sequence[str]) -> dict[str, np.ndarray]:
    """Predictions of the recorded model, as in `pseudo-label`: (H,W) u8 per image; empty if the model is missing."""
    if not images:
        return {}
    try:
        model = open_input(pseudo, "model", Model)
    except BadInput:
        return {}
    import torch.nn.functional as F

    from stages.networks.predictions import load_image_predictor
    from stages.settings.common import NetworkUse, PredictionSettings

    settings, precision = pseudo.header.settings, pseudo.header.versions.get("precision", "auto")
    use = NetworkUse.load({"precision": precision})
    seen = PredictionSettings.load({"input_scale": settings["input_scale"]})
    predictor = load_image_predictor(model, settings["checkpoint"], use, seen, data)
    found = {}
    for image, logits in predictor.of_images(data, images, BATCH):
        if logits.shape[-2:] != data.sizes[image]:
            logits = F.interpolate(logits[None], data.sizes[image], mode="bilinear")[0]
        found[image] = logits.argmax(0).cpu().numpy().astype(np.uint8)
    return found
