"""Whole images through a network: padding, normalisation, precision, flips and scales."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.artifacts.model import Model
from stages.networks.build import build_network
from stages.networks.layers import SplitNetwork
from stages.networks.support import SupportMaps
from stages.pixels.grids import Size
from stages.runtime.devices import forward_precision, tune_convolutions
from stages.settings.network import recorded_network


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(B,K,H,W) f32 in [0,1] -> normalised, each of the K bands by its own mean and deviation."""
    shape = (1, -1, 1, 1)
    return (images - images.new_tensor(mean).view(shape)) / images.new_tensor(std).view(shape)


def scaled_images(images: Tensor, scale: float, kind: str = "bilinear") -> Tensor:
    """(B,3,H,W) -> f32 with both sides times ``scale``, rounded down, by the filter ``kind`` (bilinear or bicubic).

    Averaged if they shrink, as by Pillow but without rounding; bicubic has Pillow's a = -0.5.
    """
    if scale == 1:
        return images.float()
    size = scaled_size((images.shape[-2], images.shape[-1]), scale)
    if kind == "bicubic":  # rows, then columns, as Pillow, which clips both; without antialias a would be -0.75
        found = images.float()
        for part in ((found.shape[-2], size[1]), size):
            found = F.interpolate(found, part, mode="bicubic", antialias=True).clamp_(0, 255)
        return found
    return F.interpolate(images.float(), size, mode="bilinear", antialias=scale < 1)


def scaled_size(size: Size, scale: float) -> Size:
    """Height and width times ``scale``, rounded down, at least 1."""
    return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on ``device``, with its convolutions in the layout that is fastest there."""
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def in_parts(images: Tensor) -> Sequence[Tensor]:
    """The parts of a batch that pass through a network together: the whole batch, or on a CPU each image alone.

    On a CPU the last bits of a small convolution depend on the batch, and batching saves almost no time.
    """
    return images.split(1) if images.device.type == "cpu" else [images]


@dataclass
class Predictor:
    """A network in eval mode, ready to predict (B,3,H,W) uint8 RGB images of any size."""

    network: nn.Module
    mean: Sequence[float]
    std: Sequence[float]
    device: torch.device
    precision: str = "auto"

    def prepared(self, images: Tensor) -> Tensor:
        """(B,3,H,W) u8 or f32 in 0..255 -> normalised f32 on the device, the input of the network.

        Padded at the bottom and right by reflection to the network's multiple.
        """
        height, width = images.shape[-2:]
        below, right = self.padding((height, width))
        images = normalise(images.to(self.device).float() / 255, self.mean, self.std)
        if below or right:
            mode = "reflect" if below < height and right < width else "replicate"
            images = F.pad(images, (0, right, 0, below), mode=mode)
        return images.contiguous(memory_format=torch.channels_last)

    def logits(self, images: Tensor) -> Tensor:
        """(B,3,H,W) u8 or f32 in 0..255 -> (B,C,H,W) f32 logits, with the padding cut off."""
        return self.enlarged(self.coarse_logits(images), (images.shape[-2], images.shape[-1]))

    def coarse_logits(self, images: Tensor) -> Tensor:
        """(B,3,H,W) u8 or f32 in 0..255 -> (B,C,h,w) f32 logits before the network resizes them."""
        run = self.network.coarse if isinstance(self.network, SplitNetwork) else self.network
        with torch.inference_mode(), forward_precision(self.precision, self.device):
            return torch.cat([run(part) for part in in_parts(self.prepared(images))]).float()

    def logits_of(self, features: Sequence[Tensor], size: Size) -> Tensor:
        """(B,C,H,W) f32 logits from the backbone's features (B,...) of `prepared` images of ``size``."""
        assert isinstance(self.network, SplitNetwork)
        parts = zip(*map(in_parts, features), strict=True)
        with torch.inference_mode(), forward_precision(self.precision, self.device):
            coarse = torch.cat([self.network.decoded(part) for part in parts]).float()
        return self.enlarged(coarse, size)

    def enlarged(self, logits: Tensor, size: Size) -> Tensor:
        """What `coarse_logits` returns (B,C,h,w) -> (B,C,H,W) f32 at the ``size`` of the images, contiguous."""
        if isinstance(self.network, SplitNetwork):
            with torch.inference_mode():
                below, right = self.padding(size)
                logits = self.network.enlarged(logits, (size[0] + below, size[1] + right))
        return logits[..., : size[0], : size[1]].contiguous()

    def padding(self, size: Size) -> Size:
        """Rows at the bottom and columns at the right that bring ``size`` to the network's multiple."""
        multiple: int = getattr(self.network, "pad_multiple", 8)
        return -size[0] % multiple, -size[1] % multiple

    def support_maps(self, images: Tensor) -> tuple[Tensor, SupportMaps]:
        """(B,3,H,W) u8 or f32 in 0..255 -> (B,C,H,W) f32 logits, and the maps of the support heads at the same size."""
        height, width = images.shape[-2:]
        prepared = self.prepared(images)
        found: list[list[Tensor]] = []
        with torch.inference_mode(), forward_precision(self.precision, self.device):
            for part in in_parts(prepared):
                inner = self.network.inner(part)  # type: ignore[operator]
                size = (part.shape[-2], part.shape[-1])
                found.append([self.network.segment(inner, size), *self.network.support(inner, size)])  # type: ignore[operator]
        every = (torch.cat(each)[..., :height, :width].float() for each in zip(*found, strict=True))
        logits, *maps = (each.contiguous() for each in every)
        return logits, SupportMaps(*maps)

    def features(self, images: Tensor) -> Tensor:
        """(B,3,H,W) u8 or f32 in 0..255 -> (B,D) f32 features of a classifier of images."""
        parts = in_parts(self.prepared(images))
        with torch.inference_mode(), forward_precision(self.precision, self.device):
            return torch.cat([self.network.features(part) for part in parts]).float()  # type: ignore[operator]

    def scaled_logits(self, images: Tensor, scale: float, kind: str = "bilinear") -> Tensor:
        """(B,3,H,W) u8 -> (B,C,h,w) f32 logits of the images resized as by `scaled_images`."""
        return self.logits(scaled_images(images.to(self.device), scale, kind))

    def classes(self, images: Tensor, count: int, flip: bool = False, scales: Sequence[float] = (1.0,)) -> Tensor:
        """(B,K,H,W) u8 -> (B,H,W) i64: the most likely of the first ``count`` classes, without the output for void."""
        plain = not flip and tuple(scales) == (1.0,)
        scores = self.logits(images) if plain else self.probabilities(images, flip, scales)
        return scores[:, :count].argmax(1)

    def probabilities(self, images: Tensor, flip: bool = False, scales: Sequence[float] = (1.0,)) -> Tensor:
        """(B,3,H,W) u8 -> (B,C,H,W) f32 softmax, averaged over ``scales`` and, with ``flip``, the mirrored image."""
        size = images.shape[-2:]
        total: Tensor | None = None
        for scale in scales:
            scaled = scaled_images(images.to(self.device), scale)
            for mirrored in (False, True) if flip else (False,):
                logits = self.logits(scaled.flip(-1) if mirrored else scaled)
                logits = logits.flip(-1) if mirrored else logits
                if logits.shape[-2:] != size:
                    logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
                softmax = logits.softmax(1)
                total = softmax if total is None else total + softmax
        assert total is not None
        return total / (len(scales) * (2 if flip else 1))


def load_predictor(model: Model, checkpoint: str, device: torch.device, precision: str) -> Predictor:
    """The network of a model file with its last or best weights, on ``device`` in eval mode."""
    settings = recorded_network(model.attributes["network"], str(model.path))
    network = build_network(settings, model.outputs, model.has_support, model.bands)
    network.load_state_dict(model.weights(checkpoint))
    network.eval()
    place(network, device)
    return Predictor(network, model.attributes["mean"], model.attributes["std"], device, precision)


class Images(Protocol):
    """Images by id, such as a dataset: (H,W,3) u8, their sizes, and (H,W) u8 masks, which may be missing."""

    @property
    def sizes(self) -> Mapping[str, Size]: ...

    def image(self, image: str) -> np.ndarray: ...

    def mask(self, image: str) -> np.ndarray: ...


@dataclass(frozen=True)
class ImageBatch:
    """Images of one size: ids, (B,3,H,W) u8, and (B,H,W) u8 masks if they were requested."""

    ids: list[str]
    images: Tensor
    masks: Tensor | None


def image_batches(dataset: Images, ids: Sequence[str], size: int, masks: bool = False) -> Iterator[ImageBatch]:
    """Batches of consecutive images of equal size; the next one is read while the current one is processed."""

    def read(batch: list[str]) -> ImageBatch:
        images = torch.from_numpy(np.stack([dataset.image(image) for image in batch])).permute(0, 3, 1, 2)
        truth = torch.from_numpy(np.stack([dataset.mask(image) for image in batch])) if masks else None
        return ImageBatch(batch, images, truth)

    tune_convolutions(dataset.sizes[image] for image in ids)
    groups = equal_size_groups(ids, dataset.sizes, size)
    with ThreadPoolExecutor(1) as reader:
        ahead = [reader.submit(read, group) for group in groups[:2]]
        for group in [*groups[2:], None, None]:
            if not ahead:
                return
            yield ahead.pop(0).result()
            if group is not None:
                ahead.append(reader.submit(read, group))


def by_size(ids: Sequence[str], sizes: Mapping[str, Size]) -> list[str]:
    """``ids`` with those of equal size side by side, in the order of the ids among them, for larger batches."""
    return sorted(ids, key=sizes.__getitem__)


def equal_size_groups(ids: Sequence[str], sizes: Mapping[str, Size], most: int) -> list[list[str]]:
    """``ids`` in order, in groups of equal size with at most ``most`` images."""
    groups: list[list[str]] = []
    for image in ids:
        if groups and len(groups[-1]) < most and sizes[groups[-1][0]] == sizes[image]:
            groups[-1].append(image)
        else:
            groups.append([image])
    return groups
