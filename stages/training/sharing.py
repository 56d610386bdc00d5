"""What the processes of a training share beside the losses: gradients and the statistics of batch normalisation."""

from collections.abc import Sequence

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from stages.runtime.ranks import Ranks


@torch.no_grad()
def average_over_ranks(tensors: Sequence[Tensor], ranks: Ranks) -> None:
    """Replaces each tensor by its mean over the processes, all of them in one message; they must be of one type."""
    if ranks.size == 1 or not tensors:
        return
    means = ranks.sum(torch.cat([tensor.reshape(-1) for tensor in tensors])) / ranks.size
    for tensor, mean in zip(tensors, means.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def running_statistics(network: nn.Module) -> list[Tensor]:
    """The statistics that batch normalisation measures in training mode, unless its layers share them already."""
    return [
        statistics
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, nn.SyncBatchNorm)
        if module.training and module.running_mean is not None and module.running_var is not None
        for statistics in (module.running_mean, module.running_var)
    ]


def share_normalisation(network: nn.Module, device: torch.device) -> None:
    """On CUDA lets batch normalisation use the whole batch instead of each process's share; gloo cannot."""
    if device.type == "cuda":
        convert_sync_batchnorm(network)  # replaces layers in place; timm's keeps the activation inside its own layers
