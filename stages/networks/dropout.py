"""The dropout layers of a head, for committees made by dropout."""

from torch import nn


def dropout_modules(network: nn.Module) -> list[nn.Module]:
    """The element- and channel-wise dropout layers of the head that drop anything, in their order in the network.

    A committee puts these into training mode and leaves everything else, especially BatchNorm, in eval mode. The list
    is empty if the head has no dropout (fpn-dilated, unet, probabilities of 0): such a network cannot form a committee.
    The dropout of support heads is not included: a committee consists of segmentation heads.
    """
    others = set(network.get_submodule("backbone").modules())
    support = getattr(network, "support", None)
    if support is not None:
        others.update(support.modules())
    return [
        part
        for part in network.modules()
        if isinstance(part, nn.Dropout | nn.Dropout2d) and part.p > 0 and part not in others
    ]
