"""How the convolutions of a timm backbone are connected, where published networks differ from timm's.

Only strides, paddings and dilations change: names and shapes of all tensors, and the sizes of all feature maps, stay.
"""

import re
from typing import Any

import timm
import torch
from torch import nn

from stages.networks.names import timm_name
from stages.runtime.errors import BadInput
from stages.settings.network import DilatedSettings

IN_BLOCK = re.compile(r"(?P<stage>.+)\.(?P<block>\d+)\.\D")
"""The name of a module inside a block: the stage, the number of the block in it, and the rest."""


def rewire(backbone: nn.Module, name: str, settings: DilatedSettings) -> None:
    """Connect ``backbone``, the dilated timm model ``name``, as ``settings`` say.

    - ``dilate_from``: a stage that lost its stride of 2 is dilated from its second block on in timm and torchvision's
      ResNets, from its first block on in DeepLabV2 and torchvision's MobileNetV3; with ``next-stage`` only the stages
      after it are (the MobileNetV2 of spec pixelpick.md 3.1).
    - ``stride_first``: the first 1x1 convolution of a bottleneck has its stride, not the 3x3 (spec als4gan.md 3.1).
    - ``pad_first``: an inverted residual block pads its input with zeros, so that the border is expanded, normalised
      and activated like an image, instead of padding the expanded map.

    Raises:
        BadInput: the backbone has no such blocks.
    """
    if settings.dilate_from != "second-block":
        dilate_from(backbone, name, settings.dilate_from)
    if settings.stride_first and not stride_first(backbone):
        raise BadInput(f"Backbone {name} has no bottlenecks with a stride. Leave out --stride-first.")
    if settings.pad_first and not pad_first(backbone):
        raise BadInput(f"Backbone {name} has no padded inverted residual blocks. Leave out --pad-first.")


def dilate_from(backbone: nn.Module, name: str, start: str) -> None:
    """Start dilations at the ``first-block`` of a stage that lost its stride, or at the ``next-stage``."""
    strides = {module: conv.stride for module, conv in spatial(undilated(name)).items()}
    convolutions = spatial(backbone)
    stages: dict[str, list[str]] = {}
    for module in convolutions:
        if (found := IN_BLOCK.match(module)) is not None:
            stages.setdefault(found["stage"], []).append(module)
    lost = [module for module, conv in convolutions.items() if conv.stride != strides[module]]
    if any(IN_BLOCK.match(module) is None for module in lost):
        raise BadInput(f"Backbone {name} has no stages of blocks. Set --dilate-from second-block.")
    for module in lost:
        (before, _), factor = convolutions[module].dilation, strides[module][0]
        for other in stages[IN_BLOCK.match(module)["stage"]]:  # type: ignore[index]
            dilate(convolutions[other], before * factor if start == "first-block" else before)


def stride_first(backbone: nn.Module) -> int:
    """Move the stride of each bottleneck from its 3x3 to its first 1x1 convolution; returns how many moved."""
    moved = 0
    for block in backbone.modules():
        first, second = getattr(block, "conv1", None), getattr(block, "conv2", None)
        if not (isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d)):
            continue
        if first.kernel_size == (1, 1) and second.stride != (1, 1):
            first.stride, second.stride = second.stride, (1, 1)
            moved += 1
    return moved


def pad_first(backbone: nn.Module) -> int:
    """Pad before the expansion of each inverted residual block; returns in how many."""
    moved = 0
    for block in backbone.modules():
        expansion, depthwise = getattr(block, "conv_pw", None), getattr(block, "conv_dw", None)
        if (
            not hasattr(block, "conv_pwl")
            or not isinstance(expansion, nn.Conv2d)
            or not isinstance(depthwise, nn.Conv2d)
        ):
            continue
        if depthwise.padding != (0, 0):
            expansion.padding, depthwise.padding = depthwise.padding, (0, 0)
            moved += 1
    return moved


def spatial(module: nn.Module) -> dict[str, nn.Conv2d]:
    """The convolutions with a kernel larger than one, by name."""
    return {
        name: part for name, part in module.named_modules() if isinstance(part, nn.Conv2d) and max(part.kernel_size) > 1
    }


def undilated(name: str) -> Any:
    """The timm model ``name`` at its own stride, without weights, with the module names of a backbone."""
    with torch.device("meta"):
        return timm.create_model(timm_name(name), features_only=True)


def dilate(convolution: nn.Conv2d, rate: int) -> None:
    """Set the dilation, and a padding that keeps the size unless the layer pads its input itself."""
    convolution.dilation = (rate, rate)
    if convolution.padding != (0, 0):
        height, width = convolution.kernel_size
        convolution.padding = (rate * (height // 2), rate * (width // 2))
