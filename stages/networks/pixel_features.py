"""Features of single pixels in a frozen network: its maps at all depths, interpolated at the pixel.

Each map has unit length at each of its cells before it is interpolated, so that all depths count alike; the features of
a pixel, the maps one after the other, have unit length too, so inner products are cosines.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.artifacts.model import Model
from stages.networks.bands import COLOURS
from stages.networks.block_maps import FINEST, BlockMaps
from stages.networks.layers import SplitNetwork
from stages.networks.names import timm_name
from stages.networks.predictor import Images, Predictor, image_batches, in_parts, load_predictor, place, scaled_images
from stages.networks.weights import backbone_statistics, load_weights
from stages.pixels.grids import Size
from stages.runtime.devices import choose_device, forward_precision
from stages.runtime.errors import BadInput
from stages.runtime.randomness import torch_seed
from stages.settings.common import Checkpoint, NetworkUse


class Encoder(SplitNetwork):
    """The timm model ``name`` with random weights, as a backbone: all its maps from stride 4 on.

    Of a transformer whose blocks have one resolution, the normalised patch tokens after the last block alone, as in
    Raine et al. (arXiv 2404.09406). BadInput for a model without maps, or for images of one size only.
    """

    def __init__(self, name: str):
        super().__init__()
        self.backbone = BlockMaps(name, depths_of(name))
        self.pad_multiple = self.backbone.multiple

    def encoded(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(images))


def depths_of(name: str) -> int:
    """Number of maps of the timm model ``name``: those from stride 4 on, or one if its blocks have one resolution."""
    with torch.device("meta"):
        model: Any = timm.create_model(timm_name(name))
    strides = [int(each["reduction"]) for each in getattr(model, "feature_info", [])]
    return 1 if len(set(strides)) == 1 else sum(stride >= FINEST for stride in strides)


@dataclass(frozen=True)
class PixelMaps:
    """The maps (K,h,w) f32 of one image, and the share of their height and width that the image covers."""

    maps: Sequence[Tensor]
    covered: tuple[float, float]

    def at(self, y: np.ndarray, x: np.ndarray) -> Tensor:
        """(P,D) f32 features of unit length at ``y`` and ``x`` (P,): shares of the image's height and width, 0 to 1."""
        below, right = self.covered
        corners = np.stack([2 * right * x - 1, 2 * below * y - 1], -1).astype(np.float32)
        places = torch.from_numpy(corners).to(self.maps[0].device)[None, None]
        found = [
            F.grid_sample(each[None], places, mode="bilinear", padding_mode="border", align_corners=False)[0, :, 0]
            for each in self.maps
        ]
        return F.normalize(torch.cat(found).T, dim=1)


@dataclass(frozen=True)
class PixelEncoder:
    """A frozen network that sees images resized by ``scale``, ``batch`` at a time."""

    predictor: Predictor
    scale: float
    batch: int

    @property
    def device(self) -> torch.device:
        return self.predictor.device

    def of_images(self, dataset: Images, ids: Sequence[str]) -> Iterator[tuple[str, PixelMaps]]:
        """Per image its id and its maps."""
        for batch in image_batches(dataset, ids, self.batch):
            yield from zip(batch.ids, self.of(batch.images), strict=True)

    def of(self, images: Tensor) -> Iterator[PixelMaps]:
        """(B,3,H,W) u8 -> the maps of each image; BadInput if they are not finite."""
        with torch.inference_mode():
            scaled = scaled_images(images.to(self.device), self.scale)
            prepared = self.predictor.prepared(scaled)
            covered = scaled.shape[-2] / prepared.shape[-2], scaled.shape[-1] / prepared.shape[-1]
            for part in in_parts(prepared):
                with forward_precision(self.predictor.precision, self.device):
                    maps = self.maps(part)
                for place in range(len(part)):
                    yield PixelMaps([each[place] for each in maps], covered)

    def maps(self, images: Tensor) -> list[Tensor]:
        """(B,K,h,w) f32 maps of ``images``, of unit length at each cell."""
        network: Any = self.predictor.network
        found = network.encoded(images) if isinstance(network, SplitNetwork) else network.backbone(images)
        maps = usable_maps(found, (images.shape[-2], images.shape[-1]))
        if not maps:
            raise BadInput(
                "The network has no feature maps of pixels. Pass another --model, or set --features encoder."
            )
        units = [F.normalize(each.float(), dim=1) for each in maps]
        if not all(bool(each.isfinite().all()) for each in units):
            raise BadInput("The features are not finite. Use other --weights, or another --encoder or --model.")
        return units


def usable_maps(found: Any, size: Size) -> list[Tensor]:
    """The maps among what a backbone returns that are no finer than stride 4; tokens and the image itself are none."""
    if isinstance(found, Tensor):
        return [found] if found.ndim == 4 and FINEST * found.shape[-1] <= size[1] + FINEST - 1 else []
    return [each for part in found or () if part is not None for each in usable_maps(part, size)]


def load_pixel_encoder(
    encoder: str, weights: str, scale: float, use: NetworkUse, seed: int, bands: int
) -> PixelEncoder:
    """The timm model ``encoder`` with ``weights`` (imagenet, none or a file); random ones depend on ``seed``.

    BadInput for an unknown or unsuitable encoder, for weights that are missing, damaged or of another model, and for
    images of other than three ``bands``.
    """
    if bands != COLOURS:
        raise BadInput(f"An encoder sees {COLOURS} bands, and the images have {bands}. Set --features model.")
    torch.manual_seed(torch_seed(seed, "encoder"))
    network, device = Encoder(encoder), choose_device(use.device)
    load_weights(network, weights, encoder)
    network.eval()
    place(network, device)
    mean, std = backbone_statistics(encoder)
    return PixelEncoder(Predictor(network, mean, std, device, use.precision), scale, use.batch)


def trained_pixel_encoder(model: Model, checkpoint: Checkpoint, scale: float, use: NetworkUse) -> PixelEncoder:
    """The backbone of a trained model."""
    return PixelEncoder(load_predictor(model, checkpoint, choose_device(use.device), use.precision), scale, use.batch)
