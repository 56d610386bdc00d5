"""Queries as a project of Label Studio: its labelling configuration, and tasks with images and shapes to relabel."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from stages.answering.answer import Answer
from stages.answering.exchange.outlines import Outlines, painted_with
from stages.answering.exchange.values import OPEN, SKIP, UNPAINTED, colours_of, names_of, words_beside
from stages.answering.questions import Questions
from stages.datasets.image_names import first_image_of, known_names
from stages.datasets.shapes.label_studio import tasks_of
from stages.datasets.shapes.rle_pack import pack_mask
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput

CONFIG, TASKS = "config.xml", "tasks.json"
CONTROL, SHOWN = "label", "image"  # names of the two tags in the configuration
POINT_WIDTH = 0.6  # of a queried pixel on the page, in percent of the image
OF_IMAGES = ("image-class", "image-classes")


def label_studio_files(
    questions: Questions, answers: Mapping[int, Answer], drawn: Iterable[tuple[str, Outlines]]
) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the configuration and the tasks, one per queried image, which hold the images themselves.

    A query is a shape labelled `open` or with its answer: a point for a pixel, a mask for a region. Queries of whole
    images are no shapes; their answers are masks or choices. ``drawn``: image ids and the shapes of queries that can
    be painted, see `outlines`.
    """
    kind, unit = questions.queries.answer, questions.queries.unit
    if kind in OF_IMAGES:
        results = ((image, chosen(questions, answers, image)) for image in questions.rows)
    elif unit == "pixel":
        results = ((image, points(questions, answers, image)) for image in questions.rows)
    else:
        results = ((image, masks(questions, found)) for image, found in drawn)
    tasks = [task(questions, image, shapes) for image, shapes in results]
    yield CONFIG, configuration(questions).encode()
    yield TASKS, json.dumps(tasks, ensure_ascii=False).encode()


def configuration(questions: Questions) -> str:
    """The labelling configuration: the image, and a control with the classes and the words beside them."""
    several = ' choice="multiple"' if questions.of_sets else ""
    if questions.queries.answer in OF_IMAGES:
        beside = words_beside(questions.classes)
        names = [*questions.classes, beside[VOID], beside[SKIP]]
        tag, each = "Choices", [f"<Choice value={quoteattr(name)}/>" for name in names]
    else:
        tag = "KeyPointLabels" if questions.queries.unit == "pixel" else "BrushLabels"
        colours = colours_of(questions.data.palette)
        each = [
            f'<Label value={quoteattr(name)} background="#{bytes(colours[value]).hex()}"/>'
            for value, name in names_of(questions.classes).items()
            if value != UNPAINTED
        ]
    inside = "\n".join(f"    {line}" for line in each)
    return (
        f'<View>\n  <Image name="{SHOWN}" value="$image" zoom="true" zoomControl="true"/>\n'
        f'  <{tag} name="{CONTROL}" toName="{SHOWN}"{several}>\n{inside}\n  </{tag}>\n</View>\n'
    )


def task(questions: Questions, image: str, shapes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """An image as a data address, the name that finds it again, and ``shapes`` to start from."""
    height, width = questions.data.sizes[image]
    about = {"from_name": CONTROL, "to_name": SHOWN, "original_width": width, "original_height": height}
    results = [{"id": f"query-{number}", "image_rotation": 0, **about, **each} for number, each in enumerate(shapes)]
    content = base64.b64encode(questions.picture(image)).decode()
    data = {"image": f"data:image/png;base64,{content}", "file": f"{image}.png"}
    return {"data": data, "predictions": [{"model_version": "alseg", "result": results}] if results else []}


def words_of(questions: Questions, values: Iterable[int]) -> list[str]:
    names = names_of(questions.classes)
    return [names[value] for value in values]


def points(questions: Questions, answers: Mapping[int, Answer], image: str) -> list[dict[str, Any]]:
    """The queried pixels of an image."""
    height, width = questions.data.sizes[image]
    found = []
    for query in questions.rows[image].tolist():
        y, x = questions.shown(query)["pixel"]
        answer = answers.get(query)
        words = words_of(questions, [OPEN] if answer is None else painted_with(answer))
        place = {"x": (x + 0.5) * 100 / width, "y": (y + 0.5) * 100 / height, "width": POINT_WIDTH}
        found.append({"type": "keypointlabels", "value": place | {"keypointlabels": words}})
    return found


def masks(questions: Questions, drawn: Outlines) -> list[dict[str, Any]]:
    """The shapes of an image as masks; an unanswered query of a whole image is none, as it would cover the image."""
    whole = questions.queries.unit == "image"
    found = []
    for number, values in enumerate(drawn.values):
        if whole and list(values) == [OPEN]:
            continue
        runs = list(pack_mask(drawn.numbers == number))
        value = {"format": "rle", "rle": runs, "brushlabels": words_of(questions, values)}
        found.append({"type": "brushlabels", "value": value})
    return found


def chosen(questions: Questions, answers: Mapping[int, Answer], image: str) -> list[dict[str, Any]]:
    """The answer about an image, if there is one."""
    given = [answers[query] for query in questions.rows[image].tolist() if query in answers]
    beside = words_beside(questions.classes)
    words = [
        questions.classes[value] if value < len(questions.classes) else beside[value]
        for answer in given
        for value in painted_with(answer)
    ]
    return [{"type": "choices", "value": {"choices": words}}] if words else []


def choice_rows(path: Path, content: Sequence[Mapping[str, Any]], questions: Questions) -> dict[str, dict[str, Any]]:
    """The choices about whole images as rows of a table, keyed by their names in messages."""
    known = known_names(questions.data.sizes)
    rows = {}
    for each in tasks_of(path, content):
        if each.choices and (image := first_image_of(each.names, known, each.where)) in questions.rows:
            for query in questions.rows[image].tolist():
                row = {"query": query, "image": image, "class": each.choices, "seconds": each.seconds}
                rows[f"{each.where}, image {image}"] = row
    if not rows:
        raise BadInput(f"{path} contains no choices about the images of {questions.queries.path}. Export it again.")
    return rows
