"""One class per image: a whole timm model and a linear layer."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import timm
import torch
from torch import Tensor, nn

from stages.networks.block_maps import any_size
from stages.networks.layers import SplitNetwork, in_float32, pad_to
from stages.networks.names import timm_name
from stages.runtime.errors import BadInput

PROBE = (33, 47)
"""Height and width of the image used to test whether a model takes any size and how many values it returns."""


class ImageClassifier(SplitNetwork):
    """A classifier of whole images on a timm model (spec als4gan.md 2.2; published on resnet50, resnet101 and vgg16).

    Maps float images (B, 3, H, W), H and W at least 32, to logits (B, C, 1, 1), the shape of a map of one pixel. For a
    vision transformer they are padded with zeros to a multiple of its patch.
    ``backbone`` is timm's model at its own output stride, undilated, with its own pooling and all layers before its
    classifier, such as the ``conv_head`` of EfficientNets; its tensors are named as in files of ImageNet weights.
    All other parameters, ``classifier``, are the head.

    With ``reference_head``, as published, the backbone keeps its own classifier of 1000 classes and the head reads its
    logits; ``load_weights`` then requires weights for it. Otherwise the head reads the features.

    Training on a batch of one image works if the backbone allows it. There is no dropout and no support head.

    Raises:
        BadInput: the backbone is unknown, or takes images of one size only (some transformers), or has no classifier
            of its own although ``reference_head`` is set.
    """

    def __init__(self, backbone: str, num_classes: int, reference_head: bool = False):
        super().__init__()
        self.support = None
        name = timm_name(backbone)
        inputs, self.pad_multiple = probed(name, reference_head)
        model: Any = timm.create_model(name, **options_of(name, reference_head))
        self.backbone = model
        self.classifier = nn.Linear(inputs, num_classes)
        kept = set(model.get_classifier().parameters()) if reference_head else set()
        self.needed_tensors = tuple(tensor for tensor, value in model.named_parameters() if value in kept)
        """Tensors of the backbone that a file of weights must contain."""

    def features(self, images: Tensor) -> Tensor:
        """The input of the backbone's own classifier, kept or not: (B, 3, H, W) to (B, D)."""
        return self.backbone.forward_head(
            self.backbone.forward_features(pad_to(images, self.pad_multiple)), pre_logits=True
        )

    def encoded(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.backbone(pad_to(images, self.pad_multiple)),)

    def decoded(self, features: Sequence[Tensor]) -> Tensor:
        (values,) = features
        return in_float32(self.classifier, values)[..., None, None]


def options_of(name: str, reference_head: bool) -> dict[str, Any]:
    """What timm needs to make the model ``name`` for images of any size, with its own classifier or without."""
    return any_size(name) | ({} if reference_head else {"num_classes": 0})


@cache
def probed(name: str, reference_head: bool) -> tuple[int, int]:
    """The number of values per image, and the multiple of which its sides must be; draws no random weights."""
    with torch.device("meta"):
        model: Any = timm.create_model(name, **options_of(name, reference_head)).eval()
        multiple = int(model.feature_info[-1]["reduction"]) if any_size(name) else 1
        if reference_head and not model.num_classes:
            raise BadInput(f"Backbone {name} has no classifier of its own. Leave out --reference-head.")
        try:
            _, values = model(pad_to(torch.empty(1, 3, *PROBE), multiple)).shape
        except Exception as error:  # models raise any kind of exception for an unsupported size
            raise BadInput(
                f"Backbone {name} cannot classify images of any size. Choose a convolutional one such as "
                "mobilenetv2_100 or resnet50."
            ) from error
    return int(values), multiple
