"""BatchNorm with fixed statistics, or with fixed scale and shift."""

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # base of SyncBatchNorm and timm's own


def norms_of(network: nn.Module) -> Iterator[_BatchNorm]:
    """Every BatchNorm of ``network``."""
    return (module for module in network.modules() if isinstance(module, _BatchNorm))


def freeze_norm(network: nn.Module) -> None:
    """Put every BatchNorm of ``network`` into eval mode, so that it uses its running statistics and keeps them.

    For training from pretrained statistics if batches are too small to estimate them (spec als4gan.md 7, D5; check 24).
    ``network.train()`` undoes it, so call it after each ``train()``. Scales and shifts still learn, see `fix_affine`.
    """
    for norm in norms_of(network):
        norm.eval()


def fix_affine(network: nn.Module) -> None:
    """Let no optimiser change scale and shift of any BatchNorm of ``network`` (spec als4gan.md 3.1)."""
    for norm in norms_of(network):
        for parameter in norm.parameters():
            parameter.requires_grad_(False)


def set_norm_momentum(network: nn.Module, momentum: float | None) -> None:
    """Set the momentum of every BatchNorm of ``network``; None leaves it unchanged."""
    for norm in norms_of(network):
        norm.momentum = norm.momentum if momentum is None else momentum


def freeze_backbone(network: nn.Module) -> None:
    """Let nothing of the backbone learn; its mode is set by `rest_backbone`."""
    network.get_submodule("backbone").requires_grad_(False)


def rest_backbone(network: nn.Module) -> None:
    """Put the backbone into eval mode: no dropout, no new statistics. ``network.train()`` undoes it."""
    network.get_submodule("backbone").eval()
