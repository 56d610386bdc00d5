"""Windows and their blending, bands of rows, and resizing band by band."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.predicting.windows import Bands, probability_bands, ramp, resized_bands, window_starts


def joined(bands: Bands, height: int) -> torch.Tensor:
    """(C,H,W) of bands, which must follow each other without gaps."""
    row, parts = 0, []
    for start, band in bands:
        assert start == row
        row += band.shape[1]
        parts.append(band)
    assert row == height
    return torch.cat(parts, 1)


@given(st.integers(1, 400), st.integers(1, 90), st.floats(0, 0.75))
def test_windows_cover_a_side_with_the_overlap_asked_for(length: int, side: int, overlap: float) -> None:
    starts = window_starts(length, side, overlap)
    assert starts[0] == 0
    if length <= side:
        assert starts == [0]
        return
    assert starts[-1] == length - side
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (steps <= max(1, int(side * (1 - overlap)))).all()


def test_windows_by_hand() -> None:
    assert window_starts(10, 4, 0.5) == [0, 2, 4, 6]
    assert window_starts(9, 4, 0.25) == [0, 2, 5]  # 2.5 rounds to even
    assert ramp(8, 0.25).tolist() == [0.5, 1, 1, 1, 1, 1, 1, 0.5]


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(5, 40), st.floats(0, 0.75))
def test_windows_of_a_network_that_looks_at_single_pixels_leave_no_seam(
    height: int, width: int, side: int, overlap: float
) -> None:
    image = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8)
    seen = []

    def predict(window: torch.Tensor) -> torch.Tensor:
        seen.append(window.shape[-2:])
        return window.float() / 255

    found = joined(probability_bands(predict, image, side, overlap), height)
    assert torch.allclose(found, image[0].float() / 255, atol=1e-6)
    assert max(max(size) for size in seen) <= max(side, 1)


def test_windows_are_blended_by_their_weights() -> None:
    """Two windows of 4 over 6 columns; the first says 0, the second 1; ramps over 2 pixels: weights 1/2, 1."""
    image, values = torch.zeros(1, 3, 4, 6, dtype=torch.uint8), iter((0.0, 1.0))
    bands = probability_bands(lambda window: torch.full((1, 1, 4, 4), next(values)), image, 4, 0.5)
    # in columns 2 and 3 the first weighs 1 and 1/2, the second 1/2 and 1
    assert joined(bands, 4)[0, 0].tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 1])


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.tuples(st.integers(1, 50), st.integers(1, 50)),
    st.integers(1, 200),
    st.randoms(),
)
def test_resizing_band_by_band_is_resizing_the_whole(
    source: tuple[int, int], target: tuple[int, int], most: int, random: object
) -> None:
    values = torch.rand(2, *source)

    def bands() -> Bands:
        row = 0
        while row < source[0]:
            rows = random.randint(1, 5)  # type: ignore[attr-defined]
            yield row, values[:, row : row + rows]
            row += values[:, row : row + rows].shape[1]

    whole = F.interpolate(values[None], target, mode="bilinear", align_corners=False)[0]
    assert torch.allclose(joined(resized_bands(bands(), source, target, most), target[0]), whole, atol=1e-5)
