"""Architectures: networks by name, one light file each.

A file registers a function that builds the network with random weights; torch is imported inside it:

    from stages.networks.architectures import architecture
    from stages.settings.base import PartSettings

    class PlainSettings(PartSettings):
        width: int = Field(16, ge=1, description="Channels of the head.")

    @architecture("plain", settings=PlainSettings)
    def plain(settings, outputs):
        "One convolution on the deepest feature map."
        from my_networks import Plain

        return Plain(settings.backbone, settings.of_architecture.width, outputs)

``settings`` is a `stages.settings.network.NetworkSettings`; its ``of_architecture`` holds the part's own settings. The
network maps float images (B, 3, H, W) to logits (B, outputs, H, W), or (B, outputs, 1, 1) with ``predicts="images"``.
It has a submodule ``backbone``, whose parameters are the backbone (all others are the head), and an attribute
``pad_multiple``: H and W are multiples of it. Let its last layer run `stages.networks.layers.in_float32`, or logits tie
in bfloat16. ``support=True`` says that it is a `stages.networks.inner.InnerNetwork`
and that its settings are a `SupportableSettings`. A `stages.networks.layers.SplitNetwork` is cut after its backbone, so
that features of a frozen one can be kept.
"""

from stages.runtime.parts import ARCHITECTURES

architecture = ARCHITECTURES.register
