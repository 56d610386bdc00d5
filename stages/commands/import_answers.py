"""The stage `import-answers`: answers given with other tools -> the ledger, as `annotate-simulate` would write it."""

import json
import os
from pathlib import Path
from typing import Any

from stages.answering.exchange.coco import read_coco
from stages.answering.exchange.indexed_png import read_png
from stages.answering.exchange.painted import Outcome, Painting, painted_answers
from stages.answering.exchange.tables import csv_rows, json_rows, read_table_answers
from stages.answering.given import name_fault
from stages.answering.outcome import ledger_rows, publish_answers
from stages.answering.questions import Questions
from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import require_made_from
from stages.artifacts.header import InputRef
from stages.artifacts.publish import bytes_digest
from stages.artifacts.queries import Queries
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.superpixels import regions_of
from stages.runtime.console import say
from stages.runtime.errors import BadInput
from stages.settings.import_answers import ImportSettings


def run(
    dataset: Path,
    queries: Path,
    answers: Path,
    output: Path,
    settings: ImportSettings,
    annotations: Path | None = None,
    superpixels: Path | None = None,
    force: bool = False,
) -> Path:
    """Publishes the ledger ``annotations`` with what ``answers`` says about ``queries`` appended.

    ``answers`` is a table (CSV, or JSON as `export-queries` writes it), a COCO document, a PNG mask or a folder of
    them. What is not answered stays open: it labels nothing, costs nothing, and may be asked again. Raises BadInput
    with everything that is unknown, answered twice, or was moved.
    """
    with Dataset(dataset) as data, Queries(queries) as asked:
        require_made_from(asked, "dataset", data)
        before = None if annotations is None else Annotations(annotations)
        asked.require_ledger(before)
        regions = regions_of(superpixels, data, asked)
        questions = Questions(data, asked, regions)
        if wrong := name_fault(settings.annotator):
            raise BadInput(f"--annotator {settings.annotator!r}: {wrong}")
        inputs = refer(output, {"dataset": data, "queries": asked, "annotations": before, "superpixels": regions})
        try:
            digest = bytes_digest(answers)
        except OSError as error:
            raise BadInput(f"Cannot read {answers}: {error.strerror}; give the file or folder with them.") from error
        inputs["answers"] = InputRef(os.path.relpath(answers, output.parent), digest)
        request = Request("import-answers", "annotations", output, settings, inputs)
        return produce(request, lambda: build(request, answers, questions, before, settings), force)


def read(path: Path, questions: Questions, settings: ImportSettings) -> tuple[Outcome, list[str]]:
    """The answers in ``path``, and the annotators that they number."""
    data = questions.data
    if path.is_dir() or path.suffix.lower() == ".png":
        painted = read_png(path, data.classes, data.palette, data.sizes)
        return painted_outcome(path, painted, questions, settings), [settings.annotator]
    content = path.read_bytes()
    document = parsed(path, content)
    if document is not None and "annotations" in document:
        painted = read_coco(path, document, data.classes, data.sizes)
        return painted_outcome(path, painted, questions, settings), [settings.annotator]
    rows = csv_rows(path, content, questions) if document is None else json_rows(path, document, questions)
    given = read_table_answers(path, rows, questions, settings)
    new, people = ledger_rows(questions, given, {query: answer.seconds for query, answer in given.items()})
    return Outcome(new, {}), people


def parsed(path: Path, content: bytes) -> dict[str, Any] | None:
    """What a JSON file holds; None for files that do not call themselves JSON."""
    if path.suffix.lower() != ".json":
        return None
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is no JSON ({error}); export it again.") from error
    if not isinstance(document, dict):
        raise BadInput(f"{path} is neither a table of queries nor a COCO document; fill in a fresh export.")
    return document


def painted_outcome(
    path: Path, painted: dict[str, Painting], questions: Questions, settings: ImportSettings
) -> Outcome:
    queries = questions.queries
    outcome = painted_answers(questions, painted, settings)
    if not len(outcome.answers):
        raise BadInput(f"{path} answers none of {queries.path}; paint the queries of these images, then export again.")
    if beside := len(painted.keys() - questions.rows.keys()):
        say(f"{path}: {beside} images were not asked about; what is said about them is left out")
    if outcome.unfinished:
        say(f"{path}: {outcome.unfinished} queries are painted in part and stay open")
    return outcome


def build(
    request: Request, path: Path, questions: Questions, before: Annotations | None, settings: ImportSettings
) -> str:
    outcome, people = read(path, questions, settings)
    return publish_answers(request, questions, before, outcome.answers, people, outcome.masks)
