"""Contact sheets of scored and queried images."""

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.queries import Queries
from stages.artifacts.scores import Scores
from stages.reporting.pictures.curves import to_png
from stages.reporting.pictures.panels import axes_of, figure_for
from stages.reporting.pictures.sheet import Cell, Section, draw_sheet

MOST_ASKED = 24  # images on a sheet of queries
MOST_SCORED = 12  # highest scores, and lowest, on a sheet of scores
CELLS_A_ROW = 6


def draw_image_queries(queries: Queries, data: Dataset, image: str | None) -> bytes:
    """A contact sheet of the queried images in rank order; with ``image``, only this image."""
    scores = queries.read("queries/score")
    asked = [queries.ids[index] for index in queries.image]
    if image is not None:
        rank = asked.index(image)
        told = f"rank {rank + 1} of {len(asked)} in round {queries.round}, score {scores[rank]:.4g}"
        return draw_image(data, image, f"{image}: {told}, answer: {queries.answer}")
    cells = [
        Cell((name, f"rank {rank + 1}, score {score:.4g}"), [data.rgb(name)])
        for rank, (name, score) in enumerate(zip(asked[:MOST_ASKED], scores.tolist(), strict=False))
    ]
    title = f"{len(asked)} images queried in round {queries.round}, answer: {queries.answer}"
    shown = f"the first {len(cells)}" if len(cells) < len(asked) else "all"
    rule, measure = queries.header.settings["rule"], queries.attributes["measure"]
    return draw_sheet(title, [Section(f"{shown} in rank order; rule {rule}, scored by {measure}", cells)], CELLS_A_ROW)


def draw_image_scores(scores: Scores, data: Dataset, image: str | None) -> bytes:
    """A contact sheet of the images with the highest and lowest scores; with ``image``, only this image."""
    values, measure = scores.image_scores(), scores.attributes["measure"]
    order = np.argsort(-values, kind="stable")
    if image is not None:
        place = scores.ids.index(image)
        rank = int(np.flatnonzero(order == place)[0]) + 1
        return draw_image(data, image, f"{image}: {measure} {values[place]:.4g}, rank {rank} of {len(order)}")
    highest, lowest = order[:MOST_SCORED], order[MOST_SCORED:][-MOST_SCORED:]

    def cells(places: np.ndarray) -> list[Cell]:
        return [
            Cell((scores.ids[place], f"{measure} {values[place]:.4g}"), [data.rgb(scores.ids[place])])
            for place in places.tolist()
        ]

    sections = [Section("highest: queried first", cells(highest)), Section("lowest: queried last", cells(lowest))]
    return draw_sheet(f"{measure} of {len(order)} images", sections, CELLS_A_ROW)


def draw_image(data: Dataset, image: str, title: str) -> bytes:
    """Only the image."""
    pixels = data.rgb(image)
    figure = figure_for(pixels)
    (axes,) = axes_of(figure, 1)
    axes.imshow(pixels)
    axes.set_title(title, fontsize=9)
    return to_png(figure)


def named_classes(ledger: Annotations, image: str) -> str:
    """The classes named for ``image`` as a whole; empty without such answers."""
    rows = ledger.rows_of(image)
    rows = rows[ledger.answers.image_level[rows] == 1]
    if not len(rows):
        return ""
    classes = ledger.image_classes
    sets = ledger.answers.class_sets[rows, :-1].any(0)
    if sets.any():
        found = np.flatnonzero(sets)
    else:
        label = ledger.answers.label[rows]
        found = label[label < len(classes)]
    names = list(dict.fromkeys(classes[index] for index in found.tolist()))
    return ", ".join(names) or "none"
