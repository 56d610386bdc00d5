"""CutMix: a box of each image is replaced by that of another image of the batch (Yun et al., ICCV 2019).

French et al. (BMVC 2020) mix pseudo-labels with the images. Here true labels move with their pixels as well.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from stages.pixels.grids import Size
from stages.runtime.randomness import stream

AREA = 0.02, 0.4
"""Smallest and largest share of the image that a box covers, as in UniMatch (Yang et al., CVPR 2023)."""

ASPECT = 0.3
"""Smallest ratio of the sides of a box, either way."""


@dataclass(frozen=True)
class Mix:
    """Which image of the batch each pixel comes from: ``partner`` (B,) i64 inside of ``boxes`` (B,H,W) bool."""

    partner: Tensor
    boxes: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        """(B,H,W) or (B,K,H,W) of any type -> the same, mixed."""
        boxes, partner = self.boxes.to(values.device), self.partner.to(values.device)
        return torch.where(boxes if values.dim() == 3 else boxes.unsqueeze(1), values[partner], values)

    def mixed_features(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Feature maps (B,K,h,w) -> the same, mixed: a cell is in a box if its centre is. Class tokens (B,K) stay."""
        found = []
        for values in features:
            if values.dim() != 4:
                found.append(values)
                continue
            rows, columns = (
                ((torch.arange(cells) + 0.5) * side / cells).long()
                for cells, side in zip(values.shape[-2:], self.boxes.shape[-2:], strict=True)
            )
            found.append(replace(self, boxes=self.boxes[:, rows][:, :, columns])(values))
        return tuple(found)


def draw_mix(count: int, size: Size, probability: float, seed: int, *name: str | int) -> Mix | None:
    """The mix of ``count`` images of height and width ``size``; None if no image gets a box.

    Each image gets a box with ``probability``. All take theirs from the image a random number of places further on.
    ``name`` names the random stream.
    """
    if count < 2 or not probability:
        return None
    generator = stream(seed, "cutmix", *name)
    partner = (np.arange(count) + generator.integers(1, count)) % count
    boxes = np.zeros((count, *size), dtype=bool)
    for image in np.flatnonzero(generator.random(count) < probability):
        top, left, height, width = draw_box(size, generator)
        boxes[image, top : top + height, left : left + width] = True
    return Mix(torch.from_numpy(partner), torch.from_numpy(boxes)) if boxes.any() else None


def draw_box(size: Size, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random box within ``size``; sides that do not fit are cut."""
    area = generator.uniform(*AREA) * size[0] * size[1]
    aspect = math.exp(generator.uniform(math.log(ASPECT), -math.log(ASPECT)))
    height = min(size[0], max(1, round(math.sqrt(area * aspect))))
    width = min(size[1], max(1, round(math.sqrt(area / aspect))))
    top, left = (int(generator.integers(0, big - small + 1)) for big, small in zip(size, (height, width), strict=True))
    return top, left, height, width
