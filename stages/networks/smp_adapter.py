"""The networks of segmentation-models-pytorch, by name."""

from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.base.initialization import initialize_decoder
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder
from torch import Tensor, nn

from stages.networks.block_maps import any_size, remedy_for, require_any_size
from stages.networks.layers import SplitNetwork, in_float32, pad_to, resize_to
from stages.networks.names import TIMM_PREFIX, is_timm_name, timm_name, unknown_name
from stages.runtime.errors import BadInput

ONLY_TIMM = ("dpt",)
"""Architectures whose encoders are timm's."""


ANOTHER = "Choose another backbone."


class SmpNetwork(SplitNetwork):
    """A network of segmentation-models-pytorch with random weights.

    Maps float images (B, 3, H, W) of any height and width to logits (B, C, H, W). Images are padded with zeros, at the
    bottom and right, to multiples of ``pad_multiple``; the logits are cut. The parameters of ``backbone`` (its encoder)
    are the backbone, all others the head. ``encoder_name`` is the name of the encoder for smp.

    DPT doubles its maps from half of the grid of a transformer's patches up to eight times it, so its images are whole
    numbers of two patches, and patches of other than 16 pixels get a last bilinear resizing from pixel centres.

    Raises:
        BadInput: the encoder is unknown (the message names close ones), or does not fit the architecture.
    """

    def __init__(self, architecture: str, encoder: str, num_classes: int):
        super().__init__()
        self.encoder_name = encoder_name(architecture, encoder)
        options = {}
        if architecture in ONLY_TIMM:
            require_any_size(self.encoder_name)
            options = any_size(self.encoder_name)
        try:
            self.model: Any = smp.create_model(
                architecture, self.encoder_name, encoder_weights=None, classes=num_classes, **options
            )
        except Exception as error:  # smp and timm raise any kind of exception for a pair that does not fit
            timm_model = self.encoder_name.startswith(TIMM_PREFIX)
            remedy = remedy_for(encoder, ANOTHER) if timm_model else ANOTHER
            raise BadInput(
                f"Architecture {architecture} cannot be built on backbone {encoder} ({error}). {remedy}"
            ) from error
        self.support = None
        made = self.model.encoder
        self.maps = len(made.out_channels) if architecture in ONLY_TIMM else None
        strides = getattr(made, "output_strides", None) or [made.output_stride]
        self.pad_multiple = int(max(strides)) * (2 if options else 1)
        if options and strides[0] != 16:
            # smp's upsampling factors are those of patches of a power of two; only the grid counts
            self.model.decoder = DPTDecoder(made.out_channels, [16] * len(strides), made.has_prefix_tokens)
            initialize_decoder(self.model.decoder)

    @property
    def backbone(self) -> nn.Module:
        """The encoder. A property, since an attribute would put its tensors into the state dict twice."""
        return self.model.encoder

    def encoded(self, images: Tensor) -> tuple[Tensor, ...]:
        encoded = self.model.encoder(pad_to(images, self.pad_multiple))
        if self.maps is None:
            return tuple(encoded)
        maps, tokens = encoded
        return (*maps, *(each for each in tokens if each is not None))

    def decoded(self, features: Sequence[Tensor]) -> Tensor:
        if self.maps is None:
            decoded = self.model.decoder(list(features))
        else:  # dpt: also its tokens, if there are any
            tokens: list[Tensor | None] = [*features[self.maps :]] or [None] * self.maps
            decoded = self.model.decoder(list(features[: self.maps]), tokens)
        return in_float32(self.model.segmentation_head, decoded)  # upsamples the logits

    def enlarged(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        height, width = (side + -side % self.pad_multiple for side in size)
        if logits.shape[-2:] != (height, width):
            logits = resize_to(logits, (height, width), align_corners=False)
        return logits[..., : size[0], : size[1]]


def encoder_name(architecture: str, name: str) -> str:
    """The name for smp of the backbone ``name``: smp's own encoder, or ``tu-`` and the timm name.

    BadInput, with close names, if there is neither.
    """
    bare = name.removeprefix(TIMM_PREFIX)
    if name in smp.encoders.encoders and not (architecture in ONLY_TIMM and is_timm_name(name)):
        return name
    if name == bare and not is_timm_name(name):
        raise unknown_name("encoder", name, smp.encoders.encoders)
    return TIMM_PREFIX + timm_name(bare)
