"""One class per image: a whole timm model and a linear layer."""

from typing import Any

import timm
import torch
from torch import Tensor, nn

from stages.networks.layers import in_float32
from stages.networks.names import timm_name
from stages.runtime.errors import BadInput

PROBE = (33, 47)
"""Height and width of the image used to test whether a model takes any size and how many values it returns."""


class ImageClassifier(nn.Module):
    """A classifier of whole images on a timm model (spec als4gan.md 2.2; published on resnet50, resnet101 and vgg16).

    Maps float images (B, 3, H, W), H and W at least 32, to logits (B, C, 1, 1), the shape of a map of one pixel.
    ``backbone`` is timm's model at its own output stride, undilated, with its own pooling and all layers before its
    classifier, such as the ``conv_head`` of EfficientNets; its tensors are named as in files of ImageNet weights.
    All other parameters, ``classifier``, are the head.

    With ``reference_head``, as published, the backbone keeps its own classifier of 1000 classes and the head reads its
    logits; ``load_weights`` then requires weights for it. Otherwise the head reads the features.

    Training on a batch of one image works if the backbone allows it. There is no dropout and no support head.

    Raises:
        BadInput: the backbone is unknown, or takes images of one size only (most transformers), or has no classifier
            of its own although ``reference_head`` is set.
    """

    pad_multiple = 1

    def __init__(self, backbone: str, num_classes: int, reference_head: bool = False):
        super().__init__()
        self.support = None
        name = timm_name(backbone)
        options: dict[str, Any] = {} if reference_head else {"num_classes": 0}
        inputs = self._probed(name, options)
        model: Any = timm.create_model(name, **options)
        self.backbone = model
        self.classifier = nn.Linear(inputs, num_classes)
        kept = set(model.get_classifier().parameters()) if reference_head else set()
        self.needed_tensors = tuple(tensor for tensor, value in model.named_parameters() if value in kept)
        """Tensors of the backbone that a file of weights must contain."""

    @staticmethod
    def _probed(name: str, options: dict[str, Any]) -> int:
        """The number of values that the model returns per image, found without drawing random weights."""
        with torch.device("meta"):
            model: Any = timm.create_model(name, **options).eval()
            if not options and not model.num_classes:
                raise BadInput(f"Backbone {name} has no classifier of its own. Leave out --reference-head.")
            try:
                _, values = model(torch.empty(1, 3, *PROBE)).shape
            except Exception as error:  # models raise any kind of exception for an unsupported size
                raise BadInput(
                    f"Backbone {name} cannot classify images of any size. Choose a convolutional one such as "
                    "mobilenetv2_100 or resnet50."
                ) from error
        return int(values)

    def features(self, images: Tensor) -> Tensor:
        """The input of the backbone's own classifier, kept or not: (B, 3, H, W) to (B, D)."""
        return self.backbone.forward_head(self.backbone.forward_features(images), pre_logits=True)

    def forward(self, images: Tensor) -> Tensor:
        return in_float32(self.classifier, self.backbone(images))[..., None, None]
