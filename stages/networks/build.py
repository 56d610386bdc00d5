"""From settings to a network."""

from torch import nn

from stages.errors import BadInput
from stages.networks.deeplabv3plus import DeepLabV3Plus
from stages.networks.fpn_dilated import DilatedFPN
from stages.networks.smp_adapter import SMP_ARCHITECTURES, SmpNetwork
from stages.settings.network import NetworkSettings

OWN_ARCHITECTURES: dict[str, type[DeepLabV3Plus] | type[DilatedFPN]] = {
    "deeplabv3plus": DeepLabV3Plus,
    "fpn-dilated": DilatedFPN,
}
"""Networks of our own; where smp has the same name, ours is built."""


def build_network(settings: NetworkSettings, num_classes: int) -> nn.Module:
    """The network of ``settings`` with random weights, in training mode, on torch's default device.

    Maps float images (B, 3, H, W) to logits (B, ``num_classes``, H, W). Has ``backbone`` (its parameters are the
    backbone, all others the head) and ``pad_multiple`` (H and W must be multiples of it). The same global seed of torch
    gives the same weights; pretrained ones are loaded by ``stages.networks.weights.load_weights``.

    Raises:
        BadInput: unknown architecture or backbone, or a pair that does not go together.
        ValueError: ``num_classes`` is below 1.
    """
    if num_classes < 1:
        raise ValueError(f"a network needs at least one class, not {num_classes}")
    name = settings.architecture.lower()
    if name in OWN_ARCHITECTURES:
        return OWN_ARCHITECTURES[name](settings, num_classes)
    if name in SMP_ARCHITECTURES:
        return SmpNetwork(settings, num_classes)
    known = sorted({*OWN_ARCHITECTURES, *SMP_ARCHITECTURES})
    raise BadInput(f"Unknown architecture {settings.architecture!r}: choose one of {', '.join(known)}.")
