"""Features of regions: the mean of a pretrained encoder's feature map over a region's patch (madbal.md 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

from stages.networks.names import timm_name
from stages.networks.predictor import normalise, place
from stages.networks.weights import backbone_statistics, load_weights
from stages.runtime.devices import choose_device, forward_precision
from stages.runtime.errors import BadInput
from stages.runtime.randomness import torch_seed
from stages.settings.cluster_regions import KMeansSettings

BATCH_CELLS = 1 << 18  # pixels of the patches that go through the encoder together: 1024 patches of 16 x 16


class PatchNetwork(nn.Module):
    """Maps normalised patches (n,3,side,side) to features (n,D) f32: its backbone's map, averaged over its cells."""

    def __init__(self, backbone: nn.Module, channels: int):
        super().__init__()
        self.backbone = backbone
        self.channels = channels

    def forward(self, patches: Tensor) -> Tensor:
        return self.backbone(patches)[0].float().mean((2, 3))


def build_patch_network(name: str, side: int) -> PatchNetwork:
    """The timm model ``name`` up to its deepest feature map with a stride of at most ``side``, with random weights.

    For vgg16 and 16 that is conv5_3 after its ReLU, 512 channels on one cell. Deeper layers are left out.
    BadInput if timm has no such model, or if the model has no such map for patches of this size.
    """
    name = timm_name(name)
    try:
        with torch.device("meta"):  # tells strides and shapes without spending time or random numbers on weights
            probe: Any = timm.create_model(name, features_only=True)
    except Exception as error:  # timm models raise all kinds of exceptions for an unsupported option
        raise unsuitable(name, side) from error
    strides = [tap["reduction"] for tap in probe.feature_info.info]
    fitting = [index for index, stride in enumerate(strides) if stride <= side]
    if not fitting:
        raise BadInput(
            f"Encoder {name} has no feature map with a stride of {side} or less (its smallest is {min(strides)}). "
            f"Raise --patch to {min(strides)}, or choose another --encoder."
        )
    taps = (fitting[-1],)
    try:
        with torch.device("meta"):
            probe = timm.create_model(name, features_only=True, out_indices=taps).eval()
            (found,) = probe(torch.zeros(1, 3, side, side))
        (channels,) = probe.feature_info.channels()
        if found.ndim != 4 or found.shape[1] != channels:
            raise ValueError(f"feature map of shape {tuple(found.shape)}")
    except Exception as error:  # such as a transformer that accepts images of one size only
        raise unsuitable(name, side) from error
    backbone: Any = timm.create_model(name, features_only=True, out_indices=taps)
    return PatchNetwork(backbone, channels)


def unsuitable(name: str, side: int) -> BadInput:
    return BadInput(
        f"Encoder {name} has no feature maps for patches of {side} x {side} pixels. Choose a convolutional --encoder "
        "such as vgg16, resnet50 or mobilenetv3_small_050."
    )


@dataclass(frozen=True)
class PatchEncoder:
    """An encoder with its weights on its device, in eval mode."""

    name: str
    network: PatchNetwork
    source: str  # of the weights
    mean: Sequence[float]
    std: Sequence[float]
    device: torch.device
    precision: str

    def features(self, patches: np.ndarray) -> np.ndarray:
        """(K,3,side,side) f32 in 0..1 -> (K,D) f16; BadInput if they are not finite, or too large for 16 bits."""
        found = np.empty((len(patches), self.network.channels), dtype=np.float16)
        step = max(1, BATCH_CELLS // patches.shape[-1] ** 2)
        for start in range(0, len(patches), step):
            part = torch.from_numpy(patches[start : start + step]).to(self.device)
            part = normalise(part, self.mean, self.std).contiguous(memory_format=torch.channels_last)
            with torch.inference_mode(), forward_precision(self.precision, self.device):
                found[start : start + step] = self.network(part).half().cpu().numpy()
        if not np.isfinite(found).all():
            raise BadInput(
                f"Encoder {self.name} with weights {self.source} computes features that are not finite in 16 bits. "
                "Choose other --weights, another --encoder, or --precision float32."
            )
        return found


def load_encoder(settings: KMeansSettings, seed: int) -> PatchEncoder:
    """The encoder of ``settings`` with its weights; random weights depend on ``seed``.

    BadInput for an unknown or unsuitable encoder, and for weights that are missing, damaged or of another model.
    """
    device = choose_device(settings.device)
    torch.backends.cudnn.benchmark = False  # batch sizes vary by image, and each new size would be timed again
    torch.manual_seed(torch_seed(seed, "encoder"))
    network = build_patch_network(settings.encoder, settings.patch)
    weights = load_weights(network, settings.weights, settings.encoder)
    network.eval()
    place(network, device)
    mean, std = backbone_statistics(settings.encoder)
    return PatchEncoder(settings.encoder, network, weights.source, mean, std, device, settings.precision)
