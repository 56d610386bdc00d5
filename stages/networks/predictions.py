"""Predictions kept in a folder, so that the stages of a round run a network once over the images they share.

They are the logits (C,h,w) of an image at the network's own resolution, in float32: resized by the stage that reads
them, they give the bytes that it would compute.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stages.artifacts.computing import computed_with
from stages.artifacts.dataset import Dataset
from stages.artifacts.header import digest_of, recorded_versions
from stages.artifacts.model import Model
from stages.networks.kept import KeptTensors
from stages.networks.predictor import ImageBatch, Predictor, image_batches, load_predictor, scaled_images, scaled_size
from stages.runtime.devices import choose_device
from stages.runtime.errors import BadInput
from stages.settings.common import Checkpoint, NetworkUse, PredictionSettings


@dataclass(frozen=True)
class ImagePredictor:
    """A network's predictions of whole images, resized by ``scale`` with ``filter``: computed, or read if kept."""

    predictor: Predictor
    scale: float
    filter: str
    kept: KeptTensors | None

    def logits(self, batch: ImageBatch) -> Tensor:
        """(B,C,h,w) f32 logits of the images of ``batch``."""
        if self.kept is None:
            return self.predictor.scaled_logits(batch.images, self.scale, self.filter)
        found = [self.kept.read(image) for image in batch.ids]
        coarse = [logits for tensors in found if tensors is not None for logits in tensors]
        if len(coarse) == len(found):
            # in the layout of what a network returns, on which the last bits of resizing depend
            stacked = torch.stack(coarse).contiguous(memory_format=torch.channels_last).to(self.predictor.device)
        else:
            seen = scaled_images(batch.images.to(self.predictor.device), self.scale, self.filter)
            stacked = self.predictor.coarse_logits(seen)
            for image, logits in zip(batch.ids, stacked, strict=True):
                self.kept.write(image, [logits])
        height, width = batch.images.shape[-2:]
        return self.predictor.enlarged(stacked, scaled_size((height, width), self.scale))

    def of_images(self, dataset: Dataset, ids: Sequence[str], batch: int) -> Iterator[tuple[str, Tensor]]:
        """Per image its id and f32 logits (C,h,w)."""
        for images in image_batches(dataset, ids, batch):
            yield from zip(images.ids, self.logits(images), strict=True)


def load_image_predictor(
    model: Model, checkpoint: Checkpoint, use: NetworkUse, seen: PredictionSettings, dataset: Dataset
) -> ImagePredictor:
    """The network of a model file for images resized as ``seen`` says, keeping its predictions in its folder if given.

    BadInput for a folder that is a file.
    """
    predictor = load_predictor(model, checkpoint, choose_device(use.device), use.precision)
    scale, kind, folder = seen.input_scale, seen.input_filter, seen.predictions
    if folder is None:
        return ImagePredictor(predictor, scale, kind, None)
    if Path(folder).exists() and not Path(folder).is_dir():
        raise BadInput(f"{folder} is a file. Pass a folder for predictions.")
    made = [model.digest, checkpoint, dataset.digest, scale, kind, computed_with(use), recorded_versions()]
    return ImagePredictor(predictor, scale, kind, KeptTensors(Path(folder), digest_of(made), "predictions"))
