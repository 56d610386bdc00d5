"""From settings to a network."""

from collections.abc import Callable

from torch import nn

from stages.networks.classifier import ImageClassifier
from stages.networks.deeplabv2 import DeepLabV2
from stages.networks.deeplabv3 import DeepLabV3
from stages.networks.deeplabv3plus import DeepLabV3Plus
from stages.networks.fpn_dilated import DilatedFPN
from stages.networks.inner import InnerNetwork
from stages.networks.lraspp import LRASPP
from stages.networks.smp_adapter import SMP_ARCHITECTURES, SmpNetwork
from stages.networks.support import add_support
from stages.runtime.errors import BadInput
from stages.settings.network import NetworkSettings

INNER_ARCHITECTURES: dict[str, type[InnerNetwork]] = {
    "deeplabv3plus": DeepLabV3Plus,
    "deeplabv3": DeepLabV3,
    "lraspp": LRASPP,
}
"""Networks of our own that can carry support heads."""

OWN_ARCHITECTURES: dict[str, Callable[[NetworkSettings, int], nn.Module]] = {
    **INNER_ARCHITECTURES,
    "classifier": ImageClassifier,
    "deeplabv2": DeepLabV2,
    "fpn-dilated": DilatedFPN,
}
"""Networks of our own; where smp has the same name, ours is built."""


def build_network(settings: NetworkSettings, num_classes: int, support: bool = False) -> nn.Module:
    """The network of ``settings`` with random weights, in training mode, on torch's default device.

    Maps float images (B, 3, H, W) to logits (B, ``num_classes``, H, W), or (B, ``num_classes``, 1, 1) where the
    architecture is ``classifier``. Has ``backbone`` (its parameters are the backbone, all others the head) and
    ``pad_multiple`` (H and W must be multiples of it). The same global seed of torch gives the same weights; pretrained
    ones are loaded by ``stages.networks.weights.load_weights``.

    With ``support`` it is an ``InnerNetwork`` whose ``support`` are ``SupportHeads``, which count neither as backbone
    nor as head; all their tensors lie under ``support.``, and the others have the names, shapes and, from the same
    seed, values that they have without. Else ``support`` is None.

    Raises:
        BadInput: unknown architecture or backbone, or a pair that does not go together; support heads for an
            architecture that cannot carry any, or without their side taps.
        ValueError: ``num_classes`` is below 1.
    """
    if num_classes < 1:
        raise ValueError(f"a network needs at least one class, not {num_classes}")
    name = settings.architecture.lower()
    if support and name not in INNER_ARCHITECTURES and name in {*OWN_ARCHITECTURES, *SMP_ARCHITECTURES}:
        raise BadInput(
            f"Architecture {settings.architecture} has no support heads: choose one of "
            f"{', '.join(INNER_ARCHITECTURES)}."
        )
    if name in INNER_ARCHITECTURES:
        network = INNER_ARCHITECTURES[name](settings, num_classes)
        if support:
            add_support(network)
        return network
    if name in OWN_ARCHITECTURES:
        return OWN_ARCHITECTURES[name](settings, num_classes)
    if name in SMP_ARCHITECTURES:
        return SmpNetwork(settings, num_classes)
    known = sorted({*OWN_ARCHITECTURES, *SMP_ARCHITECTURES})
    raise BadInput(f"Unknown architecture {settings.architecture!r}: choose one of {', '.join(known)}.")
