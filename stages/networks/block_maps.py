"""Feature maps of any timm model at several depths, vision transformers on images of any size among them."""

from functools import cache
from typing import Any

import timm
import torch
from torch import Tensor, nn

from stages.networks.names import timm_name
from stages.runtime.errors import BadInput

FINEST = 4
"""Finest stride of the maps of a convolutional backbone."""


@cache
def any_size(name: str) -> dict[str, Any]:
    """The options with which the timm model ``name`` takes images of any size; empty unless it is a transformer.

    timm then resamples its position embeddings to the grid of each image (`timm.layers.resample_abs_pos_embed`).
    """
    with torch.device("meta"):
        model = timm.create_model(timm_name(name))
    return {"dynamic_img_size": True} if hasattr(model, "dynamic_img_size") else {}


@cache
def require_any_size(name: str) -> None:
    """BadInput if the timm model ``name`` takes images of one size only."""
    with torch.device("meta"):
        model: Any = timm.create_model(timm_name(name), **any_size(name)).eval()
        side = max(int(each["reduction"]) for each in model.feature_info)
        try:
            model.forward_features(torch.empty(1, 3, 2 * side, 3 * side))
        except Exception as error:  # models raise any kind of exception for an unsupported size
            raise BadInput(
                f"Backbone {name} takes images of one size only. Choose a transformer that takes any, such as "
                "vit_small_patch14_dinov2, or a convolutional backbone."
            ) from error


def remedy_for(name: str, otherwise: str) -> str:
    """What to choose for the backbone ``name`` of an architecture that it does not fit."""
    return f"For {name} choose --architecture dpt, light or linear." if any_size(name) else otherwise


class BlockMaps(nn.Module):
    """The timm model ``name`` with random weights, up to its last map, without its head.

    Maps (B, 3, H, W), H and W multiples of ``multiple``, to ``count`` maps (B, K, h, w) from shallow to deep, with
    ``channels`` and ``strides``. Those of a transformer are its normalised patch tokens after evenly spaced blocks, the
    last one included, as in the linear evaluation of DINOv2 (Oquab et al. 2023, section 7.4); class and register tokens
    are left out. Those of other models are the last of their stages from stride 4 on.

    Raises:
        BadInput: timm has no such model, or it has fewer maps, cannot return them, or takes images of one size only.
    """

    def __init__(self, name: str, count: int):
        super().__init__()
        require_any_size(name)
        model: Any = timm.create_model(timm_name(name), **any_size(name))
        if not hasattr(model, "forward_intermediates"):
            raise BadInput(f"Backbone {name} has no feature maps of its blocks. Choose another backbone.")
        strides = [int(each["reduction"]) for each in model.feature_info]
        usable = [index for index, stride in enumerate(strides) if stride >= FINEST]
        if count > len(usable):
            raise BadInput(f"Backbone {name} has only {len(usable)} feature maps. Set --depths {len(usable)} or less.")
        last = usable[-count:]
        if len(set(strides)) == 1:
            last = [len(strides) * (number + 1) // count - 1 for number in range(count)]
        model.prune_intermediate_layers(last, prune_head=True)
        self.model, self.taps = model, last
        self.channels = [int(model.feature_info[index]["num_chs"]) for index in last]
        self.strides = [strides[index] for index in last]
        self.multiple = max(self.strides)

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.model.forward_intermediates(images, indices=self.taps, norm=True, intermediates_only=True)
