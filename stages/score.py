"""The stage `score`: how much asking about a pixel, a region or an image would teach."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.acquisition.balance import class_shares, class_weights, probability_weights, rescaled
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer, require_made_from
from stages.artifacts.header import Header
from stages.artifacts.images_table import write_images
from stages.artifacts.model import Model, require_same_classes
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.shards import Parts, build_shards, join_shards
from stages.artifacts.superpixels import Superpixels
from stages.errors import BadInput
from stages.randomness import stream, torch_seed
from stages.ranks import Ranks, joined_ranks
from stages.settings.stages import ScoreSettings

SHARD_IMAGES = 64
Scorer = Callable[[Sequence[str]], Iterator[tuple[str, np.ndarray]]]
Fill = Callable[[Writer, Sequence[str]], dict[str, Any]]


def run(
    dataset: Path,
    output: Path,
    settings: ScoreSettings,
    model: Path | None = None,
    superpixels: Path | None = None,
    force: bool = False,
) -> Path:
    """Publishes a score per pixel, per region of ``superpixels``, or per image of the split.

    Raises BadInput without a model for any measure but random, for a model of another class table, and for regions that
    are of another split or were merged with another model.
    """
    trained = None if model is None else Model(model)
    known = measure_names()
    if settings.measure not in known:
        raise BadInput(f"There is no measure {settings.measure!r}; known are {', '.join(known)}.")
    if settings.measure == "random":
        trained = None  # the result does not depend on it, so neither does the output's freshness
    elif trained is None:
        raise BadInput(f"The measure {settings.measure} needs --model; only random does without.")
    if (settings.unit == "region") != (superpixels is not None):
        raise BadInput("--unit region and --superpixels belong together; give both or neither.")
    with Dataset(dataset) as data:
        ids = data.ids(settings.split)
        if trained is not None:
            require_same_classes(trained, data)
            if settings.void_output != "drop" and not trained.knows_void:
                raise BadInput(
                    f"{model} never learned void, so it has no output to {settings.void_output}; set --void-output "
                    "drop, or train with --learn-void."
                )
        regions = None if superpixels is None else Superpixels(superpixels)
        if regions is not None:
            require_made_from(regions, "dataset", data)
            regions.require_images(ids, settings.split)
            if not regions.count:
                raise BadInput(f"{superpixels} holds no region (every pixel is void), so there is nothing to score.")
            if trained is not None:  # merged regions are of one model: what it says of them is what made them
                require_made_from(regions, "model", trained)
        inputs = {"dataset": data, "model": trained, "superpixels": regions}
        request = Request("score", "scores", output, settings, refer(output, inputs))
        device = "cpu"
        if trained is not None:
            from stages.inference.devices import choose_device

            device = choose_device(settings.device).type
        with joined_ranks(device) as ranks:
            return produce(request, lambda: build(request, data, ids, trained, regions, settings, ranks), force, ranks)


def measure_names() -> list[str]:
    from stages.acquisition.measures import MEASURES

    return ["random", *MEASURES]


def build(
    request: Request,
    data: Dataset,
    ids: list[str],
    model: Model | None,
    regions: Superpixels | None,
    settings: ScoreSettings,
    ranks: Ranks,
) -> str:
    fill = score_pixels(data, model, settings) if regions is None else score_regions(data, model, regions, settings)
    shards = build_shards(request, ids, SHARD_IMAGES, fill, "scoring", ranks.rank, ranks.size)
    ranks.barrier()
    if not ranks.is_main:
        return ""

    def finish(writer: Writer, parts: Parts) -> Header:
        write_images(writer, ids, data.sizes)
        if regions is None:
            counts = finish_pixels(writer, parts, ids)
        else:
            counts = finish_regions(writer, parts, regions, data, model is not None, settings)
        attributes: dict[str, Any] = {"unit": settings.unit, "measure": settings.measure}
        if regions is not None:
            attributes |= {
                "class_balance": settings.class_balance,
                "oracle_privilege": regions.attributes["oracle_privilege"],
            }
        return request.header(attributes, {"images": len(ids)} | counts)

    counts = join_shards(shards, finish).counts
    what = f"{counts['regions']} regions of " if regions is not None else ""
    return f"{settings.measure} for {what}{len(ids)} images, mean {counts['mean']:.4f}"


def score_pixels(data: Dataset, model: Model | None, settings: ScoreSettings) -> Fill:
    """Score maps (units pixel and image): maps go to the file, per-image means and extremes to the join."""
    scorer = random_maps(data, settings) if model is None else network_maps(data, model, settings)

    def fill(writer: Writer, part: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for image, scores in scorer(part):
            if settings.unit == "pixel":
                scores = scores.astype(settings.dtype)
                writer.array(f"scores/{image}", scores)
            found[image] = [float(scores.mean(dtype=np.float64)), float(scores.min()), float(scores.max())]
        return {"statistics": found}

    return fill


def finish_pixels(writer: Writer, parts: Parts, ids: list[str]) -> dict[str, Any]:
    statistics = parts.merged("statistics")
    writer.array("images/score", np.array([statistics[image][0] for image in ids]))
    return {
        "mean": float(np.mean([values[0] for values in statistics.values()])),
        "minimum": min(values[1] for values in statistics.values()),
        "maximum": max(values[2] for values in statistics.values()),
    }


def random_maps(data: Dataset, settings: ScoreSettings) -> Scorer:
    """Uniform scores in [0,1), a stream per image."""

    def score(ids: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        for image in ids:
            size = data.sizes[image] if settings.unit == "pixel" else (1, 1)
            yield image, stream(settings.seed, "score", image).random(size, dtype=np.float32)

    return score


def network_maps(data: Dataset, model: Model, settings: ScoreSettings) -> Scorer:
    """Scores (H,W) f32 by a measure of the network's prediction, one pass or a committee of dropout passes."""
    import torch

    from stages.acquisition.committee import hard_vote, soft_vote
    from stages.acquisition.measures import MEASURES
    from stages.inference.devices import choose_device
    from stages.inference.predictor import ImageBatch, image_batches, load_predictor
    from stages.networks.dropout import dropout_modules
    from stages.regions.reductions import lookup

    device = choose_device(settings.device)
    predictor = load_predictor(model, settings.checkpoint, device, settings.precision)
    measure, classes = MEASURES[settings.measure], len(data.classes)
    if settings.committee:
        switches = dropout_modules(predictor.network)
        if not switches:
            raise BadInput(f"The network of {model.path} has no dropout to make a committee of; set --committee 0.")
        for module in switches:
            module.train()

    def passes(batch: ImageBatch) -> Iterator[torch.Tensor]:
        for member in range(settings.committee):
            torch.manual_seed(torch_seed(settings.seed, "committee", member, *batch.ids))
            yield predictor.scaled_logits(batch.images, settings.input_scale)[:, :classes]

    def score(ids: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        # dropout draws one mask for a whole batch, so a committee sees one image at a time
        for batch in image_batches(data, ids, 1 if settings.committee else settings.batch):
            with torch.inference_mode():
                if not settings.committee:
                    scores = measure(predictor.scaled_logits(batch.images, settings.input_scale)[:, :classes])
                elif settings.vote == "soft":
                    scores = soft_vote(passes(batch), measure)
                else:
                    scores = hard_vote(passes(batch), measure, settings.votes_per_pass)
                scores = lookup(scores, data.sizes[batch.ids[0]])
            yield from zip(batch.ids, scores.cpu().numpy(), strict=True)

    return score


def score_regions(data: Dataset, model: Model | None, regions: Superpixels, settings: ScoreSettings) -> Fill:
    """Per region its mean measure and the pixels of each predicted class; random: a uniform number."""
    if model is None:

        def draw(writer: Writer, part: Sequence[str]) -> dict[str, Any]:
            for image in part:
                writer.rows(
                    "score", stream(settings.seed, "score", image).random(regions.number(image), dtype=np.float32)
                )
            return {}

        return draw

    import torch

    from stages.acquisition.measures import MEASURES
    from stages.inference.devices import choose_device
    from stages.inference.predictor import image_logits, load_predictor
    from stages.regions.reductions import score_image

    device = choose_device(settings.device)
    predictor = load_predictor(model, settings.checkpoint, device, settings.precision)
    measure = MEASURES[settings.measure]
    outputs = len(data.classes) if settings.void_output == "drop" else model.outputs

    def fill(writer: Writer, part: Sequence[str]) -> dict[str, Any]:
        probability: dict[str, list[float]] = {}
        for image, every in image_logits(predictor, data, part, settings.batch, settings.input_scale):
            logits = every[:outputs]
            labels = torch.from_numpy(regions.labels(image)).to(device).long()
            sums, histogram = score_image(logits, labels, regions.number(image), measure)
            found = histogram > 0
            values = {
                "predicted": histogram.argmax(1).astype(np.uint8),  # ties: the smallest class
                "degree": found.sum(1),
                "class": np.nonzero(found)[1].astype(np.uint8),
                "pixels": histogram[found].astype(np.int32),
                "sums": sums[found],
            }
            for name, value in values.items():
                writer.rows(name, value)
            if settings.class_balance == "probability":
                probability[image] = logits.softmax(0).mean(2).double().mean(1).tolist()
        return {"probability": probability}

    return fill


def finish_regions(
    writer: Writer, parts: Parts, regions: Superpixels, data: Dataset, predicted: bool, settings: ScoreSettings
) -> dict[str, Any]:
    """The columns over all regions; the class balance needs all of them before it can weigh one."""
    sizes = regions.region_sizes
    writer.array("regions/size", sizes)
    counts: dict[str, Any] = {"regions": len(sizes)}
    if not predicted:
        score = parts.column("score")
    else:
        offsets = np.concatenate([[0], np.cumsum(parts.column("degree"))]).astype(np.int64)
        classes, of_class, sums = parts.column("predicted"), parts.column("class"), parts.column("sums")
        writer.array("regions/predicted", classes)
        writer.array("histogram/offsets", offsets)
        writer.array("histogram/class", of_class)
        writer.array("histogram/pixels", parts.column("pixels"))
        writer.array("histogram/score", sums.astype(np.float32))
        outputs = len(data.classes) + (settings.void_output != "drop")
        shares = pool_shares(parts, data, classes, sizes, outputs, settings)
        uncertainty = np.add.reduceat(sums, offsets[:-1]) / sizes
        weighed = rescaled(uncertainty) if settings.rescale else uncertainty
        match settings.class_balance:
            case "none":
                weights, score = np.ones(outputs), weighed
            case "probability":  # every pixel by its own class
                weights = probability_weights(shares, settings.balance_strength)
                score = np.add.reduceat(sums * weights[of_class], offsets[:-1]) / sizes
            case _:  # the whole region by the class of most of its pixels
                weights = class_weights(shares, settings.share_scale)
                score = weighed * weights[classes]
        if settings.void_output == "ban":
            score = np.where(classes == len(data.classes), 0, score)
        score = score.astype(np.float32)
        writer.array("regions/uncertainty", uncertainty.astype(np.float32))
        writer.array("classes/share", shares)
        writer.array("classes/weight", weights)
        names = [*data.classes, "void"][:outputs]
        counts["share"] = {name: float(share) for name, share in zip(names, shares, strict=True)}
    writer.array("regions/score", score)
    return counts | {
        "mean": float(score.mean(dtype=np.float64)),
        "minimum": float(score.min()),
        "maximum": float(score.max()),
    }


def pool_shares(
    parts: Parts, data: Dataset, predicted: np.ndarray, sizes: np.ndarray, outputs: int, settings: ScoreSettings
) -> np.ndarray:
    """(outputs,) f64 share of each class in the pool: of its regions, its pixels, or its probability."""
    if settings.class_balance != "probability":
        by = "regions" if settings.class_balance == "none" else settings.class_balance
        return class_shares(predicted, sizes, outputs, by)
    means = parts.merged("probability")
    pixels = np.array([data.sizes[image][0] * data.sizes[image][1] for image in means], dtype=np.float64)
    return np.average(np.array(list(means.values())), 0, pixels)
