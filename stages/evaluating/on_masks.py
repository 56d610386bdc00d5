"""Evaluates weights on masks, in shards of some images that a stopped run keeps and several processes can share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.artifacts.hdf5 import Writer
from stages.artifacts.model import Model
from stages.artifacts.request import Request
from stages.artifacts.shards import Parts, Shards
from stages.evaluating.on_answers import epoch_of
from stages.evaluating.results import Entry
from stages.evaluating.views import EvaluationView
from stages.runtime.ranks import Ranks
from stages.settings.evaluate import EvaluateSettings

if TYPE_CHECKING:
    from torch import Tensor

    from stages.networks.predictor import Predictor

SHARD_IMAGES = 16
Weights = tuple[Model, str]


@dataclass(frozen=True)
class Part:
    """What one shard is about: some images of a view, and one set of weights."""

    view: EvaluationView
    weights: Weights
    ids: Sequence[str]


class Evaluations:
    """The results of ``weights`` on each of ``views``, in shards.

    Each of the ``ranks``, or a share of the request, builds some of them. If the best epoch of a model is also the last
    one, it is run only once.
    """

    def __init__(
        self,
        request: Request,
        views: Sequence[EvaluationView],
        weights: Sequence[Weights],
        settings: EvaluateSettings,
        ranks: Ranks,
    ):
        from stages.networks.predictor import by_size

        self.settings, self.ranks = settings, ranks
        self.run_as = {each: (each[0], "last") if last_is_best(each, weights) else each for each in weights}
        self.parts = [
            Part(view, each, ids[start : start + SHARD_IMAGES])
            for view in views
            for ids in [by_size(view.ids, view.sizes)]
            for each in dict.fromkeys(self.run_as.values())
            for start in range(0, len(ids), SHARD_IMAGES)
        ]
        items = [[(part, image) for image in part.ids] for part in self.parts]
        self.shards = Shards(request, items, self.build, "evaluating")
        self.shards.open_folder(ranks)
        self.loaded: tuple[Weights, Predictor] | None = None

    def build_share(self) -> str:
        """Builds the shards of the request's share: all weights on all views, since the best ones are not known yet."""
        self.shards.complete(self.shards.own(range(self.shards.number), self.ranks))
        return self.shards.told_share()

    def of(self, view: EvaluationView, weights: Sequence[Weights]) -> list[Entry]:
        """The results of ``weights`` on ``view``, in every process."""
        indices = {each: self.indices(view, self.run_as[each]) for each in weights}
        every = sorted({index for each in indices.values() for index in each})
        self.shards.complete(self.shards.own(every, self.ranks))
        self.ranks.barrier()
        return [self.entry(view, each, indices[each]) for each in weights]

    def indices(self, view: EvaluationView, weights: Weights) -> list[int]:
        """The shards of ``weights`` on ``view``."""
        return [index for index, part in enumerate(self.parts) if part.view is view and part.weights == weights]

    def entry(self, view: EvaluationView, weights: Weights, indices: Sequence[int]) -> Entry:
        """The sums over some shards, and the counts of each image in the order of ``view``."""
        found = Parts([self.shards.path(index) for index in indices], [])
        rows = {image: row for row, image in enumerate(image for index in indices for image in self.parts[index].ids)}
        counts = found.column("counts")[[rows[image] for image in view.ids]]
        return Entry(*weights, epoch_of(*weights), found.column("confusion").sum(0), counts)

    def build(self, writer: Writer, items: Sequence[tuple[Part, str]]) -> dict[str, Any]:
        """Writes what a shard is about."""
        from stages.networks.predictor import load_predictor
        from stages.runtime.devices import choose_device

        part, use = items[0][0], self.settings.use
        if self.loaded is None or self.loaded[0] != part.weights:
            self.loaded = None  # frees its memory first
            self.loaded = part.weights, load_predictor(*part.weights, choose_device(use.device), use.precision)
        settings = self.settings
        found = evaluate_one(self.loaded[1], part.view, part.ids, settings.flip, settings.scales, use.batch)
        confusion, counts = (each.cpu().numpy() for each in found)
        writer.rows("confusion", confusion[None])
        writer.rows("counts", counts)
        return {}


def last_is_best(weights: Weights, every: Sequence[Weights]) -> bool:
    """Whether ``weights`` are the best ones of a model whose last ones, among ``every``, are the same."""
    model, checkpoint = weights
    same = model.attributes["best_epoch"] == model.header.counts["epochs"]
    return checkpoint == "best" and same and (model, "last") in every


def evaluate_one(
    predictor: "Predictor", view: EvaluationView, ids: Sequence[str], flip: bool, scales: tuple[float, ...], size: int
) -> tuple["Tensor", "Tensor"]:
    """(C,C) i64 confusion of one network over ``ids``, ``size`` images at a time, and counts (I,3,C) i64 of each."""
    import torch

    from stages.evaluating.confusion import confusion_matrices
    from stages.networks.predictor import image_batches

    classes = len(view.data.classes)
    total = torch.zeros(classes, classes, dtype=torch.int64, device=predictor.device)
    counts = []
    for batch in image_batches(view, ids, size, masks=True):
        assert batch.masks is not None
        predicted = predictor.classes(batch.images, classes, flip, scales)
        found = confusion_matrices(batch.masks.to(predictor.device), predicted, classes)
        total += found.sum(0)
        counts.append(torch.stack((found.sum(2), found.sum(1), found.diagonal(dim1=1, dim2=2)), 1))
    return total, torch.cat(counts)
