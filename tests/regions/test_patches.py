"""Patches: the filled and resized boxes of a slow program that goes region by region and cell by cell."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.regions.graph import region_table
from stages.regions.patches import PatchTask, cut_patches, cut_task, kernel, taps


def keys(distance: float) -> float:
    """Keys' kernel with a = -0.5, as his paper writes it."""
    distance = abs(distance)
    if distance <= 1:
        return 1.5 * distance**3 - 2.5 * distance**2 + 1
    if distance <= 2:
        return -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    return 0.0


def resized(line: np.ndarray, side: int) -> np.ndarray:
    """(n,...) -> (side,...): bicubic along the first axis, from pixel centres, taps kept within the line."""
    found = []
    for cell in range(side):
        centre = (cell + 0.5) * len(line) / side - 0.5
        first = int(np.floor(centre)) - 1
        found.append(sum(keys(centre - tap) * line[min(max(tap, 0), len(line) - 1)] for tap in range(first, first + 4)))
    return np.array(found)


def slow_patches(image: np.ndarray, labels: np.ndarray, side: int) -> np.ndarray:
    patches = []
    for region in range(labels.max(initial=-1) + 1):
        inside = labels == region
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        colours = np.where(inside[..., None], image / 255, image[inside].mean(0) / 255)[box]
        patches.append(resized(resized(colours, side).swapaxes(0, 1), side).swapaxes(0, 1))
    return np.array(patches).reshape(-1, side, side, 3).transpose(0, 3, 1, 2).clip(0, 1)


def fast_patches(image: np.ndarray, labels: np.ndarray, side: int) -> np.ndarray:
    return cut_patches(image, labels, region_table(labels, labels.max(initial=-1) + 1), side)


@st.composite
def worlds(draw):
    """An image of any colours, regions in any shape and in several parts, with or without pixels in none."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    block = draw(st.integers(1, 8))
    coarse = generator.integers(-1, draw(st.integers(1, 9)), (height // block + 1, width // block + 1))
    wanted = coarse.repeat(block, 0).repeat(block, 1)[:height, :width]
    known = np.unique(wanted[wanted >= 0])
    labels = np.where(wanted >= 0, np.searchsorted(known, wanted), -1).astype(np.int32)
    return generator.integers(0, 256, (height, width, 3)).astype(np.uint8), labels, draw(st.integers(1, 20))


@given(world=worlds())
@settings(max_examples=150, deadline=None)
def test_patches_are_those_of_the_slow_program(world):
    image, labels, side = world
    found, expected = fast_patches(image, labels, side), slow_patches(image, labels, side)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=3e-6)


def test_chunks_of_any_size_give_the_same(monkeypatch):
    generator = np.random.default_rng(3)
    image = generator.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    labels = np.arange(5 * 4, dtype=np.int32).reshape(4, 5).repeat(10, 0).repeat(10, 1)
    whole = fast_patches(image, labels, 8)
    monkeypatch.setattr("stages.regions.patches.CHUNK_CELLS", 3 * 64)
    np.testing.assert_array_equal(fast_patches(image, labels, 8), whole)


@pytest.mark.parametrize("side", [1, 2, 16, 37])
def test_a_region_that_fills_its_square_is_the_crop_to_the_last_bit(side):
    image = np.random.default_rng(side).integers(0, 256, (side + 5, side + 7, 3)).astype(np.uint8)
    labels = np.full(image.shape[:2], -1, dtype=np.int32)
    labels[2 : 2 + side, 3 : 3 + side] = 0
    crop = image[2 : 2 + side, 3 : 3 + side].astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(fast_patches(image, labels, side)[0], crop.transpose(2, 0, 1))


def test_a_region_of_one_colour_is_that_colour_whatever_lies_around_it():
    image = np.random.default_rng(0).integers(0, 256, (30, 30, 3)).astype(np.uint8)
    labels = np.full((30, 30), -1, dtype=np.int32)
    labels[np.hypot(*np.mgrid[-14:16, -14:16]) < 11] = 0
    image[labels == 0] = (10, 200, 77)
    expected = np.broadcast_to(np.array([10, 200, 77])[:, None, None] / 255, (3, 16, 16))
    np.testing.assert_allclose(fast_patches(image, labels, 16)[0], expected, atol=1e-6)


def test_overshoot_is_cut_off():
    image = np.zeros((6, 6, 3), dtype=np.uint8)
    image[:, 3:] = 255
    patches = fast_patches(image, np.zeros((6, 6), dtype=np.int32), 16)
    assert patches.min() == 0
    assert patches.max() == 1


def opencv_patches(image, labels, side):
    """The public code's patches: boxes filled in float64, resized by OpenCV, never clipped."""
    cv2 = pytest.importorskip("cv2")
    found = []
    for region in range(labels.max() + 1):
        y, x = np.where(labels == region)
        box = np.ones((np.ptp(y) + 1, np.ptp(x) + 1, 3)) * image[y, x].mean(0) / 255
        box[y - y.min(), x - x.min()] = image[y, x] / 255
        found.append(
            box if box.shape[:2] == (side, side) else cv2.resize(box, (side, side), interpolation=cv2.INTER_CUBIC)
        )
    return np.array(found).transpose(0, 3, 1, 2)


def test_the_published_patches_are_those_of_opencv():
    draw = np.random.default_rng(5)
    image = draw.integers(0, 256, (40, 56, 3)).astype(np.uint8)
    coarse = draw.integers(0, 12, (8, 8))
    labels = np.unique(coarse, return_inverse=True)[1].reshape(8, 8).astype(np.int32).repeat(5, 0).repeat(7, 1)
    labels[:5, :5], labels[:16, 40:] = (
        labels.max() + 1,
        labels.max() + 2,
    )  # smaller than the patch, and exactly its size
    expected = opencv_patches(image, labels, 16)
    table = region_table(labels, labels.max() + 1)
    found = cut_patches(image, labels, table, 16, "opencv")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.min() < -0.05
    assert found.max() > 1.05
    assert np.abs(cut_patches(image, labels, table, 16) - expected).max() > 0.05


def test_no_region_no_patch():
    labels = np.full((5, 5), -1, dtype=np.int32)
    boxes = {name: np.zeros(0, dtype=np.int32) for name in ("y0", "x0", "y1", "x1")}
    assert cut_patches(np.zeros((5, 5, 3), dtype=np.uint8), labels, boxes, 16).shape == (0, 3, 16, 16)


def test_a_worker_gives_the_same():
    image = np.random.default_rng(1).integers(0, 256, (12, 9, 3)).astype(np.uint8)
    labels = np.arange(12, dtype=np.int32)[:, None].repeat(9, 1) // 5
    task = PatchTask(image, labels, region_table(labels, 3), 16)
    np.testing.assert_array_equal(cut_task(task), fast_patches(image, labels, 16))


def test_the_kernel_interpolates_and_its_weights_sum_to_one():
    np.testing.assert_array_equal(kernel(np.array([0.0, 1.0, 2.0]), -0.5), [1, 0, 0])
    assert float(kernel(np.array(0.5), -0.5)) == pytest.approx(0.5625)
    assert float(kernel(np.array(1.5), -0.5)) == pytest.approx(-0.0625)
    assert float(kernel(np.array(0.5), -0.75)) == pytest.approx(0.59375)
    assert float(kernel(np.array(1.5), -0.75)) == pytest.approx(-0.09375)
    places, weights = taps(np.array([3]), np.array([9]), 16)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    assert places.min() == 3
    assert places.max() == 9
