"""A timm model as the backbone of a segmentation head: dilated, cut after its last feature map, tapped in between."""

from typing import Any

import timm
import torch
from torch import nn

from stages.errors import BadInput
from stages.networks.names import timm_name


def build_backbone(name: str, output_stride: int, between: bool) -> tuple[nn.Module, list[int], list[int]]:
    """A timm backbone with random weights that gives its feature maps at stride 4 and at ``output_stride``.

    Args:
        name: timm name, with or without ``tu-``.
        output_stride: input size over size of the last feature map; coarser stages are dilated instead of strided.
        between: also give the feature maps between those two.

    Returns:
        The module, mapping (B, 3, H, W) to a list of feature maps from fine to coarse; their channels; their strides.

    Raises:
        BadInput: timm has no such model, or it has no stride-4 feature map or cannot be dilated to that stride.
    """
    name = timm_name(name)
    try:
        # The meta device tells what taps there are without spending time or random numbers on weights.
        with torch.device("meta"):
            probe: Any = timm.create_model(name, features_only=True, output_stride=output_stride)
    except Exception as error:  # a timm model refuses an option with whatever exception comes first
        raise _unsuitable(name, output_stride) from error
    strides = [tap["reduction"] for tap in probe.feature_info.info]
    if 4 not in strides or strides[-1] != output_stride:
        raise _unsuitable(name, output_stride)
    first, last = strides.index(4), len(strides) - 1
    taps = tuple(range(first, last + 1)) if between else (first, last)
    backbone: Any = timm.create_model(name, features_only=True, output_stride=output_stride, out_indices=taps)
    return backbone, backbone.feature_info.channels(), backbone.feature_info.reduction()


def _unsuitable(name: str, output_stride: int) -> BadInput:
    return BadInput(
        f"Backbone {name} cannot give feature maps at stride 4 and at output stride {output_stride}: choose another "
        "output stride, a dilatable convolutional backbone such as mobilenetv2_100 or resnet50, or an architecture of "
        "segmentation-models-pytorch such as unet with the backbone tu-" + name + "."
    )
