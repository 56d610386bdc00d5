from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.pixels.resize import resize_image, resize_mask, target_size
from stages.runtime.errors import BadInput


@pytest.mark.parametrize(
    "width, height, long_side, expected",
    [
        (500, 375, 400, (400, 300)),
        (375, 500, 400, (300, 400)),
        (500, 333, 400, (400, 266)),
        (300, 300, 400, (400, 400)),
    ],
)
def test_sizes_by_long_side(width: int, height: int, long_side: int, expected: tuple[int, int]) -> None:
    assert target_size(height, width, long_side=long_side) == expected[::-1]


def test_sizes_by_scale() -> None:
    assert target_size(1024, 2048, scale=0.25) == (256, 512)
    assert target_size(100, 200, scale=0.29) == (29, 58)
    assert target_size(7, 9, scale=0.5) == (3, 4)
    assert target_size(3, 900, scale=0.1) == (1, 90)
    assert target_size(7, 9) == (7, 9)
    with pytest.raises(BadInput, match=r"^scale, long_side and size are mutually exclusive\. Set one of them\.$"):
        target_size(7, 9, scale=0.5, long_side=4)


def test_a_size_is_taken_as_it_is() -> None:
    assert target_size(250, 256, size=(256, 256)) == (256, 256)
    assert target_size(7, 9, size=(20, 8)) == (20, 8)
    with pytest.raises(BadInput, match=r"^scale, long_side and size are mutually exclusive\. Set one of them\.$"):
        target_size(7, 9, scale=0.5, size=(4, 4))
    with pytest.raises(BadInput, match=r"^scale, long_side and size are mutually exclusive\. Set one of them\.$"):
        target_size(7, 9, long_side=4, size=(4, 4))


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 1000))
def test_the_long_side_is_exact(height: int, width: int, long_side: int) -> None:
    size = target_size(height, width, long_side=long_side)
    assert max(size) == long_side
    assert min(size) == max(1, Fraction(long_side * min(height, width), max(height, width)).__floor__())


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_masks_take_the_pixel_under_the_centre(height: int, width: int, new_height: int, new_width: int) -> None:
    mask = np.arange(height * width, dtype=np.int32).reshape(height, width)
    half = Fraction(1, 2)
    rows = [((i + half) * height / new_height).__floor__() for i in range(new_height)]
    columns = [((i + half) * width / new_width).__floor__() for i in range(new_width)]
    assert resize_mask(mask, new_height, new_width).tolist() == [[mask[r, c] for c in columns] for r in rows]


def test_masks_agree_with_pillow_where_rounding_does_not_interfere() -> None:
    mask = np.random.default_rng(0).integers(0, 256, (375, 500), np.uint8)
    pillow = np.asarray(Image.fromarray(mask).resize((400, 300), Image.Resampling.NEAREST))
    assert (resize_mask(mask, 300, 400) == pillow).all()


def test_images_are_resized_bilinearly() -> None:
    ramp = np.repeat(np.arange(0, 200, 10, dtype=np.uint8)[None, :, None], 8, axis=0).repeat(3, axis=2)
    small = resize_image(ramp, 4, 10)
    assert small.shape == (4, 10, 3)
    assert small.dtype == np.uint8
    assert (abs(small[:, 1:-1].astype(int) - np.arange(5, 200, 20)[None, 1:-1, None]) <= 1).all()
    assert (resize_image(ramp, 8, 20) == ramp).all()
