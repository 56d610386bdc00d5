"""Queries in the files that public code reads and writes; `selections.py` reads them."""

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.answering.answer import Answer
from stages.answering.exchange.selections import Images, from_points, is_points, whole_numbers
from stages.answering.questions import Questions
from stages.datasets.pickle_files import read_pickle
from stages.runtime.errors import BadInput

PICKLE = ".pkl"
PROTOCOL = 4  # that of the Python versions that the public code was written for


def points_record(questions: Questions, answers: Mapping[int, Answer]) -> bytes:
    """Pickle {image: {height, width, x_coords, y_coords}}, row by row; with answers also category and category_id.

    As in the public code, an answered record has the answered pixels alone (pixelpick.md 7).
    """
    queries, classes = require_unit(questions, "pixel"), questions.classes
    record: dict[str, dict[str, Any]] = {}
    for image, rows in questions.rows.items():
        taken = [query for query in rows.tolist() if not answers or (query in answers and answers[query].classes)]
        taken.sort(key=lambda query: (queries.y[query], queries.x[query]))
        height, width = queries.sizes[image]
        found: dict[str, Any] = {"height": height, "width": width}
        found |= {f"{axis}_coords": getattr(queries, axis)[taken].astype(np.int64) for axis in "xy"}
        if answers:
            labels = [answers[query].classes[0] for query in taken]
            found |= {"category": [classes[label].lower() for label in labels], "category_id": labels}
        record[image] = found
    return dumped(record)


def points_masks(questions: Questions) -> bytes:
    """NumPy file (N,H,W) bool of all images in the order of their names; BadInput for images of several sizes."""
    queries = require_unit(questions, "pixel")
    if len(set(queries.sizes.values())) != 1:
        raise BadInput(f"{queries.path} has images of several sizes, which no single array holds. Use .points.pkl.")
    masks = np.zeros((len(queries.ids), *next(iter(queries.sizes.values()))), dtype=bool)
    masks[queries.image, queries.y, queries.x] = True
    content = io.BytesIO()
    np.save(content, masks, allow_pickle=False)
    return content.getvalue()


def regions_record(questions: Questions) -> bytes:
    """Pickle {image: [region]} of all images, regions in rank order."""
    queries, numbers = require_unit(questions, "region"), region_numbers(questions)
    record: dict[str, list[int]] = {image: [] for image in queries.ids}
    for image, region in zip(queries.image.tolist(), numbers.tolist(), strict=True):
        record[queries.ids[image]].append(region)
    return dumped(record)


def regions_numbered(questions: Questions, stride: int) -> bytes:
    """Pickle (n,) i64 of image x stride + region in rank order."""
    queries, numbers = require_unit(questions, "region"), region_numbers(questions)
    if stride <= numbers.max(initial=0):
        raise BadInput(f"{queries.path} has a region {numbers.max()}, so a stride of {stride} is too low. Raise it.")
    return dumped(queries.image.astype(np.int64) * stride + numbers)


def regions_ranked(questions: Questions) -> bytes:
    """Pickle [(score, "image,image,image", region)] in rank order; other programs have paths for the three names."""
    queries, numbers = require_unit(questions, "region"), region_numbers(questions)
    rows = zip(queries.read("queries/score").tolist(), queries.image.tolist(), numbers.tolist(), strict=True)
    return dumped([(score, ",".join([queries.ids[image]] * 3), region) for score, image, region in rows])


def region_numbers(questions: Questions) -> np.ndarray:
    """(Q,) i64 number of each queried region in its image."""
    assert questions.regions is not None
    return questions.regions.numbers[questions.queries.region].astype(np.int64)


def require_unit(questions: Questions, unit: str) -> Any:
    queries = questions.queries
    if queries.unit != unit:
        raise BadInput(f"{queries.path} contains queries of {queries.unit}s, but this format lists {unit}s. Use .csv.")
    return queries


def dumped(value: Any) -> bytes:
    return pickle.dumps(value, PROTOCOL)


def answered_rows(path: Path, questions: Questions) -> dict[str, dict[str, Any]]:
    """The rows of a table (`tables.py`) with the answers in the pickled record ``path``, keyed by names for messages.

    The record is that of `points_record` with answers. BadInput for other contents, and for points that were not
    queried.
    """
    content = read_pickle(path)
    if not isinstance(content, dict) or not all(is_points(each) and "category_id" in each for each in content.values()):
        raise BadInput(f"{path} contains no answered points (category_id). Pass the record with the answers.")
    found = from_points(Images(require_unit(questions, "pixel").ids, path), content)
    given = [number for points in content.values() for number in whole_numbers(path, points["category_id"]).tolist()]
    if len(given) != len(found):
        raise BadInput(f"{path} contains {len(found)} points and {len(given)} answers. Pass an undamaged record.")
    queries, classes = questions.queries, questions.classes
    places = zip(queries.image.tolist(), queries.y.tolist(), queries.x.tolist(), strict=True)
    query_at = {place: query for query, place in enumerate(places)}
    rows = {}
    for place, label in zip(
        zip(found.image.tolist(), found.y.tolist(), found.x.tolist(), strict=True), given, strict=True
    ):
        image, y, x = queries.ids[place[0]], *place[1:]
        where = f"{path}, point {y}, {x} of {image}"
        if place not in query_at or label >= len(classes):
            wrong = "was not queried" if place not in query_at else f"has class {label} of {len(classes)}"
            raise BadInput(f"{where} {wrong}. Pass the queries that the record answers.")
        rows[where] = {"query": query_at[place], "image": image, "y": y, "x": x, "class": classes[label]}
    return rows
