"""Overlays of labels: the answers of a ledger, and the dense labels made from them."""

from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.opening import open_input
from stages.artifacts.pseudo_labels import PseudoLabels
from stages.pixels.void import VOID
from stages.reporting.pictures.curves import to_png
from stages.reporting.pictures.images import named_classes
from stages.reporting.pictures.panels import (
    BLACK,
    DARK_STRIPE,
    LIGHT_STRIPE,
    VOID_STRIPES,
    WHITE,
    YELLOW,
    Canvas,
    axes_of,
    class_legend,
    colourise,
    figure_for,
    panel_width,
    stripes,
)
from stages.reporting.pictures.regions import outline

SIEVED_STRIPES = (YELLOW, BLACK)
LABEL_SHARE = 0.85  # opacity of dense labels over the image
TITLE_LETTERS = 85  # of a line above the smallest panel


def draw_answers(ledger: Annotations, data: Dataset, image: str) -> bytes:
    """Answers in the colour of their class, white rims for the last round, crosses and stripes for void.

    A region with several classes has stripes of all of them. Regions labelled exactly show these labels; an image
    answered with its full mask shows the mask. The title names the classes of the whole image.
    """
    pixels = data.rgb(image, ledger.sizes[image])
    figure = figure_for(pixels)
    (axes,) = axes_of(figure, 1)
    labels = ledger.label_map(image)
    named = named_classes(ledger, image)
    of_image = f"; classes of the image: {named}" if named else ""
    if image in ledger.mask_ids:
        axes.imshow((pixels * 0.4 + colourise(labels, data.palette) * 0.6).astype(np.uint8), interpolation="nearest")
        axes.set_title(fill(f"{image}: full mask{of_image}", TITLE_LETTERS), fontsize=9)
        class_legend(figure, data, np.unique(labels))
        return to_png(figure)
    if not len(rows_below(ledger, image)):
        axes.imshow(pixels)
        axes.set_title(fill(f"{image}{of_image}", TITLE_LETTERS), fontsize=9)
        return to_png(figure)
    canvas = Canvas(pixels)
    present = paint_regions(canvas, ledger, data, image, labels)
    rim_rounds(canvas, ledger, image)
    canvas.show(axes)
    crossed = mark_pixels(axes, ledger, data, image)
    earlier = (ledger.answers.round[rows_below(ledger, image)] < ledger.next_round - 1).any()
    title = (
        f"{image}: {number_of_answers(ledger, image)}; white rim: round {ledger.next_round - 1}"
        + (", black rim: before" if earlier else "")
        + (", red cross: void" if crossed else "")
        + of_image
    )
    axes.set_title(fill(title, TITLE_LETTERS) if of_image else title, fontsize=9)
    class_legend(figure, data, present, several_legend(ledger, image))
    return to_png(figure)


def several_legend(ledger: Annotations, image: str) -> list[Patch]:
    """The legend entry for regions that have several classes, if there are any."""
    several = ledger.answers.class_sets[rows_below(ledger, image)].sum(1) > 1
    return [stripes((DARK_STRIPE, LIGHT_STRIPE), "several classes named")] if several.any() else []


def number_of_answers(ledger: Annotations, image: str) -> str:
    """Number of answers in ``image``; for regions with class sets also the number of classes they name."""
    rows = rows_below(ledger, image)
    named = int(ledger.answers.class_sets[rows].sum(dtype=np.int64))
    if not named:
        return counted(len(rows), "answer")
    return f"{counted(len(rows), 'region')}, {named} class{'es' * (named != 1)} named"


def rows_below(ledger: Annotations, image: str) -> np.ndarray:
    """Row numbers of the answers about ``image``, without those that name classes of the whole image."""
    rows = ledger.rows_of(image)
    return rows[ledger.answers.image_level[rows] == 0]


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def paint_regions(canvas: Canvas, ledger: Annotations, data: Dataset, image: str, labels: np.ndarray) -> np.ndarray:
    """Fills the answered regions with their labels (H,W) u8, stripes where they name several classes or void.

    Returns the classes (n,) that are drawn, void as class C.
    """
    sets, void = ledger.answers.class_sets.astype(bool), len(data.classes)
    owner = answered_regions(ledger, image)
    inside = owner >= 0
    if not inside.any():
        return np.unique(labels[labels != VOID])
    several = inside & (labels == VOID) & (sets.sum(1) > 1)[owner]
    single = np.where(inside & ~several & (labels == VOID), void, labels)
    canvas.fade(~inside)
    canvas.paint_classes(single, inside & (single < void), data.palette, 0.75)
    canvas.paint_classes(single, single == void, data.palette, 1)
    rows, place = np.unique(owner[several], return_inverse=True)
    striped = np.full(owner.shape, -1, dtype=np.int64)
    striped[several] = place
    canvas.bands(striped, sets[rows], data.palette, 0.75)
    return np.union1d(single[single != VOID], np.flatnonzero(sets[rows].any(0)))


def rim_rounds(canvas: Canvas, ledger: Annotations, image: str) -> None:
    """Rims of the answered regions: white for the last round, black for earlier ones."""
    owner = answered_regions(ledger, image)
    last = (owner >= 0) & (ledger.answers.round[owner] == ledger.next_round - 1)
    canvas.line(np.where(last, -1, owner), BLACK, 1.4, closed=True)
    canvas.line(np.where(last, owner, -1), BLACK, 2.2, closed=True)
    canvas.line(np.where(last, owner, -1), WHITE, 1.2, closed=True)


def answered_regions(ledger: Annotations, image: str) -> np.ndarray:
    """(H,W) i64 row of the last answer about a region at each pixel, -1 = none."""
    rows = ledger.rows_of(image)
    index, place = ledger.answers.areas.pixels(rows)
    owner = np.full(ledger.sizes[image], -1, dtype=np.int64)
    owner.ravel()[index] = rows[place]
    return owner


def mark_pixels(axes: Axes, ledger: Annotations, data: Dataset, image: str) -> bool:
    """Draws answered pixels as points in the colour of their class; True if one of them is void."""
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
    """Image, answers, the labels made from them, and the truth if the dataset has it."""
    ledger = open_input(pseudo, "annotations", Annotations)
    pixels = data.rgb(image, pseudo.sizes[image])
    truth = data.mask(image, pseudo.sizes[image]) if f"masks/{image}" in data else None
    panels, rows = (3, 1) if truth is None else (2, 2)
    figure = figure_for(pixels, panels, rows)
    first, second, third, *fourth = axes_of(figure, panels, rows)
    first.imshow(pixels)
    first.set_title(image, fontsize=9)
    ways = {"sieve": show_sieved, "neighbours": show_spread}
    show = ways.get(pseudo.attributes.get("method", "sieve"), show_disambiguated)
    for axes in fourth:
        assert truth is not None
        axes.imshow(colourise(truth, data.palette), interpolation="nearest")
        void = show is show_disambiguated and (truth == VOID).any()
        axes.set_title("ground truth; white: void" if void else "ground truth", fontsize=9)
    show(figure, (second, third), pseudo, ledger, data, image, truth)
    return to_png(figure)


def show_sieved(
    figure: Figure,
    panels: tuple[Axes, Axes],
    pseudo: PseudoLabels,
    ledger: Annotations,
    data: Dataset,
    image: str,
    truth: np.ndarray | None,
) -> None:
    """Labels before and after the sieve on two ``panels``; the legend also has the classes of ``truth`` (H,W) u8."""
    pixels, before, after = data.rgb(image, pseudo.sizes[image]), ledger.label_map(image), pseudo.label_map(image)
    labelled, sieved = before != VOID, (before != VOID) & (after == VOID)
    owner = answered_regions(ledger, image)
    for axes, labels in zip(panels, (before, after), strict=True):
        canvas = Canvas(pixels)
        canvas.fade(labels == VOID)
        canvas.paint(labels != VOID, colourise(labels, data.palette), LABEL_SHARE)
        if labels is after:
            canvas.hatch(sieved, SIEVED_STRIPES)
        canvas.line(owner, BLACK, 0.6)
        canvas.show(axes)
    panels[0].set_title(f"answers, before the sieve: {100 * labelled.mean():.1f} % of the image", fontsize=9)
    kept = f"{100 * (1 - sieved.sum() / labelled.sum()):.1f} % of them" if labelled.any() else "nothing to keep"
    panels[1].set_title(f"after the sieve ({pseudo.attributes['sieve']}): {kept} kept", fontsize=9)
    present = [before[labelled], after[after != VOID]]
    if truth is not None:
        present.append(truth.ravel())
    more = [stripes(SIEVED_STRIPES, "sieved out")] if sieved.any() else []
    class_legend(figure, data, np.unique(np.concatenate(present)), more)


def show_spread(
    figure: Figure,
    panels: tuple[Axes, Axes],
    pseudo: PseudoLabels,
    ledger: Annotations,
    data: Dataset,
    image: str,
    truth: np.ndarray | None,
) -> None:
    """Answers, if the image has any, and spread labels on two ``panels``; the legend has the classes of ``truth``."""
    pixels, void = data.rgb(image, pseudo.sizes[image]), len(data.classes)
    spread = pseudo.label_map(image, void)
    given = ledger.label_map(image, void) if image in ledger.sizes else np.full_like(spread, VOID)
    for axes, labels in zip(panels, (given, spread), strict=True):
        canvas = Canvas(pixels)
        canvas.fade(labels == VOID)
        canvas.paint_classes(labels, labels != VOID, data.palette, LABEL_SHARE)
        canvas.show(axes)
    mark_pixels(panels[0], ledger, data, image)
    panels[0].set_title(f"answers: {counted(len(rows_below(ledger, image)), 'answer')}", fontsize=9)
    panels[1].set_title(f"labels by neighbours: {100 * (spread != VOID).mean():.1f} % of the image", fontsize=9)
    present = [spread[spread != VOID]]
    if truth is not None:
        present.append(truth[truth != VOID])
    class_legend(figure, data, np.unique(np.concatenate(present)), [])


def show_disambiguated(
    figure: Figure,
    panels: tuple[Axes, Axes],
    pseudo: PseudoLabels,
    ledger: Annotations,
    data: Dataset,
    image: str,
    truth: np.ndarray | None,
) -> None:
    """Answers that name several classes and the labels made from them on two ``panels``.

    The queried regions are outlined; labels that spread beyond them are hatched with thin lines.
    """
    pixels, void = data.rgb(image, pseudo.sizes[image]), len(data.classes)
    labels = pseudo.label_map(image, void)
    labelled, asked, owner = labels != VOID, ledger.queried_area(image), answered_regions(ledger, image)
    beyond = labelled & ~asked & (ledger.label_map(image, void) == VOID)

    answers = Canvas(pixels)
    present = [paint_regions(answers, ledger, data, image, ledger.label_map(image)), labels[labelled]]
    outline(answers, owner, closed=True)
    answers.show(panels[0])
    dots = mark_prototypes(panels[0], pseudo, ledger, data, image)
    panels[0].set_title(
        f"answers: {number_of_answers(ledger, image)}" + ("; dots: prototypes" if dots else ""), fontsize=9
    )

    made = Canvas(pixels)
    made.fade(~labelled)
    made.paint_classes(labels, labelled, data.palette, LABEL_SHARE)
    made.thin(beyond)
    outline(made, owner, closed=True)
    made.show(panels[1])
    title = f"labels by {pseudo.attributes['method']}: {100 * labelled.mean():.1f} % of the image"
    if beyond.any():
        title += f", {100 * beyond.mean():.1f} % beyond the answers"
    panels[1].set_title(title, fontsize=9)

    if truth is not None:
        present.append(truth[truth != VOID])
    more = several_legend(ledger, image)
    if beyond.any():
        more.append(stripes((WHITE, DARK_STRIPE), "spread", hatch="\\\\\\\\"))
    class_legend(figure, data, np.unique(np.concatenate(present)), more)


def mark_prototypes(axes: Axes, pseudo: PseudoLabels, ledger: Annotations, data: Dataset, image: str) -> bool:
    """Draws the prototype pixel of each class of each region as a dot in the colour of the class; False if none."""
    if "prototypes" not in pseudo:
        return False
    pixels = data.rgb(image, pseudo.sizes[image])
    rows = np.flatnonzero(np.isin(pseudo.read("prototypes/answer"), ledger.rows_of(image)))
    classes, y, x = (pseudo.read(f"prototypes/{name}")[rows] for name in ("class", "y", "x"))
    colours = np.concatenate([data.palette, np.array([VOID_STRIPES[0]])])[classes] / 255
    side = np.sqrt(ledger.answers.areas.sizes()[ledger.rows_of(image)].mean())
    points = side / pixels.shape[1] * panel_width(pixels) * 72
    across = np.clip(points / 3, 5, 7.5)  # a third of a region, but neither invisible nor too large
    axes.scatter(x, y, s=across**2, c="black", linewidths=0)
    axes.scatter(x, y, s=(0.75 * across) ** 2, c=colours, edgecolors="white", linewidths=across / 7)
    return len(rows) > 0
