"""The stage `import-answers`: a filled-in table of queries -> the ledger, as `annotate-simulate` would write it."""

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import ANSWERED, ANSWERED_VOID, SKIPPED, Answers, append_answers, ledger_counts
from stages.artifacts.dataset import VOID, Dataset
from stages.artifacts.hdf5 import require_made_from
from stages.artifacts.header import InputRef
from stages.artifacts.queries import Queries
from stages.artifacts.request import Request, produce, refer
from stages.errors import BadInput
from stages.settings.stages import ImportSettings

NEEDED = ("query", "image", "y", "x", "class")
LABELS_NOTHING = {"void": ANSWERED_VOID, "skip": SKIPPED}


def run(
    dataset: Path,
    queries: Path,
    table: Path,
    output: Path,
    settings: ImportSettings,
    annotations: Path | None = None,
    force: bool = False,
) -> Path:
    """Publishes the ledger ``annotations`` with the answers of ``table`` (CSV) appended.

    A row without a class stays open: it labels nothing, costs nothing, and may be asked again. `void` costs and labels
    nothing, `skip` likewise. Raises BadInput with every row that is unknown, answered twice, or was moved.
    """
    with Dataset(dataset) as data, Queries(queries) as asked:
        require_made_from(asked, "dataset", data)
        asked.require_pixels()
        before = None if annotations is None else Annotations(annotations)
        asked.require_ledger(before)
        try:
            content = table.read_bytes()
        except OSError as error:
            raise BadInput(f"Cannot read {table}: {error.strerror}; give the CSV with the answers.") from error
        rows = read_rows(table, content, asked, data.classes, settings)
        inputs = refer(output, {"dataset": data, "queries": asked, "annotations": before})
        inputs["table"] = InputRef(table.name, hashlib.sha256(content).hexdigest())
        request = Request("import-answers", "annotations", output, settings, inputs)
        return produce(request, lambda: build(request, data, asked, before, rows), force)


@dataclass(frozen=True)
class Row:
    """One answered line of the table."""

    query: int
    label: int
    state: int
    seconds: float
    annotator: str


def read_rows(path: Path, content: bytes, queries: Queries, classes: list[str], settings: ImportSettings) -> list[Row]:
    """The answered rows in query order; BadInput lists everything that does not fit the queries or the class table."""
    try:
        table = csv.DictReader(io.StringIO(content.decode("utf-8-sig")), strict=True)
        lines = list(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} is not a CSV table in UTF-8 ({error}); fill in a fresh export.") from error
    missing = [name for name in NEEDED if name not in (table.fieldnames or ())]
    if missing:
        raise BadInput(f"{path} lacks the columns {', '.join(missing)}; keep those that `export-queries` wrote.")
    faults: list[str] = []
    rows: dict[int, Row] = {}
    for number, line in enumerate(lines, start=2):
        try:
            row = read_row(line, queries, classes, settings)
        except ValueError as error:
            faults.append(f"{path}, line {number}: {error}.")
            continue
        if row is not None and row.query in rows:
            faults.append(f"{path}, line {number}: query {row.query} is answered twice; keep one of the lines.")
        elif row is not None:
            rows[row.query] = row
    if faults:
        raise BadInput(faults)
    if not rows:
        raise BadInput(f"{path} has no answer in column class; fill in class names, void or skip.")
    return [rows[query] for query in sorted(rows)]


def read_row(line: dict[str, str], queries: Queries, classes: list[str], settings: ImportSettings) -> Row | None:
    """One line checked against its query; None while it is unanswered. ValueError says what is wrong."""
    query = whole_number(line, "query")
    if not 0 <= query < len(queries):
        raise ValueError(f"there is no query {query}; the file asks {len(queries)}")
    asked = (queries.ids[queries.image[query]], int(queries.y[query]), int(queries.x[query]))
    given = (line["image"], whole_number(line, "y"), whole_number(line, "x"))
    if given != asked:
        raise ValueError(f"query {query} asks about {asked}, not {given}; image, y and x must stay as exported")
    answer = (line["class"] or "").strip()
    if not answer:
        return None
    seconds = text_number(line.get("seconds"), settings.seconds_per_click)
    annotator = (line.get("annotator") or "").strip() or settings.annotator
    if answer.lower() in LABELS_NOTHING and answer not in classes:
        return Row(query, VOID, LABELS_NOTHING[answer.lower()], seconds, annotator)
    if answer not in classes:
        raise ValueError(f"{answer!r} is no class; known are {', '.join(classes)}, void and skip")
    return Row(query, classes.index(answer), ANSWERED, seconds, annotator)


def whole_number(line: dict[str, str], name: str) -> int:
    try:
        return int(line[name])
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {line[name]!r}, not a whole number") from None


def text_number(text: str | None, default: float) -> float:
    if text is None or not text.strip():
        return default
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"seconds is {text!r}; give a number that is not negative")
    return seconds


def build(request: Request, data: Dataset, queries: Queries, before: Annotations | None, rows: list[Row]) -> str:
    people = list(dict.fromkeys(row.annotator for row in rows))
    asked = np.array([row.query for row in rows])
    new = Answers.of(
        len(rows),
        len(data.classes),
        image=queries.image[asked],
        y=queries.y[asked],
        x=queries.x[asked],
        round=queries.round,
        label=[row.label for row in rows],
        state=[row.state for row in rows],
        seconds=[row.seconds for row in rows],
        annotator=[people.index(row.annotator) for row in rows],
    )
    ledger = append_answers(before, queries.ids, queries.sizes, new, people)
    counts = ledger_counts(ledger, new, data.classes) | {"open": len(queries) - len(rows)}

    ledger.publish(request, data, counts)
    return f"round {queries.round}, {len(rows)} answers, {counts['open']} of the queries still open"
