"""BatchNorm with fixed statistics."""

from torch import nn


def freeze_norm(network: nn.Module) -> None:
    """Put every BatchNorm of ``network`` into eval mode, so that it uses its running statistics and keeps them.

    For training from pretrained statistics if batches are too small to estimate them (spec als4gan.md 7, D5; check 24).
    ``network.train()`` undoes it, so call it after each ``train()``. Scales and shifts still learn unless an optimiser
    leaves them out.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # base of SyncBatchNorm and timm's own
            module.eval()
