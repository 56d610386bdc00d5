"""What a network says about whole images: a score and a class for every pixel of their grids."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stages.artifacts.dataset import Dataset
from stages.artifacts.model import Model
from stages.networks.dropout import dropout_modules
from stages.networks.predictor import ImageBatch, Predictor, image_batches, load_predictor, scaled_images
from stages.networks.support import SupportMaps
from stages.pixels.edges import edge_mask
from stages.pixels.grids import Size
from stages.pixels.maps import interpolated, lookup, not_finer
from stages.runtime.devices import choose_device
from stages.runtime.errors import BadInput, StageFailed
from stages.runtime.randomness import torch_seed
from stages.scoring.committee import hard_vote, soft_vote
from stages.scoring.maturity import lossiness, maturity
from stages.scoring.measures import MEASURES
from stages.settings.score import ScoreSettings


class ScoreMaps(NamedTuple):
    """Of one image: scores (H,W) f32 and predicted classes (H,W) i64 on its grid, logits (C,h,w) f32 of any size."""

    image: str
    scores: Tensor
    predicted: Tensor
    logits: Tensor


def score_maps(
    data: Dataset, model: Model, ids: Sequence[str], grids: dict[str, Size], outputs: int, settings: ScoreSettings
) -> Iterator[ScoreMaps]:
    """The measure of the first ``outputs`` logits at every pixel of each image's grid.

    Logits finer than the grid are averaged onto it before they are measured; coarser ones are measured as they are, and
    every pixel of the grid reads the value it lies in.
    """
    predictor = load_predictor(model, settings.checkpoint, choose_device(settings.device), settings.precision)
    for batch in image_batches(data, ids, settings.batch):
        size = grids[batch.ids[0]]
        with torch.inference_mode():
            logits, scores = scored(predictor, batch.images, size, outputs, settings)
            for image, own, values in zip(batch.ids, logits, scores, strict=True):
                if not torch.isfinite(values).all():
                    raise StageFailed(
                        f"The scores of image {image} are not finite, since a probability of the network is 0; score "
                        "with --maturity pixel."
                    )
                yield ScoreMaps(image, values, lookup(own.max(0).indices, size), own)  # of equal classes the first


def scored(
    predictor: Predictor, images: Tensor, size: Size, outputs: int, settings: ScoreSettings
) -> tuple[Tensor, Tensor]:
    """Logits (B,C,h,w) f32 not finer than the grid ``size`` (H,W), and scores (B,H,W) f32 on it, of (B,3,..,..) u8."""
    if not settings.needs_support:
        logits = not_finer(predictor.scaled_logits(images, settings.input_scale)[:, :outputs], size)
        return logits, lookup(MEASURES[settings.measure](logits), size)
    seen = scaled_images(images.to(predictor.device), settings.input_scale)
    found, support = predictor.support_maps(seen)
    logits = not_finer(found[:, :outputs], size)
    return logits, lookup(score_terms(logits, support, seen, settings).score, size)


class ScoreTerms(NamedTuple):
    """What a score is made of, (B,h,w) f32 each: (measure + maturity) * factor. None: left out."""

    measure: Tensor
    maturity: Tensor | None
    factor: Tensor | None

    @property
    def score(self) -> Tensor:
        total = self.measure if self.maturity is None else self.measure + self.maturity
        return total if self.factor is None else total * self.factor


def score_terms(logits: Tensor, support: SupportMaps, seen: Tensor, settings: ScoreSettings) -> ScoreTerms:
    """On the grid of ``logits`` (B,C,h,w), of the first C outputs; ``support`` is of the images ``seen`` (B,3,H,W)."""
    outputs, inner = logits.shape[1], (logits.shape[-2], logits.shape[-1])
    divergence = factor = None
    if settings.maturity != "none":
        sides, mixing = interpolated(support.sides[:, :, :outputs], inner), interpolated(support.mixing, inner)
        divergence = maturity(logits, sides, mixing, settings.maturity)
    if settings.lossiness:
        edges = lookup(edge_mask(seen), inner)
        factor = lossiness(interpolated(support.lossiness.sigmoid(), inner), edges)
    return ScoreTerms(MEASURES[settings.measure](logits), divergence, factor)


def committee_maps(
    data: Dataset, model: Model, ids: Sequence[str], grids: dict[str, Size], settings: ScoreSettings
) -> Iterator[tuple[str, Tensor]]:
    """Scores (H,W) f32 on each image's grid by a committee of passes with dropout switched on."""
    predictor = load_predictor(model, settings.checkpoint, choose_device(settings.device), settings.precision)
    measure, classes = MEASURES[settings.measure], len(data.classes)
    switches = dropout_modules(predictor.network)
    if not switches:
        raise BadInput(f"The network of {model.path} has no dropout to make a committee of; set --committee 0.")
    for module in switches:
        module.train()

    def passes(batch: ImageBatch) -> Iterator[Tensor]:
        for member in range(settings.committee):
            torch.manual_seed(torch_seed(settings.seed, "committee", member, *batch.ids))
            logits = predictor.scaled_logits(batch.images, settings.input_scale)[:, :classes]
            yield not_finer(logits, grids[batch.ids[0]])

    for batch in image_batches(data, ids, 1):  # dropout draws one mask for a whole batch
        with torch.inference_mode():
            if settings.vote == "soft":
                scores = soft_vote(passes(batch), measure)
            else:
                scores = hard_vote(passes(batch), measure, settings.votes_per_pass)
            yield batch.ids[0], lookup(scores, grids[batch.ids[0]])[0]
