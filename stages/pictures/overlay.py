"""What an artifact holds for one image, drawn over it."""

import numpy as np
from matplotlib.figure import Figure

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import VOID, Dataset
from stages.artifacts.hdf5 import Artifact
from stages.artifacts.queries import Queries
from stages.artifacts.scores import Scores
from stages.errors import BadInput
from stages.pictures.curves import to_png


def colourise(mask: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """(H,W) u8 class map -> (H,W,3) u8; void is white. ``palette`` is (C,3) u8."""
    table = np.full((256, 3), 255, dtype=np.uint8)
    table[: len(palette)] = palette
    return table[mask]


def figure_for(image: np.ndarray, panels: int = 1) -> Figure:
    height, width = image.shape[:2]
    side = 6.0
    return Figure(figsize=(panels * side, side * height / width + 0.9), layout="constrained")


def draw(artifact: Artifact, data: Dataset | None, image: str | None) -> bytes:
    """PNG bytes of what ``artifact`` holds for ``image`` (default: its first one that has something to show).

    Datasets draw the mask beside the image, scores a heat map, queries and annotations their points.
    """
    if isinstance(artifact, Dataset):
        return draw_dataset(artifact, picked(image, artifact.all_ids))
    if data is None:
        raise BadInput(f"Drawing {artifact.path} needs the images too; give --dataset.")
    match artifact:
        case Scores():
            if artifact.unit != "pixel":
                raise BadInput(f"{artifact.path} scores whole images; there is nothing to draw for one of them.")
            return draw_scores(artifact, data, picked(image, artifact.ids))
        case Queries():
            asked = [artifact.ids[index] for index in np.unique(artifact.image)]
            return draw_queries(artifact, data, picked(image, asked))
        case Annotations():
            answered = [artifact.ids[index] for index in np.unique(artifact.answers.image)]
            return draw_answers(artifact, data, picked(image, answered))
        case _:
            raise BadInput(f"{artifact.path} holds {artifact.header.kind}, which has no picture per image.")


def picked(image: str | None, ids: list[str]) -> str:
    """``image`` if it is among ``ids``, the first one for None."""
    if not ids:
        raise BadInput("The artifact holds nothing for any image.")
    if image is None:
        return ids[0]
    if image not in ids:
        raise BadInput(f"The artifact holds nothing for image {image!r}; it has for example {', '.join(ids[:3])}.")
    return image


def draw_dataset(data: Dataset, image: str) -> bytes:
    pixels = data.image(image)
    has_mask = f"masks/{image}" in data
    figure = figure_for(pixels, 2 if has_mask else 1)
    panels = figure.subplots(1, 2 if has_mask else 1, squeeze=False)[0]
    panels[0].imshow(pixels)
    panels[0].set_title(f"{image} ({data.splits[image]})", fontsize=9)
    if has_mask:
        mask = data.mask(image)
        panels[1].imshow(colourise(mask, data.palette), interpolation="nearest")
        class_legend(figure, data, np.unique(mask))
    for panel in panels:
        panel.set_axis_off()
    return to_png(figure)


def class_legend(figure: Figure, data: Dataset, present: np.ndarray) -> None:
    """The classes that occur, below the picture."""
    from matplotlib.patches import Patch

    handles = [Patch(color=data.palette[index] / 255, label=data.classes[index]) for index in present if index != VOID]
    if VOID in present:
        handles.append(Patch(facecolor="white", edgecolor="0.5", label="void"))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=7, frameon=False)


def draw_scores(scores: Scores, data: Dataset, image: str) -> bytes:
    pixels = data.image(image)
    figure = figure_for(pixels, 2)
    left, right = figure.subplots(1, 2)
    left.imshow(pixels)
    left.set_title(image, fontsize=9)
    heat = right.imshow(scores.map(image), cmap="inferno")
    right.set_title(f"{scores.attributes['measure']}: bright is asked sooner", fontsize=9)
    figure.colorbar(heat, ax=right, shrink=0.75)
    left.set_axis_off()
    right.set_axis_off()
    return to_png(figure)


def draw_queries(queries: Queries, data: Dataset, image: str) -> bytes:
    pixels = data.image(image)
    figure = figure_for(pixels)
    axes = figure.subplots()
    axes.imshow(pixels)
    rows = np.flatnonzero(queries.image == queries.ids.index(image))
    title = f"{image}: {queries.attributes['unit']} queries of round {queries.attributes['round']}"
    if queries.attributes["unit"] == "pixel":
        axes.scatter(queries.x[rows], queries.y[rows], s=40, c="#E69F00", edgecolors="white", linewidths=1.2)
        title += f" ({len(rows)})"
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()
    return to_png(figure)


def draw_answers(ledger: Annotations, data: Dataset, image: str) -> bytes:
    """Answered pixels in the colour of their class, rings for the last round, crosses for void; or the full mask."""
    pixels = data.image(image)
    figure = figure_for(pixels)
    axes = figure.subplots()
    if image in ledger.mask_ids():
        mask = ledger.label_map(image)
        axes.imshow((pixels * 0.4 + colourise(mask, data.palette) * 0.6).astype(np.uint8), interpolation="nearest")
        axes.set_title(f"{image}: full mask", fontsize=9)
        class_legend(figure, data, np.unique(mask))
    else:
        axes.imshow(pixels)
        rows = ledger.rows[image]
        answers = ledger.answers
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
        axes.set_title(
            f"{image}: {len(rows)} answers; white rim: round {ledger.next_round - 1}, black rim: before"
            + (", red cross: void" if void.any() else ""),
            fontsize=9,
        )
        class_legend(figure, data, np.unique(labels[~void]))
    axes.set_axis_off()
    return to_png(figure)
