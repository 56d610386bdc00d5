"""The gallery of a run: queries, answers, predictions and wrong pixels."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import ANSWERED_VOID
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Artifact
from stages.artifacts.header import SCHEMA_VERSION
from stages.artifacts.model import Model, require_same_classes
from stages.artifacts.opening import open_any
from stages.artifacts.queries import Queries
from stages.pixels.void import VOID
from stages.reporting.measured import Measured
from stages.reporting.pictures.labels import counted, rows_below
from stages.reporting.pictures.panels import colourise
from stages.reporting.pictures.sheet import spread_out
from stages.reporting.report.collect import Node, Run
from stages.reporting.report.extent import Extent
from stages.reporting.report.pictures import WIDEST_SHEET, Picture, decoded, encoded, panel_of, wrong_pixels
from stages.runtime.console import Progress
from stages.runtime.errors import BadInput


@dataclass(frozen=True)
class Shown:
    """An overlay with its caption; None if there is nothing to draw."""

    caption: str
    picture: Picture | None = None


@dataclass(frozen=True)
class PictureRow:
    """Overlays that belong together, with a title and a number of columns; wide ones are contact sheets."""

    title: str
    columns: int
    pictures: list[Shown]
    wide: bool = False


@dataclass
class Gallery:
    """`asked`: rows of queries and answers, `predicted`: rows of held-out images; `notes`: why overlays are missing."""

    asked: list[PictureRow] = field(default_factory=list)
    predicted: list[PictureRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    older: dict[str, list[str]] = field(default_factory=dict)  # schema -> files that can no longer be drawn

    @property
    def pictures(self) -> list[Picture]:
        rows = [*self.asked, *self.predicted]
        return [shown.picture for row in rows for shown in row.pictures if shown.picture is not None]


@dataclass(frozen=True)
class Round:
    """Queries, and the ledger with the answers to them."""

    queries: Node
    ledger: Node | None

    @property
    def name(self) -> str:
        return round_name(self.queries.round)


@dataclass
class Drawing:
    """The data needed to draw one run."""

    run: Run
    data: Dataset
    images: list[str]
    rounds: list[Round]
    models: list[Measured]
    gallery: Gallery
    widest: int


def round_name(number: int | None) -> str:
    return "at the end" if number is None else f"round {number}"


def draw_galleries(runs: Sequence[Run], others: Sequence[Run], extent: Extent, checkpoint: str) -> list[Gallery]:
    """A gallery per run within ``extent``, if possible of the same images as in all ``others`` of its dataset."""
    found, drawings = [Gallery() for _ in runs], []
    asked = {id(run): times_asked(run) for run in others}
    with ExitStack() as stack:
        for run, gallery in zip(runs, found, strict=True):
            try:
                data = stack.enter_context(open_dataset(run))
            except BadInput as error:
                gallery.notes += error.faults
                continue
            alike = [other for other in others if other.dataset_digest == run.dataset_digest and not masks_of(other)]
            images = chosen_images(run, asked[id(run)], [asked[id(other)] for other in alike], extent.images)
            rounds, models = shown_rounds(run, extent.rounds), shown_models(run, extent.rounds)
            drawings.append(Drawing(run, data, images, rounds, models, gallery, extent.widest))
        total = sum(len(each.rounds) * (len(each.images) + 1) + len(each.models) * extent.images for each in drawings)
        with Progress("drawing", total) as bar:
            for drawing in drawings:
                draw_asked(drawing, bar)
                draw_predicted(drawing, extent.images, checkpoint, bar)
    for gallery in found:
        gallery.notes += [
            f"No overlays of {', '.join(files)}: written with schema {version}, not {SCHEMA_VERSION}."
            for version, files in gallery.older.items()
        ]
    return found


def shown_rounds(run: Run, most: int) -> list[Round]:
    answers = {
        node.header.inputs["queries"].digest: node
        for node in run.of_kind("annotations")
        if "queries" in node.header.inputs
    }
    every = [Round(node, answers.get(node.digest)) for node in run.of_kind("queries")]
    return [every[place] for place in last_and_spread(len(every), most)]


def shown_models(run: Run, most: int) -> list[Measured]:
    known = [entry for entry in run.measured if entry.model in run.by_digest]
    return [known[place] for place in last_and_spread(len(known), most)]


def last_and_spread(number: int, most: int) -> list[int]:
    """At most ``most`` of the places 0..number-1, evenly spread; of one alone the last."""
    return list(range(number))[-1:] if most == 1 else spread_out(number, most).tolist()


def open_dataset(run: Run) -> Dataset:
    """The dataset of a run; BadInput if it is missing or has changed."""
    if run.dataset is None:
        raise BadInput("No overlays: no artifact of the run names its dataset.")
    node, ref = run.dataset
    path = node.source(ref)
    if not path.is_file():
        raise BadInput(f"No overlays: the dataset {path.name} is missing.")
    data = Dataset(path)
    if data.digest != ref.digest:
        data.close()
        raise BadInput(f"No overlays: {path.name} is not the dataset that the run was made from.")
    return data


def chosen_images(run: Run, own: Counter[str], every: Sequence[Counter[str]], number: int) -> list[str]:
    """Images queried in the first round and as often as possible later, if possible in all runs alike.

    ``own`` and ``every`` are the `times_asked` of the run and of all runs alike. For runs that query masks of whole
    images, these images.
    """
    masks = masks_of(run)
    if masks:
        return [masks[place] for place in spread_out(len(masks), number).tolist()]
    shared = set(own).intersection(*every)
    counts = own if len(shared) < number else Counter({image: sum(each[image] for each in every) for image in shared})
    if not counts or number < 1:
        return []
    least = sorted(counts.values(), reverse=True)[:number][-1]
    often = sorted(image for image, times in counts.items() if times >= least)
    return [often[place] for place in spread_out(len(often), number).tolist()]


def masks_of(run: Run) -> list[str]:
    """The images queried for a full mask."""
    nodes = [node for node in run.of_kind("queries") if node.header.attributes.get("answer") == "mask"]
    return sorted({image for node in nodes for image in images_of(node)})


def images_of(queries: Node) -> set[str]:
    """The queried images; none if the file cannot be read."""
    try:
        with Artifact(queries.path) as file:
            ids = file.strings("images/id")
            return {ids[index] for index in np.unique(file.read("queries/image")).tolist()}
    except BadInput:
        return set()


def times_asked(run: Run) -> Counter[str]:
    """Number of rounds in which each image of the first round was queried."""
    found: Counter[str] = Counter()
    for node in run.of_kind("queries"):
        asked = images_of(node)
        found.update(asked & set(found) if found else asked)
    return found


def attempt(gallery: Gallery, file: str, draw: Callable[[], Shown]) -> Shown:
    """The result of ``draw``, or a note if it fails: a file of another version must not stop the report."""
    try:
        return draw()
    except BadInput as error:
        gallery.notes.append(f"{file}: {error.faults[0]}")
    except Exception as error:
        gallery.notes.append(f"{file}: not drawn ({type(error).__name__}: {error}).")
    return Shown("not drawn, see the notes")


def opened(gallery: Gallery, node: Node | None) -> Artifact | Model | None:
    """The artifact, or None and a note if it cannot be read."""
    if node is None:
        return None
    try:
        return open_any(node.path)
    except BadInput as error:
        if node.header.schema_version == SCHEMA_VERSION:
            gallery.notes.append(f"{node.file}: {error.faults[0]}")
        else:
            gallery.older.setdefault(node.header.schema_version, []).append(node.file)
        return None


def draw_asked(drawing: Drawing, bar: Progress) -> None:
    """Per image a row with the queries of each round and one with the answers; queries of whole images as sheets."""
    gallery, data = drawing.gallery, drawing.data
    every = [(each, opened(gallery, each.queries), opened(gallery, each.ledger)) for each in drawing.rounds]
    sheets = []
    for each, queries, _ in every:
        if isinstance(queries, Queries) and queries.unit == "image":
            sheets.append(
                attempt(gallery, each.queries.file, partial(image_sheet, each, queries, data, drawing.widest))
            )
        bar.advance()
    if sheets:
        gallery.asked.append(PictureRow("Queried images", 2, sheets, wide=True))
    for image in drawing.images:
        asked, answered = [], []
        for each, queries, ledger in every:
            if isinstance(queries, Queries) and queries.unit != "image":
                shown = partial(queries_of, each, queries, data, image, drawing.widest)
                asked.append(attempt(gallery, each.queries.file, shown))
            if isinstance(ledger, Annotations) and has_picture(ledger):
                shown = partial(shown_answers, each, ledger, data, image, drawing.widest)
                answered.append(attempt(gallery, ledger.path.name, shown))
            bar.advance()
        pictures = [*asked, *answered]
        if any(shown.picture is not None for shown in pictures):
            gallery.asked.append(PictureRow(image, max(len(asked), len(answered)), pictures))


def has_picture(ledger: Annotations) -> bool:
    """Whether an answer has a place in the image; classes of whole images have none."""
    return len(ledger.image_rows) < len(ledger.answers)


def image_sheet(each: Round, queries: Queries, data: Dataset, widest: int) -> Shown:
    from stages.reporting.pictures.overlay import draw

    told = f"{each.name}: {counted(len(queries), 'image')}, answer: {queries.answer}"
    return Shown(told, encoded(decoded(draw(queries, data, None)), min(2 * widest, WIDEST_SHEET)))


def queries_of(each: Round, queries: Queries, data: Dataset, image: str, widest: int) -> Shown:
    from stages.reporting.pictures.overlay import draw

    number = int((queries.image == queries.ids.index(image)).sum()) if image in queries.ids else 0
    told = f"{each.name}: {counted(number, queries.unit)} queried"
    if not number:
        return Shown(told)
    return Shown(told, encoded(panel_of(decoded(draw(queries, data, image)), data.sizes[image]), widest))


def shown_answers(each: Round, ledger: Annotations, data: Dataset, image: str, widest: int) -> Shown:
    from stages.reporting.pictures.overlay import draw

    rows = rows_below(ledger, image)
    if not len(rows):
        return Shown(f"{each.name}: no answer yet")
    void = int((ledger.answers.state[rows] == ANSWERED_VOID).sum())
    told = f"{each.name}: {counted(len(rows), 'answer')} so far" + (f", {void} void" if void else "")
    return Shown(told, encoded(panel_of(decoded(draw(ledger, data, image)), data.sizes[image]), widest))


def draw_predicted(drawing: Drawing, number: int, checkpoint: str, bar: Progress) -> None:
    """Per held-out image a row with the image and each model's prediction, and one with the truth and the errors."""
    gallery, data, widest = drawing.gallery, drawing.data, drawing.widest
    gone = [round_name(entry.round) for entry in drawing.run.measured if entry.model not in drawing.run.by_digest]
    if gone:
        gallery.notes.append(f"No predictions of {', '.join(gone)}: the evaluated model is missing.")
    if not drawing.models:
        return
    split = drawing.models[0].split
    try:
        tested = data.ids(split)
    except BadInput as error:
        gallery.notes += error.faults
        return
    images = [tested[place] for place in spread_out(len(tested), number).tolist() if f"masks/{tested[place]}" in data]
    found: dict[int, list[np.ndarray]] = {}
    for place, entry in enumerate(drawing.models):
        node = drawing.run.by_digest[entry.model]
        if node.header.pruned:
            gallery.notes.append(f"No predictions of {round_name(entry.round)}: its model was pruned.")
            continue
        try:
            found[place] = predictions(Model(node.path), data, images, checkpoint, bar)
        except BadInput as error:
            gallery.notes += error.faults
        except Exception as error:  # networks of other versions fail in many ways, see `attempt`
            gallery.notes.append(f"{node.file}: no predictions ({type(error).__name__}: {error}).")
    for row, image in enumerate(images):
        if not found:
            break
        pixels, truth = data.rgb(image), data.mask(image)
        above = [Shown("image", encoded(pixels, widest))]
        below = [Shown("truth" + void_told(truth), map_of(truth, data, widest))]
        for place, predicted in found.items():
            name = round_name(drawing.models[place].round)
            above.append(
                Shown(
                    f"{name}: prediction{right_told(predicted[row], truth)}",
                    map_of(predicted[row], data, widest),
                )
            )
            below.append(Shown(f"{name}: wrong pixels", encoded(wrong_pixels(pixels, predicted[row], truth), widest)))
        gallery.predicted.append(PictureRow(f"{image} ({split})", len(above), [*above, *below]))


def map_of(labels: np.ndarray, data: Dataset, widest: int) -> Picture:
    """(H,W) u8 in the colours of the classes."""
    return encoded(colourise(labels, data.palette), widest, exact=True)


def right_told(predicted: np.ndarray, truth: np.ndarray) -> str:
    known = truth != VOID
    return f", {100 * (predicted == truth)[known].mean():.1f} % of the pixels right" if known.any() else ""


def void_told(truth: np.ndarray) -> str:
    return "; white: void" if (truth == VOID).any() else ""


def predictions(model: Model, data: Dataset, images: Sequence[str], checkpoint: str, bar: Progress) -> list[np.ndarray]:
    """(H,W) u8 predicted classes of each of ``images``; an output for void does not compete, as in evaluations."""
    from stages.networks.predictor import image_batches, load_predictor
    from stages.runtime.devices import choose_device

    require_same_classes(model, data)
    predictor = load_predictor(model, checkpoint, choose_device("auto"), "auto")
    found: dict[str, np.ndarray] = {}
    for batch in image_batches(data, images, 1):
        logits = predictor.logits(batch.images)[:, : len(data.classes)]
        found[batch.ids[0]] = logits.argmax(1)[0].cpu().numpy().astype(np.uint8)
        bar.advance()
    return [found[image] for image in images]
