"""Scores of whole images by a classifier of images."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer
from stages.artifacts.model import Model
from stages.artifacts.shards import Fill, Parts
from stages.runtime.errors import BadInput
from stages.settings.score import ScoreSettings


def score_images(data: Dataset, model: Model | None, settings: ScoreSettings) -> Fill:
    """Per image the measure of the classifier's prediction, its probabilities, and its features where they are kept.

    (spec als4gan.md 2.3: one softmax, of the model that was trained before the image is asked about)
    """
    from stages.networks.predictor import image_batches, load_predictor, scaled_images
    from stages.runtime.devices import choose_device
    from stages.scoring.measures import MEASURES

    assert model is not None
    if settings.committee:
        raise BadInput("A committee scores by a segmentation network; set --committee 0 for a classifier of images.")
    measure, of_sets = MEASURES[settings.measure], settings.measure.startswith("binary-")
    if model.of_sets is not None and model.of_sets != of_sets:
        named, other = (
            ("all classes", "binary-entropy, binary-margin") if model.of_sets else ("one class", "entropy, margin")
        )
        raise BadInput(
            f"{model.path} names {named} of an image, which {settings.measure} does not measure; choose another, such "
            f"as {other}."
        )
    device = choose_device(settings.device)
    predictor = load_predictor(model, settings.checkpoint, device, settings.precision)

    def fill(writer: Writer, part: Sequence[str]) -> dict[str, Any]:
        for batch in image_batches(data, part, settings.batch):
            seen = scaled_images(batch.images.to(device), settings.input_scale)
            logits = predictor.logits(seen)
            probability = logits.sigmoid() if of_sets else logits.softmax(1)
            writer.rows("score", measure(logits).flatten(1).mean(1).cpu().numpy())
            writer.rows("probability", probability.flatten(1).cpu().numpy())
            if settings.keep_features:
                writer.rows("features", predictor.features(seen).cpu().numpy().astype(np.float16))
        return {}

    return fill


def finish_images(writer: Writer, parts: Parts, settings: ScoreSettings) -> dict[str, Any]:
    score = parts.column("score").astype(np.float64)
    writer.array("images/score", score)
    writer.array("images/probability", parts.column("probability").astype(np.float32))
    if settings.keep_features:
        writer.array("images/features", parts.column("features"))
    return {"mean": float(score.mean()), "minimum": float(score.min()), "maximum": float(score.max())}
