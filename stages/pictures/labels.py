"""Pictures of labels: the answers of a ledger, and what the sieve leaves of them."""

import numpy as np
from matplotlib.axes import Axes

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import VOID, Dataset
from stages.artifacts.opening import open_input
from stages.artifacts.pseudo_labels import PseudoLabels
from stages.pictures.curves import to_png
from stages.pictures.panels import (
    BLACK,
    VOID_STRIPES,
    WHITE,
    YELLOW,
    Canvas,
    axes_of,
    class_legend,
    colourise,
    figure_for,
    stripes,
)

SIEVED_STRIPES = (YELLOW, BLACK)


def draw_answers(ledger: Annotations, data: Dataset, image: str) -> bytes:
    """Answers in the colour of their class, white rims for the last round, crosses and stripes for void.

    Regions labelled precisely show their exact labels; an image answered with its full mask shows that.
    """
    pixels = data.image(image)
    figure = figure_for(pixels)
    (axes,) = axes_of(figure, 1)
    labels = ledger.label_map(image)
    if image in ledger.mask_ids:
        axes.imshow((pixels * 0.4 + colourise(labels, data.palette) * 0.6).astype(np.uint8), interpolation="nearest")
        axes.set_title(f"{image}: full mask", fontsize=9)
        class_legend(figure, data, np.unique(labels))
        return to_png(figure)
    canvas = Canvas(pixels)
    void = paint_regions(canvas, ledger, data, image, labels)
    canvas.show(axes)
    crossed = mark_pixels(axes, ledger, data, image)
    rows = ledger.rows_of(image)
    earlier = (ledger.answers.round[rows] < ledger.next_round - 1).any()
    axes.set_title(
        f"{image}: {len(rows)} answer{'s' * (len(rows) != 1)}; white rim: round {ledger.next_round - 1}"
        + (", black rim: before" if earlier else "")
        + (", red cross: void" if crossed else ""),
        fontsize=9,
    )
    present = np.unique(labels[labels != VOID])
    class_legend(figure, data, present, [stripes(VOID_STRIPES, "void")] if void else [])
    return to_png(figure)


def paint_regions(canvas: Canvas, ledger: Annotations, data: Dataset, image: str, labels: np.ndarray) -> bool:
    """Fills the answered regions with their labels (H,W) u8; True where one of them has void pixels."""
    owner = answered_regions(ledger, image)
    inside = owner >= 0
    if not inside.any():
        return False
    void = inside & (labels == VOID)
    canvas.fade(~inside)
    canvas.paint(inside & ~void, colourise(labels, data.palette), 0.75)
    canvas.hatch(void, VOID_STRIPES)
    last = inside & (ledger.answers.round[owner] == ledger.next_round - 1)
    canvas.line(np.where(last, -1, owner), BLACK, 1.4, closed=True)
    canvas.line(np.where(last, owner, -1), BLACK, 2.2, closed=True)
    canvas.line(np.where(last, owner, -1), WHITE, 1.2, closed=True)
    return bool(void.any())


def answered_regions(ledger: Annotations, image: str) -> np.ndarray:
    """(H,W) i64 row of the last answer about a region at each pixel, -1 = none."""
    rows = ledger.rows_of(image)
    index, place = ledger.answers.areas.pixels(rows)
    owner = np.full(ledger.sizes[image], -1, dtype=np.int64)
    owner.ravel()[index] = rows[place]
    return owner


def mark_pixels(axes: Axes, ledger: Annotations, data: Dataset, image: str) -> bool:
    """Answered pixels as points in the colour of their class; True when one of them is void."""
    answers, rows = ledger.answers, ledger.rows_of(image)
    rows = rows[answers.y[rows] >= 0]
    labels, last = answers.label[rows], answers.round[rows] == ledger.next_round - 1
    for chosen, rim in ((~last, "black"), (last, "white")):
        shown = chosen & (labels != VOID)
        axes.scatter(
            answers.x[rows][shown],
            answers.y[rows][shown],
            s=42,
            c=data.palette[labels[shown]] / 255,
            edgecolors=rim,
            linewidths=1.4,
        )
    void = labels == VOID
    axes.scatter(answers.x[rows][void], answers.y[rows][void], s=40, c="red", marker="x")
    return bool(void.any())


def draw_pseudo_labels(pseudo: PseudoLabels, data: Dataset, image: str) -> bytes:
    """Image, labels before the sieve and after it, and the truth where the dataset has it."""
    ledger = open_input(pseudo, "annotations", Annotations)
    pixels, before, after = data.image(image), ledger.label_map(image), pseudo.label_map(image)
    truth = data.mask(image) if f"masks/{image}" in data else None
    panels, rows = (3, 1) if truth is None else (2, 2)
    figure = figure_for(pixels, panels, rows)
    first, second, third, *fourth = axes_of(figure, panels, rows)
    first.imshow(pixels)
    first.set_title(image, fontsize=9)
    labelled, sieved = before != VOID, (before != VOID) & (after == VOID)
    owner = answered_regions(ledger, image)
    for axes, labels in ((second, before), (third, after)):
        canvas = Canvas(pixels)
        canvas.fade(labels == VOID)
        canvas.paint(labels != VOID, colourise(labels, data.palette), 0.85)
        if axes is third:
            canvas.hatch(sieved, SIEVED_STRIPES)
        canvas.line(owner, BLACK, 0.6)
        canvas.show(axes)
    second.set_title(f"answers, before the sieve: {100 * labelled.mean():.1f} % of the image", fontsize=9)
    kept = f"{100 * (1 - sieved.sum() / labelled.sum()):.1f} % of them" if labelled.any() else "nothing to keep"
    third.set_title(f"after the sieve ({pseudo.attributes['sieve']}): {kept} kept", fontsize=9)
    present = [before[labelled], after[after != VOID]]
    for axes in fourth:
        assert truth is not None
        axes.imshow(colourise(truth, data.palette), interpolation="nearest")
        axes.set_title("ground truth", fontsize=9)
        present.append(truth.ravel())
    more = [stripes(SIEVED_STRIPES, "sieved out")] if sieved.any() else []
    class_legend(figure, data, np.unique(np.concatenate(present)), more)
    return to_png(figure)
