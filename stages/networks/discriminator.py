"""The discriminator: tells real label maps from predicted ones, each paired with its image."""

from torch import Tensor, nn

from stages.networks.bands import COLOURS
from stages.networks.layers import in_float32

SLOPE = 0.2
"""Slope of the LeakyReLU below zero."""

DROPOUT = 0.5
"""Probability that a channel is dropped after each convolution except the last."""


class Discriminator(nn.Module):
    """Classifies whole pairs of a label map and an image as real or predicted (spec als4gan.md 3.2).

    Maps float pairs (B, C + ``bands``, H, W), H and W at least 32, to a logit per pair (B, 1), whose sigmoid is the
    probability that the pair is real, and to features (B, 8 * ``width``) for feature matching. The first C channels are
    class probabilities or a one-hot label map, the others the image in 0..1.

    The mean over the whole map replaces the published pool of 20x20, which only takes inputs of about 320 pixels; the
    parameters are the same. Weights are initialised by torch: the same seed of torch gives the same weights. Training
    mode drops channels, so compute scores for a gate in eval mode.

    Args:
        classes: C, at least 1, without the channel of any ignored label.
        width: channels after the first convolution, 64 as published; each further convolution doubles them.
        bands: those of the images.
    """

    def __init__(self, classes: int, width: int = 64, bands: int = COLOURS):
        super().__init__()
        layers: list[nn.Module] = []
        inputs, last = classes + bands, 8 * width
        for outputs in (width, 2 * width, 4 * width, last):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE, inplace=True)]
            if outputs != last:
                layers.append(nn.Dropout2d(DROPOUT))
            inputs = outputs
        self.convolutions = nn.Sequential(*layers)
        self.classifier = nn.Linear(last, 1)

    def forward(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.convolutions(pairs).mean((-2, -1))
        return in_float32(self.classifier, features), features
