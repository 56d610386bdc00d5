"""Scores of whole images by a classifier of images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer
from stages.artifacts.model import Model
from stages.artifacts.shards import Fill, Parts
from stages.runtime.errors import BadInput
from stages.runtime.parts import MEASURES
from stages.settings.score import ScoreSettings


def score_images(data: Dataset, model: Model, settings: ScoreSettings) -> Fill:
    """Per image the measure of the classifier's prediction, its probabilities, and its features if they are kept.

    (spec als4gan.md 2.3: one softmax, of the model that was trained before the image is queried)
    """
    from stages.networks.predictor import image_batches, load_predictor, scaled_images
    from stages.runtime.devices import choose_device
    from stages.scoring.measuring import plain_measure

    network = settings.network
    assert network is not None
    require_measure_of_images(model, settings)
    measure, of_sets = plain_measure(settings.measure, settings.of_measure), measures_presence(settings.measure)
    predictor = load_predictor(model, network.checkpoint, choose_device(network.use.device), network.use.precision)

    def fill(writer: Writer, part: Sequence[str]) -> dict[str, Any]:
        for batch in image_batches(data, part, network.use.batch):
            seen = scaled_images(batch.images.to(predictor.device), network.input_scale, network.input_filter)
            logits = predictor.logits(seen)
            probability = logits.sigmoid() if of_sets else logits.softmax(1)
            writer.rows("score", measure(logits).flatten(1).mean(1).cpu().numpy())
            writer.rows("probability", probability.flatten(1).cpu().numpy())
            if keeps_features(settings):
                writer.rows("features", predictor.features(seen).cpu().numpy().astype(np.float16))
        return {}

    return fill


def require_measure_of_images(model: Model, settings: ScoreSettings) -> None:
    """BadInput for a committee, and for a measure that does not fit the classifier's kind of prediction."""
    of = "presence" if model.of_sets else "classes"
    fitting = [
        part.name
        for part in MEASURES.parts()
        if not part.facts["passes"] and (model.of_sets is None or part.facts["of"] == of)
    ]
    if settings.passes:
        raise BadInput(
            f"{model.path} is a classifier of images, which has no committee. Use a measure of one pass "
            f"({', '.join(fitting)}) with --committee 0."
        )
    if settings.measure not in fitting:
        named = "all classes" if model.of_sets else "one class"
        raise BadInput(
            f"{model.path} names {named} of an image, which {settings.measure} does not measure. Use "
            f"{', '.join(fitting)}."
        )


def measures_presence(measure: str) -> bool:
    """Whether the measure is one of classes that do not exclude each other."""
    return bool(MEASURES[measure].facts["of"] == "presence")


def keeps_features(settings: ScoreSettings) -> bool:
    return settings.image is not None and settings.image.kept is not None and settings.image.kept.keep_features


def finish_images(writer: Writer, parts: Parts, settings: ScoreSettings) -> dict[str, Any]:
    score = parts.column("score").astype(np.float64)
    writer.array("images/score", score)
    writer.array("images/probability", parts.column("probability").astype(np.float32))
    if keeps_features(settings):
        writer.array("images/features", parts.column("features"))
    return {"mean": float(score.mean()), "minimum": float(score.min()), "maximum": float(score.max())}
