"""What is read off a confusion matrix: the numbers of check 21, a slow program, classes and pixels that are absent."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.evaluating.confusion import (
    confusion_matrix,
    frequency_weighted_iou,
    intersection_over_union,
    mean_accuracy,
    mean_iou,
    mean_iou_present,
    pixel_accuracy,
)

METRICS = [frequency_weighted_iou, mean_accuracy, mean_iou, mean_iou_present, pixel_accuracy]


def matrix(truth, predicted, classes):
    return confusion_matrix(torch.tensor(truth), torch.tensor(predicted), classes).numpy()


def test_numbers_of_check_21():
    found = matrix([[1, 1, 2, 2], [1, 255, 2, 3]], [[1, 2, 2, 2], [1, 1, 3, 4]], 5)
    iou = intersection_over_union(found)
    assert math.isnan(iou[0])
    assert iou[1:].tolist() == pytest.approx([2 / 3, 1 / 2, 0, 0])
    assert pixel_accuracy(found) == pytest.approx(4 / 7)
    assert mean_iou_present(found) == pytest.approx(0.388889, abs=1e-5)
    assert mean_accuracy(found) == pytest.approx(0.444444, abs=1e-5)
    assert frequency_weighted_iou(found) == pytest.approx(0.5)
    assert mean_iou(found, "zero") == pytest.approx(0.233333, abs=1e-5)
    assert mean_iou(found) == pytest.approx(0.291667, abs=1e-5)  # the class that is only predicted counts as 0


@given(seed=st.integers(0, 2**32), classes=st.integers(1, 5), pixels=st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_agrees_with_a_slow_program(seed, classes, pixels):
    generator = np.random.default_rng(seed)
    truth, predicted = generator.integers(0, classes, (2, pixels)).tolist()
    found = matrix(truth, predicted, classes)
    iou, recall, share = {}, {}, {}
    for c in range(classes):
        both = sum(t == p == c for t, p in zip(truth, predicted, strict=True))
        either = sum(c in pair for pair in zip(truth, predicted, strict=True))
        iou[c] = both / either if either else 0.0
        if c in truth:
            recall[c], share[c] = both / truth.count(c), truth.count(c) / pixels
    assert mean_iou_present(found) == pytest.approx(sum(iou[c] for c in share) / len(share))
    assert mean_iou(found, "zero") == pytest.approx(sum(iou.values()) / classes)
    assert mean_accuracy(found) == pytest.approx(sum(recall.values()) / len(recall))
    assert frequency_weighted_iou(found) == pytest.approx(sum(iou[c] * share[c] for c in share))
    assert mean_iou(found, "zero") <= mean_iou(found) + 1e-12 <= mean_iou_present(found) + 2e-12


@pytest.mark.parametrize("metric", METRICS)
def test_perfect_is_one_and_nothing_is_nan(metric):
    assert metric(np.diag([3, 2, 1])) == pytest.approx(1)
    assert math.isnan(metric(np.zeros((3, 3), dtype=np.int64)))
    assert type(metric(np.diag([3, 2, 1]))) is float


def test_predictions_of_no_class_are_misses():
    """A column behind the classes lowers recall and IoU of the true class, and is no class itself."""
    found = np.array([[2, 0, 2], [0, 4, 0]])
    assert mean_accuracy(found) == pytest.approx(0.75)
    assert mean_iou_present(found) == mean_iou(found) == mean_iou(found, "zero") == pytest.approx(0.75)
    assert frequency_weighted_iou(found) == pytest.approx(0.75)
