"""What a network's last layer reads: features of each pixel, for rules that spread queries.

The last layer is the last convolution or linear layer of as many outputs as the network that a pass runs, so that any
architecture has such features.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.networks.predictor import Predictor
from stages.pixels.grids import Size
from stages.runtime.errors import BadInput
from stages.runtime.randomness import stream


class FeatureTap:
    """Watches the last layer of a predictor's network, which has ``outputs`` outputs.

    Features have length 1. A Gaussian random projection, always the same, shortens those of more than ``size`` channels
    and nearly keeps their distances (Johnson & Lindenstrauss 1984).
    """

    def __init__(self, predictor: Predictor, outputs: int, size: int):
        self.predictor, self.size = predictor, size
        self.seen: list[tuple[nn.Module, Tensor]] = []
        support = getattr(predictor.network, "support", None)
        beside = set() if support is None else set(support.modules())
        for module in predictor.network.modules():
            width = getattr(module, "out_channels", getattr(module, "out_features", None))
            if isinstance(module, nn.Conv2d | nn.Linear) and width == outputs and module not in beside:
                module.register_forward_hook(self.watch)

    def watch(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self.seen.append((module, inputs[0]))

    def taken(self, size: Size) -> Tensor:
        """(P,D,h,w) f32 features of what passed since the last call, images of ``size``, at the layer's resolution.

        BadInput if the layer reads no map.
        """
        last = self.seen[-1][0] if self.seen else None
        maps = [values for module, values in self.seen if module is last]
        self.seen = []
        if not maps or maps[0].ndim != 4:
            raise BadInput(
                "The network's last layer reads no map of features. Omit --keep-features, or use another architecture."
            )
        features = F.normalize(torch.cat(maps).float(), dim=1)
        inside = [  # without the padding
            max(1, round(side * whole / (whole + padding)))
            for side, whole, padding in zip(features.shape[-2:], size, self.predictor.padding(size), strict=True)
        ]
        return self.projected(features[..., : inside[0], : inside[1]])

    def projected(self, features: Tensor) -> Tensor:
        """(P,K,h,w) -> (P,size,h,w), or itself if K is no larger."""
        channels = features.shape[1]
        if channels <= self.size:
            return features
        matrix = stream(0, "projection", channels).standard_normal((self.size, channels)) / self.size**0.5
        return F.conv2d(features, torch.from_numpy(matrix).to(features)[..., None, None])
