"""Dominant labels and achievable accuracy: the specification's numbers, and a Counter as reference."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.regions.votes import achievable, dominant, vote

CLASSES = 8


def votes_of(*regions: dict[int, int]) -> np.ndarray:
    labels = [label for region in regions for label, n in region.items() for _ in range(n)]
    owner = [i for i, region in enumerate(regions) for _ in range(sum(region.values()))]
    return vote(np.array(labels, np.uint8), np.array(owner, np.int64), len(regions), CLASSES)


def test_check_14():
    votes = votes_of({3: 10, 1: 10, 255: 10}, {255: 11, 1: 10}, {0: 5, 2: 6}, {255: 4}, {})
    assert dominant(votes, "count").tolist() == [1, 255, 2, 255, 255]
    assert dominant(votes, "exclude").tolist() == [1, 1, 2, 255, 255]
    assert votes.dtype == np.int32
    assert votes.shape == (5, CLASSES + 1)
    assert votes[:, -1].tolist() == [10, 11, 0, 4, 0]
    assert dominant(votes, "count").dtype == np.uint8


def test_check_21():
    assert achievable(votes_of({0: 6, 1: 2}, {1: 7, 0: 1})) == (13, 16)
    assert achievable(votes_of({0: 6, 1: 2, 255: 90}, {255: 3})) == (6, 8)
    assert achievable(votes_of({255: 3}, {})) == achievable(votes_of()) == (0, 0)


def test_accuracy_of_large_sums():
    assert achievable(np.full((4, 3), 2**30, np.int32)) == (2**32, 2**33)


def test_a_label_that_is_no_class():
    with pytest.raises(ValueError, match="label 8"):
        vote(np.array([0, 8], np.uint8), np.array([0, 0]), 1, CLASSES)


def test_owner_of_a_narrow_type():
    assert vote(np.full(3, 7, np.uint8), np.full(3, 200, np.uint8), 201, CLASSES)[200, 7] == 3


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, 7, 255]), st.integers(0, 3)), max_size=40))
def test_equals_counter(pixels):
    labels = np.array([label for label, _ in pixels], np.uint8)
    votes = vote(labels, np.array([region for _, region in pixels], np.int64), 4, CLASSES)
    for policy in ("count", "exclude"):
        for region, label in enumerate(dominant(votes, policy).tolist()):
            counts = Counter(value for value, at in pixels if at == region)
            if policy == "exclude":
                del counts[255]
            assert label == min(counts, key=lambda value: (-counts[value], value), default=255)
