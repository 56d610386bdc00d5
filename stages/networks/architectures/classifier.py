"""A classifier of whole images."""

from typing import TYPE_CHECKING

from pydantic import Field

from stages.networks.architectures import architecture
from stages.settings.base import PartSettings
from stages.settings.network import NetworkSettings

if TYPE_CHECKING:
    from torch import nn


class ImageClassifierSettings(PartSettings):
    reference_head: bool = Field(
        False,
        description="Keep the backbone's own pretrained head of 1000 classes, as published, and add the layer for the "
        "classes after it.",
    )


@architecture("classifier", predicts="images", settings=ImageClassifierSettings)
def classifier(settings: NetworkSettings, outputs: int) -> "nn.Module":
    """Classifier of whole images: a timm model and a linear layer."""
    from stages.networks.classifier import ImageClassifier

    own = settings.of_architecture
    assert isinstance(own, ImageClassifierSettings)
    return ImageClassifier(settings.backbone, outputs, own.reference_head)
