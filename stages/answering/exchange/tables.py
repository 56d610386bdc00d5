"""Queries as tables that people or scripts fill in, in CSV and in JSON: one row per query, the answer in `class`."""

import csv
import io
import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from stages.answering.exchange.values import SKIP, words_beside
from stages.answering.given import Given, fits, name_fault
from stages.answering.questions import EXACT, Questions
from stages.artifacts.superpixels import BOX
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput
from stages.settings.annotate_simulate import MOST_SECONDS
from stages.settings.import_answers import ImportSettings

FORMAT = "alseg-queries"
PLACE = {"pixel": ("image", "y", "x"), "region": ("image", "region"), "image": ("image",)}
ANSWER = ("class", "seconds", "annotator")
BETWEEN_NAMES = ";"  # the classes of a set in CSV


def require_table(questions: Questions) -> None:
    """BadInput for queries that no table can answer."""
    queries = questions.queries
    if queries.answer in EXACT:
        raise BadInput(
            f"{queries.path} asks for exact labels ({queries.answer}), which no table holds; use COCO (.coco.json) or "
            "a folder of PNG."
        )


def table_rows(questions: Questions, given: Mapping[int, Given]) -> list[dict[str, Any]]:
    """One row per query, image by image from top to bottom; the answers ``given`` are filled in, others are None."""
    queries = questions.queries
    boxes = questions.boxes.tolist()
    rows = []
    for query in sorted(range(len(queries)), key=lambda query: (queries.image[query], *boxes[query])):
        place = questions.place(query)
        row = {"query": query} | {name: place[name] for name in PLACE[queries.unit]}
        if queries.unit == "region":
            row |= dict(zip(BOX, boxes[query], strict=True))
        rows.append(row | answer_cells(questions, given.get(query)))
    return rows


def answer_cells(questions: Questions, given: Given | None) -> dict[str, Any]:
    if given is None:
        return dict.fromkeys(ANSWER)
    beside = words_beside(questions.classes)
    words = [beside[SKIP]] if given.skip else [questions.classes[label] for label in given.classes]
    words += [beside[VOID]] if given.void else []
    named = words if questions.of_sets else words[0]
    return {"class": named, "seconds": given.seconds, "annotator": given.annotator}


def to_csv(questions: Questions, given: Mapping[int, Given]) -> bytes:
    """The table in CSV; the classes of a set stand in one cell with ; between them."""
    require_table(questions)
    if questions.of_sets and any(BETWEEN_NAMES in name for name in questions.classes):
        raise BadInput(
            f"A class has {BETWEEN_NAMES!r} in its name, which CSV needs between the classes of a set; use .json."
        )
    rows = table_rows(questions, given)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            row | {"class": BETWEEN_NAMES.join(row["class"]) if isinstance(row["class"], list) else row["class"]}
        )
    return text.getvalue().encode()


def to_json(questions: Questions, given: Mapping[int, Given]) -> bytes:
    """The table in JSON, with the classes that answers may name and the digest of the queries."""
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
    lines = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in table_rows(questions, given))
    head = json.dumps(about, ensure_ascii=False, indent=1)[:-2]
    return f'{head},\n "queries": [\n  {lines}\n ]\n}}\n'.encode()


def csv_rows(path: Path, content: bytes, questions: Questions) -> dict[str, dict[str, Any]]:
    """The rows of a CSV table, by what to call them in messages."""
    needed = ("query", *PLACE[questions.queries.unit], "class")
    try:
        text = content.decode("utf-8-sig")
        table = csv.DictReader(io.StringIO(text), strict=True, delimiter=separator_of(text, needed))
        lines = list(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} is not a CSV table in UTF-8 ({error}); fill in a fresh export.") from error
    missing = [name for name in needed if name not in (table.fieldnames or ())]
    if missing:
        raise BadInput(f"{path} lacks the columns {', '.join(missing)}; keep those that `export-queries` wrote.")
    return {f"{path}, line {number}": line for number, line in enumerate(lines, start=2)}


def separator_of(text: str, needed: Collection[str]) -> str:
    """What stands between the columns of a CSV table: some spreadsheets write ; or tabs."""
    head = text.partition("\n")[0]
    return next((mark for mark in ",;\t" if {*needed} <= {name.strip('" \r') for name in head.split(mark)}), ",")


def json_rows(path: Path, document: dict[str, Any], questions: Questions) -> dict[str, dict[str, Any]]:
    """The rows of a JSON table, by what to call them in messages."""
    queries = questions.queries
    if document.get("digest", queries.digest) != queries.digest:
        raise BadInput(f"{path} was exported from other queries than {queries.path}; give those, or a fresh export.")
    rows = document.get("queries")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput(f'{path} has no list "queries" of objects; fill in a fresh export.')
    return {f"{path}, entry {number} of queries": row for number, row in enumerate(rows)}


def read_table_answers(
    path: Path, rows: Mapping[str, dict[str, Any]], questions: Questions, settings: ImportSettings
) -> dict[int, Given]:
    """Query -> its answer; BadInput lists everything that does not fit the queries or the class table."""
    require_table(questions)
    faults: list[str] = []
    given: dict[int, Given] = {}
    for where, row in rows.items():
        try:
            answer = read_answer(row, questions, settings)
        except ValueError as error:
            faults.append(f"{where}: {error}.")
            continue
        if answer is not None and answer.query in given:
            faults.append(f"{where}: query {answer.query} is answered twice; keep one of the answers.")
        elif answer is not None:
            given[answer.query] = answer
    if faults:
        raise BadInput(faults)
    if not given:
        raise BadInput(f"{path} has no answer in column class; fill in names of classes.")
    return given


def read_answer(row: dict[str, Any], questions: Questions, settings: ImportSettings) -> Given | None:
    """One row checked against its query; None while it is unanswered. ValueError says what is wrong."""
    query, queries = whole_number(row, "query"), questions.queries
    if not 0 <= query < len(queries):
        raise ValueError(f"there is no query {query}; the file asks {len(queries)}")
    place, names = questions.place(query), PLACE[queries.unit]
    told = {name: row.get(name) if name == "image" else whole_number(row, name) for name in names}
    asked = {name: place[name] for name in names}
    if told != asked:
        raise ValueError(f"query {query} asks about {asked}, not {told}; {', '.join(names)} must stay as exported")
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
            known = f"{', '.join(questions.classes)}, {beside[VOID]} and {beside[SKIP]}"
            raise ValueError(f"{word!r} is no class; known are {known}")
    clicks = max(len(labels) + (void and queries.answer == "class-set"), 1) if questions.of_sets else 1
    annotator = str(row.get("annotator") or "").strip() or settings.annotator
    given = Given(
        query=query,
        **place,
        classes=tuple(labels),
        void=void,
        skip=skip,
        seconds=seconds_of(row.get("seconds"), clicks * settings.seconds_per_click),
        annotator=annotator,
    )
    if not fits(given, questions) or len(set(labels)) != len(labels):
        kinds = "classes, each once" if questions.of_sets else "one class"
        raise ValueError(f"{', '.join(words)} is no answer; name {kinds}, or {beside[VOID]}, or {beside[SKIP]}")
    if wrong := name_fault(annotator):
        raise ValueError(f"{annotator!r} is no annotator: {wrong.rstrip('.')}")
    return given


def named_words(cell: Any, questions: Questions) -> list[str]:
    """The words in the cell `class`; ValueError where it holds something else."""
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
        told = repr(cell) if len(repr(cell)) < 40 else "a very long number"
        raise ValueError(f"seconds is {told}; give a number that is not negative, and no more than {MOST_SECONDS:.0e}")
    return seconds
