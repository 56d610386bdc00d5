"""Edges of images: acceptance check 9 of the specification, and equality with OpenCV at every pixel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.pixels.edges import edge_mask, edge_strength

cv2 = pytest.importorskip("cv2")


def opencv_strength(image):
    """(H,W,3) u8 RGB -> (H,W) u8, step by step as the specification names them."""
    grey = cv2.cvtColor(cv2.GaussianBlur(image, (3, 3), 0), cv2.COLOR_BGR2GRAY)
    gradients = [
        cv2.convertScaleAbs(cv2.Sobel(grey, cv2.CV_16S, *direction, ksize=3)) for direction in ((1, 0), (0, 1))
    ]
    return cv2.addWeighted(gradients[0], 0.5, gradients[1], 0.5, 0)


def as_batch(image):
    return torch.from_numpy(image).permute(2, 0, 1).unsqueeze(0)


def random_image(seed, height, width, kind):
    generator = np.random.default_rng(seed)
    if kind == "noise":
        return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == "black and white":
        return generator.integers(0, 2, (height, width, 3), dtype=np.uint8) * np.uint8(255)
    faint = generator.integers(0, 256, 3) + generator.integers(-20, 21, (height, width, 3))
    return np.clip(faint, 0, 255).astype(np.uint8)


def step(high, height=6):
    return torch.tensor([0] * 4 + [high] * 4, dtype=torch.uint8).expand(1, 3, height, 8)


@pytest.mark.parametrize(
    "high, strength, columns",
    [
        (60, [0, 0, 30, 90, 90, 30, 0, 0], [2, 3, 4, 5]),
        (10, [0, 0, 6, 16, 14, 4, 0, 0], []),
        (255, [0, 0, 128, 128, 128, 128, 0, 0], [2, 3, 4, 5]),
    ],
)
def test_steps_of_check_9(high, strength, columns):
    for images, dims in ((step(high), (1, 2)), (step(high).mT, (2, 1))):
        assert (edge_strength(images) == torch.tensor(strength).view(1, *[8 if d == 2 else 1 for d in dims])).all()
        mask = edge_mask(images)
        assert mask.dtype == torch.bool
        assert mask.any(dims[0]).nonzero()[:, 1].tolist() == mask.all(dims[0]).nonzero()[:, 1].tolist() == columns


def test_very_strong_responses_are_no_edges():
    """Only where both gradients are strong can half their sum pass 200."""
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    image[..., 4:, 4:] = 255
    strength = edge_strength(image)
    assert strength.max() > 200
    assert torch.equal(edge_mask(image), (strength >= 20) & (strength <= 200))
    assert not edge_mask(image)[strength > 200].any()


def test_red_weighs_as_blue_does_in_opencv():
    image = np.zeros((1, 9, 3), np.uint8)
    image[:, 4:, 0] = 200
    red = edge_strength(as_batch(image)).max()
    blue = edge_strength(as_batch(image[..., ::-1].copy())).max()
    assert red < blue


@given(
    seed=st.integers(0, 2**32),
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    kind=st.sampled_from(["noise", "black and white", "faint"]),
)
@settings(max_examples=150, deadline=None)
def test_equals_opencv_at_every_pixel(seed, size, kind):
    image = random_image(seed, *size, kind)
    np.testing.assert_array_equal(edge_strength(as_batch(image))[0].numpy(), opencv_strength(image))


def test_equals_opencv_where_it_works_on_many_pixels_at_once():
    for kind in ("noise", "black and white", "faint"):
        image = random_image(7, 203, 331, kind)
        strength = opencv_strength(image)
        np.testing.assert_array_equal(edge_strength(as_batch(image))[0].numpy(), strength)
        np.testing.assert_array_equal(edge_mask(as_batch(image))[0].numpy(), (strength >= 20) & (strength <= 200))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2)])
def test_sides_too_small_to_be_mirrored(size):
    flat = torch.full((2, 3, *size), 90, dtype=torch.uint8)
    assert edge_strength(flat).shape == (2, *size)
    assert not edge_strength(flat).any()


def test_floats_are_rounded_to_the_same_image():
    images = torch.from_numpy(random_image(3, 20, 30, "faint")).permute(2, 0, 1).unsqueeze(0)
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(1)) * 0.9 - 0.45
    floats = images + noise
    copy = floats.clone()
    assert torch.equal(edge_strength(floats), edge_strength(images))
    assert torch.equal(floats, copy)
    assert torch.equal(edge_strength(images.bfloat16().float()), edge_strength(images.bfloat16()))
    beyond = torch.where(images > 128, 300.0, -40.0)
    assert torch.equal(edge_strength(beyond), edge_strength((images > 128).to(torch.uint8) * 255))


def test_images_of_a_batch_are_alone_and_any_memory_order_will_do():
    images = torch.cat([as_batch(random_image(seed, 9, 11, "noise")) for seed in range(3)])
    found = edge_strength(images)
    assert torch.equal(found, torch.cat([edge_strength(image.unsqueeze(0)) for image in images]))
    assert torch.equal(found, edge_strength(images.contiguous(memory_format=torch.channels_last)))
