"""The networks of segmentation-models-pytorch, by name."""

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from stages.networks.layers import in_float32
from stages.networks.names import TIMM_PREFIX, is_timm_name, timm_name, unknown_name
from stages.runtime.errors import BadInput


class SmpNetwork(nn.Module):
    """A network of segmentation-models-pytorch with random weights.

    Maps float images (B, 3, H, W) to logits (B, C, H, W); H and W must be multiples of ``pad_multiple``. The parameters
    of ``backbone`` (its encoder) are the backbone, all others the head.

    Raises:
        BadInput: the encoder is unknown (the message names close ones), or does not fit the architecture.
    """

    def __init__(self, architecture: str, encoder: str, num_classes: int):
        super().__init__()
        check_encoder(encoder)
        try:
            self.model = smp.create_model(architecture, encoder, encoder_weights=None, classes=num_classes)
        except Exception as error:  # smp and timm raise any kind of exception for a pair that does not fit
            raise BadInput(
                f"Architecture {architecture} cannot be built on backbone {encoder} ({error}). Choose another backbone."
            ) from error
        self.support = None
        strides = getattr(self.backbone, "output_strides", None) or [self.backbone.output_stride]
        self.pad_multiple = int(max(strides))

    @property
    def backbone(self) -> nn.Module:
        """The encoder. A property, since an attribute would put its tensors into the state dict twice."""
        return self.model.encoder

    def forward(self, images: Tensor) -> Tensor:
        self.model.check_input_shape(images)
        encoded = self.model.encoder(images)
        decoded = self.model.decoder(*(encoded if isinstance(encoded, tuple) else (encoded,)))  # dpt: also its tokens
        return in_float32(self.model.segmentation_head, decoded)  # upsamples the logits


def check_encoder(name: str) -> None:
    """Raise BadInput, with close names, unless ``name`` is an encoder of smp or ``tu-`` and a timm name."""
    if name.startswith(TIMM_PREFIX):
        timm_name(name)
    elif name not in smp.encoders.encoders:
        prefixed = [TIMM_PREFIX + name] if is_timm_name(name) else []
        if prefixed:
            raise BadInput(f"Unknown encoder {name!r}. Pass {prefixed[0]} for the timm model of that name.")
        raise unknown_name("encoder", name, smp.encoders.encoders)
