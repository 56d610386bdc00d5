"""Typical rows of clusters: groups whose order is known, neighbours by hand, the same for the same seed, faults."""

import numpy as np
import pytest

from stages.selecting.typicality import distances_in_cluster, typical

NONE = np.zeros((0, 2))


def group(x, count):
    """``count`` points at distance 1 of their middle (x, 0), which is the last row."""
    angles = 2 * np.pi * np.arange(count) / count
    return np.concatenate([np.stack([x + np.cos(angles), np.sin(angles)], 1), [[x, 0]]])


GROUPS = np.concatenate([group(0, 4), group(100, 6), group(200, 5)])  # middles: rows 4, 11, 17


def of(features, queried=NONE, count=1, **own):
    return typical(features, queried, count, **{"most_clusters": 500, "neighbours": 20, "seed": 0} | own).tolist()


def test_the_middle_of_each_group_the_largest_group_first():
    for seed in range(5):
        assert of(GROUPS, count=3, seed=seed) == [11, 17, 4]


def test_clusters_that_were_queried_come_last():
    """Of four clusters the fourth takes one of the groups apart; with three the queried one is left out."""
    queried = np.array([[100.0, 0.5]])
    assert of(GROUPS, queried, 2, most_clusters=3) == [17, 4]
    assert of(GROUPS, queried, 3, most_clusters=3) == [17, 4, 11]
    assert of(GROUPS, np.array([[0.0, 0], [200, 0]]), 1) == [11]


def test_more_choices_than_clusters_go_round_them():
    found = of(GROUPS, count=6, most_clusters=3)
    assert found[:3] == [11, 17, 4]
    assert [0 if row < 5 else 1 if row < 12 else 2 for row in found[3:]] == [1, 2, 0]


def test_distances_by_hand():
    """On a line at 0, 1, 3 and 7, to the two nearest others: (1 + 3) / 2, (1 + 2) / 2, (2 + 3) / 2, (4 + 6) / 2."""
    line = np.array([[0.0], [1], [3], [7]], np.float32)
    assert distances_in_cluster(line, 2).tolist() == [2, 1.5, 2.5, 5]
    assert distances_in_cluster(line, 1).tolist() == [1, 1, 2, 4]
    assert distances_in_cluster(line, 9) == pytest.approx([11 / 3, 3, 3, 17 / 3])
    assert distances_in_cluster(line[:1], 20).tolist() == [0]


def test_near_duplicates_are_not_chosen_together():
    """Twenty frames of one scene and five scenes of one frame: one of the scene, then all others."""
    generator = np.random.default_rng(0)
    frames = generator.normal(scale=0.01, size=(20, 8))
    others = 10 * np.eye(8)[:5]
    found = of(np.concatenate([frames, others]), np.zeros((0, 8)), 6)
    assert sum(row < 20 for row in found) == 1
    assert found[0] < 20


def test_equal_rows_and_small_pools():
    same = np.ones((6, 3))
    assert of(same, np.zeros((0, 3)), 3) == [0, 1, 2]
    assert sorted(of(same, same[:2], 9)) == list(range(6))
    assert of(GROUPS[:1], count=4) == [0]
    assert of(GROUPS[:0], GROUPS, 2) == []
    assert of(GROUPS, count=0) == []


def test_the_same_seed_gives_the_same_rows_and_the_input_stays():
    features = np.random.default_rng(1).normal(size=(60, 5)).astype(np.float16)
    before = features.copy()
    runs = [of(features, features[:7], 11, seed=seed) for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert all(len(set(run)) == 11 for run in runs)
    assert np.array_equal(features, before)


def test_faults():
    with pytest.raises(ValueError, match="negative"):
        of(GROUPS, count=-1)
    for wrong in [(GROUPS[0], NONE), (GROUPS, GROUPS[0]), (GROUPS, GROUPS[:, :1])]:
        with pytest.raises(ValueError, match="must be"):
            of(*wrong)
    for bad in (np.nan, np.inf):
        for wrong in [(GROUPS + bad, NONE), (GROUPS, GROUPS + bad)]:
            with pytest.raises(ValueError, match="finite"):
                of(*wrong)
