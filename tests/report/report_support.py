"""Small runs, as folders of rounds, and a reader of pages."""

from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from worlds import TINY, random_masks

from stages.artifacts.hdf5 import Writer, build_in_memory
from stages.artifacts.header import Header, now, recorded_versions
from stages.artifacts.publish import publish_bytes
from stages.commands import annotate_simulate, evaluate, score, select, train
from stages.evaluating.counts import ImageCounts
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.evaluate import EvaluateSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from stages.settings.train import TrainSettings

HOSTILE = ('<script>alert("road")</script>', 'a&b" onload="alert(1)', "'><img src=http://example.org/x>")
VOID = {"input", "img", "meta", "br", "hr", "link", "line", "circle", "polygon", "polyline"}


def hostile_dataset(path: Path, size: tuple[int, int] = (32, 40)) -> Path:
    """A dataset of six images whose classes and ids are what one would not like to see on a page unescaped."""
    ids = [f'i{number}<b>&"' for number in range(6)]
    masks = random_masks(ids, size, len(HOSTILE))
    splits = ["train", "train", "train", "val", "test", "test"]

    def fill(writer: Writer) -> Header:
        for number, image in enumerate(ids):
            writer.array(f"images/{image}", np.full((*size, 3), 100 + number, np.uint8))
            writer.array(f"masks/{image}", masks[image])
        writer.strings("index/id", ids)
        writer.strings("index/split", splits)
        writer.array("index/height", np.full(len(ids), size[0], dtype=np.int32))
        writer.array("index/width", np.full(len(ids), size[1], dtype=np.int32))
        writer.array("index/label", np.full(len(ids), -1, dtype=np.int32))
        attributes = {
            "name": "<i>hostile</i>",
            "classes": list(HOSTILE),
            "palette": [[200, 0, 0], [0, 200, 0], [0, 0, 200]],
            "ignore_index": 255,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
            "licence": "",
        }
        return Header(
            "dataset", "prepare", {}, {}, 0, attributes=attributes, versions=recorded_versions(), created=now()
        )

    publish_bytes(path, build_in_memory(fill))
    return path


def ask(
    folder: Path, dataset: Path, before: Path | None = None, seed: int = 0, budget: int = 4, **options: object
) -> Path:
    """One round without a model: scores, queries and answers in ``folder``; the ledger."""
    folder.mkdir(parents=True, exist_ok=True)
    scored = ScoreSettings(measure="random", seed=seed, unit=options.pop("unit", "pixel"))
    scores = score.run(dataset, folder / "scores.h5", scored)
    chosen = SelectSettings(rule=options.pop("rule", "uniform"), budget=budget, seed=seed, **options)
    queries = select.run(dataset, scores, folder / "queries.h5", chosen, before)
    answered = AnnotateSettings(seed=seed)
    return annotate_simulate.run(dataset, queries, folder / "annotations.h5", answered, before)


def learn(folder: Path, dataset: Path, ledger: Path) -> Path:
    """A model of one epoch, and its evaluation."""
    settings = TrainSettings(**TINY, epochs=1, crop=(32, 32))
    model = train.run(dataset, ledger, folder / "model.safetensors", settings)
    evaluate.run(dataset, [model], folder / "evaluation.h5", EvaluateSettings(device="cpu"))
    return model


def write_evaluation(
    folder: Path,
    clicks: float,
    iou: Mapping[str, float | None],
    split: str = "test",
    like: Header | None = None,
    seed: int = 1,
    counts: ImageCounts | None = None,
) -> Path:
    """An evaluation of a model that is gone, with the last epoch alone; made as the one ``like``, with this seed."""
    folder.mkdir(parents=True, exist_ok=True)
    values = np.array([np.nan if value is None else value for value in iou.values()])
    cost = {"answers": clicks, "asked_images": 2, "labelled_pixels": 1, "clicks": clicks, "seconds": 2 * clicks}

    def fill(writer: Writer) -> Header:
        for name, value in {"file": "gone.safetensors", "digest": "0" * 64, "checkpoint": "last"}.items():
            writer.strings(f"models/{name}", [value])
        writer.array("models/epoch", np.array([7], dtype=np.int32))
        writer.array("confusion", np.zeros((1, len(iou), len(iou)), dtype=np.int64))
        writer.array("iou", values[None])
        writer.array("miou", np.nanmean(values, keepdims=True))
        writer.array("pixel_accuracy", np.full(1, 0.5))
        for name, number in cost.items():
            writer.array(f"cost/{name}", np.array([number], dtype=np.float64))
        if counts is not None:
            writer.strings("images/id", counts.images)
            writer.array("images/truth", counts.truth)
            writer.array("images/hits", counts.hits[None])
            writer.array("images/predicted", counts.predicted[None])
        attributes = {"classes": list(iou), "split": split}
        made = like or Header("evaluation", "evaluate", {}, {}, 1, created=now())
        return replace(made, attributes=attributes, seed=seed)

    path = folder / "evaluation.h5"
    publish_bytes(path, build_in_memory(fill))
    return path


class Page(HTMLParser):
    """What a browser would make of a page: its elements with their attributes, its tables, its text."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.tables: list[list[list[str]]] = []
        self.open: list[str] = []
        self.captions: list[str] = []
        self.text = ""
        self.source = text
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        elif tag == "br":
            self.handle_data(" ")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self.open[-1] == tag, f"</{tag}> closes {self.open}"
        self.open.pop()

    def handle_data(self, data):
        if "script" in self.open or "style" in self.open:
            return
        self.text += data
        if self.tables and ("td" in self.open or "th" in self.open):
            self.tables[-1][-1][-1] += data

    def table(self, *words: str, place: int | None = None) -> list[list[str]]:
        """The rows below the head of the one table with these words in its head, or of the one at ``place`` of many."""
        found = [rows for rows in self.tables if set(words) <= {cell.strip() for cell in rows[0]}]
        assert place is not None or len(found) == 1, [rows[0] for rows in found]
        return [[" ".join(cell.split()) for cell in row] for row in found[place or 0][1:]]
