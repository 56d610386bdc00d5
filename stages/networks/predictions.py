"""Predictions kept in a folder, so that the stages of a round run a network once over the images they share.

One safetensors file per image holds the logits at the network's own resolution, in float32: resized by the stage that
reads them, they give the bytes that it would compute. Each file names what it was made with and has a checksum; one
that is damaged or was made otherwise is computed again. The folder can be removed at any time.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from stages.artifacts.computing import computed_with
from stages.artifacts.dataset import Dataset
from stages.artifacts.header import digest_of, recorded_versions
from stages.artifacts.model import Model
from stages.artifacts.publish import MARGIN_BYTES, make_folder, partial_path
from stages.networks.predictor import ImageBatch, Predictor, image_batches, load_predictor, scaled_images, scaled_size
from stages.runtime.console import say
from stages.runtime.devices import choose_device
from stages.runtime.errors import BadInput
from stages.settings.common import Checkpoint, NetworkUse, PredictionSettings


@dataclass
class KeptPredictions:
    """The files of ``folder``; ``key`` identifies all that decides their content but the image."""

    folder: Path
    key: str
    told: set[str] = field(default_factory=set)

    def path(self, image: str) -> Path:
        return self.folder / f"{hashlib.sha256(image.encode()).hexdigest()[:32]}.safetensors"

    def read(self, image: str) -> Tensor | None:
        """(C,h,w) f32 logits, or None if there are none, or others, or damaged ones."""
        path = self.path(image)
        if not path.is_file():
            return None
        try:
            with safe_open(path, "numpy") as file:
                made, logits = file.metadata() or {}, file.get_tensor("logits")
        except (SafetensorError, OSError, ValueError):
            made, logits = {}, None
        if logits is None or made.get("made") != digest_of([self.key, image, array_digest(logits)]):
            self.tell(f"computing predictions again: those in {self.folder} are damaged or of another model")
            return None
        return torch.from_numpy(logits)

    def write(self, image: str, logits: Tensor) -> None:
        """Keeps (C,h,w) f32 logits; on a full disk it does not, since they can be computed again."""
        values = np.ascontiguousarray(logits.cpu().numpy())
        content = save({"logits": values}, {"made": digest_of([self.key, image, array_digest(values)])})
        path, partial = self.path(image), partial_path(self.path(image))
        if not self.folder.is_dir():
            make_folder(self.folder)
            self.tell(f"keeping predictions in {self.folder}: {len(content) / 1e6:.1f} MB per image")
        try:
            if shutil.disk_usage(self.folder).free < len(content) + MARGIN_BYTES:
                self.tell(f"not keeping all predictions in {self.folder}: the disk is full")
                return
            partial.write_bytes(content)
            os.replace(partial, path)
        except OSError as error:
            self.tell(f"not keeping all predictions in {self.folder}: {error.strerror}")
            partial.unlink(missing_ok=True)

    def tell(self, text: str) -> None:
        """Says each thing once."""
        if text not in self.told:
            self.told.add(text)
            say(text)


def array_digest(values: np.ndarray) -> str:
    return hashlib.sha256(repr((values.dtype.str, values.shape)).encode() + values.tobytes()).hexdigest()


@dataclass(frozen=True)
class ImagePredictor:
    """A network's predictions of whole images, resized by ``scale`` with ``filter``: computed, or read if kept."""

    predictor: Predictor
    scale: float
    filter: str
    kept: KeptPredictions | None

    def logits(self, batch: ImageBatch) -> Tensor:
        """(B,C,h,w) f32 logits of the images of ``batch``."""
        if self.kept is None:
            return self.predictor.scaled_logits(batch.images, self.scale, self.filter)
        found = [self.kept.read(image) for image in batch.ids]
        coarse = [logits for logits in found if logits is not None]
        if len(coarse) == len(found):
            # in the layout of what a network returns, on which the last bits of resizing depend
            stacked = torch.stack(coarse).contiguous(memory_format=torch.channels_last).to(self.predictor.device)
        else:
            seen = scaled_images(batch.images.to(self.predictor.device), self.scale, self.filter)
            stacked = self.predictor.coarse_logits(seen)
            for image, logits in zip(batch.ids, stacked, strict=True):
                self.kept.write(image, logits)
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
    return ImagePredictor(predictor, scale, kind, KeptPredictions(Path(folder), digest_of(made)))
