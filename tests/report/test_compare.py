"""`compare` and the verdict of the report: runs at equal cost, with values computed by hand."""

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_support import Page, write_evaluation

from stages.reporting.comparison import compare_runs
from stages.reporting.equal_cost import OnDraws, curve, first_cost, mean_difference, shared_range
from stages.reporting.quality import OnAnswers, Sample
from stages.reporting.report.collect import collect_runs
from stages.reporting.report.command import write_report
from stages.reporting.report.groups import group_runs
from stages.reporting.report.without_masks import on_top
from stages.reporting.verdict import Verdict, judge
from stages.runtime.errors import BadInput

# mIoU in % after so many clicks, by recipe and seed
FIRST = {0: {100: 40, 200: 60, 300: 70}, 1: {100: 42, 200: 60, 300: 72}}
SECOND = {0: {150: 44, 250: 54, 350: 60}, 1: {150: 46, 250: 56, 350: 62}}

points = st.lists(
    st.tuples(st.integers(0, 1000).map(float), st.floats(0, 100)),
    min_size=1,
    max_size=8,
    unique_by=lambda each: each[0],
)


def made_run(folder: Path, miou: dict[int, float], seed: int = 0, split: str = "test") -> Path:
    for number, (clicks, value) in enumerate(miou.items()):
        write_evaluation(folder / f"round-{number}", clicks, {"road": value / 100}, split, seed=seed)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two recipes with two seeds each."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        made_run(folder / f"{name}-{seed}", miou, seed)
        for name, seeds in (("first", FIRST), ("second", SECOND))
        for seed, miou in seeds.items()
    ]


def judged(folders: Sequence[Path], cost: str = "clicks") -> Verdict:
    return judge(group_runs(collect_runs(list(folders), "last", "evaluation")), None, cost)


def printed(capsys: pytest.CaptureFixture[str], runs: list[Path], **options: object) -> str:
    capsys.readouterr()
    compare_runs(runs, None, None, "last", **options)  # type: ignore[arg-type]
    return capsys.readouterr().out


class TestCurves:
    def test_values_between_rounds_and_none_beyond(self) -> None:
        found = curve([(300, 70), (100, 40), (200, 60)])
        assert found.at([100, 125, 150, 300]).tolist() == [40, 45, 50, 70]
        assert np.isnan(found.at([99, 304])).all()

    def test_costs_within_a_hundredth_count_as_equal(self) -> None:
        """Masks drawn at random, and as many that were chosen by 145 clicks."""
        drawn, chosen = curve([(39399, 42)]), curve([(39544, 37)])
        shared = shared_range([drawn, chosen])
        assert shared == (39544, 39544)
        assert [each.area(*shared) for each in (drawn, chosen)] == [42, 37]
        assert shared_range([drawn, curve([(39800, 37)])]) is None
        assert shared_range([curve([(100, 40), (300, 50)]), curve([(200, 40), (301, 50)])]) == (200, 300)

    def test_areas(self) -> None:
        """(40 + 60) / 2 * 100 + (60 + 70) / 2 * 100 = 11500 over 200; from 150 on 5500 / 2 ... over 150."""
        found = curve(FIRST[0].items())
        assert found.area(100, 300) == 57.5
        assert found.area(150, 300) == pytest.approx((55 * 50 + 65 * 100) / 150)
        assert found.area(200, 200) == 60
        assert math.isnan(found.area(50, 200))

    def test_the_last_of_several_at_one_cost_counts(self) -> None:
        assert curve([(1, 10), (1, 20)]).value.tolist() == [20]
        with pytest.raises(ValueError, match="needs a point"):
            curve([])

    @given(points)
    def test_areas_are_between_the_lowest_and_the_highest_value(self, found: list[tuple[float, float]]) -> None:
        made = curve(found)
        area = made.area(made.cost[0], made.cost[-1])
        assert made.value.min() - 1e-9 <= area <= made.value.max() + 1e-9

    @given(points, points)
    def test_what_two_curves_share_is_covered_by_both(self, one: list, other: list) -> None:
        curves = [curve(one), curve(other)]
        shared = shared_range(curves)
        costs = [0, *range(0, 1001, 50)] if shared is None else list(shared)
        known = [~np.isnan(each.at(costs)) for each in curves]
        assert (known[0] & known[1]).all() if shared else not (known[0] & known[1]).any()

    @given(points)
    def test_areas_on_draws_are_those_of_their_curves(self, found: list[tuple[float, float]]) -> None:
        values = [np.array([value, 2 * value, 7.0]) for _, value in found]
        made = curve(found, values)
        low, high = made.cost[0], made.cost[-1]
        assert made.areas_of_draws(low, high) == pytest.approx([made.area(low, high), 2 * made.area(low, high), 7])

    def test_the_first_cost_with_a_value(self) -> None:
        found = curve(FIRST[0].items())
        assert [first_cost(found, value) for value in (30, 40, 50, 65, 71)] == [100, 100, 150, 250, None]


class TestDifferences:
    def test_pairs(self) -> None:
        """Differences 1, 2, 3: t(0.975, 2) = 4.3027, so the interval is 2 +- 4.3027 * 1 / sqrt(3)."""
        found = mean_difference({0: 11, 1: 22, 2: 33}, {0: 10, 1: 20, 2: 30})
        assert (found.mean, found.pairs) == (2, 3)
        assert found.interval == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-4)
        assert not found.beyond_chance

    def test_other_seeds_are_no_pairs(self) -> None:
        """Welch with equal variances 0.5 and two runs each: 2 degrees of freedom, standard error sqrt(0.5)."""
        found = mean_difference({0: 10.0, 1: 11.0}, {2: 5.0, 3: 6.0})
        assert (found.mean, found.pairs) == (5, 0)
        assert found.interval == pytest.approx((5 - 4.30265 * math.sqrt(0.5), 5 + 4.30265 * math.sqrt(0.5)), abs=1e-4)
        assert found.beyond_chance

    @pytest.mark.parametrize("theirs", [{0: 1.0}, {1: 1.0}, {1: 1.0, 2: 3.0}])
    def test_one_seed_has_no_interval(self, theirs: dict) -> None:
        assert mean_difference({0: 4.0}, theirs).interval is None

    def test_two_seeds_on_two_images(self) -> None:
        """Differences 20 and 10; on the four draws of two images 25, 15, 15, 5 in the mean.

        Seeds: variance 50 / 2 = 25, 1 degree of freedom. Images: variance of the draws 50, times 2 / 1 = 100, 1 degree.
        Together 125 with 125^2 / (25^2 + 100^2) = 1.4706 degrees: t(0.975) = 6.1881, so 15 +- 6.1881 sqrt(125).
        """
        ours = {0: np.array([90.0, 80, 80, 70]), 1: np.array([80.0, 80, 80, 80])}
        theirs = {0: np.array([50.0, 60, 60, 70]), 1: np.array([70.0, 70, 70, 70])}
        found = mean_difference({0: 80.0, 1: 80.0}, {0: 60.0, 1: 70.0}, OnDraws(2, ours, theirs))
        assert (found.mean, found.pairs, found.images) == (15, 2, 2)
        assert found.interval == pytest.approx((15 - 69.186, 15 + 69.186), abs=1e-2)

    def test_chance_is_rarely_beyond_chance(self) -> None:
        """Three seeds that differ by nothing but chance: one in twenty, where percentiles of seeds say one in four."""
        found = np.random.default_rng(0).normal(size=(1000, 3))
        beyond = [mean_difference(dict(enumerate(each)), dict.fromkeys(range(3), 0.0)).beyond_chance for each in found]
        assert 0.03 < np.mean(beyond) < 0.07

    def test_differences_without_spread(self) -> None:
        assert mean_difference({0: 2.0, 1: 3.0}, {0: 1.0, 1: 2.0}).interval == (1, 1)
        assert mean_difference({0: 2.0, 1: 2.0}, {2: 1.0, 3: 1.0}).interval == (1, 1)


class TestVerdict:
    def test_two_recipes_with_two_seeds(self, runs: list[Path]) -> None:
        """From 150 to 300 clicks the areas are 61.667, 62.5 and 51.167, 53.167: differences 10.5 and 9.333.

        Their mean is 9.917, their deviation 0.825, t(0.975, 1) = 12.706: 9.917 +- 7.412. At 300 clicks the second has
        (57 + 59) / 2 = 58, the first (70 + 72) / 2; it has 58 at 150 + 50 * 7.5 / 9.5 = 189.5 clicks.
        """
        found = judged(runs)
        assert (
            found.headline == "first is 9.9 points of mIoU ahead of second at equal clicks, more than chance explains."
        )
        assert found.facts == [
            "Against second: +9.9 points on average between 150 and 300 clicks (95 % interval +2.5 to +17.3; 2 pairs "
            "of seeds), ahead at 4 of 4 measured costs.",
            "At 300 clicks: 71.0 %; second has 58.0 %.",
            "first reaches the 58.0 % of second with 189 clicks instead of 300: 37 % less.",
        ]
        assert not found.notes

    def test_the_order_of_the_runs_does_not_matter(self, runs: list[Path]) -> None:
        assert judged(runs[::-1]) == judged(runs)

    def test_one_seed_cannot_tell(self, runs: list[Path]) -> None:
        assert judged([runs[0], runs[2]]).headline == (
            "first-0 is 10.5 points of mIoU ahead of second-0 at equal clicks; one seed of first-0 and second-0 cannot "
            "tell whether that is chance."
        )
        assert "one seed of second-0 cannot tell" in judged(runs[:3]).headline

    def test_chance_alone(self, tmp_path: Path) -> None:
        """Differences +2 and -1."""
        made = [
            made_run(tmp_path / f"{name}-{seed}", {10: value, 20: value}, seed)
            for name, values in (("a", (52, 49)), ("b", (50, 50)))
            for seed, value in enumerate(values)
        ]
        assert (
            judged(made).headline
            == "a is 0.5 points of mIoU ahead of b at equal clicks, which chance alone can explain."
        )

    def test_level(self, tmp_path: Path) -> None:
        made = [made_run(tmp_path / name, {10: 50, 20: 60}) for name in "ab"]
        assert judged(made).headline == "a and b are level at equal clicks."

    def test_costs_that_do_not_overlap(self, tmp_path: Path) -> None:
        made = [made_run(tmp_path / "few", {10: 50, 20: 60}), made_run(tmp_path / "many", {30: 70})]
        found = judged(made)
        assert found.headline == "Nothing can be compared at equal clicks."
        assert found.facts == ["few reached 60.0 % mIoU with 20 clicks.", "many reached 70.0 % mIoU with 30 clicks."]
        assert "do not overlap; nothing is extrapolated" in found.notes[0]

    def test_a_third_that_shares_no_cost_is_named(self, runs: list[Path], tmp_path: Path) -> None:
        found = judged([*runs, made_run(tmp_path / "masks", {9000: 80})])
        assert found.headline.startswith("first is 9.9 points")
        assert found.notes == [
            "No clicks are covered by both masks and the leading recipe; nothing is extrapolated.",
        ]

    def test_a_single_cost_is_compared_there(self, tmp_path: Path) -> None:
        made = [made_run(tmp_path / "a", {40: 50}), made_run(tmp_path / "b", {40: 45})]
        assert judged(made).facts[0] == "Against b: +5.0 points at 40 clicks, ahead at 1 of 1 measured costs."

    def test_seconds(self, runs: list[Path]) -> None:
        """A click takes two seconds here."""
        assert "between 300 and 600 seconds" in judged(runs, "seconds").facts[0]

    def test_one_recipe(self, runs: list[Path]) -> None:
        assert judged(runs[:2]).headline == "first reached 71.0 ± 1.4 % mIoU with 300 clicks."


class TestCompare:
    def test_the_table(self, runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
        lines = printed(capsys, runs).splitlines()
        assert lines[0] == "mIoU (%) on test, last epoch"
        assert re.split(r"  +", lines[1].strip()) == [
            "round",
            "answers/image",
            "clicks",
            "first (2 seeds)",
            "second (2 seeds)",
        ]
        cells = [re.split(r"  +", line.strip()) for line in lines[2:8]]
        assert cells[0] == ["0", "50", "100", "41.0 ± 1.4"]
        assert cells[1] == ["0", "75", "150", "~50.5 ± 0.7", "45.0 ± 1.4"]
        assert cells[3] == ["1", "125", "250", "~65.5 ± 0.7", "55.0 ± 1.4"]
        assert cells[5] == ["2", "175", "350", "61.0 ± 1.4"]
        assert re.split(r"  +", lines[8].strip()) == ["area", "150 to 300", "62.1 ± 0.6", "52.2 ± 1.4"]
        assert "divided by 150." in lines[9]
        assert lines[12].startswith("first is 9.9 points")

    def test_pipes_get_all_columns(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        names = [f"a-rather-long-name-of-a-run-{letter}" for letter in "abcd"]
        made = [made_run(tmp_path / name, {10: 50}) for name in names]
        assert all(name in printed(capsys, made).splitlines()[1] for name in names)

    def test_csv(self, runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
        rows = list(csv.DictReader(io.StringIO(printed(capsys, runs, form="csv"))))
        assert len(rows) == 2 * 5
        assert list(rows[1]) == ["recipe", "runs", "clicks", "miou", "deviation", "interpolated"]
        assert list(rows[1].values()) == ["first", "2", "150", "50.5000", "0.7071", "1"]

    def test_json(self, runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
        found = json.loads(printed(capsys, runs, form="json", cost="seconds"))
        assert found["shared"] == {"from": 300, "to": 600}
        assert [each["seeds"] for each in found["recipes"]] == [[[0], [1]], [[0], [1]]]
        assert found["recipes"][0]["area"]["mean"] == pytest.approx((61.6667 + 62.5) / 2, abs=1e-3)
        assert found["recipes"][1]["measured"][1][0]["miou"] == pytest.approx(46)
        assert found["verdict"]["headline"].startswith("first is 9.9 points")

    def test_the_plot(self, runs: list[Path], tmp_path: Path) -> None:
        compare_runs(runs, tmp_path / "curve.png", None, "last")
        assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")

    def test_another_cost(self, runs: list[Path]) -> None:
        with pytest.raises(BadInput, match="--cost must be clicks, seconds or answers, not 'euros'"):
            compare_runs(runs, None, None, "last", cost="euros")


def test_the_report_begins_with_the_verdict(runs: list[Path], tmp_path: Path) -> None:
    write_report(runs, tmp_path / "r.html", None, "last", 0, "evaluation")
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    text = " ".join(page.text.split())
    for told in judged(runs).lines:
        assert told in text
    assert text.index("more than chance explains") < text.index("mIoU against clicks")


@pytest.mark.parametrize(
    ("control", "told"),
    [
        (None, "agreed with people on 40.0 % of the new answers, harder than average."),
        (Sample(20, 70.0, 50.0, 85.0), "agreed with people on 70.0 (50 to 85) % of the new pixels drawn at random."),
    ],
)
def test_without_masks_the_agreement_is_on_top(control: Sample | None, told: str, runs: list[Path]) -> None:
    run = collect_runs(runs[:1], "last", "evaluation")[0]
    last = OnAnswers(2, 100, 100, Sample(90, 40.0, None, None), control, None)
    sentences = on_top({"run": run, "rounds": [last], "told": "Next round: too few rounds", "people": []})
    assert sentences == [f"first-0: the last model that could be judged {told}", "Next round: too few rounds."]
    assert on_top({"run": run, "rounds": [], "told": "", "people": []}) == []
