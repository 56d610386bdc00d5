"""Where tiles lie, and that no pixel is in two splits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.datasets.tiles import Tile, Tiles, cut_between_splits, grid_boxes, tile_starts
from stages.pixels.boxes import Box

SIZES = st.tuples(st.integers(1, 300), st.integers(1, 300))
SHAPES = st.tuples(st.integers(32, 80), st.integers(0, 16), st.integers(1, 4))


def test_tiles_by_hand() -> None:
    assert tile_starts(400, 64, 8) == [0, 56, 112, 168, 224, 280, 336]
    assert tile_starts(300, 64, 8) == [0, 56, 112, 168, 224, 236]  # the last one is moved inwards
    assert tile_starts(64, 64, 0) == tile_starts(40, 64, 8) == [0]
    found = grid_boxes((100, 40), Tiles(size=64, overlap=8, block=1))
    assert found == {Box(0, 0, 64, 40): (0, 0), Box(36, 0, 64, 40): (1, 0)}
    assert Tile("north/ortho", (9000, 9000), Box(2048, 1024, 512, 512)).id == "north/ortho_y02048_x01024"


@given(SIZES, SHAPES)
def test_tiles_cover_the_image_and_nothing_else(size: tuple[int, int], shape: tuple[int, int, int]) -> None:
    side, overlap, _ = shape
    covered = np.zeros(size, dtype=bool)
    for box in grid_boxes(size, Tiles(size=side, overlap=overlap)):
        assert (box.height, box.width) == (min(side, size[0]), min(side, size[1]))
        assert covered[box.rows, box.columns].shape == (box.height, box.width)
        covered[box.rows, box.columns] = True
    assert covered.all()


def test_a_tile_ends_where_a_block_of_another_split_begins() -> None:
    """Tiles of 64 begin at 0, 56, 112; blocks of one tile. Train reaches 8 pixels into its neighbours, test too."""
    boxes = grid_boxes((64, 176), Tiles(size=64, overlap=8, block=1))
    first, second, third = boxes
    found = cut_between_splits(boxes, {(0, 0): "train", (0, 1): "train", (0, 2): "test"})
    assert found == {first: first, second: Box(0, 56, 64, 56), third: third}
    # the pixels of a block without data are in no split: tiles on two sides of it could share them
    cut = {first: Box(0, 0, 64, 56), second: Box(0, 56, 64, 56)}
    assert cut_between_splits(boxes, {(0, 0): "train", (0, 1): "test"}) == cut


def test_a_tile_of_which_too_little_remains_is_left_out() -> None:
    """The last tile of 70 pixels begins at 6, so only 6 of the first one are in no other split."""
    boxes = grid_boxes((70, 64), Tiles(size=64, block=1))
    first, last = boxes
    assert cut_between_splits(boxes, {(0, 0): "train", (1, 0): "test"}) == {last: last}
    assert cut_between_splits(boxes, {(0, 0): "train", (1, 0): "train"}) == {first: first, last: last}


@given(SIZES, SHAPES, st.randoms(use_true_random=False))
def test_no_pixel_is_in_two_splits(size: tuple[int, int], shape: tuple[int, int, int], random: object) -> None:
    side, overlap, block = shape
    boxes = grid_boxes(size, Tiles(size=side, overlap=overlap, block=block))
    drawn = {each: random.choice(["1", "2", "3", None]) for each in dict.fromkeys(boxes.values())}  # type: ignore
    splits = {each: split for each, split in drawn.items() if split is not None}
    owner = np.zeros(size, dtype=np.uint8)
    for box, rest in cut_between_splits(boxes, splits).items():
        split = int(splits[boxes[box]])
        assert rest[:2] == box[:2]
        assert {*np.bincount(owner[rest.rows, rest.columns].ravel()).nonzero()[0].tolist()} <= {0, split}
        owner[rest.rows, rest.columns] = split


@pytest.mark.parametrize(
    "wrong",
    [{"size": 20}, {"size": 64, "overlap": 33}, {"size": [64, 64, 64]}, {"size": True}, {"size": 64, "keep": 2}],
)
def test_wrong_tiles_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Tiles.model_validate(wrong)
