"""BatchNorm that keeps the statistics it has."""

from torch import nn


def freeze_norm(network: nn.Module) -> None:
    """Put every BatchNorm of ``network`` into eval mode, which normalises by the running statistics and leaves them.

    For training from pretrained statistics with batches too small for their own (spec als4gan.md 7, D5; check 24).
    ``network.train()`` undoes it, so it is called after each. Scales and shifts go on learning unless an optimiser
    leaves them out.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # SyncBatchNorm and timm's own are among them
            module.eval()
