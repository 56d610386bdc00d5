"""The stage `export-queries`: write queries, open or answered, for people and other tools."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.answering.answer import Answer
from stages.answering.exchange.coco import coco_document
from stages.answering.exchange.indexed_png import png_files
from stages.answering.exchange.label_studio import label_studio_files
from stages.answering.exchange.outlines import Outlines, answers_of, outlines
from stages.answering.exchange.painted import require_paintable
from stages.answering.exchange.published import (
    points_masks,
    points_record,
    regions_numbered,
    regions_ranked,
    regions_record,
)
from stages.answering.exchange.tables import to_csv, to_json
from stages.answering.questions import Questions
from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import require_made_from
from stages.artifacts.locks import output_lock
from stages.artifacts.publish import make_folder, publish_bytes, publish_folder
from stages.artifacts.queries import Queries
from stages.artifacts.superpixels import regions_of
from stages.datasets.encode import png_bytes
from stages.runtime.console import Progress, say
from stages.runtime.errors import BadInput

COCO, LABEL_STUDIO = ".coco.json", ".labelstudio"
ENDINGS = (
    f".csv, .json, {COCO}, {LABEL_STUDIO}, .npy, .txt, none for a folder of PNG, or for other programs .points.pkl, "
    ".points.npy, .regions.pkl, .stride-NUMBER.pkl or .ranked.pkl"
)
STRIDE = re.compile(r".+\.stride-([1-9]\d{0,8})\.pkl")


def run(
    dataset: Path,
    queries: Path,
    output: Path,
    superpixels: Path | None = None,
    annotations: Path | None = None,
    images: Path | None = None,
) -> Path:
    """Writes the queries in the format of the ending of ``output``; without an ending, as a folder of PNG.

    .csv and .json: tables, one row per query; .coco.json: a shape per query; .labelstudio: a folder with a project;
    .npy and .txt: the ids of the queried images in rank order; for the other endings see `published.py`. Answers in the
    ledger ``annotations`` are filled in. ``images`` is a folder to write the queried images to. Raises BadInput instead
    of replacing a file, because it may already contain answers.
    """
    if not output.name:
        raise BadInput(f"{str(output)!r} is not a file name. Use one that ends in {ENDINGS}.")
    with Dataset(dataset) as data, Queries(queries) as queried:
        require_made_from(queried, "dataset", data)
        questions = Questions(data, queried, regions_of(superpixels, data, queried))
        ledger = None if annotations is None else Annotations(annotations)
        answers = {} if ledger is None else answers_of(questions, ledger)
        if images is not None:
            make_folder(images)
        with output_lock(output):
            if output.suffix == LABEL_STUDIO:
                new = publish_folder(output, label_studio_files(questions, answers, drawn(questions, answers, ledger)))
            elif output.suffix:
                new = publish_file(output, content(output, questions, answers, ledger))
            else:
                files = png_files(data.classes, data.palette, drawn_outlines(questions, answers, ledger))
                new = publish_folder(output, files)
        filled = f", {len(answers)} of them answered" if answers else ""
        say(f"wrote {output}: {len(queried)} queries{filled}" if new else f"{output} is up to date")
        if images is not None:
            write_pngs(questions, images)
    return output


def content(output: Path, questions: Questions, answers: dict[int, Answer], ledger: Annotations | None) -> bytes:
    """The content of the file ``output``."""
    queries = questions.queries
    if output.name.endswith(COCO):
        description = f"alseg: round {queries.round}, {len(queries)} queries for {queries.answer}"
        drawn = ((f"{image}.png", found) for image, found in drawn_outlines(questions, answers, ledger))
        return coco_document(questions.classes, description, drawn)
    if found := STRIDE.fullmatch(output.name):
        return regions_numbered(questions, int(found[1]))
    match "".join(output.suffixes[-2:]):
        case ".points.pkl":
            return points_record(questions, answers)
        case ".points.npy":
            return points_masks(questions)
        case ".regions.pkl":
            return regions_record(questions)
        case ".ranked.pkl":
            return regions_ranked(questions)
    match output.suffix:
        case ".csv":
            return to_csv(questions, answers)
        case ".json":
            return to_json(questions, answers)
        case ".npy" | ".txt":
            return image_names(questions, output)
    raise BadInput(f"{output} has an unknown ending. Use {ENDINGS}.")


def image_names(questions: Questions, output: Path) -> bytes:
    """The ids of the queried images: a one-dimensional NumPy array of text (.npy), or one per line (.txt).

    The public code of als4gan.md 2.4 reads the array.
    """
    queries = questions.queries
    if queries.unit != "image":
        raise BadInput(
            f"{queries.path} contains queries of {queries.unit}s, but {output.suffix} lists images. Use .csv."
        )
    names = [queries.ids[index] for index in queries.image]
    if output.suffix == ".txt":
        return "".join(f"{name}\n" for name in names).encode()
    array = io.BytesIO()
    np.save(array, np.array(names, dtype=np.str_), allow_pickle=False)
    return array.getvalue()


def drawn_outlines(
    questions: Questions, answers: dict[int, Answer], ledger: Annotations | None
) -> Iterator[tuple[str, Outlines]]:
    """Image id and shapes of each queried image; BadInput for queries that cannot be painted."""
    require_paintable(questions)
    yield from drawn(questions, answers, ledger)


def drawn(
    questions: Questions, answers: dict[int, Answer], ledger: Annotations | None
) -> Iterator[tuple[str, Outlines]]:
    """Image id and shapes of each queried image."""
    with Progress("drawing", len(questions.rows)) as bar:
        for image in questions.rows:
            yield image, outlines(questions, answers, ledger, image)
            bar.advance()


def publish_file(output: Path, content: bytes) -> bool:
    """True if the file was written, False if it exists; BadInput if one with other content exists."""
    if output.exists():
        if output.is_file() and output.read_bytes() == content:
            return False
        raise BadInput(f"{output} exists and may contain answers. Remove it, or choose another output.")
    publish_bytes(output, content)
    return True


def write_pngs(questions: Questions, folder: Path) -> None:
    """Writes the queried images as PNG at the size of the dataset; existing files are kept."""
    missing = [image for image in questions.rows if not (folder / f"{image}.png").exists()]
    with Progress("writing images", len(missing)) as bar:
        for image in missing:
            path = folder / f"{image}.png"
            make_folder(path.parent)
            publish_bytes(path, png_bytes(questions.data.rgb(image)))
            bar.advance()
    say(f"wrote {len(missing)} images to {folder}, {len(questions.rows) - len(missing)} existed")
