"""From settings to a network."""

from torch import nn

from stages.networks.bands import COLOURS, take_bands
from stages.networks.inner import InnerNetwork
from stages.networks.support import add_support
from stages.networks.wiring import rewire
from stages.runtime.errors import BadInput
from stages.runtime.parts import ARCHITECTURES
from stages.settings.network import BuiltNetworkSettings, DilatedSettings, SupportableSettings, SupportHeadSettings


def build_network(
    settings: BuiltNetworkSettings, num_classes: int, support: bool = False, bands: int = COLOURS
) -> nn.Module:
    """The network of ``settings`` with random weights, in training mode, on torch's default device.

    Maps float images (B, ``bands``, H, W) to logits (B, ``num_classes``, H, W), or (B, ``num_classes``, 1, 1) if the
    architecture predicts classes of images. Has ``backbone`` (its parameters are the backbone, all others the head) and
    ``pad_multiple`` (H and W must be multiples of it). The same global seed of torch gives the same weights; pretrained
    ones are loaded by ``stages.networks.weights.load_weights``.

    With ``support`` it is an ``InnerNetwork`` whose ``support`` are ``SupportHeads``, which count neither as backbone
    nor as head. The names of their tensors start with ``support.``; all other tensors have the same names, shapes and,
    from the same seed, values as without ``support``.

    Raises:
        BadInput: unknown architecture or backbone, or a pair that does not fit; support heads for an architecture that
            has none, or without their side taps; a plug-in's network without a backbone; a network that cannot take
            so many bands.
        ValueError: ``num_classes`` is below 1.
    """
    if num_classes < 1:
        raise ValueError(f"a network needs at least one class, not {num_classes}")
    part = ARCHITECTURES[settings.architecture]
    if support and not part.facts["support"]:
        able = [other.name for other in ARCHITECTURES.parts() if other.facts["support"]]
        raise BadInput(f"Architecture {part.name} has no support heads. Choose one of {', '.join(able)}.")
    network = part(settings, num_classes)
    if not isinstance(getattr(network, "backbone", None), nn.Module):
        raise BadInput(f"Architecture {part.name}: its network has no submodule 'backbone'. Add one to the plug-in.")
    if isinstance(settings.of_architecture, DilatedSettings):
        rewire(network.backbone, settings.backbone, settings.of_architecture)
    if bands != COLOURS:
        take_bands(network, bands)
    if support:
        assert isinstance(network, InnerNetwork)
        assert isinstance(settings.of_architecture, SupportableSettings)
        add_support(network, settings.of_architecture.support or SupportHeadSettings.load({}))
    return network
