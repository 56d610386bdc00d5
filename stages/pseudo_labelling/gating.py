"""Predictions for images without a mask, kept if a discriminator accepts them as masks (als4gan.md 4.4)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer
from stages.artifacts.images_table import write_images
from stages.artifacts.model import Model
from stages.artifacts.shards import Fill, Parts
from stages.pixels.grids import Size, map_on_grid
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput
from stages.settings.common import Checkpoint, NetworkUse
from stages.settings.pseudo_label import GateSettings


def require_masks(ledger: Annotations, model: Model) -> None:
    """BadInput for a ledger without full masks, and for a model without a discriminator."""
    if not ledger.mask_ids:
        raise BadInput(f"{ledger.path} contains no full masks, which method gated needs. Query masks of images first.")
    if not model.has_discriminator:
        raise BadInput(f"{model.path} has no discriminator. Train one with --objective adversarial.")


def gate_images(
    data: Dataset, ledger: Annotations, model: Model, settings: GateSettings, checkpoint: Checkpoint, use: NetworkUse
) -> Fill:
    """Labels an image with its mask if the ledger has one, otherwise with the prediction if that is accepted.

    The discriminator sees predictions as in training, with the holes of masks: where the mask is void, the prediction
    is blank. The masks take turns, in the order of the images.
    """
    import torch
    import torch.nn.functional as F

    from stages.networks.discriminator import Discriminator
    from stages.networks.predictor import image_batches, in_parts, load_predictor
    from stages.runtime.devices import choose_device, forward_precision
    from stages.training.learners.adversarial_losses import accepted, pair

    device, classes = choose_device(use.device), len(data.classes)
    predictor = load_predictor(model, checkpoint, device, use.precision)
    discriminator = Discriminator(classes, model.header.settings["discriminator_width"], data.bands)
    discriminator.to(device).eval()
    discriminator.load_state_dict(model.part("discriminator"))
    masks = sorted(ledger.mask_ids)
    others = [image for image in data.ids(settings.split) if image not in ledger.mask_ids]
    holes_of = {image: masks[number % len(masks)] for number, image in enumerate(others)}

    def known(images: Sequence[str], size: Size) -> torch.Tensor:
        """(B,H,W) bool: False in the holes."""
        maps = [map_on_grid(ledger.label_map(holes_of[image]), size) for image in images]
        return torch.from_numpy(np.stack(maps) != VOID).to(device)

    def fill(writer: Writer, part: Sequence[str]) -> dict[str, Any]:
        labelled: dict[str, int] = {}
        found: dict[str, float] = {}
        for image in part:
            if image in ledger.mask_ids:
                labels = ledger.label_map(image)
                labelled[image] = int((labels != VOID).sum())
                writer.array(f"labels/{image}", labels)
        for batch in image_batches(data, [image for image in part if image not in ledger.mask_ids], use.batch):
            with torch.inference_mode():
                logits = predictor.scaled_logits(batch.images, settings.input_scale)
                size = (batch.images.shape[-2], batch.images.shape[-1])
                if logits.shape[-2:] != size:
                    logits = F.interpolate(logits, size, mode="bilinear")
                valid = torch.ones(len(logits), *size, dtype=torch.bool, device=device)
                shown = batch.images.to(device).float() / 255
                pairs = pair(logits.softmax(1), shown, valid, known(batch.ids, size))
                with forward_precision(use.precision, device):
                    scores = torch.cat([discriminator(part)[0] for part in in_parts(pairs)])
            z = scores.float().sigmoid().flatten()
            predicted = logits.argmax(1).to(torch.uint8).cpu().numpy()
            for image, own, score, passed in zip(
                batch.ids, predicted, z.tolist(), accepted(z, settings.gate), strict=True
            ):
                labels = own if passed else np.full(size, VOID, dtype=np.uint8)
                labelled[image], found[image] = int((labels != VOID).sum()), score
                writer.array(f"labels/{image}", labels)
        return {"labelled": labelled, "score": found}

    return fill


def finish_gated(writer: Writer, parts: Parts, ids: Sequence[str], data: Dataset, gate: float) -> dict[str, Any]:
    """Writes the table of the images, and returns the counts of the header."""
    labelled, scores = parts.merged("labelled"), parts.merged("score")
    write_images(writer, ids, data.sizes)
    writer.array("images/labelled_pixels", np.array([labelled[image] for image in ids], dtype=np.int64))
    score = np.array([scores.get(image, np.nan) for image in ids], dtype=np.float32)
    writer.array("images/score", score)
    writer.array("images/accepted", (score > gate).astype(np.uint8))
    judged = score[~np.isnan(score)]
    return {
        "images": len(ids),
        "masks": len(ids) - len(judged),
        "accepted": int((judged > gate).sum()),
        "refused": int((judged <= gate).sum()),
        "mean_score": float(judged.mean()) if len(judged) else 0.0,
        "labelled_pixels": int(sum(labelled.values())),
    }
