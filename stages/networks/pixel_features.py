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
from torch import Tensor, nn

from stages.artifacts.model import Model
from stages.networks.names import timm_name
from stages.networks.predictor import Images, Predictor, image_batches, in_parts, load_predictor, place, scaled_images
from stages.networks.weights import backbone_statistics, load_weights
from stages.pixels.grids import Size
from stages.runtime.devices import choose_device, forward_precision
from stages.runtime.errors import BadInput
from stages.runtime.randomness import torch_seed
from stages.settings.common import Checkpoint, NetworkUse

FINEST = 4
"""Finest stride of the maps that are used; finer ones tell colours and edges more than classes."""


class Encoder(nn.Module):
    """The timm model ``name`` with random weights, as a backbone that returns its feature maps.

    Those of a transformer whose blocks have one resolution are its normalised patch tokens after the last block, as in
    Raine et al. (arXiv 2404.09406); those of other models the last of each stage from stride 4 on. BadInput for a model
    without maps.
    """

    def __init__(self, name: str):
        super().__init__()
        name = timm_name(name)
        try:
            with torch.device("meta"):
                probe: Any = timm.create_model(name)
            strides = [int(each["reduction"]) for each in probe.feature_info]
            options: dict[str, Any] = {"dynamic_img_size": True} if hasattr(probe, "dynamic_img_size") else {}
            backbone: Any = timm.create_model(name, **options)
            usable = [index for index, stride in enumerate(strides) if stride >= FINEST]
            self.taps = usable[-1:] if len(set(strides)) == 1 else usable
            backbone.prune_intermediate_layers(self.taps, prune_head=True)
        except Exception as error:  # timm models raise any kind of exception for an unsupported option
            raise BadInput(f"Encoder {name} has no feature maps. Choose another --encoder.") from error
        self.backbone, self.name, self.pad_multiple = backbone, name, max(strides)

    def maps(self, images: Tensor) -> Any:
        backbone: Any = self.backbone
        try:
            return backbone.forward_intermediates(images, indices=self.taps, norm=True, intermediates_only=True)
        except AssertionError as error:
            raise BadInput(f"Encoder {self.name} takes images of one size only. Choose another --encoder.") from error


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
        found = network.maps(images) if isinstance(network, Encoder) else network.backbone(images)
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
    if bands != 3:
        raise BadInput(f"An encoder sees three bands, and the images have {bands}. Set --features model.")
    torch.manual_seed(torch_seed(seed, "encoder"))
    network = Encoder(encoder)
    load_weights(network, weights, encoder)
    mean, std = backbone_statistics(encoder)
    return PixelEncoder(placed(network, mean, std, use), scale, use.batch)


def placed(network: nn.Module, mean: Sequence[float], std: Sequence[float], use: NetworkUse) -> Predictor:
    device = choose_device(use.device)
    network.eval()
    place(network, device)
    return Predictor(network, mean, std, device, use.precision)


def trained_pixel_encoder(model: Model, checkpoint: Checkpoint, scale: float, use: NetworkUse) -> PixelEncoder:
    """The backbone of a trained model."""
    return PixelEncoder(load_predictor(model, checkpoint, choose_device(use.device), use.precision), scale, use.batch)
