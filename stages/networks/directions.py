"""Features and cosines of whole images, from networks whose last layer compares directions."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.artifacts.model import Model
from stages.networks.inner import InnerNetwork
from stages.networks.layers import CosineClassifier, resize
from stages.networks.predictor import Predictor, load_predictor, scaled_images
from stages.pixels.grids import Size
from stages.runtime.devices import forward_precision
from stages.runtime.errors import BadInput


def load_direction_predictor(model: Model, checkpoint: str, device: torch.device, precision: str) -> Predictor:
    """As `load_predictor`; BadInput unless the network's last layer is a cosine classifier."""
    predictor = load_predictor(model, checkpoint, device, precision)
    network = predictor.network
    if not (isinstance(network, InnerNetwork) and isinstance(network.classifier, CosineClassifier)):
        raise BadInput(
            f"{model.path} has no cosine classifier, which prototypes need. Train a model with --architecture "
            "deeplabv3plus --classifier cosine."
        )
    return predictor


def directions(
    predictor: Predictor,
    image: Tensor,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    grid: Size | None = None,
) -> tuple[Tensor, Tensor]:
    """(3,H,W) u8 -> features (D,H,W) f32 and cosines (C,H,W) f32, averaged over ``scales`` and mirrored views.

    With ``grid`` (h,w) both have that size.
    The features of a view have unit length before they are resized to the image, and at most unit length afterwards.
    """
    network = predictor.network
    assert isinstance(network, InnerNetwork)
    assert isinstance(network.classifier, CosineClassifier)
    size = image.shape[-2:] if grid is None else torch.Size(grid)
    sums: list[Tensor] = []
    with torch.inference_mode():
        for scale in scales:
            scaled = scaled_images(image[None].to(predictor.device), scale)
            for mirrored in (False, True) if flip else (False,):
                view = predictor.prepared(scaled.flip(-1) if mirrored else scaled)
                with forward_precision(predictor.precision, predictor.device):
                    found = network.features(view)
                cosines = network.classifier(found) * network.classifier.temperature
                maps = [F.normalize(found.float(), dim=1), cosines]
                maps = [resize(each, view, network.align_corners) for each in maps]
                maps = [each[..., : scaled.shape[-2], : scaled.shape[-1]] for each in maps]
                maps = [each.flip(-1) if mirrored else each for each in maps]
                if scaled.shape[-2:] != size:
                    maps = [F.interpolate(each, size, mode="bilinear") for each in maps]
                sums = [total.add_(each) for total, each in zip(sums, maps, strict=True)] if sums else maps
        count = len(scales) * (2 if flip else 1)
        features, cosines = (total[0].div_(count) for total in sums)  # in place: for a large image they take gigabytes
    return features, cosines
