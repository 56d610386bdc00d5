"""Acceptance checks 5 to 10 of MADBAL: scores of pixels and what regions make of them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from madbal_support import BUDGET, ROUNDS, remaining, slow_scores

from stages.artifacts.dataset import Dataset
from stages.artifacts.scores import Scores
from stages.artifacts.superpixels import Superpixels
from stages.pixels.maps import interpolated
from stages.regions.reductions import best_pixels, region_sums


@st.composite
def maps(draw):
    """Scores with ties, predictions and regions of a small map: some of one pixel, some empty, some pixels asked."""
    size = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    values = draw(hnp.arrays(np.float32, size, elements=st.sampled_from([0.0, 0.25, 0.5, 3.5])))
    predicted = draw(hnp.arrays(np.int64, size, elements=st.integers(0, 2)))
    labels = draw(hnp.arrays(np.int64, size, elements=st.sampled_from([-1, 0, 1, 3, 6])))
    return values, predicted, labels


@given(world=maps())
@hypothesis_settings(max_examples=150, deadline=None)
def test_check_10_pooling_equals_a_slow_loop(world):
    """Regions 2, 4 and 5 never have pixels: ids need not follow one another."""
    values, predicted, labels = world
    tensors = [torch.from_numpy(array) for array in world]
    sums, histogram = region_sums(*tensors, 7, 3)
    highest, y, x = best_pixels(tensors[0], tensors[2], 7)
    for region in range(7):
        pixels = [place for place in np.ndindex(*labels.shape) if labels[place] == region]
        assert histogram[region].sum() == len(pixels)
        if not pixels:
            assert (highest[region], y[region], x[region]) == (0, -1, -1)
            continue
        classes = [predicted[place] for place in pixels]
        assert sums[region].sum() / len(pixels) == pytest.approx(np.mean([values[place] for place in pixels]))
        assert histogram[region].tolist() == [classes.count(each) for each in range(3)]
        assert histogram[region].argmax() == min(range(3), key=lambda each: (-classes.count(each), each))
        first = max(pixels, key=lambda place: (values[place], -place[0], -place[1]))
        assert (highest[region], y[region], x[region]) == (values[first], *first)


def test_maps_come_on_the_grid_alike_however_many_there_are():
    """To the last bit: a batch is no more than its images."""
    stacked = torch.randn(4, 3, 5, 64, 96, generator=torch.Generator().manual_seed(0))
    for values in (stacked, stacked[:, 0].contiguous(memory_format=torch.channels_last)):
        together = interpolated(values, (32, 48))
        for number in range(1, 4):
            assert torch.equal(torch.cat([interpolated(part, (32, 48)) for part in values.split(number)]), together)


def test_scores_are_those_of_the_definition(world, pixel_scores):
    """Checks 5 to 9 put together, by the stage."""
    with Dataset(world["dataset"]) as data:
        for image in data.ids("train"):
            expected, _ = slow_scores(world["support0"], data.image(image))
            found = pixel_scores[1].map(image)
            assert found.shape == (32, 48)
            assert found == pytest.approx(expected, rel=1e-4)
            assert found.std() > 0


@pytest.mark.parametrize("number", range(1, ROUNDS))
def test_check_10_region_scores_hold_what_is_left(world, pixel_scores, number):
    regions, scores = Superpixels(world["base"]), Scores(world[f"scores{number}"])
    size, y, x = (scores.read(f"regions/{name}") for name in ("size", "y", "x"))
    mean, predicted = scores.read("regions/uncertainty"), scores.read("regions/predicted")
    with Dataset(world["dataset"]) as data:
        for image, labels in remaining(world, number):
            rows = regions.rows[image]
            assert size[rows].sum() + BUDGET * number == labels.size
            values = pixel_scores[number].map(image)
            classes = slow_scores(world[f"support{number - 1}"], data.image(image))[1]
            for region in range(regions.number(image)):
                inside, row = labels == region, rows.start + region
                assert size[row] == inside.sum()
                assert mean[row] == pytest.approx(values[inside].mean(dtype=np.float64), rel=1e-6)
                best = np.where(inside, values, -1).argmax()
                assert (y[row], x[row]) == divmod(best, labels.shape[1])
                assert predicted[row] == np.bincount(classes[inside]).argmax()
    table = scores.read("clusters/class_regions")
    probability = table / table.sum(0)
    assert probability.sum(0) == pytest.approx(1)
    weights = np.exp(-probability[predicted, scores.read("regions/cluster")])
    assert scores.region_scores() == pytest.approx(mean * weights, rel=1e-6)
