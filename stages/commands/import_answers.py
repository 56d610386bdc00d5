"""The stage `import-answers`: add answers from other tools to the ledger."""

from pathlib import Path
from typing import Any

from stages.answering.answer import name_fault
from stages.answering.exchange.drawn import read_drawn
from stages.answering.exchange.indexed_png import is_masks_folder, read_png
from stages.answering.exchange.label_studio import OF_IMAGES, choice_rows
from stages.answering.exchange.painted import Imported, Painting, painted_answers
from stages.answering.exchange.published import PICKLE, answered_rows
from stages.answering.exchange.tables import csv_rows, json_rows, read_table_answers, require_table
from stages.answering.questions import Questions
from stages.answering.rows import ledger_rows, publish_answers
from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import require_made_from
from stages.artifacts.publish import bytes_digest
from stages.artifacts.queries import Queries
from stages.artifacts.request import Request, produce, refer, reference
from stages.artifacts.superpixels import regions_of
from stages.datasets.shapes.files import ENDINGS, files_below, json_drawings, parsed_json, read_drawings
from stages.datasets.shapes.label_studio import is_label_studio, label_studio_table
from stages.runtime.console import say
from stages.runtime.errors import BadInput
from stages.settings.base import existing
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
    """Publishes the ledger ``annotations`` with the answers to ``queries`` in ``answers`` appended.

    ``answers`` is a table (CSV, or JSON as `export-queries` writes it), a file of shapes (COCO, CVAT, labelme, Label
    Studio), a PNG mask, a folder of masks or of files of shapes, or a pickled record of answered points. Unanswered
    queries stay open: they label nothing, cost nothing, and may be queried again. Raises BadInput that lists everything
    unknown, answered twice or out of place, and for settings that do not apply to the kind of answer queried.
    """
    with Dataset(dataset) as data, Queries(queries) as queried:
        settings = settings.settled(str(queries), answer=queried.answer)
        require_made_from(queried, "dataset", data)
        ledger = None if annotations is None else Annotations(annotations)
        queried.require_ledger(ledger)
        regions = regions_of(superpixels, data, queried)
        questions = Questions(data, queried, regions)
        if wrong := name_fault(settings.annotator):
            raise BadInput(f"--annotator {settings.annotator!r}: {wrong}")
        inputs = refer(output, {"dataset": data, "queries": queried, "annotations": ledger, "superpixels": regions})
        try:
            digest = bytes_digest(answers)
        except OSError as error:
            raise BadInput(
                f"Cannot read {answers}: {error.strerror}. Pass the file or folder with the answers."
            ) from error
        inputs["answers"] = reference(output, answers, digest)
        request = Request("import-answers", "annotations", output, settings, inputs)
        return produce(request, lambda: build(request, answers, questions, ledger, settings), force)


def read_imported(path: Path, questions: Questions, settings: ImportSettings) -> tuple[Imported, list[str]]:
    """The answers in ``path`` and their annotators."""
    values = json_values(path)
    painted = painted_in(path, values, questions)
    if painted is not None:
        return read_painted(path, painted, questions, settings), [settings.annotator]
    if path.suffix == PICKLE:
        rows = answered_rows(path, questions)
    elif values is None:
        rows = csv_rows(path, path.read_bytes(), questions)
    elif isinstance(values, dict):
        rows = json_rows(path, values, questions)
    else:
        rows = choice_rows(path, values, questions)
    require_table(questions)
    found = read_table_answers(path, rows, questions, settings.annotator, existing(settings.click).seconds_per_click)
    new, people = ledger_rows(questions, found, {query: answer.seconds for query, answer in found.items()})
    return Imported(new, {}), people


def json_values(path: Path) -> Any:
    """The JSON values of a file, or of a table of Label Studio; None for other files."""
    if path.suffix.lower() == ".json":
        return parsed_json(path, path.read_bytes())
    if path.suffix.lower() in (".csv", ".tsv"):
        return label_studio_table(path, path.read_bytes())
    return None


def painted_in(path: Path, values: Any, questions: Questions) -> dict[str, Painting] | None:
    """Image id -> its masks or shapes; None for tables, records of points, and choices about whole images."""
    data = questions.data
    files = files_below(path, ENDINGS) if path.is_dir() and not is_masks_folder(path) else []
    if (path.is_dir() and not files) or path.suffix.lower() == ".png":
        return read_png(path, data.classes, data.palette, data.ignored, data.sizes)
    if files or path.suffix.lower() == ".xml":
        drawings = [drawing for file in files or [path] for drawing in read_drawings(file)]
    elif values is None or is_table(values) or (is_label_studio(values) and questions.queries.answer in OF_IMAGES):
        return None
    else:
        drawings = json_drawings(path, values, questions.of_sets)
    return read_drawn(path, drawings, data.classes, data.sizes)


def is_table(values: Any) -> bool:
    """Whether JSON values are a table of queries, or an object that is not a file of shapes either."""
    return isinstance(values, dict) and not {"annotations", "shapes"} & values.keys()


def read_painted(path: Path, painted: dict[str, Painting], questions: Questions, settings: ImportSettings) -> Imported:
    """The answers in painted images; BadInput if there are none."""
    queries = questions.queries
    found = painted_answers(questions, painted, settings.click, settings.mask, settings.resize)
    if not len(found.answers):
        raise BadInput(
            f"{path} answers no query of {queries.path}. Paint the queries of these images, then export again."
        )
    if beside := len(painted.keys() - questions.rows.keys()):
        say(f"{path}: ignored {beside} images without queries")
    if found.unfinished:
        say(f"{path}: {found.unfinished} queries are painted in part and stay open")
    return found


def build(
    request: Request, path: Path, questions: Questions, ledger: Annotations | None, settings: ImportSettings
) -> str:
    found, people = read_imported(path, questions, settings)
    return publish_answers(request, questions, ledger, found.answers, people, found.masks)
