"""Features of single pixels: interpolated by hand, from networks of any kind and images of any size."""

import numpy as np
import pytest
import torch

from stages.networks.pixel_features import PixelMaps, load_pixel_encoder, usable_maps
from stages.runtime.errors import BadInput
from stages.settings.common import NetworkUse

USE = NetworkUse(device="cpu")


def test_interpolated_by_hand():
    """Cells of (1, 0) and (0, 1) side by side: a quarter of the way between their centres is (0.75, 0.25)."""
    maps = PixelMaps([torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])], (1.0, 1.0))
    found = maps.at(np.array([0.5, 0.5, 0.5]), np.array([0.0, 0.375, 1.0]))
    expected = torch.nn.functional.normalize(torch.tensor([[1, 0], [0.75, 0.25], [0, 1.0]]), dim=1)
    assert found.allclose(expected, atol=1e-6)


def test_the_padding_of_an_image_is_no_part_of_it():
    """An image that covers half of the width: its right edge is the middle of the map."""
    maps = PixelMaps([torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])], (1.0, 0.5))
    assert maps.at(np.array([0.5]), np.array([1.0])).allclose(torch.full((1, 2), 0.5**0.5), atol=1e-6)


def test_maps_among_what_a_backbone_returns():
    image, coarse, tokens = torch.zeros(1, 3, 32, 48), torch.zeros(1, 5, 8, 12), torch.zeros(1, 5)
    assert usable_maps([image, coarse, ([coarse], [tokens, None])], (32, 48)) == [coarse, coarse]
    assert usable_maps(tokens, (32, 48)) == []


@pytest.mark.parametrize(
    ("name", "dimensions"), [("mobilenetv3_small_050", 8 + 16 + 24 + 288), ("vit_tiny_patch16_224", 192)]
)
def test_networks_of_any_kind_see_images_of_any_size(name, dimensions):
    encoder = load_pixel_encoder(name, "none", 1.0, USE, 0, 3)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 30, 41), dtype=np.uint8))
    y, x = np.array([0.1, 0.9, 0.5]), np.array([0.2, 0.5, 0.99])
    together = [maps.at(y, x) for maps in encoder.of(images)]
    assert [tuple(found.shape) for found in together] == [(3, dimensions)] * 2
    assert torch.cat(together).norm(dim=1).allclose(torch.ones(6), atol=1e-5)
    (alone,) = [maps.at(y, x) for maps in encoder.of(images[1:])]
    assert torch.equal(alone, together[1]), "the batch is without effect"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (("resnet19", "none", 1.0, USE, 0, 3), "Unknown timm backbone 'resnet19'"),
        (("mobilenetv3_small_050", "none", 1.0, USE, 0, 4), "sees 3 bands, and the images have 4"),
        (("mobilenetv3_small_050", "missing.pth", 1.0, USE, 0, 3), "missing.pth"),
    ],
)
def test_refused(values, says):
    with pytest.raises(BadInput, match=says):
        load_pixel_encoder(*values)
