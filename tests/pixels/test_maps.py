"""Maps on other grids: the one mapping as arrays and as tensors, and interpolation (madbal.md, check 8)."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.pixels.grids import map_on_grid, map_on_image
from stages.pixels.maps import interpolated, lookup

RAMP = torch.arange(64.0).view(8, 8)
SIDES = st.integers(1, 40)


def test_grids_of_check_8():
    assert interpolated(RAMP, (2, 2)).tolist() == [[13.5, 17.5], [45.5, 49.5]]
    assert lookup(RAMP, (2, 2)).tolist() == [[0, 4], [32, 36]]


def test_mixing_weights_still_add_up_to_1_on_the_grid():
    mixing = torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(1)).mul(4).softmax(1)
    for maps in (mixing, interpolated(mixing, (8, 16)), interpolated(mixing, (9, 13))):
        torch.testing.assert_close(maps.sum(1), torch.ones(2, *maps.shape[-2:]), atol=1e-6, rtol=0)


@given(st.data())
def test_a_map_spread_over_an_image_comes_back(data):
    size = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    grid = tuple(data.draw(st.integers(1, side)) for side in size)
    values = np.arange(grid[0] * grid[1]).reshape(grid)
    spread = map_on_image(values, size)
    assert spread.shape == size
    assert np.array_equal(map_on_grid(spread, grid), values)


@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES))
def test_tensors_are_read_where_arrays_are(size, grid):
    values = np.arange(size[0] * size[1]).reshape(size)
    expected = [
        [y * size[0] // grid[0] * size[1] + x * size[1] // grid[1] for x in range(grid[1])] for y in range(grid[0])
    ]
    assert map_on_grid(values, grid).tolist() == expected
    assert lookup(torch.from_numpy(values), grid).tolist() == expected


@pytest.mark.parametrize("lead", [(), (2,), (2, 3), (2, 3, 4)])
def test_interpolation_takes_any_number_of_maps(lead):
    maps = torch.randn(*lead, 8, 12, generator=torch.Generator().manual_seed(2))
    found = interpolated(maps, (2, 3))
    assert found.shape == (*lead, 2, 3)
    middle = maps.unfold(-2, 4, 4).unfold(-2, 4, 4)[..., 1:3, 1:3].mean((-2, -1))
    torch.testing.assert_close(found, middle)
    assert interpolated(maps, (8, 12)) is maps


def test_interpolation_keeps_order_and_precision():
    maps = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    last = maps.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(interpolated(last, (5, 3)), interpolated(maps, (5, 3)))
    assert interpolated(maps.double(), (5, 3)).dtype == torch.float64
    assert interpolated(maps.bfloat16(), (5, 3)).dtype == torch.float32
