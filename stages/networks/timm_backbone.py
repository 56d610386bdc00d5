"""A timm model as the backbone of a segmentation head: dilated and cut after its last feature map."""

from functools import cache
from typing import Any

import timm
import torch
from torch import nn

from stages.networks.block_maps import remedy_for
from stages.networks.names import timm_name
from stages.runtime.errors import BadInput


def build_backbone(
    name: str, output_stride: int, finest: int | None = 4, between: bool = False
) -> tuple[nn.Module, list[int], list[int]]:
    """A timm backbone with random weights that returns its feature maps at stride ``finest`` and ``output_stride``.

    Args:
        name: timm name, with or without ``tu-``.
        output_stride: input size over size of the last feature map; coarser stages are dilated instead of strided.
        finest: stride of the first feature map (the first map of that stride); None: only the last feature map.
        between: also return the feature maps between those two.

    Returns:
        The module, mapping (B, 3, H, W) to a list of feature maps from fine to coarse; their channels; their strides.

    Raises:
        BadInput: timm has no such model, or the model has no such feature map or cannot be dilated to that stride.
    """
    name = timm_name(name)
    try:
        strides = map_strides(name, output_stride)
    except Exception as error:  # timm models raise any kind of exception for an unsupported option
        raise _unsuitable(name, output_stride, finest) from error
    last = len(strides) - 1
    first = last if finest is None else strides.index(finest) if finest in strides[:last] else None
    if first is None or strides[last] != output_stride:
        raise _unsuitable(name, output_stride, finest)
    maps = tuple(range(first, last + 1)) if between else tuple(sorted({first, last}))
    backbone: Any = timm.create_model(name, features_only=True, output_stride=output_stride, out_indices=maps)
    return backbone, backbone.feature_info.channels(), backbone.feature_info.reduction()


@cache
def map_strides(name: str, output_stride: int) -> tuple[int, ...]:
    """The strides of all feature maps of the timm backbone ``name``, from fine to coarse. Raises whatever timm raises.

    Remembered, since a report builds dozens of networks of one kind.
    """
    return tuple(tap["reduction"] for tap in weightless_backbone(name, output_stride).feature_info.info)


def weightless_backbone(name: str, output_stride: int) -> Any:
    """The timm backbone ``name`` with all of its feature maps, on the meta device.

    It shows which maps exist without initialising weights or drawing random numbers; its modules have the same names as
    those of ``build_backbone``. Raises whatever timm raises.
    """
    with torch.device("meta"):
        return timm.create_model(timm_name(name), features_only=True, output_stride=output_stride)


def _unsuitable(name: str, output_stride: int, finest: int | None) -> BadInput:
    maps = "a feature map" if finest is None else f"feature maps at stride {finest} and"
    remedy = remedy_for(
        name,
        "Choose another output stride, a dilatable convolutional backbone such as mobilenetv2_100 or resnet50, or an "
        f"architecture of segmentation-models-pytorch such as unet with the backbone tu-{name}.",
    )
    return BadInput(f"Backbone {name} cannot give {maps} at output stride {output_stride}. {remedy}")
