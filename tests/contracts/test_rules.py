"""What every rule must keep; new ones are picked up from the registry."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import DrawingFrom, choose_pixels

from stages.artifacts.scores import ClusterTables
from stages.runtime.errors import BadInput
from stages.runtime.parts import RULES
from stages.selecting.candidates import Candidates
from stages.selecting.chooser import Chooser
from stages.selecting.rules import rule
from stages.selecting.rules.stratified import even_shares
from stages.settings.select import SelectSettings

SERVED = [(part.name, unit) for part in RULES.parts() if part.facts["budget"] for unit in part.facts["units"]]
CLUSTERS = 3


def made_pool(unit, scores, total, seed, queried=2, round_number=1):
    """Candidates that have whatever a rule may need; several have equal scores and equal features."""
    generator, number = np.random.default_rng(seed), len(scores)
    cluster = generator.integers(0, CLUSTERS, number)
    tables = ClusterTables(
        class_regions=np.ones((2, CLUSTERS), np.int64),
        regions=np.full(CLUSTERS, 2),
        pixels=np.full(CLUSTERS, 10),
        score=generator.random(CLUSTERS),
        pixel_score=generator.random(CLUSTERS),
    )
    lazy = {
        "features": lambda: generator.integers(0, 3, (number, 2)).astype(np.float16),
        "queried_features": lambda: generator.integers(0, 3, (queried, 2)).astype(np.float16),
        "cluster": lambda: cluster,
        "predicted": lambda: np.where(cluster == CLUSTERS - 1, -1, cluster),
        "tables": lambda: tables,
        "answered": lambda: np.arange(number)[::2],
    }
    return Candidates(
        unit=unit,
        scores=np.asarray(scores),
        image=np.sort(generator.integers(0, 2, number)),
        total=total,
        round=round_number,
        lazy=lazy,
    )


def chosen(name, pool, budget, seed, **values):
    part = RULES[name]
    own = None if part.settings is None else part.settings(**values)
    return DrawingFrom(part, own, pool.round, given=np.random.default_rng(seed)).positions(pool, budget, "dataset")


def own_values(name, fraction):
    """A share that leaves a choice."""
    names = () if RULES[name].settings is None else RULES[name].settings.model_fields
    return {"fraction": fraction} if "fraction" in names else {}


levels = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=40)


@pytest.mark.parametrize("name, unit", SERVED)
class TestEveryRule:
    @given(scores=levels, budget=st.integers(1, 50), seed=st.integers(0, 99), queried=st.integers(0, 3))
    @settings(max_examples=40, deadline=None)
    def test_takes_the_budget_once_each(self, name, unit, scores, budget, seed, queried):
        pool = made_pool(unit, scores, len(scores) + queried, seed, queried)
        found = chosen(name, pool, budget, seed, **own_values(name, 1))
        assert found.dtype == np.int64
        assert len(set(found.tolist())) == len(found) == min(budget, len(scores))
        assert set(found.tolist()) <= set(range(len(scores)))
        if not RULES[name].facts["orders"]:
            assert (np.diff(pool.scores[found]) <= 0).all()

    @given(scores=levels, budget=st.integers(1, 9), seed=st.integers(0, 99))
    @settings(max_examples=20, deadline=None)
    def test_same_stream_same_choice(self, name, unit, scores, budget, seed):
        twice = [
            chosen(name, made_pool(unit, scores, len(scores), seed), budget, seed, **own_values(name, 1)).tolist()
            for _ in range(2)
        ]
        assert twice[0] == twice[1]

    def test_leaves_the_pool_as_it_is(self, name, unit):
        pool = made_pool(unit, [0.5, 0.25, 1.0, 0.0], 4, 0)
        before = pool.scores.copy()
        chosen(name, pool, 2, 0, **own_values(name, 1))
        assert (pool.scores == before).all()

    def test_of_nothing_nothing_is_chosen(self, name, unit):
        assert chosen(name, made_pool(unit, [], 4, 0), 2, 0).tolist() == []

    def test_is_offered_by_select(self, name, unit):
        assert SelectSettings.load({"rule": name}).settled("s.h5", unit=unit).rule == name

    def test_legacy_streams_do_too(self, name, unit):
        part = RULES[name]
        own = None if part.settings is None else part.settings(**own_values(name, 1))
        pool = made_pool(unit, [0.5, 0.25, 1.0, 0.0], 4, 0)
        found = [Chooser(part, own, 1, 3, legacy=True).positions(pool, 2, name).tolist() for name in "ab"]
        assert found[0] == found[1]  # of two choosers; the images of one share a stream


@pytest.mark.parametrize("name", RULES.names())
def test_every_rule_says_what_it_is_and_what_it_serves(name):
    part = RULES[name]
    assert part.about.endswith(".")
    assert set(part.facts["units"]) <= {"pixel", "region", "image"}
    assert set(part.facts["needs"]) <= {"features", "clusters", "answered", "predicted"}


PIXEL_RULES = [name for name, unit in SERVED if unit == "pixel"]
maps = st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**32)).map(
    lambda case: (
        np.random.default_rng(case[2]).choice(np.array([0.0, 0.25, 0.5, 1.0], np.float32), case[:2]),
        np.random.default_rng(case[2] + 1).random(case[:2]) < 0.5,
    )
)


@pytest.mark.parametrize("name", PIXEL_RULES)
@given(world=maps, budget=st.integers(1, 20), fraction=st.floats(0.01, 1), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_excluded_pixels_are_never_chosen(name, world, budget, fraction, seed):
    scores, excluded = world
    found = choose_pixels(name, scores, excluded, budget, np.random.default_rng(seed), fraction)
    assert len(set(found.tolist())) == len(found) == min(budget, int((~excluded).sum()))
    assert not excluded.ravel()[found].any()
    assert RULES[name].facts["orders"] or (np.diff(scores.ravel()[found]) <= 0).all()


class TestPower:
    def test_weights_are_powers_of_the_scores(self):
        """One of 1, 2 and 4 with weights 1, 4 and 16; the standard deviation of the shares is below 0.009."""
        pool = made_pool("image", [1.0, 2.0, 4.0], 3, 0)
        draws = 3000
        found = [int(chosen("power", pool, 1, seed, power=2.0)[0]) for seed in range(draws)]
        shares = np.bincount(found, minlength=3) / draws
        assert shares == pytest.approx(np.array([1, 4, 16]) / 21, abs=0.03)

    def test_power_0_is_a_uniform_draw_and_a_high_one_takes_the_highest(self):
        pool = made_pool("image", [0.1, 0.2, 0.4], 3, 0)
        found = [int(chosen("power", pool, 1, seed, power=0.0)[0]) for seed in range(1500)]
        assert np.bincount(found, minlength=3) / 1500 == pytest.approx(np.full(3, 1 / 3), abs=0.05)
        assert {int(chosen("power", pool, 1, seed, power=1000.0)[0]) for seed in range(20)} == {2}

    def test_later_rounds_choose_more_sharply(self):
        def share_of_the_highest(number):
            pool = made_pool("image", [1.0, 2.0], 2, 0, round_number=number)
            return np.mean([int(chosen("power", pool, 1, seed, growth=2.0)[0]) for seed in range(1000)])

        assert share_of_the_highest(0) == pytest.approx(2 / 3, abs=0.05)
        assert share_of_the_highest(2) == pytest.approx(16 / 17, abs=0.05)
        assert share_of_the_highest(10_000) == 1

    def test_scores_of_0_and_below_come_last(self):
        pool = made_pool("image", [0.0, -1.0, 0.5, 0.5, 0.0], 5, 0)
        for seed in range(20):
            assert set(chosen("power", pool, 2, seed).tolist()) == {2, 3}


class TestStratified:
    """Classes 0, 1 and 2 have 6, 3 and 1 of ten units; scores fall from 1.0 to 0.1 and are taken sharply."""

    def drawn(self, budget, share, predicted=(0, 0, 0, 0, 0, 0, 1, 1, 1, 2), seed=0):
        lazy = {"predicted": lambda: np.array(predicted)}
        scores = np.arange(10, 0, -1) / 10
        pool = Candidates(unit="region", scores=scores, image=np.zeros(10, int), total=10, lazy=lazy)
        return chosen("stratified", pool, budget, seed, stratified=share, power=1000).tolist()

    def test_the_same_number_of_each_class_and_what_small_ones_lack_from_the_others(self):
        assert self.drawn(3, 1) == [0, 6, 9]
        assert self.drawn(7, 1) == [0, 1, 2, 6, 7, 8, 9]

    def test_the_rest_is_taken_from_all(self):
        assert self.drawn(5, 0.6) == [0, 1, 2, 6, 9]  # one of each, then the two highest left

    def test_a_share_of_0_is_the_rule_power(self):
        assert self.drawn(4, 0) == [0, 1, 2, 3]

    def test_what_is_predicted_void_has_no_share(self):
        assert self.drawn(2, 1, [0, 0, 0, 0, 0, 0, 1, 1, 1, -1]) == [0, 6]
        assert self.drawn(3, 1, [-1] * 10) == [0, 1, 2]

    def test_what_does_not_divide_goes_to_classes_at_random(self):
        found = {tuple(self.drawn(4, 1, seed=seed)) for seed in range(20)}
        assert found == {(0, 1, 6, 9), (0, 6, 7, 9)}

    def test_growth_without_rounds_is_told(self):
        settings = RULES["stratified"].settings(growth=2)
        assert settings.note(0).startswith("--growth has no effect in round 0")
        assert settings.note(1) == RULES["power"].settings().note(0) == ""

    @given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8), total=st.integers(0, 40), seed=st.integers(0, 9))
    @settings(max_examples=60, deadline=None)
    def test_shares_sum_to_the_total_and_differ_only_where_a_class_is_used_up(self, sizes, total, seed):
        sizes = np.array(sizes)
        shares = even_shares(sizes, total, np.random.default_rng(seed))
        assert shares.sum() == min(total, sizes.sum())
        assert (shares <= sizes).all()
        assert (shares[shares < sizes] >= shares.max() - 1).all()


class TestDiverse:
    def pool(self, features, scores, queried=()):
        lazy = {
            "features": lambda: np.array(features, np.float32),
            "queried_features": lambda: np.array(queried, np.float32).reshape(len(queried), 2),
        }
        return Candidates(
            unit="image", scores=np.array(scores), image=np.arange(len(scores)), total=len(scores), lazy=lazy
        )

    def test_weights_are_scores_times_squared_distances(self):
        """From a query at the origin 1, 4 and 9 times 1, 2 and 1: shares 1/18, 8/18 and 9/18; sd below 0.012."""
        pool = self.pool([[1, 0], [0, 2], [3, 0]], [0.5, 1, 0.5], [[0, 0]])
        found = [int(chosen("diverse", pool, 1, seed)[0]) for seed in range(2000)]
        assert np.bincount(found, minlength=3) / 2000 == pytest.approx(np.array([1, 8, 9]) / 18, abs=0.05)

    def test_the_first_of_all_is_drawn_by_score(self):
        pool = self.pool([[1, 0], [0, 2]], [1, 3])
        assert np.mean([int(chosen("diverse", pool, 1, seed)[0]) for seed in range(1500)]) == pytest.approx(
            0.75, abs=0.05
        )

    def test_duplicates_are_drawn_last(self):
        pool = self.pool([[0, 0], [0, 0], [0, 0], [1, 1], [5, 2]], [1, 1, 1, 0.1, 0.1])
        for seed in range(20):
            assert {3, 4} < set(chosen("diverse", pool, 3, seed).tolist())

    def test_only_the_highest_scores_are_candidates(self):
        pool = self.pool([[0, 0], [9, 9], [0, 1], [1, 0]], [1, 0.1, 1, 1])
        for seed in range(20):
            assert 1 not in chosen("diverse", pool, 1, seed, candidates=3)

    def test_features_that_are_not_finite_are_refused(self):
        with pytest.raises(BadInput, match=r"^The features of some units are not finite\. Score again"):
            chosen("diverse", self.pool([[np.inf, 0], [0, 1]], [1, 1]), 1, 0)


class TestKCentre:
    def test_farthest_from_what_was_queried_in_the_order_of_choice(self):
        features = {
            "features": lambda: np.array([[1.0], [9.0], [10.0], [4.0]]),
            "queried_features": lambda: np.array([[0.0]]),
        }
        pool = Candidates(unit="region", scores=np.arange(4.0), image=np.zeros(4, int), total=5, lazy=features)
        assert chosen("k-centre", pool, 3, 0, fraction=1).tolist() == [2, 3, 0]
        assert chosen("k-centre", pool, 2, 0, fraction=0.6).tolist() == [2, 3]  # of the three highest scores

    def test_a_share_that_leaves_no_choice_is_refused(self):
        with pytest.raises(
            BadInput, match=r"cannot choose 3 regions of the 1 with the highest scores .* Raise --fraction"
        ):
            chosen("k-centre", made_pool("region", np.arange(20.0), 20, 0), 3, 0)


class TestWhatPlugInsGetWrong:
    @pytest.fixture(autouse=True)
    def unregistered(self, monkeypatch):
        monkeypatch.setattr(RULES, "found", dict(RULES.found))

    @pytest.mark.parametrize("wrong", [[0], [0, 0], [0, 9], [-1, 0], [0, 1, 2]])
    def test_other_positions_than_the_budget_says(self, wrong):
        rule("wrong")(lambda pool, budget, own, generator: wrong)
        with pytest.raises(BadInput, match=r"Rule wrong chose \d positions; it must choose 2 of 4, each once"):
            chosen("wrong", made_pool("pixel", np.arange(4.0), 4, 0), 2, 0)

    @pytest.mark.parametrize("name", ["features", "queried_features", "cluster", "tables", "answered", "predicted"])
    def test_what_the_unit_does_not_have(self, name):
        pool = Candidates(unit="pixel", scores=np.ones(2), image=np.zeros(2, int), total=2)
        with pytest.raises(BadInput, match=rf"unit pixel have no {name}\. Use the rule pool, power"):
            getattr(pool, name)
