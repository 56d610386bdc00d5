"""Predictions of a network on whole images: a score and a class for each pixel of their grids."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from stages.artifacts.dataset import Dataset
from stages.artifacts.model import Model
from stages.networks.dropout import dropout_modules
from stages.networks.feature_tap import FeatureTap
from stages.networks.predictions import load_image_predictor
from stages.networks.predictor import Predictor, image_batches, scaled_images, scaled_size
from stages.networks.support import SupportMaps
from stages.pixels.edges import edge_mask
from stages.pixels.grids import Size
from stages.pixels.maps import interpolated, lookup, not_finer
from stages.runtime.errors import BadInput, StageFailed
from stages.runtime.parts import MEASURES
from stages.runtime.randomness import torch_seed
from stages.scoring.committee import hard_vote, soft_vote
from stages.scoring.logits import softmax
from stages.scoring.maturity import lossiness, maturity
from stages.scoring.measuring import Measure, measure_of_passes, plain_measure
from stages.settings.score import NetworkScores, ScoreSettings


class ScoreMaps(NamedTuple):
    """Of one image: scores (H,W) f32 and predicted classes (H,W) i64 on its grid, logits (C,h,w) f32 of any size.

    For a committee, prediction and logits are those of the passes' mean probabilities. features (D,h,w) f32 if they
    are kept.
    """

    image: str
    scores: Tensor
    predicted: Tensor
    logits: Tensor
    features: Tensor | None = None


Scored = tuple[Tensor, Tensor]
"""Logits (B,C,h,w) f32 not finer than the grid (H,W), and scores (B,H,W) f32 on it."""


def score_maps(
    data: Dataset, model: Model, ids: Sequence[str], grids: dict[str, Size], outputs: int, settings: ScoreSettings
) -> Iterator[ScoreMaps]:
    """The measure of the first ``outputs`` logits at each pixel of each image's grid, by one pass or a committee.

    Logits finer than the grid are averaged onto it before they are measured; coarser ones are measured as they are, and
    each pixel of the grid reads the value it lies in. BadInput for a committee if the network has no dropout.
    """
    network = settings.network
    assert network is not None
    images = load_image_predictor(model, network.checkpoint, network.use, network, data)
    tap = None
    if settings.feature_size:
        tap, images = FeatureTap(images.predictor, model.outputs, settings.feature_size), replace(images, kept=None)
    count = network.use.batch
    if settings.passes:
        switch_dropout_on(images.predictor, model)
        count = 1  # dropout draws one mask for a whole batch
    for batch in image_batches(data, ids, count):
        size = grids[batch.ids[0]]
        features: Sequence[Tensor | None] = [None] * len(batch.ids)
        with torch.inference_mode():
            if settings.passes:
                found = scored_by_committee(images.predictor, batch.images, batch.ids[0], size, outputs, settings)
            elif network.needs_support:
                found = scored_with_support(images.predictor, batch.images, size, outputs, settings)
            else:
                found = scored(images.logits(batch), size, outputs, settings)
            if tap is not None:
                passed = tap.taken(scaled_size((batch.images.shape[-2], batch.images.shape[-1]), network.input_scale))
                features = list(passed.mean(0, keepdim=True) if settings.passes else passed)
            for image, own, values, of_image in zip(batch.ids, *found, features, strict=True):
                require_finite(values, image, settings.measure, network)
                predicted = lookup(own.max(0).indices, size)  # ties: the first class
                yield ScoreMaps(image, values, predicted, own, of_image)


def require_finite(scores: Tensor, image: str, measure: str, network: NetworkScores) -> None:
    if torch.isfinite(scores).all():
        return
    if network.maturity == "image":
        raise StageFailed(
            f"The scores of image {image} are not finite: a probability of the network is 0. Set --maturity pixel."
        )
    raise StageFailed(f"The scores of image {image} by measure {measure} are not finite. Use another measure.")


def scored(logits: Tensor, size: Size, outputs: int, settings: ScoreSettings) -> Scored:
    """Scores by the logits (B,C,h,w) of one pass, on the grid ``size``."""
    every = not_finer(logits, size)
    logits = every[:, :outputs]
    scores = plain_measure(settings.measure, settings.of_measure)(logits)
    return logits, lookup(scores * informative(every, settings), size)


def informative(logits: Tensor, settings: ScoreSettings) -> Tensor | float:
    """(B,h,w) probability that an answer names a class: 1 - that of void, the last of ``logits`` (B,C+1,h,w).

    1 unless the scores are to be discounted: the expected number of informative answers of a query is this share.
    """
    network = settings.network
    return 1 - logits.softmax(1)[:, -1] if network is not None and network.discount_void else 1.0


def scored_with_support(
    predictor: Predictor, images: Tensor, size: Size, outputs: int, settings: ScoreSettings
) -> Scored:
    """Scores by one pass over ``images`` (B,3,..,..) u8 that runs the support heads too, on the grid ``size``."""
    network = settings.network
    assert network is not None
    measure = plain_measure(settings.measure, settings.of_measure)
    seen = scaled_images(images.to(predictor.device), network.input_scale, network.input_filter)
    found, support = predictor.support_maps(seen)
    every = not_finer(found, size)
    logits = every[:, :outputs]
    scores = score_terms(logits, support, seen, measure, network).score
    return logits, lookup(scores * informative(every, settings), size)


def scored_by_committee(
    predictor: Predictor, images: Tensor, image: str, size: Size, outputs: int, settings: ScoreSettings
) -> Scored:
    """Scores by passes with dropout over one image (1,3,..,..) u8, on the grid ``size``; each pass has its own seed."""
    network, own = settings.network, settings.of_measure
    assert network is not None
    total: Tensor | None = None
    informed: list[Tensor | float] = []  # of each pass

    def passes() -> Iterator[Tensor]:
        nonlocal total
        for member in range(settings.passes):
            torch.manual_seed(torch_seed(settings.seed, "committee", member, image))
            every = not_finer(predictor.scaled_logits(images, network.input_scale, network.input_filter), size)
            informed.append(informative(every, settings))
            logits = every[:, :outputs]
            total = softmax(logits) if total is None else total + softmax(logits)
            yield logits

    if MEASURES[settings.measure].facts["passes"]:
        scores = measure_of_passes(settings.measure, passes(), own)
    else:
        measure, hard = plain_measure(settings.measure, own), getattr(getattr(own, "voting", None), "hard", None)
        scores = soft_vote(passes(), measure) if hard is None else hard_vote(passes(), measure, hard.votes_per_pass)
    assert total is not None
    discounted = scores * (sum(informed) / len(informed))
    return (total / total.sum(1, keepdim=True)).log(), lookup(discounted, size)


def switch_dropout_on(predictor: Predictor, model: Model) -> None:
    """Puts the dropout of the network in training mode; BadInput if it has none."""
    switches = dropout_modules(predictor.network)
    if not switches:
        raise BadInput(f"{model.path}: its network has no dropout, which a committee needs. Use a measure of one pass.")
    for module in switches:
        module.train()


class ScoreTerms(NamedTuple):
    """The terms of a score, (B,h,w) f32 each: (measure + maturity) * factor. None: not used."""

    measure: Tensor
    maturity: Tensor | None
    factor: Tensor | None

    @property
    def score(self) -> Tensor:
        total = self.measure if self.maturity is None else self.measure + self.maturity
        return total if self.factor is None else total * self.factor


def score_terms(
    logits: Tensor, support: SupportMaps, seen: Tensor, measure: Measure, network: NetworkScores
) -> ScoreTerms:
    """Terms on the grid of ``logits`` (B,C,h,w), first C outputs; ``support`` is of images ``seen`` (B,3,H,W)."""
    outputs, inner = logits.shape[1], (logits.shape[-2], logits.shape[-1])
    divergence = factor = None
    if network.maturity != "none":
        sides, mixing = interpolated(support.sides[:, :, :outputs], inner), interpolated(support.mixing, inner)
        divergence = maturity(logits, sides, mixing, network.maturity)
    if network.lossiness:
        edges = lookup(edge_mask(seen), inner)
        factor = lossiness(interpolated(support.lossiness.sigmoid(), inner), edges)
    return ScoreTerms(measure(logits), divergence, factor)
