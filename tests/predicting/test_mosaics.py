"""Windows of what is too large: each pixel is finished once, blended without seams, from little memory."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.pixels.grids import Size
from stages.predicting.mosaics import Prediction, even_starts, finished_parts, side_weights
from stages.predicting.windows import window_starts


@dataclass
class Scene:
    """Windows of a random image (3,H,W), seen by a network that looks ``reach`` pixels far."""

    image: torch.Tensor
    longest: int
    overlap: int
    reach: int = 0
    without: frozenset[tuple[int, int]] = frozenset()

    def __post_init__(self) -> None:
        self.size: Size = (self.image.shape[1], self.image.shape[2])
        (self.tops, height), (self.lefts, width) = (even_starts(n, self.longest, self.overlap, 1) for n in self.size)
        self.side: Size = (height, width)

    def network(self, pixels: torch.Tensor) -> torch.Tensor:
        """Means over squares, as softmax: outside the image the network sees zeros, as convolutions do."""
        kernel = torch.ones(3, 1, 2 * self.reach + 1, 2 * self.reach + 1) / (2 * self.reach + 1) ** 2
        return F.conv2d(pixels[None], kernel, padding=self.reach, groups=3).mul(20).softmax(1)[0]

    def predict(self, row: int, column: int) -> Prediction | None:
        if (row, column) in self.without:
            return None
        y, x = self.tops[row], self.lefts[column]
        return Prediction(self.network(self.image[:, y : y + self.side[0], x : x + self.side[1]]))

    def reduced(self, size: Size) -> np.ndarray:
        raise NotImplementedError


def put_together(scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
    """(C,H,W) probabilities and (H,W) bool with data; each pixel must be finished exactly once."""
    found = torch.full((3, *scene.size), torch.nan)
    with_data, times = torch.zeros(scene.size, dtype=torch.bool), torch.zeros(scene.size)
    below = 0
    for part in finished_parts(scene):
        assert part.box.y == below or part.box.x > 0
        if len(part.probabilities):
            found[:, part.box.rows, part.box.columns] = part.probabilities
        with_data[part.box.rows, part.box.columns] = part.with_data
        times[part.box.rows, part.box.columns] += 1
        below = part.box.y + part.box.height if part.row_ends else below
    assert (times == 1).all()
    return found, with_data


@settings(deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 40), st.floats(0, 0.75))
def test_windows_give_what_the_whole_image_gives(height: int, width: int, longest: int, share: float) -> None:
    scene = Scene(torch.rand(3, height, width), longest, int(longest * share))
    found, with_data = put_together(scene)
    assert with_data.all()
    assert torch.allclose(found, scene.network(scene.image), atol=1e-5)


@pytest.mark.parametrize("size", [(100, 140), (33, 64), (200, 50)])
def test_no_seams_if_the_network_looks_no_farther_than_the_unused_border(size: Size) -> None:
    """Overlap 16: the outer 4 pixels of a window do not count, and this network looks 4 pixels far."""
    torch.manual_seed(0)
    scene = Scene(torch.rand(3, *size), 32, 16, reach=4)
    found, _ = put_together(scene)
    whole = scene.network(scene.image)
    # the least weight, 1e-6 of a window that sees zeros beyond its border, and float32
    assert (found - whole).abs().max() < 1e-5
    second = whole.topk(2, 0).values
    clear = (second[0] - second[1]) > 1e-4
    assert (found.argmax(0) == whole.argmax(0))[clear].all()
    assert clear.float().mean() > 0.99
    # a network that looks farther is blended: no step between neighbours is larger than in the whole prediction
    far = Scene(scene.image, 32, 16, reach=9)
    blended, whole = put_together(far)[0], far.network(far.image)
    assert 1e-4 < (blended - whole).abs().max() < 0.5


def test_windows_without_data_leave_their_own_pixels_without() -> None:
    scene = Scene(torch.rand(3, 40, 70), 32, 8, without=frozenset({(0, 0), (1, 2)}))
    assert (len(scene.tops), len(scene.lefts)) == (2, 3)
    found, with_data = put_together(scene)
    first_end = (scene.tops[1], scene.lefts[1])
    assert not with_data[: first_end[0], : first_end[1]].any()
    assert not with_data[scene.tops[1] :, scene.lefts[2] :].any()
    assert with_data[: first_end[0], first_end[1] :].all()
    whole = scene.network(scene.image)
    assert torch.allclose(found[:, with_data], whole[:, with_data], atol=1e-5)


def test_windows_are_no_longer_than_needed() -> None:
    assert even_starts(100, 100, 20, 8) == ([0], 100)
    # two windows of 100 would share 99 pixels of 101; windows of 64 share 27, of which 20 are asked for
    assert even_starts(101, 100, 20, 32) == ([0, 37], 64)
    starts, side = even_starts(10_000, 2048, 512, 32)
    assert side == 1888
    assert max(np.diff(starts)) <= side - 512 + 1
    assert window_starts(101, 100, 0.2) == [0, 1]


def test_weights_by_hand() -> None:
    """Overlap 8: 2 pixels at the border do not count, then weights rise over 4; none at the border of the image."""
    assert side_weights(10, 12, 100, 8).tolist() == pytest.approx(
        [1e-6, 1e-6, 0.125, 0.375, 0.625, 0.875, 0.875, 0.625, 0.375, 0.125, 1e-6, 1e-6]
    )
    assert side_weights(0, 4, 100, 2).tolist() == [1, 1, 0.75, 0.25]
    assert side_weights(96, 4, 100, 0).tolist() == [1] * 4
