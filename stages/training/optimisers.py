"""Optimisers over parameter groups."""

from typing import Any

import torch

from stages.settings.train import OptimisationSettings


def fused(device: torch.device) -> bool | None:
    """The argument ``fused`` of an optimiser: one kernel for all parameters on CUDA, elsewhere torch's choice."""
    return True if device.type == "cuda" else None


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
