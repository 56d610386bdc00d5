"""Clusters of regions: acceptance checks 11, 12 and 13 of the specification, invariants, and slow obvious programs."""

import math
from collections import defaultdict
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stages.artifacts.scores import ClusterTables
from stages.scoring.clusters import class_given_cluster, cluster_class_weights, cluster_tables
from stages.selecting.cluster_budgets import (
    best_per_cluster,
    cluster_budgets,
    cluster_scores,
    deal_budgets,
    spread_budgets,
)
from stages.selecting.ranking import highest

KINDS = ("reference", "pixel-mean", "region-mean")


def whole(*values):
    return np.array(values, dtype=np.int64)


def integers(shape, low, high):
    return hnp.arrays(np.int64, shape, elements=st.integers(low, high))


# Slow, obvious implementations.


def slow_spread(budgets, capacity, scores):
    """One image, one surplus unit at a time."""
    taken = [min(b, c) for b, c in zip(budgets, capacity, strict=True)]
    for _ in range(sum(budgets) - sum(taken)):
        unsaturated = [k for k in range(len(taken)) if taken[k] < capacity[k]]
        if unsaturated:
            taken[min(unsaturated, key=lambda k: (-scores[k], k))] += 1
    return taken


def slow_best(image, group, score, candidates, allowed):
    """Region by region; ``allowed(image, group)`` regions of each pair."""
    members = defaultdict(list)
    for region in range(len(image)):
        if candidates[region]:
            members[image[region], group[region]].append(region)
    chosen = []
    for key, regions in members.items():
        chosen += sorted(regions, key=lambda r: (-score[r], r))[: allowed(*key)]
    return sorted(chosen, key=lambda r: (image[r], -score[r], r))


# Material: regions of a few images, some without pixels, clusters with gaps between them, equal scores.


@st.composite
def worlds(draw, distinct=False):
    regions, images = draw(st.integers(0, 40)), draw(st.integers(1, 4))
    used = draw(st.lists(st.integers(0, 6), min_size=1, max_size=7, unique=True))
    of_regions = {
        "image": draw(integers(regions, 0, images - 1)),
        "cluster": draw(hnp.arrays(np.uint8, regions, elements=st.sampled_from(used))),
        "predicted": draw(hnp.arrays(np.uint8, regions, elements=st.integers(0, 4))),
        "pixels": draw(integers(regions, 0, 5)),
        "candidates": draw(hnp.arrays(bool, regions)),
    }
    if distinct:
        of_regions["score"] = draw(st.permutations(range(regions)).map(lambda order: np.array(order, float) / 7))
    else:
        of_regions["score"] = draw(hnp.arrays(float, regions, elements=st.sampled_from([0.0, 0.25, 0.5, 1.5])))
    return SimpleNamespace(**of_regions, allowance=draw(integers((images, 7), 0, 4)), images=images)


budget_problems = st.integers(1, 7).flatmap(
    lambda k: st.tuples(
        integers(k, 0, 6),
        st.integers(1, 5).flatmap(lambda n: integers((n, k), 0, 9)),
        hnp.arrays(float, k, elements=st.sampled_from([0.0, 0.1, 0.2, 0.7])),
    )
)


class TestTables:
    @given(world=worlds())
    @settings(max_examples=80, deadline=None)
    def test_equal_a_slow_loop(self, world):
        tables = cluster_tables(world.cluster, world.predicted, world.score, world.pixels, 7, 5)
        slow = ClusterTables(np.zeros((5, 7)), np.zeros(7), np.zeros(7), np.zeros(7), np.zeros(7))
        for k, c, u, n in zip(world.cluster, world.predicted, world.score, world.pixels, strict=True):
            if n:
                slow.class_regions[c, k] += 1
                slow.regions[k] += 1
                slow.pixels[k] += n
                slow.score[k] += u
                slow.pixel_score[k] += n * u
        for found, expected, dtype in zip(tables, slow, [np.int64] * 3 + [np.float64] * 2, strict=True):
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, expected)

    def test_of_a_region_without_pixels_nothing_is_read(self):
        tables = cluster_tables(
            np.array([0, -1]), np.array([1, 255], np.uint8), np.array([0.5, np.nan]), whole(3, 0), 2, 2
        )
        assert [table.tolist() for table in tables] == [[[0, 0], [1, 0]], [1, 0], [3, 0], [0.5, 0], [1.5, 0]]

    @pytest.mark.parametrize("cluster, predicted", [(2, 0), (-1, 0), (0, 3)])
    def test_out_of_range_is_refused(self, cluster, predicted):
        with pytest.raises(ValueError, match="outside 0"):
            cluster_tables(np.array([cluster]), np.array([predicted], np.uint8), np.ones(1), np.ones(1), 2, 3)

    @given(world=worlds())
    @settings(max_examples=40, deadline=None)
    def test_columns_sum_to_one_and_empty_clusters_are_zero(self, world):
        """Check 10."""
        tables = cluster_tables(world.cluster, world.predicted, world.score, world.pixels, 7, 5)
        probability = class_given_cluster(tables.class_regions)
        assert np.allclose(probability.sum(0), tables.regions > 0, atol=1e-12)
        assert (probability[:, tables.regions == 0] == 0).all()
        for kind in KINDS:
            scores = cluster_scores(kind, tables)
            assert np.isfinite(scores).all()
            assert (scores[tables.regions == 0] == 0).all()

    def test_scores_of_the_three_kinds(self):
        """Cluster 0: regions of 2 and 6 pixels with means 1 and .5; cluster 1: one of 4 pixels with mean .8."""
        tables = cluster_tables(whole(0, 0, 1), np.zeros(3, np.uint8), np.array([1, 0.5, 0.8]), whole(2, 6, 4), 3, 1)
        expected = {"reference": [1.5 / 8, 0.2, 0], "pixel-mean": [5 / 8, 0.8, 0], "region-mean": [0.75, 0.8, 0]}
        for kind in KINDS:
            assert cluster_scores(kind, tables) == pytest.approx(expected[kind])


class TestClassWeights:
    def test_the_specifications_numbers(self):
        """Check 13."""
        probability = np.array([[0.5, 0.9], [0.5, 0.1]])
        weights = cluster_class_weights(probability, np.array([0, 1], np.uint8), np.array([0, 1], np.uint8))
        balanced = np.array([0.8, 0.6]) * weights
        assert balanced == pytest.approx([0.485225, 0.542902], abs=5e-7)
        assert balanced[1] > balanced[0]

    def test_range(self):
        weights = cluster_class_weights(np.array([[0.0, 1.0]]), np.zeros(2, np.uint8), whole(0, 1))
        assert weights.tolist() == [1, math.exp(-1)]


class TestClusterBudgets:
    UNEVEN = (0.05, 0.02, 0.012, 0.008, 0.006, 0.006, 0.004, 0.003, 0.001)

    @pytest.mark.parametrize(
        "scores, remainder, expected",
        [
            ((0.9, 0.5, 0.3, 0.2, 0.1), "reference", [9, 5, 3, 2, 1]),
            ((0.9, 0.5, 0.3, 0.2, 0.1), "largest", [9, 5, 3, 2, 1]),
            ((0.37,) * 9, "reference", [4] + [2] * 8),
            ((0.37,) * 9, "largest", [3, 3] + [2] * 7),
            (UNEVEN, "reference", [9, 3, 2, 1, 1, 1, 3, 0, 0]),
            (UNEVEN, "largest", [9, 4, 2, 1, 1, 1, 1, 1, 0]),
            ((0.0,) * 9, "reference", [4] + [2] * 8),
            ((0.0,) * 9, "largest", [3, 3] + [2] * 7),
        ],
    )
    def test_the_specifications_numbers(self, scores, remainder, expected):
        """Check 11, and nothing to go by."""
        budgets = cluster_budgets(np.array(scores), 20, remainder)
        assert budgets.dtype == np.int64
        assert budgets.tolist() == expected

    @pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf])
    def test_bad_scores_are_refused(self, bad):
        with pytest.raises(ValueError, match="finite and not negative"):
            cluster_budgets(np.array([0.5, bad]), 20, "reference")

    def test_a_negative_budget_is_refused(self):
        with pytest.raises(ValueError, match="budget"):
            cluster_budgets(np.ones(2), -1, "largest")

    @given(
        scores=st.lists(st.floats(0, 1e300) | st.sampled_from([0.0, 0.1, 0.2, 5e-324]), min_size=1, max_size=20),
        budget=st.integers(0, 200),
        remainder=st.sampled_from(["reference", "largest"]),
    )
    @settings(max_examples=150, deadline=None)
    def test_sum_is_the_budget_and_nobody_gets_less_than_the_floor(self, scores, budget, remainder):
        budgets = cluster_budgets(np.array(scores), budget, remainder).tolist()
        assert sum(budgets) == budget
        exact = [Fraction(repr(s)) for s in scores] if any(scores) else [Fraction(1)] * len(scores)
        extra = [b - math.floor(budget * s / sum(exact)) for b, s in zip(budgets, exact, strict=True)]
        assert min(extra) >= 0
        if remainder == "largest":
            assert max(extra) <= 1
            assert all(e == 0 for e, s in zip(extra, exact, strict=True) if s == 0)
        else:
            assert sum(e > 0 for e in extra) <= 1


class TestSpreadBudgets:
    @given(problem=budget_problems)
    @settings(max_examples=150, deadline=None)
    def test_equals_a_unit_by_unit_program(self, problem):
        budgets, capacity, scores = problem
        before = budgets.copy(), capacity.copy()
        taken = spread_budgets(budgets, capacity, scores)
        assert taken.dtype == np.int64
        assert taken.tolist() == [slow_spread(budgets.tolist(), row, scores) for row in capacity.tolist()]
        assert (budgets == before[0]).all()
        assert (capacity == before[1]).all()

    @given(problem=budget_problems)
    @settings(max_examples=100, deadline=None)
    def test_keeps_the_sum_and_the_bounds(self, problem):
        budgets, capacity, scores = problem
        taken = spread_budgets(budgets, capacity, scores)
        assert (taken.sum(1) == np.minimum(capacity.sum(1), budgets.sum())).all()
        assert (taken >= 0).all()
        assert (taken <= capacity).all()
        short = capacity.sum(1) < budgets.sum()
        assert (taken[short] == capacity[short]).all()

    def test_surplus_goes_to_the_best_and_ties_to_the_first(self):
        """Check 12's image, deterministically: 4 units over, 7 fit into cluster 0, 3 into cluster 3."""
        capacity = np.array([[10, 1, 0, 5], [5, 1, 0, 5]])
        best_last = spread_budgets(whole(3, 3, 2, 2), capacity, np.array([0.1, 0.5, 0.3, 0.2]))
        assert best_last.tolist() == [[4, 1, 0, 5], [4, 1, 0, 5]]
        equal = spread_budgets(whole(3, 3, 2, 2), capacity, np.ones(4))
        assert equal.tolist() == [[7, 1, 0, 2], [5, 1, 0, 4]]

    def test_shortfall(self):
        """Check 12."""
        taken = spread_budgets(whole(2, 1), np.array([[1, 1]]), np.array([0.2, 0.1]))
        assert taken.tolist() == [[1, 1]]
        assert 3 - taken.sum() == 1


class TestDealBudgets:
    @pytest.mark.parametrize("seed", range(3))
    def test_the_specifications_numbers(self, seed):
        """Check 12: nothing is left over in dealing, so every seed gives the same."""
        generator = np.random.default_rng(seed)
        assert deal_budgets(whole(3, 3, 2, 2), whole(10, 1, 0, 5), generator).tolist() == [5, 1, 0, 4]
        assert deal_budgets(whole(2, 1), whole(1, 1), generator).tolist() == [1, 1]
        assert deal_budgets(whole(2, 0), whole(0, 0), generator).tolist() == [0, 0]
        assert generator.bit_generator.state == np.random.default_rng(seed).bit_generator.state

    def test_the_rest_goes_to_one_at_random(self):
        """One unit too many in cluster 0; two others."""
        found = {
            tuple(deal_budgets(whole(2, 1, 1), whole(1, 5, 5), np.random.default_rng(seed)).tolist())
            for seed in range(20)
        }
        assert found == {(1, 2, 1), (1, 1, 2)}

    def test_the_whole_rest_goes_to_the_same_one(self):
        """Two units over, three others."""
        for seed in range(10):
            dealt = deal_budgets(whole(2, 0, 0, 0), whole(0, 5, 5, 5), np.random.default_rng(seed))
            assert sorted(dealt.tolist()) == [0, 0, 0, 2]

    @given(problem=budget_problems, seed=st.integers(0, 2**32))
    @settings(max_examples=150, deadline=None)
    def test_keeps_the_sum_and_the_bounds_for_any_seed(self, problem, seed):
        budgets, capacity, scores = problem
        for row in capacity:
            before = budgets.copy(), row.copy()
            dealt = deal_budgets(budgets, row, np.random.default_rng(seed), scores)
            assert dealt.dtype == np.int64
            assert dealt.sum() == min(row.sum(), budgets.sum())
            assert (dealt >= 0).all()
            assert (dealt <= row).all()
            assert (budgets == before[0]).all()
            assert (row == before[1]).all()
            if (budgets <= row).all():
                assert (dealt == budgets).all()
            assert (dealt == deal_budgets(budgets, row, np.random.default_rng(seed), scores)).all()

    def test_dealing_without_an_end_falls_back_to_the_best_clusters(self):
        """One unit wanders over 250 clusters without room; most seeds do not hit one of the two with room."""
        budgets, capacity, scores = np.zeros(252, np.int64), np.zeros(252, np.int64), np.zeros(252)
        budgets[0], capacity[250:], scores[251] = 1, 1, 1.0
        given_up = 0
        for seed in range(30):
            dealt = deal_budgets(budgets, capacity, np.random.default_rng(seed), scores)
            assert dealt.sum() == 1
            assert (dealt <= capacity).all()
            given_up += dealt[251]
        assert given_up > 15
        without = [deal_budgets(budgets, capacity, np.random.default_rng(seed)) for seed in range(30)]
        assert sum(dealt[250] for dealt in without) > 15  # by the budgets all are equal: the first with room


def best_of_images(image, cluster, score, candidates, allowance):
    """Image by image, each sorted by descending score, ties by index."""
    chosen = [np.zeros(0, np.int64)]
    for number, allowed in enumerate(allowance):
        rows = np.flatnonzero(candidates & (image == number))
        found = rows[best_per_cluster(cluster[rows], score[rows], allowed)]
        chosen.append(found[np.argsort(-score[found], kind="stable")])
    return np.concatenate(chosen)


class TestBestRegions:
    @given(world=worlds())
    @settings(max_examples=120, deadline=None)
    def test_equal_a_slow_loop(self, world):
        chosen = best_of_images(world.image, world.cluster, world.score, world.candidates, world.allowance)
        assert chosen.dtype == np.int64
        slow = slow_best(world.image, world.cluster, world.score, world.candidates, lambda n, k: world.allowance[n, k])
        assert chosen.tolist() == slow

    @given(world=worlds(), budget=st.integers(0, 12))
    @settings(max_examples=80, deadline=None)
    def test_the_highest_equal_a_slow_loop(self, world, budget):
        one = np.zeros(len(world.image), int)
        chosen = highest(world.score, budget)
        assert chosen.dtype == np.int64
        every = np.ones(len(one), bool)
        assert chosen.tolist() == slow_best(one, one, world.score, every, lambda n, k: budget)

    @given(world=worlds(distinct=True), data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_order_of_the_regions_does_not_matter(self, world, data):
        order = data.draw(st.permutations(range(len(world.image))).map(lambda rows: np.array(rows, int)))
        first = best_of_images(world.image, world.cluster, world.score, world.candidates, world.allowance)
        second = best_of_images(
            world.image[order], world.cluster[order], world.score[order], world.candidates[order], world.allowance
        )
        assert order[second].tolist() == first.tolist()

    def test_ties_go_to_the_lower_index(self):
        cluster, score = np.zeros(4, np.uint8), np.array([0.1, 0.5, 0.5, 0.5])
        assert best_per_cluster(cluster, score, np.array([2])).tolist() == [1, 2]
        assert highest(score, 2).tolist() == [1, 2]

    @pytest.mark.parametrize("cluster", [2, -1])
    def test_out_of_range_is_refused(self, cluster):
        with pytest.raises(ValueError, match="outside 0"):
            best_per_cluster(np.array([cluster]), np.ones(1), np.ones(2, np.int64))

    @pytest.mark.parametrize("remainder", ["reference", "largest"])
    @pytest.mark.parametrize("redistribution", ["spread", "deal"])
    @given(world=worlds(), budget=st.integers(0, 15))
    @settings(max_examples=40, deadline=None)
    def test_tables_to_choice(self, remainder, redistribution, world, budget):
        """The whole chain: in every image as many as the budget says or as there are, each once, all with pixels."""
        left = world.pixels > 0
        tables = cluster_tables(world.cluster, world.predicted, world.score, world.pixels, 7, 5)
        scores = cluster_scores("reference", tables)
        budgets = cluster_budgets(scores, budget, remainder)
        pairs = world.image[left] * 7 + world.cluster[left]
        capacity = np.bincount(pairs, minlength=world.images * 7).reshape(world.images, 7)
        if redistribution == "spread":
            allowance = spread_budgets(budgets, capacity, scores)
        else:
            generator = np.random.default_rng(0)
            allowance = np.stack([deal_budgets(budgets, row, generator, scores) for row in capacity])
        weights = cluster_class_weights(class_given_cluster(tables.class_regions), world.predicted, world.cluster)
        chosen = best_of_images(world.image, world.cluster, world.score * weights, left, allowance)
        assert left[chosen].all()
        assert len(set(chosen.tolist())) == len(chosen)
        numbers = np.bincount(world.image[chosen], minlength=world.images)
        assert (numbers == np.minimum(capacity.sum(1), budget)).all()
