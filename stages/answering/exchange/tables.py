"""Queries as tables to fill in, as CSV or JSON: one row per query, with the answer in the column `class`.

Of images that are tiles, the table also says where each query lies in the original file.
"""

import csv
import io
import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.answering.answer import Answer, fits, name_fault
from stages.answering.exchange.values import SKIP, words_beside
from stages.answering.questions import EXACT, Questions
from stages.artifacts.superpixels import BOX
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput
from stages.settings.annotate_simulate import MOST_SECONDS

FORMAT = "alseg-queries"
PLACE = {"pixel": ("image", "y", "x"), "region": ("image", "region"), "image": ("image",)}
ANSWER = ("class", "seconds", "annotator")
BETWEEN_NAMES = ";"  # the classes of a set in CSV


def require_table(questions: Questions) -> None:
    """BadInput for queries that no table can answer."""
    queries = questions.queries
    if queries.answer in EXACT:
        raise BadInput(
            f"{queries.path} contains queries of exact labels ({queries.answer}), which do not fit into a table. Use "
            "COCO (.coco.json) or a folder of PNG."
        )


def table_rows(questions: Questions, answers: Mapping[int, Answer]) -> list[dict[str, Any]]:
    """One row per query, image by image from top to bottom, with its answer if there is one, otherwise None."""
    queries = questions.queries
    boxes = questions.boxes.tolist()
    originals = places_in_originals(questions)
    rows = []
    for query in sorted(range(len(queries)), key=lambda query: (queries.image[query], *boxes[query])):
        place = questions.place(query)
        row = {"query": query} | {name: place[name] for name in PLACE[queries.unit]}
        if queries.unit == "region":
            row |= dict(zip(BOX, boxes[query], strict=True))
        row |= {name: values[query] for name, values in originals.items()}
        rows.append(row | answer_cells(questions, answers.get(query)))
    return rows


def places_in_originals(questions: Questions) -> dict[str, list[Any]]:
    """Columns with the place of each query in the file that its image was cut from; none if images are whole files.

    The place of a region or an image is the middle of its bounding box.
    """
    tiling = questions.data.tiling
    if tiling is None:
        return {}
    queries = questions.queries
    tiles = np.array([questions.data.places[image] for image in queries.ids])[queries.image]
    grids = np.array([queries.sizes[image] for image in queries.ids])[queries.image]
    y, x = (questions.boxes[:, :2] + questions.boxes[:, 2:]).T // 2
    if queries.unit == "image":
        y, x = grids.T // 2
    return tiling.columns(tiles, y, x, grids)


def answer_cells(questions: Questions, answer: Answer | None) -> dict[str, Any]:
    """The cells of a row that hold the answer."""
    if answer is None:
        return dict.fromkeys(ANSWER)
    beside = words_beside(questions.classes)
    words = [beside[SKIP]] if answer.skip else [questions.classes[label] for label in answer.classes]
    words += [beside[VOID]] if answer.void else []
    named = words if questions.of_sets else words[0]
    return {"class": named, "seconds": answer.seconds, "annotator": answer.annotator}


def to_csv(questions: Questions, answers: Mapping[int, Answer]) -> bytes:
    """The table as CSV; the classes of a set are in one cell, separated by semicolons."""
    require_table(questions)
    if questions.of_sets and any(BETWEEN_NAMES in name for name in questions.classes):
        raise BadInput(
            f"The name of a class contains {BETWEEN_NAMES!r}, which separates the classes of a set in CSV. Use .json."
        )
    rows = table_rows(questions, answers)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        named = row["class"]
        writer.writerow(row | {"class": BETWEEN_NAMES.join(named) if isinstance(named, list) else named})
    return text.getvalue().encode()


def to_json(questions: Questions, answers: Mapping[int, Answer]) -> bytes:
    """The table as JSON, with the classes that answers may name and the digest of the queries."""
    require_table(questions)
    queries = questions.queries
    about = {
        "format": FORMAT,
        "digest": queries.digest,
        "round": queries.round,
        "unit": queries.unit,
        "answer": queries.answer,
        "classes": questions.classes,
    }
    lines = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in table_rows(questions, answers))
    head = json.dumps(about, ensure_ascii=False, indent=1)[:-2]
    return f'{head},\n "queries": [\n  {lines}\n ]\n}}\n'.encode()


def csv_rows(path: Path, content: bytes, questions: Questions) -> dict[str, dict[str, Any]]:
    """The rows of a CSV table, keyed by their names in messages."""
    needed = ("query", *PLACE[questions.queries.unit], "class")
    try:
        text = content.decode("utf-8-sig")
        table = csv.DictReader(io.StringIO(text), strict=True, delimiter=separator_of(text, needed))
        lines = list(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} is not a CSV table in UTF-8 ({error}). Fill in a new export.") from error
    missing = [name for name in needed if name not in (table.fieldnames or ())]
    if missing:
        raise BadInput(f"{path} lacks the columns {', '.join(missing)}. Keep all columns of the export.")
    return {f"{path}, line {number}": line for number, line in enumerate(lines, start=2)}


def separator_of(text: str, needed: Collection[str]) -> str:
    """The column separator of a CSV table: some spreadsheets write semicolons or tabs."""
    head = text.partition("\n")[0]
    return next((mark for mark in ",;\t" if {*needed} <= {name.strip('" \r') for name in head.split(mark)}), ",")


def json_rows(path: Path, document: dict[str, Any], questions: Questions) -> dict[str, dict[str, Any]]:
    """The rows of a JSON table, keyed by their names in messages."""
    queries = questions.queries
    if document.get("digest", queries.digest) != queries.digest:
        raise BadInput(
            f"{path} was exported from other queries than {queries.path}. Pass those queries, or fill in a new export."
        )
    rows = document.get("queries")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput(f'{path} has no list "queries" of objects. Fill in a new export.')
    return {f"{path}, entry {number} of queries": row for number, row in enumerate(rows)}


def read_table_answers(
    path: Path,
    rows: Mapping[str, dict[str, Any]],
    questions: Questions,
    annotator: str,
    seconds_per_click: float,
) -> dict[int, Answer]:
    """Query -> its answer; ``annotator`` and ``seconds_per_click`` fill empty cells.

    BadInput lists everything that does not fit the queries or the class table.
    """
    faults: list[str] = []
    answers: dict[int, Answer] = {}
    for where, row in rows.items():
        try:
            answer = read_answer(row, questions, annotator, seconds_per_click)
        except ValueError as error:
            faults.append(f"{where}: {error}.")
            continue
        if answer is not None and answer.query in answers:
            faults.append(f"{where}: query {answer.query} is answered twice. Keep one of the answers.")
        elif answer is not None:
            answers[answer.query] = answer
    if faults:
        raise BadInput(faults)
    if not answers:
        raise BadInput(f"{path} contains no answers. Fill in the column class.")
    return answers


def read_answer(row: dict[str, Any], questions: Questions, annotator: str, seconds_per_click: float) -> Answer | None:
    """One row checked against its query; None if it contains no answer. ValueError says what is wrong."""
    query, queries = whole_number(row, "query"), questions.queries
    if not 0 <= query < len(queries):
        raise ValueError(f"unknown query {query}; the file contains {len(queries)}")
    place, names = questions.place(query), PLACE[queries.unit]
    found = {name: row.get(name) if name == "image" else whole_number(row, name) for name in names}
    queried = {name: place[name] for name in names}
    if found != queried:
        raise ValueError(f"query {query} is about {queried}, not {found}; keep {', '.join(names)} as exported")
    words = named_words(row.get("class"), questions)
    if not words:
        return None
    beside = words_beside(questions.classes)
    labels, void, skip = [], False, False
    for word in words:
        if word in questions.classes:
            labels.append(questions.classes.index(word))
        elif word.lower() in (beside[VOID], beside[SKIP]):
            void, skip = void or word.lower() == beside[VOID], skip or word.lower() == beside[SKIP]
        else:
            known = f"{', '.join(questions.classes)}, {beside[VOID]} or {beside[SKIP]}"
            raise ValueError(f"{word!r} is not a class; use {known}")
    clicks = max(len(labels) + (void and queries.answer == "class-set"), 1) if questions.of_sets else 1
    annotator = str(row.get("annotator") or "").strip() or annotator
    answer = Answer(
        query=query,
        **place,
        classes=tuple(labels),
        void=void,
        skip=skip,
        seconds=seconds_of(row.get("seconds"), clicks * seconds_per_click),
        annotator=annotator,
    )
    if not fits(answer, questions) or len(set(labels)) != len(labels):
        kinds = "classes, each once" if questions.of_sets else "one class"
        raise ValueError(f"{', '.join(words)} is not an answer; use {kinds}, {beside[VOID]} or {beside[SKIP]}")
    if wrong := name_fault(annotator):
        raise ValueError(f"annotator {annotator!r}: {wrong.rstrip('.')}")
    return answer


def named_words(cell: Any, questions: Questions) -> list[str]:
    """The words in the cell `class`; ValueError if it contains something else."""
    if isinstance(cell, str):
        cell = cell.split(BETWEEN_NAMES) if questions.of_sets else [cell]
    if cell is not None and not (isinstance(cell, list) and all(isinstance(word, str) for word in cell)):
        raise ValueError(f"class is {cell!r}, not a name or a list of names")
    return [word.strip() for word in cell or () if word.strip()]


def whole_number(row: dict[str, Any], name: str) -> int:
    value = row.get(name)
    try:
        if isinstance(value, bool | float):
            raise ValueError
        return int(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {value!r}, not a whole number") from None


def seconds_of(cell: Any, default: float) -> float:
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return default
    try:
        seconds = math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds <= MOST_SECONDS:
        shown = repr(cell) if len(repr(cell)) < 40 else "a very long number"
        raise ValueError(f"seconds is {shown}, not a number from 0 to {MOST_SECONDS:.0e}")
    return seconds
