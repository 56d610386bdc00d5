"""Small datasets made of arrays, and the stages run on them as functions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.artifacts.hdf5 import Writer, build_in_memory
from stages.artifacts.header import Header, now, recorded_versions
from stages.artifacts.publish import publish_bytes
from stages.commands import annotate_simulate, cluster_regions, extract_superpixels, score, select
from stages.runtime.parts import RULES
from stages.selecting.candidates import Candidates
from stages.selecting.chooser import Chooser
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.cluster_regions import ClusterSettings
from stages.settings.extract_superpixels import ExtractSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings

# Training settings for a network of seconds
TINY = {
    "weights": "none",
    "backbone": "mobilenetv3_small_050",
    "head_width": 16,
    "low_level_width": 8,
    "batch": 2,
    "device": "cpu",
}


def changed(settings: Any, values: Mapping[str, object]) -> Any:
    """``settings`` with other ``values``; what does not apply then is dropped."""
    return type(settings).load({}, offered=settings.flat() | dict(values))


def write_dataset(
    path: Path,
    masks: Mapping[str, np.ndarray],
    classes: int,
    splits: Mapping[str, str] | None = None,
    images: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """A dataset artifact holding ``masks`` (255 = void) and images (grey where none are given)."""

    def fill(writer: Writer) -> Header:
        for name, mask in masks.items():
            image = np.full((*mask.shape, 3), 128, np.uint8) if images is None else images[name]
            writer.array(f"images/{name}", image, compress=False)
            writer.array(f"masks/{name}", mask.astype(np.uint8))
        writer.strings("index/id", list(masks))
        writer.strings("index/split", [(splits or {}).get(name, "train") for name in masks])
        writer.array("index/height", np.array([mask.shape[0] for mask in masks.values()], dtype=np.int32))
        writer.array("index/width", np.array([mask.shape[1] for mask in masks.values()], dtype=np.int32))
        writer.array("index/label", np.full(len(masks), -1, dtype=np.int32))
        attributes = {
            "name": "made",
            "classes": [f"class{index}" for index in range(classes)],
            "palette": [[20 * (index % 12), index // 12, 0] for index in range(classes)],
            "ignore_index": 255,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
            "licence": "",
        }
        versions = recorded_versions()
        return Header("dataset", "prepare", {}, {}, 0, attributes=attributes, versions=versions, created=now())

    publish_bytes(path, build_in_memory(fill))
    return path


def random_masks(names: list[str], size: tuple[int, int], classes: int, void: float = 0.1) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(len(names))
    masks = {}
    for name in names:
        mask = generator.integers(0, classes, size)
        mask[generator.random(size) < void] = 255
        masks[name] = mask.astype(np.uint8)
    return masks


def write_superpixels(folder: Path, dataset: Path, **settings: object) -> Path:
    """Regions of the training images, squares of 64 pixels where nothing else is said."""
    values = ExtractSettings.load(settings, offered={"method": "grid", "region_pixels": 64, "workers": 1})
    return extract_superpixels.run(dataset, folder / f"{values.method}.h5", values)


def write_clusters(folder: Path, dataset: Path, superpixels: Path, **settings: object) -> Path:
    """Clusters of regions, by a small encoder with random weights where nothing else is said."""
    small = {"encoder": TINY["backbone"], "weights": "none", "clusters": 3, "device": "cpu", "workers": 1}
    values = ClusterSettings.load({}, offered=small | settings)
    return cluster_regions.run(dataset, superpixels, folder / f"clusters-{superpixels.stem}.h5", values)


def region_round(
    folder: Path,
    dataset: Path,
    number: int,
    superpixels: Path,
    before: Path | None = None,
    model: Path | None = None,
    select_settings: Mapping[str, object] | None = None,
    annotate_settings: Mapping[str, object] | None = None,
) -> Path:
    """One round on regions, scored by ``model`` or at random: the ledger it ends with."""
    measure = "random" if model is None else "bvsb"
    scored = ScoreSettings(measure=measure, unit="region", seed=number)
    scores = score.run(dataset, folder / f"scores{number}.h5", scored, model, superpixels)
    chosen = SelectSettings(**{"rule": "top", "budget": 4} | dict(select_settings or {}))
    queries = select.run(dataset, scores, folder / f"queries{number}.h5", chosen, before, superpixels)
    answered = AnnotateSettings(**(annotate_settings or {}))
    return annotate_simulate.run(dataset, queries, folder / f"ledger{number}.h5", answered, before, superpixels)


def random_round(
    folder: Path,
    dataset: Path,
    number: int,
    before: Path | None = None,
    select_settings: Mapping[str, object] | None = None,
    annotate_settings: Mapping[str, object] | None = None,
    score_settings: Mapping[str, object] | None = None,
) -> Path:
    """One round on random scores: the ledger it ends with."""
    scored = ScoreSettings(**{"measure": "random", "seed": number} | dict(score_settings or {}))
    scores = score.run(dataset, folder / f"scores{number}.h5", scored)
    queries = select.run(
        dataset, scores, folder / f"queries{number}.h5", SelectSettings(**(select_settings or {})), before
    )
    return annotate_simulate.run(
        dataset, queries, folder / f"ledger{number}.h5", AnnotateSettings(**(annotate_settings or {})), before
    )


def write_network(
    path: Path,
    dataset: Path,
    of_sets: bool | None = None,
    resized: Mapping[str, object] | None = None,
    void: bool = False,
    **network: object,
) -> Path:
    """A model with random weights instead of trained ones, in a second; large ones last, so that classes differ."""
    import torch

    from stages.artifacts.dataset import Dataset
    from stages.artifacts.model import write_model
    from stages.networks.build import build_network
    from stages.settings.network import NetworkSettings

    small = {name: value for name, value in TINY.items() if name not in ("batch", "device")}
    settings = NetworkSettings.load(network, offered=small)
    with Dataset(dataset) as data:
        attributes = {
            "network": settings.recorded(),
            "classes": data.classes,
            "outputs": len(data.classes) + void,
            "support": False,
            "of_images": settings.architecture == "classifier",
            "of_sets": of_sets,
            "discriminator": False,
            "mean": [0.5] * 3,
            "std": [0.25] * 3,
            "palette": data.palette.tolist(),
            "resized": dict(resized or {}),
            "best_epoch": None,
        }
    torch.manual_seed(0)
    built = build_network(settings, attributes["outputs"])
    *_, last = (weights for weights in built.parameters() if weights.ndim > 1)
    last.data *= 100
    counts = dict.fromkeys(("epochs", "answers", "asked_images", "labelled_pixels", "clicks", "seconds"), 0)
    versions = recorded_versions()
    header = Header("model", "train", {}, {}, 0, counts=counts, attributes=attributes, versions=versions, created=now())
    write_model(path, header, built.state_dict(), None)
    return path


@dataclass(frozen=True)
class DrawingFrom(Chooser):
    """A rule that draws from the generator ``given``."""

    given: Any = None

    def generator(self, name: str) -> Any:
        return self.given


def choose_pixels(
    rule: str, scores: np.ndarray, excluded: np.ndarray, budget: int, generator: Any, fraction: float = 0.05
) -> np.ndarray:
    """Flat indices in rank order of the pixels of one image, scores (H,W) and excluded (H,W) bool, by a rule."""
    part = RULES[rule]
    settings = None
    if part.settings is not None:
        settings = part.settings(**{"fraction": fraction} if "fraction" in part.settings.model_fields else {})
    eligible = np.flatnonzero(~excluded.ravel())
    lazy = {
        "predicted": lambda: eligible % 3,
        "features": lambda: eligible[:, None].astype(np.float32),
        "queried_features": lambda: np.zeros((0, 1), np.float32),
    }
    pool = Candidates(
        unit="pixel", scores=scores.ravel()[eligible], image=np.zeros(len(eligible), int), total=scores.size, lazy=lazy
    )
    return eligible[DrawingFrom(part, settings, 0, given=generator).positions(pool, budget, "image")]
