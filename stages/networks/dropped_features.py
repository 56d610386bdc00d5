"""A second view of a batch in the features of a network, for the price of its head."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@contextmanager
def seen_twice(network: nn.Module, dropout: float) -> Iterator[None]:
    """Within it, ``network`` maps B images to 2B logits: those of the images, then those with channels dropped.

    Each channel of each feature map of the backbone is dropped with probability ``dropout`` (feature perturbation of
    UniMatch, Yang et al., CVPR 2023, section 3.2). Only the head runs twice. Nothing changes if it is 0. For networks
    whose head reads what the backbone returns and nothing else, so not for those with a shallow tap.
    """
    if not dropout:
        yield
        return

    def twice(module: nn.Module, inputs: Any, output: Any) -> Any:
        return doubled(output, dropout, inputs[0].shape)

    handle = network.get_submodule("backbone").register_forward_hook(twice)
    try:
        yield
    finally:
        handle.remove()


def doubled(features: Any, dropout: float, images: torch.Size) -> Any:
    """Each tensor (B,...) in ``features`` and its copy behind it, with channels dropped from feature maps (B,K,h,w).

    One as large as ``images`` (B,C,H,W), padded or not, is the input of the backbone, which some return too.
    """
    if isinstance(features, list | tuple):
        return type(features)(doubled(each, dropout, images) for each in features)
    if not isinstance(features, Tensor):
        return features
    is_map = features.dim() == 4 and (features.shape[1] != images[1] or features.shape[-1] < images[-1])
    return torch.cat([features, F.dropout2d(features, dropout) if is_map else features])
