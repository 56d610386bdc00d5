"""Curves as PNG: a training over epochs, runs over cost."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stages.datasets.encode import png_bytes
from stages.reporting.equal_cost import Curve

# Okabe and Ito's colours, distinguishable with any colour vision
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DOTS = 120  # per inch
MARKERS = "osD^vPX"


def to_png(figure: Figure) -> bytes:
    figure.set_dpi(DOTS)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # once, and not once more for its layout as `savefig` does
    return png_bytes(np.asarray(canvas.buffer_rgba())[..., :3])


def plain(axes: Axes) -> Axes:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


# History columns of a training with a discriminator -> names in the legend
BALANCE = {
    "discriminator_real": "score of masks",
    "discriminator_fake": "score of predictions",
    "accepted": "predictions accepted",
}


def training_curve(history: Sequence[Mapping[str, float]], criterion: str = "miou") -> bytes:
    """Loss and the validation's ``criterion`` over epochs; ``history`` has a row per epoch.

    For a training with a discriminator, also its scores of masks and predictions and the share it accepts.
    """
    adversarial = bool(history) and all(name in history[0] for name in BALANCE)
    figure = Figure(figsize=(7, 6.5 if adversarial else 4), layout="constrained")
    axes, *below = figure.subplots(1 + adversarial, squeeze=False, height_ratios=[3, 2][: 1 + adversarial]).ravel()
    plain(axes)
    epochs = [row["epoch"] for row in history]
    axes.plot(epochs, [row["loss"] for row in history], color=LINE_COLOURS[1], label="training loss")
    (below or [axes])[-1].set_xlabel("epoch")
    axes.set_ylabel("training loss", color=LINE_COLOURS[1])
    axes.set_ylim(bottom=0)
    validated = [row for row in history if f"val_{criterion}" in row]
    if validated:
        other = axes.twinx()
        other.spines["top"].set_visible(False)
        share = criterion == "miou"  # everything else is a loss
        values = [row[f"val_{criterion}"] * (100 if share else 1) for row in validated]
        other.plot([row["epoch"] for row in validated], values, "o-", ms=3, color=LINE_COLOURS[0])
        best = (max if share else min)(range(len(values)), key=values.__getitem__)
        other.plot(validated[best]["epoch"], values[best], "*", ms=14, color=LINE_COLOURS[0])
        other.set_ylabel("validation mIoU (%)" if share else f"validation {criterion}", color=LINE_COLOURS[0])
        other.set_ylim(0, 100 if share else None)
        digits = 1 if share else 3
        axes.set_title(
            f"best {values[best]:.{digits}f} at epoch {validated[best]['epoch']:.0f}, last {values[-1]:.{digits}f}",
            fontsize=10,
        )
    for panel in below:
        draw_balance(panel, history)
    return to_png(figure)


def draw_balance(axes: Axes, history: Sequence[Mapping[str, float]]) -> None:
    """The discriminator's mean scores of masks and predictions, and the share of predictions it accepts, over epochs.

    If both scores are at the dotted line, it cannot distinguish masks from predictions. If they are at 1 and 0, it
    always can, and nothing is learnt from what it accepts.
    """
    plain(axes)
    epochs = [row["epoch"] for row in history]
    axes.axhline(0.5, color="0.5", ls=":", lw=1)
    for (name, label), colour, marker in zip(BALANCE.items(), LINE_COLOURS[2:5], MARKERS, strict=False):
        axes.plot(epochs, [row.get(name, math.nan) for row in history], f"{marker}-", ms=3, color=colour, label=label)
    axes.set_ylabel("discriminator")
    axes.set_ylim(-0.03, 1.03)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize=9)


def run_curves(
    runs: Mapping[str, tuple[Curve, Curve | None]], full: tuple[str, float] | None, unit: str, title: str
) -> bytes:
    """mIoU (%) over cost of several recipes, with full supervision as a horizontal line.

    ``runs`` maps a name to the mean over seeds and its deviation, drawn as a band; None for a single run.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = plain(figure.add_subplot())
    for number, (name, (mean, deviation)) in enumerate(runs.items()):
        colour, marker = LINE_COLOURS[number % len(LINE_COLOURS)], MARKERS[number % len(MARKERS)]
        axes.plot(mean.cost, mean.value, label=name, color=colour, marker=marker)
        if deviation is not None:
            band = mean.value - deviation.value, mean.value + deviation.value
            axes.fill_between(mean.cost, *band, color=colour, alpha=0.16, lw=0)
    if full is not None:
        axes.axhline(full[1], color="0.3", ls="--", lw=1, label=f"{full[0]} {full[1]:.1f}")
        axes.axhline(0.95 * full[1], color="0.6", ls=":", lw=1, label=f"95 % of it {0.95 * full[1]:.1f}")
    axes.set_xlabel(unit)
    axes.set_ylabel("mIoU (%)")
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False)
    return to_png(figure)
