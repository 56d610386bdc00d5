"""Networks that expose their features: one pass through the backbone serves the segmentation and the support heads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor, nn

from stages.networks.layers import ResizingNetwork
from stages.networks.side_taps import SideTaps, find_shallow_tap, find_side_taps, run_with_taps


class Inner(NamedTuple):
    """The features of a batch that heads read; each map is (B, K, h, w) with its own K, h and w.

    ``sides`` are the inputs of the three side heads from fine to coarse, empty without support heads; ``head`` are
    those of the segmentation head; ``deep`` are those of the lossiness head besides the side logits, the deepest last.
    """

    sides: tuple[Tensor, ...]
    head: tuple[Tensor, ...]
    deep: tuple[Tensor, ...]


@dataclass(frozen=True)
class SupportPlan:
    """How support heads are attached to an architecture (spec madbal.md 4.1).

    ``deep_channels`` are those of ``Inner.deep``; a convolution first divides the last of them by ``reduction``, unless
    that is 1. ``mixing_mode`` is the interpolation of the mixing head's output to the size of the side logits.
    """

    deep_channels: tuple[int, ...]
    reduction: int
    lossiness_width: int
    mixing_mode: Literal["bilinear", "nearest"] = "bilinear"


class InnerNetwork(ResizingNetwork):
    """A network of our own on a timm backbone that can carry support heads.

    Maps float images (B, 3, H, W) of any height and width to logits (B, C, H, W). The parameters of ``backbone`` and
    all others except those of ``support`` are the segmentation network. ``support`` is None unless the network was
    built with support heads (``stages.networks.support.add_support``); the passes here never run them.
    """

    pad_multiple = 8
    backbone: nn.Module
    support: nn.Module | None

    def __init__(self, backbone_name: str, num_classes: int, output_stride: int):
        super().__init__()
        self.backbone_name, self.output_stride = backbone_name, output_stride
        self.num_classes = num_classes
        self.side_taps: tuple[str, ...] = ()
        self.shallow_tap: str | None = None
        self.support = None

    def tap_shallow(self, name: str | None, stride: int, channels: int) -> int:
        """Read the shallow features from the backbone module ``name``, if any; returns their channels."""
        if name is None:
            return channels
        self.shallow_tap, channels = find_shallow_tap(self.backbone_name, self.output_stride, name, stride)
        return channels

    def inner(self, images: Tensor) -> Inner:
        """(B, 3, H, W) to the inputs of ``segment`` and ``support``."""
        maps, sides = run_with_taps(self.backbone, images, self.side_taps, self.shallow_tap)
        return Inner(sides, *self.head_inputs(maps))

    def find_taps(self, names: tuple[str, ...]) -> SideTaps:
        """What the side heads read: the backbone modules ``names``, or the default ones.

        Raises:
            BadInput: they do not exist (see ``find_side_taps``).
        """
        return find_side_taps(self.backbone_name, self.output_stride, names)

    def encoded(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(run_with_taps(self.backbone, images, (), self.shallow_tap)[0])

    def decoded(self, features: Sequence[Tensor]) -> Tensor:
        return self.classified(Inner((), *self.head_inputs(list(features))))

    def head_inputs(self, maps: list[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """From the backbone's feature maps to ``head`` and ``deep`` of ``Inner``."""
        raise NotImplementedError

    def segment(self, inner: Inner, size: Sequence[int]) -> Tensor:
        """Logits (B, C, H, W) of the height and width ``size``."""
        return self.enlarged(self.classified(inner), size)

    def features(self, images: Tensor) -> Tensor:
        """The input of the last layer: (B, 3, H, W) to (B, K, h, w)."""
        return self.embedded(self.inner(images))

    def embedded(self, inner: Inner) -> Tensor:
        """The features (B, K, h, w) that the layer ``classifier`` reads, of architectures that end in one."""
        raise NotImplementedError

    def classified(self, inner: Inner) -> Tensor:
        """Logits (B, C, h, w) at the resolution of the head."""
        raise NotImplementedError

    def new_head(self, outputs: int) -> nn.Module:
        """A fresh copy of the segmentation head: ``head(*inner.head)`` is (B, outputs, h, w)."""
        raise NotImplementedError

    def support_plan(self, lossiness_width: int) -> SupportPlan:
        """How support heads are attached to this architecture; ``lossiness_width`` is from the settings."""
        raise NotImplementedError
