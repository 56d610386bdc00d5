"""Optimisers over parameter groups."""

from typing import Any

import torch
from torch import nn

from stages.settings.train import OptimisationSettings


def fused(device: torch.device) -> bool | None:
    """The argument ``fused`` of an optimiser: one kernel for all parameters on CUDA, elsewhere torch's choice."""
    return True if device.type == "cuda" else None


def parameter_groups(settings: OptimisationSettings, network: nn.Module) -> list[dict[str, Any]]:
    """The parameters of ``network`` as groups with their peak ``lr`` and, if it differs, their ``weight_decay``.

    Backbone, then head; of each first what decays. The biases of the head's convolutions come last, in a group of their
    own, if their rate differs: DeepLab's TensorFlow trainer doubles it, and decays dense convolutions alone
    (spec adaptive_superpixel.md 5).
    """
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    dense = {id(each.weight) for each in convolutions if each.groups == 1 or each.groups < each.in_channels}
    backbone = {id(parameter) for parameter in network.get_submodule("backbone").parameters()}
    biases = {id(each.bias) for each in convolutions if each.bias is not None and settings.bias_factor != 1} - backbone

    def kind(parameter: nn.Parameter) -> tuple[int, bool]:
        """Place of the learning rate, and whether there is no weight decay."""
        own = id(parameter)
        if own in biases:
            return 2, True
        return int(own not in backbone), settings.decayed == "dense" and own not in dense

    rates = (settings.backbone_lr, settings.head_lr, settings.head_lr * settings.bias_factor)
    found: dict[tuple[int, bool], list[nn.Parameter]] = {(0, False): [], (1, False): []}
    for parameter in network.parameters():
        found.setdefault(kind(parameter), []).append(parameter)
    return [
        {"params": found[place], "lr": rates[place[0]]} | ({"weight_decay": 0.0} if place[1] else {})
        for place in sorted(found)
    ]


def learned_of(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same groups with only the parameters that learn, and without those that then are empty."""
    kept = [group | {"params": [each for each in group["params"] if each.requires_grad]} for group in groups]
    return [group for group in kept if group["params"]]


def build_optimiser(
    settings: OptimisationSettings, groups: list[dict[str, Any]], device: torch.device
) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD over ``groups``, each with its peak ``lr`` and, if it differs, its ``weight_decay``."""
    common: dict[str, Any] = {"weight_decay": settings.weight_decay, "fused": fused(device)}
    match settings.optimiser:
        case "adam":
            return torch.optim.Adam(groups, **common)
        case "adamw":
            return torch.optim.AdamW(groups, **common)
        case _:
            assert settings.sgd is not None
            return torch.optim.SGD(groups, lr=0.0, momentum=settings.sgd.momentum, **common)
