"""Rotation of the training window: labels and image turn together, about the centre, with reflected borders."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter
from tasks import samples_of
from worlds import random_masks, random_round, write_dataset

from stages.artifacts.annotations import Annotations
from stages.runtime.randomness import stream
from stages.settings.train import TrainSettings
from stages.training.samples.maps import TrainingSamples
from stages.training.window import Scales, Window, crop_image, crop_labels, draw_window

COLOUR = (1, 2, 3)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def whole(height: int, width: int, angle: int) -> Window:
    return Window(height, width, 0, 0, height, width, False, angle)


def sources(window: Window) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) f64 y and x in the scaled source, with math.cos and one pixel after the other."""
    rows, columns = window.visible
    angle = math.radians(window.angle)
    middle_y, middle_x = window.scaled_height / 2, window.scaled_width / 2
    found = np.empty((2, rows, columns))
    for row in range(rows):
        for column in range(columns):
            y, x = window.top + row + 0.5 - middle_y, window.left + column + 0.5 - middle_x
            found[0, row, column] = middle_y + y * math.cos(angle) + x * math.sin(angle)
            found[1, row, column] = middle_x - y * math.sin(angle) + x * math.cos(angle)
    return found[0], found[1]


# --- draws ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seed, window",
    [
        (0, Window(195, 260, 0, 0, 200, 300, False)),
        (1, Window(318, 424, 80, 21, 200, 300, False)),
        (2, Window(485, 647, 102, 329, 200, 300, True)),
        (3, Window(631, 842, 35, 454, 200, 300, True)),
    ],
)
def test_without_rotation_windows_are_drawn_as_before_there_was_any(seed, window):
    """Windows noted down before rotation came in, and the stream is where it was left then."""
    generator, before = stream(seed, "pin"), stream(seed, "pin")
    assert draw_window((360, 480), (200, 300), Scales(0.5, 2.0), 0.5, generator) == window
    before.uniform(0.5, 2.0)
    for big, small in ((window.scaled_height, 200), (window.scaled_width, 300)):
        before.integers(0, max(0, big - small) + 1)
    before.random()
    following = [[each.integers(1000), each.integers(1000), each.random()] for each in (generator, before)]
    assert following[0] == following[1]


def test_angles_are_whole_degrees_both_ways_and_drawn_last():
    angles = []
    for seed in range(400):
        drawn = draw_window((36, 48), (20, 30), Scales(0.5, 2.0), 0.5, stream(seed, "angle"), 3)
        before = draw_window((36, 48), (20, 30), Scales(0.5, 2.0), 0.5, stream(seed, "angle"))
        assert before.angle == 0
        assert drawn == replace(before, angle=drawn.angle)
        angles.append(drawn.angle)
    counts = np.bincount(np.array(angles) + 3, minlength=7)
    assert len(counts) == 7
    assert counts.min() > 30


# --- the map --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaled", [(20, 30), (13, 17), (33, 47)])
def test_without_rotation_crops_are_as_before_there_was_any(scaled):
    """The image from one resize of the seen box, the labels from exact indices."""
    image, labels = noise(20, 30), np.arange(600, dtype=np.int32).reshape(20, 30)
    window = Window(*scaled, 3, 5, 40, 9, True, 0)
    rows, columns = window.visible
    down, right = 20 / scaled[0], 30 / scaled[1]
    box = (5 * right, 3 * down, min(30, (5 + columns) * right), min(20, (3 + rows) * down))
    expected = np.full((40, 9, 3), COLOUR, np.uint8)
    expected[:rows, :columns] = Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR, box=box)
    assert (crop_image(image, window, COLOUR) == expected[:, ::-1]).all()
    y = (2 * np.arange(3, 3 + rows) + 1) * 20 // (2 * scaled[0])
    x = (2 * np.arange(5, 5 + columns) + 1) * 30 // (2 * scaled[1])
    assert (crop_labels(labels, window, -1)[:rows, ::-1][:, :columns] == labels[np.ix_(y, x)]).all()


@pytest.mark.parametrize("side", [1, 7, 64, 301])
@pytest.mark.parametrize("angle, turns", [(90, 1), (180, 2), (-90, 3), (-180, 2)])
def test_right_angles_turn_anticlockwise_as_rot90(side, angle, turns):
    image, labels = noise(side, side), np.arange(side * side, dtype=np.int32).reshape(side, side)
    assert (crop_labels(labels, whole(side, side, angle), -1) == np.rot90(labels, turns)).all()
    assert (crop_image(image, whole(side, side, angle), COLOUR) == np.rot90(image, turns)).all()


@pytest.mark.parametrize("size", [(9, 31), (9, 33), (40, 12)])
def test_a_right_angle_of_an_oblong_shows_its_reflections(size):
    """Far left and right of the centre, the turned oblong is only its own reflection, the edge pixel twice."""
    height, width = size
    image, labels = noise(*size), np.arange(height * width, dtype=np.int32).reshape(size)
    reach = abs(height - width) // 2
    assert (height - width) % 2 == 0  # else pixel centres fall between pixels
    around = [(max(0, width - height) // 2,) * 2, (max(0, height - width) // 2,) * 2]
    inner = slice(reach, -reach)
    across = (slice(None), inner) if height > width else (inner, slice(None))
    padded = np.pad(labels, around, "symmetric")
    assert (crop_labels(labels, whole(height, width, 90), -1) == np.rot90(padded)[across]).all()
    padded = np.pad(image, [*around, (0, 0)], "symmetric")
    assert (crop_image(image, whole(height, width, 90), COLOUR) == np.rot90(padded)[across]).all()


def test_a_crop_may_lie_in_the_reflections_alone():
    """Left of the turned oblong: part of the whole turned picture like any other."""
    image, labels = noise(9, 41), np.arange(9 * 41, dtype=np.int32).reshape(9, 41)
    for left in range(37):
        window = Window(9, 41, 0, left, 9, 4, False, 90)
        seen = slice(left, left + 4)
        assert (crop_labels(labels, window, -1) == crop_labels(labels, whole(9, 41, 90), -1)[:, seen]).all()
        assert (crop_image(image, window, COLOUR) == crop_image(image, whole(9, 41, 90), COLOUR)[:, seen]).all()


def test_positive_angles_are_anticlockwise():
    """What lies right of the centre rises."""
    labels = np.zeros((101, 101), np.uint8)
    labels[50, 90] = 1
    labels = maximum_filter(labels, 3)
    y, x = np.nonzero(crop_labels(labels, whole(101, 101, 30)))
    assert y.mean() == pytest.approx(50 - 40 * 0.5, abs=0.5)
    assert x.mean() == pytest.approx(50 + 40 * math.cos(math.pi / 6), abs=0.5)


@given(
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    crop=st.tuples(st.integers(1, 34), st.integers(1, 34)),
    angle=st.integers(-180, 180).filter(lambda angle: angle % 30),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_a_rotated_window_is_that_of_the_source_tiled_by_its_mirror_images(size, crop, angle, seed):
    """Against numpy's symmetric padding, read pixel by pixel; nothing inside the rectangle is void or padding."""
    generator = np.random.default_rng(seed)
    drawn = draw_window(size, crop, Scales(1, 1), 0.5, generator)
    window = replace(drawn, angle=angle)
    labels, image = np.arange(size[0] * size[1], dtype=np.int32).reshape(size), noise(*size, seed)
    rows, columns = window.visible
    margin = 64
    y, x = sources(window)
    padded = np.pad(labels, margin, "symmetric")
    expected = padded[np.floor(y).astype(int) + margin, np.floor(x).astype(int) + margin]
    found = crop_labels(labels, window, -1)
    found = found[:, ::-1] if window.mirrored else found
    on_border = (np.abs(y - y.round()) < 1e-9) | (np.abs(x - x.round()) < 1e-9)  # either pixel is right
    assert ((found[:rows, :columns] == expected) | on_border).all()
    assert (found[:rows, :columns] >= 0).all()
    assert (found[rows:] == -1).all()
    assert (found[:, columns:] == -1).all()

    around = np.pad(image.astype(float), [(margin, margin), (margin, margin), (0, 0)], "symmetric")
    y, x = y + margin - 0.5, x + margin - 0.5
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    down, right = (y - top)[..., None], (x - left)[..., None]
    above = around[top, left] * (1 - right) + around[top, left + 1] * right
    below = around[top + 1, left] * (1 - right) + around[top + 1, left + 1] * right
    pixels = crop_image(image, window, COLOUR)
    pixels = pixels[:, ::-1] if window.mirrored else pixels
    assert np.abs(pixels[:rows, :columns] - (above * (1 - down) + below * down)).max() <= 0.51  # rounded to nearest
    assert (pixels[rows:] == COLOUR).all()
    assert (pixels[:, columns:] == COLOUR).all()


@given(
    size=st.tuples(st.integers(16, 40), st.integers(16, 40)),
    factor=st.sampled_from([1, 2, 4]),
    scale=st.floats(0.6, 2),
    angle=st.integers(-180, 180),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_image_and_labels_of_any_grid_show_the_same_place(size, factor, scale, angle, seed):
    """Blocks of one class, painted in its colour: away from their borders the crop has the colour of its label."""
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 12, (4, 4)).astype(np.uint8)
    labels = blocks[np.ix_(np.arange(size[0]) * 4 // size[0], np.arange(size[1]) * 4 // size[1])]
    fine = labels.repeat(factor, 0).repeat(factor, 1)
    image = (fine[..., None] * np.array([20, 10, 5])).astype(np.uint8)
    drawn = draw_window(fine.shape, (60, 70), Scales(scale, scale), 0.5, generator)
    window = replace(drawn, angle=angle)
    reach = 2 * math.ceil(2 / min(1, scale)) + 1  # source pixels that resizing and turning may mix into one
    inside = (maximum_filter(fine, reach + 2) == minimum_filter(fine, reach + 2)).astype(np.uint8)
    inside = crop_labels(inside, window, 0) == 1
    found, pixels = crop_labels(labels, window), crop_image(image, window, COLOUR)
    assert (pixels[inside] == found[inside][:, None] * np.array([20, 10, 5])).all()
    rows, columns = window.visible
    assert int((found == 255).sum()) == found.size - rows * columns


@pytest.mark.parametrize("factors", [(4, 4), (4, 2), (1, 8)])
@pytest.mark.parametrize("angle", [-77, -10, 7, 90, 133])
def test_labels_on_a_coarser_grid_turn_as_those_of_the_image(factors, angle):
    """Also where its cells are not square: it is the image that turns."""
    coarse = np.random.default_rng(0).integers(0, 200, (64 // factors[0], 96 // factors[1])).astype(np.uint8)
    fine = coarse.repeat(factors[0], 0).repeat(factors[1], 1)
    for window in (whole(64, 96, angle), Window(50, 75, 10, 20, 60, 40, True, angle)):
        assert (crop_labels(coarse, window) == crop_labels(fine, window)).all()


def test_turned_flat_colours_stay_what_they_are():
    for value in (0, 1, 128, 254, 255):
        image = np.full((40, 60, 3), value, np.uint8)
        assert (crop_image(image, Window(33, 50, 2, 1, 20, 30, False, 17), COLOUR) == value).all()


def test_the_source_is_resized_before_it_turns():
    """Shrunk and turned as the shrunken image turned: fine stripes turn grey instead of aliasing."""
    image = noise(120, 160)
    small = np.asarray(Image.fromarray(image).resize((40, 30), Image.Resampling.BILINEAR))
    for angle in (5, 60, -170):
        window = Window(30, 40, 4, 6, 20, 25, False, angle)
        difference = crop_image(image, window, COLOUR).astype(int) - crop_image(small.copy(), window, COLOUR)
        assert np.abs(difference).max() <= 1


# --- samples --------------------------------------------------------------------------------------------------------


def test_samples_turn_image_and_labels_by_the_drawn_angle(tmp_path, monkeypatch):
    codes = np.kron(np.arange(16).reshape(4, 4), np.ones((16, 16), int)).astype(np.uint8)
    image = (codes[..., None] * np.array([16, 8, 4])).astype(np.uint8)
    dataset = write_dataset(tmp_path / "d.h5", random_masks(["a"], (64, 64), 3), 3, {"a": "train"}, {"a": image})
    ledger = random_round(tmp_path, dataset, 0)
    monkeypatch.setattr(Annotations, "label_map", lambda self, image, void=255: codes)
    plain = {"crop": (64, 64), "scale_range": (1, 1), "flip": 0, "jitter": 0, "grey": 0, "blur": 0}
    still = samples_of(dataset, ledger, TrainSettings(**plain))
    turned = samples_of(dataset, ledger, TrainSettings(**plain, rotation=45))
    inside = (maximum_filter(codes, 5) == minimum_filter(codes, 5)).astype(np.uint8)
    moved = 0
    for epoch in range(6):
        assert (still[0, epoch][0] == image).all()
        pixels, labels, _, _ = turned[0, epoch]
        angle = drawn_angle(turned, epoch)
        moved += angle != 0
        assert (labels == crop_labels(codes, whole(64, 64, angle))).all()
        away = crop_labels(inside, whole(64, 64, angle)) == 1
        assert (pixels[away] == labels[away][:, None] * np.array([16, 8, 4])).all()
        assert not (labels == 255).any()
    assert moved >= 4


def drawn_angle(samples: TrainingSamples, epoch: int) -> int:
    """The angle that the first sample draws in an epoch."""
    window, _ = samples.window(samples.ids[0], epoch)
    return window.angle
