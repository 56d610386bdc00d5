"""Optimisers over parameter groups."""

from typing import Any

import torch

from stages.settings.train import OptimisationSettings


def build_optimiser(settings: OptimisationSettings, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD over ``groups``, each with its peak ``lr`` and, if it differs, its ``weight_decay``."""
    match settings.optimiser:
        case "adam":
            return torch.optim.Adam(groups, weight_decay=settings.weight_decay)
        case "adamw":
            return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
        case _:
            assert settings.sgd is not None
            return torch.optim.SGD(groups, lr=0.0, momentum=settings.sgd.momentum, weight_decay=settings.weight_decay)
