"""The stage `export-queries`: queries, open or answered, as a file for people and other tools."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.answering.exchange.coco import coco_document
from stages.answering.exchange.indexed_png import png_files
from stages.answering.exchange.outlines import Outlines, answers_of, outlines
from stages.answering.exchange.painted import require_paintable
from stages.answering.exchange.tables import to_csv, to_json
from stages.answering.given import Given
from stages.answering.questions import Questions
from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import require_made_from
from stages.artifacts.publish import make_folder, output_lock, publish_bytes, publish_folder
from stages.artifacts.queries import Queries
from stages.artifacts.superpixels import regions_of
from stages.datasets.encode import png_bytes
from stages.runtime.console import Progress, say
from stages.runtime.errors import BadInput

COCO = ".coco.json"
ENDINGS = f".csv, .json, {COCO}, .npy or .txt, or in no ending for a folder of PNG"


def run(
    dataset: Path,
    queries: Path,
    output: Path,
    superpixels: Path | None = None,
    annotations: Path | None = None,
    images: Path | None = None,
) -> Path:
    """Writes the queries in the format that the ending of ``output`` names; without one it is a folder of PNG.

    .csv and .json: tables, one row per query; .coco.json: a shape per query; .npy and .txt: the ids of the asked
    images in rank order. What the ledger ``annotations`` answers of them is filled in. ``images`` is a folder that the
    asked images are written to. Raises BadInput rather than replace anything, for it may hold answers by now.
    """
    if not output.name:
        raise BadInput(f"{str(output)!r} is no name of an output; end it in {ENDINGS}.")
    with Dataset(dataset) as data, Queries(queries) as asked:
        require_made_from(asked, "dataset", data)
        questions = Questions(data, asked, regions_of(superpixels, data, asked))
        ledger = None if annotations is None else Annotations(annotations)
        given = {} if ledger is None else answers_of(questions, ledger)
        if images is not None:
            make_folder(images)
        with output_lock(output):
            if output.suffix:
                new = publish_file(output, content(output, questions, given, ledger))
            else:
                files = png_files(data.classes, data.palette, drawn_outlines(questions, given, ledger))
                new = publish_folder(output, files)
        filled = f", {len(given)} of them answered" if given else ""
        say(f"wrote {output}: {len(asked)} queries{filled}" if new else f"{output} is up to date")
        if images is not None:
            write_pngs(questions, images)
    return output


def content(output: Path, questions: Questions, given: dict[int, Given], ledger: Annotations | None) -> bytes:
    """The one file that ``output`` is to be."""
    queries = questions.queries
    if output.name.endswith(COCO):
        told = f"alseg: round {queries.round}, {len(queries)} queries for {queries.answer}"
        return coco_document(questions.classes, told, drawn_outlines(questions, given, ledger))
    match output.suffix:
        case ".csv":
            return to_csv(questions, given)
        case ".json":
            return to_json(questions, given)
        case ".npy" | ".txt":
            return image_names(questions, output)
    raise BadInput(f"{output} has no known format; end its name in {ENDINGS}.")


def image_names(questions: Questions, output: Path) -> bytes:
    """The ids of the asked images: a one-dimensional NumPy array of text (.npy), or one per line (.txt).

    (spec als4gan.md 2.4: the array is what the public code reads)
    """
    queries = questions.queries
    if queries.unit != "image":
        raise BadInput(f"{queries.path} asks about {queries.unit}s; {output.suffix} lists asked images: use .csv.")
    names = [queries.ids[index] for index in queries.image]
    if output.suffix == ".txt":
        return "".join(f"{name}\n" for name in names).encode()
    array = io.BytesIO()
    np.save(array, np.array(names, dtype=np.str_), allow_pickle=False)
    return array.getvalue()


def drawn_outlines(
    questions: Questions, given: dict[int, Given], ledger: Annotations | None
) -> Iterator[tuple[str, Outlines]]:
    require_paintable(questions)
    with Progress("drawing", len(questions.rows)) as bar:
        for image in questions.rows:
            yield image, outlines(questions, given, ledger, image)
            bar.advance()


def publish_file(output: Path, content: bytes) -> bool:
    """True when it was written, False when it is there; BadInput when something else is."""
    if output.exists():
        if output.is_file() and output.read_bytes() == content:
            return False
        raise BadInput(f"{output} exists and may contain answers. Remove it, or choose another output.")
    publish_bytes(output, content)
    return True


def write_pngs(questions: Questions, folder: Path) -> None:
    """The asked images as PNG, for tools that need them in the size of the dataset; those that are there stay."""
    missing = [image for image in questions.rows if not (folder / f"{image}.png").exists()]
    with Progress("writing images", len(missing)) as bar:
        for image in missing:
            path = folder / f"{image}.png"
            make_folder(path.parent)
            publish_bytes(path, png_bytes(questions.data.image(image)))
            bar.advance()
    say(f"wrote {len(missing)} images to {folder}, {len(questions.rows) - len(missing)} were there")
