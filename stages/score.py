"""The stage `score`: how much asking about a pixel or an image would teach."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer
from stages.artifacts.header import Header
from stages.artifacts.images_table import write_images
from stages.artifacts.model import Model
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.shards import build_shards, join_shards
from stages.errors import BadInput
from stages.randomness import stream, torch_seed
from stages.ranks import Ranks, joined_ranks
from stages.settings.stages import ScoreSettings

SHARD_IMAGES = 64
Scorer = Callable[[Sequence[str]], Iterator[tuple[str, np.ndarray]]]


def run(dataset: Path, output: Path, settings: ScoreSettings, model: Path | None = None, force: bool = False) -> Path:
    """Publishes a score map per image of the split (unit pixel) or a score per image (unit image).

    Raises BadInput without a model for any measure but random, and for a model of another class table.
    """
    trained = None if model is None else Model(model)
    known = measure_names()
    if settings.measure not in known:
        raise BadInput(f"There is no measure {settings.measure!r}; known are {', '.join(known)}.")
    if settings.measure == "random":
        trained = None  # the result does not depend on it, so neither does the output's freshness
    elif trained is None:
        raise BadInput(f"The measure {settings.measure} needs --model; only random does without.")
    with Dataset(dataset) as data:
        ids = data.ids(settings.split)
        if trained is not None:
            require_same_classes(trained, data)
        request = Request("score", "scores", output, settings, refer(output, {"dataset": data, "model": trained}))
        device = "cpu"
        if trained is not None:
            from stages.inference.devices import choose_device

            device = choose_device(settings.device).type
        with joined_ranks(device) as ranks:
            return produce(request, lambda: build(request, data, ids, trained, settings, ranks), force, ranks)


def measure_names() -> list[str]:
    from stages.acquisition.measures import MEASURES

    return ["random", *MEASURES]


def require_same_classes(model: Model, data: Dataset) -> None:
    """BadInput unless ``model`` predicts the classes of ``data``."""
    if model.attributes["classes"] != data.classes:
        raise BadInput(
            f"{model.path} was trained for the classes {', '.join(model.attributes['classes'][:4])}, ... but "
            f"{data.path} has {', '.join(data.classes[:4])}, ...; give a model trained on this class table."
        )


def build(
    request: Request, data: Dataset, ids: list[str], model: Model | None, settings: ScoreSettings, ranks: Ranks
) -> str:
    scorer = random_scorer(data, settings) if model is None else network_scorer(data, model, settings)

    def fill(writer: Writer, part: Sequence[str]) -> dict[str, Any]:
        """Maps go to the file; per-image means and extremes are summed up for the join."""
        found: dict[str, Any] = {}
        for image, scores in scorer(part):
            if settings.unit == "pixel":
                scores = scores.astype(settings.dtype)
                writer.array(f"scores/{image}", scores)
            found[image] = [float(scores.mean(dtype=np.float64)), float(scores.min()), float(scores.max())]
        return found

    shards = build_shards(request, ids, SHARD_IMAGES, fill, "scoring", ranks.rank, ranks.size)
    ranks.barrier()
    if not ranks.is_main:
        return ""

    def finish(writer: Writer, parts: list[dict[str, Any]]) -> Header:
        statistics = {image: values for part in parts for image, values in part.items()}
        write_images(writer, ids, data.sizes)
        writer.array("images/score", np.array([statistics[image][0] for image in ids]))
        counts = {
            "images": len(ids),
            "mean": float(np.mean([values[0] for values in statistics.values()])),
            "minimum": min(values[1] for values in statistics.values()),
            "maximum": max(values[2] for values in statistics.values()),
        }
        attributes: dict[str, Any] = {"unit": settings.unit, "measure": settings.measure}
        return request.header(attributes, counts)

    header = join_shards(shards, finish)
    return f"{settings.measure} for {len(ids)} images, mean {header.counts['mean']:.4f}"


def random_scorer(data: Dataset, settings: ScoreSettings) -> Scorer:
    """Uniform scores in [0,1), a stream per image."""

    def score(ids: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        for image in ids:
            size = data.sizes[image] if settings.unit == "pixel" else (1, 1)
            yield image, stream(settings.seed, "score", image).random(size, dtype=np.float32)

    return score


def network_scorer(data: Dataset, model: Model, settings: ScoreSettings) -> Scorer:
    """Scores by a measure of the network's prediction, one pass or a committee of dropout passes."""
    import torch

    from stages.acquisition.committee import hard_vote, soft_vote
    from stages.acquisition.measures import MEASURES
    from stages.inference.devices import choose_device
    from stages.inference.predictor import ImageBatch, image_batches, load_predictor
    from stages.networks.dropout import dropout_modules

    device = choose_device(settings.device)
    predictor = load_predictor(model, settings.checkpoint, device, settings.precision)
    measure = MEASURES[settings.measure]
    if settings.committee:
        switches = dropout_modules(predictor.network)
        if not switches:
            raise BadInput(f"The network of {model.path} has no dropout to make a committee of; set --committee 0.")
        for module in switches:
            module.train()

    def passes(batch: ImageBatch) -> Iterator[torch.Tensor]:
        for member in range(settings.committee):
            torch.manual_seed(torch_seed(settings.seed, "committee", member, *batch.ids))
            yield predictor.logits(batch.images)

    def score(ids: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        # dropout draws one mask for a whole batch, so a committee sees one image at a time
        for batch in image_batches(data, ids, 1 if settings.committee else settings.batch):
            with torch.inference_mode():
                if not settings.committee:
                    scores = measure(predictor.logits(batch.images))
                elif settings.vote == "soft":
                    scores = soft_vote(passes(batch), measure)
                else:
                    scores = hard_vote(passes(batch), measure, settings.votes_per_pass)
            yield from zip(batch.ids, scores.cpu().numpy(), strict=True)

    return score
