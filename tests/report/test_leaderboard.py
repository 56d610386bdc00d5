"""The leaderboard: runs added one by one, recipes beside their random partners, with values computed by hand."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from programs import run
from report_support import write_evaluation

from stages.evaluating.counts import ImageCounts
from stages.recipes.leaderboard import update_leaderboard
from stages.recipes.leaderboard_file import Board, Measurement, Results, Round, Written, read_board
from stages.recipes.leaderboard_page import difference_text, pairs_of, verdict_of
from stages.recipes.recipe import random_partner
from stages.runtime.errors import BadInput

IMAGES = ("a", "b")
TRUTH = np.array([[100], [100]])


def counted(first: int, second: int) -> ImageCounts:
    """So many of 100 pixels right in each of two images, and nothing else predicted: the IoU is their share."""
    hits = np.array([[first], [second]])
    return ImageCounts(IMAGES, hits, TRUTH, hits)


def made_run(folder: Path, rounds: Mapping[int, tuple[int, int]], seed: int) -> Path:
    """A run with the IoU of two images after so many clicks."""
    for number, (clicks, shares) in enumerate(rounds.items()):
        place = folder / f"round-{number}"
        write_evaluation(place, clicks, {"road": sum(shares) / 200}, seed=seed, counts=counted(*shares))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """PixelPick is 20 and 10 points ahead after 20 clicks: areas 10 and 5 ahead, as round 0 is the same."""
    return [
        made_run(tmp_path / "pixelpick-0", {10: (40, 40), 20: (90, 70)}, 0),
        made_run(tmp_path / "pixelpick-1", {10: (50, 50), 20: (80, 80)}, 1),
        made_run(tmp_path / "random-pixels-0", {10: (40, 40), 20: (50, 70)}, 0),
        made_run(tmp_path / "random-pixels-1", {10: (50, 50), 20: (70, 70)}, 1),
    ]


def updated(runs: list[Path], output: Path) -> dict[str, bytes]:
    update_leaderboard(runs, output, "last", "evaluation")
    return {path.suffix: path.read_bytes() for path in output.parent.glob(f"{output.stem}.*")}


def test_the_file(runs: list[Path], tmp_path: Path) -> None:
    found = json.loads(updated(runs, tmp_path / "board" / "b.json")[".json"])
    assert list(found["recipes"]) == ["pixelpick", "random-pixels"]
    own = found["recipes"]["pixelpick"]
    assert (own["seeds"], own["random"]) == ([0, 1], "random-pixels")
    assert own["rounds"][1] == {
        "seed": 0, "round": 1, "clicks": 20, "seconds": 40, "miou_val": None, "miou_test": 80
    }  # fmt: skip
    assert found["recipes"]["random-pixels"]["random"] is None


def test_the_pair(runs: list[Path], tmp_path: Path) -> None:
    """Half of what `test_two_seeds_on_two_images` of compare has, since round 0 is the same; the draws are 1000."""
    update_leaderboard(runs, tmp_path / "b.json", "last", "evaluation")
    [pair] = pairs_of(read_board(tmp_path / "b.json"))
    assert (pair.recipe, pair.random, pair.seeds) == ("pixelpick", "random-pixels", [0, 1])
    for cost, high in (("clicks", 20), ("seconds", 40)):
        found = pair.leads[cost]
        assert found is not None
        assert (found.low, found.high, found.areas) == (high / 2, high, (62.5, 55))
        assert (found.difference.mean, found.difference.pairs, found.difference.images) == (7.5, 2, 2)
        assert found.difference.interval == pytest.approx((7.5 - 34.6, 7.5 + 34.6), abs=2)
        assert verdict_of(found) == "undecided"
    text = (tmp_path / "b.md").read_text()
    assert "](b.png)" in text
    assert Image.open(tmp_path / "b.png").size[0] > 1000
    assert "| pixelpick | 2 | 1 | 20 | 40 | 80.0 ± 0.0 |  |" in text
    assert f"| clicks | 10 | 20 | 62.5 | 55.0 | {difference_text(pair.leads['clicks'])} | undecided |" in text


def test_added_one_by_one_it_is_the_same(runs: list[Path], tmp_path: Path) -> None:
    whole = updated(runs, tmp_path / "whole" / "b.json")
    for each in runs[::-1]:
        found = updated([each], tmp_path / "pieces" / "b.json")
    assert found == whole


def test_a_run_that_is_there_is_replaced(runs: list[Path], tmp_path: Path) -> None:
    update_leaderboard(runs, tmp_path / "b.json", "last", "evaluation")
    made_run(runs[0], {10: (40, 40), 20: (60, 60)}, 0)
    found = json.loads(updated(runs[:1], tmp_path / "b.json")[".json"])["recipes"]["pixelpick"]
    assert [(row["seed"], row["round"], row["miou_test"]) for row in found["rounds"]] == [
        (0, 0, 40), (0, 1, 60), (1, 0, 50), (1, 1, 80)
    ]  # fmt: skip


def test_seeds_that_have_not_come_as_far_wait(runs: list[Path], tmp_path: Path) -> None:
    made_run(tmp_path / "pixelpick-2", {10: (10, 10)}, 2)
    made_run(tmp_path / "random-pixels-2", {10: (10, 10)}, 2)
    update_leaderboard([*runs, tmp_path / "pixelpick-2", tmp_path / "random-pixels-2"], tmp_path / "b.json", "last",
                       "evaluation")  # fmt: skip
    [pair] = pairs_of(read_board(tmp_path / "b.json"))
    assert pair.seeds == [0, 1]


def test_a_recipe_without_its_partner(runs: list[Path], tmp_path: Path) -> None:
    update_leaderboard(runs[:1], tmp_path / "b.json", "last", "evaluation")
    assert "No recipe is here together with its random partner." in (tmp_path / "b.md").read_text()


def test_one_seed_decides_nothing(runs: list[Path], tmp_path: Path) -> None:
    update_leaderboard([runs[0], runs[2]], tmp_path / "b.json", "last", "evaluation")
    [pair] = pairs_of(read_board(tmp_path / "b.json"))
    assert {verdict_of(found) for found in pair.leads.values()} == {"undecided"}
    assert difference_text(pair.leads["clicks"]) == "+10.0"


class TestRefused:
    def test_other_images(self, runs: list[Path], tmp_path: Path) -> None:
        update_leaderboard(runs[:1], tmp_path / "b.json", "last", "evaluation")
        counts = replace(counted(1, 2), images=("a", "c"))
        write_evaluation(tmp_path / "other-0" / "round-0", 10, {"road": 0.015}, counts=counts)
        with pytest.raises(BadInput, match="other images than"):
            update_leaderboard([tmp_path / "other-0"], tmp_path / "b.json", "last", "evaluation")

    def test_another_split(self, runs: list[Path], tmp_path: Path) -> None:
        update_leaderboard(runs[:1], tmp_path / "b.json", "last", "evaluation")
        write_evaluation(tmp_path / "other-0" / "round-0", 10, {"road": 0.015}, "val", counts=counted(1, 2))
        with pytest.raises(BadInput, match="measured with another split"):
            update_leaderboard([tmp_path / "other-0"], tmp_path / "b.json", "last", "evaluation")

    def test_evaluations_without_counts(self, tmp_path: Path) -> None:
        write_evaluation(tmp_path / "old-0" / "round-0", 10, {"road": 0.5})
        with pytest.raises(BadInput, match="no pixel counts per image"):
            update_leaderboard([tmp_path / "old-0"], tmp_path / "b.json", "last", "evaluation")

    def test_another_kind_of_file(self, runs: list[Path], tmp_path: Path) -> None:
        with pytest.raises(BadInput, match=r"must end in \.json"):
            update_leaderboard(runs, tmp_path / "b.md", "last", "evaluation")

    @pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY"])
    def test_damaged_counts(self, runs: list[Path], tmp_path: Path, content: bytes) -> None:
        update_leaderboard(runs, tmp_path / "b.json", "last", "evaluation")
        (tmp_path / "b.npz").write_bytes(content)
        with pytest.raises(BadInput, match="is damaged"):
            read_board(tmp_path / "b.json")

    def test_counts_of_another_leaderboard(self, runs: list[Path], tmp_path: Path) -> None:
        update_leaderboard(runs, tmp_path / "b.json", "last", "evaluation")
        update_leaderboard(runs[:1], tmp_path / "c.json", "last", "evaluation")
        (tmp_path / "c.npz").replace(tmp_path / "b.npz")
        with pytest.raises(BadInput, match="does not belong to"):
            read_board(tmp_path / "b.json")

    def test_what_is_no_leaderboard(self, runs: list[Path], tmp_path: Path) -> None:
        (tmp_path / "b.json").write_text('{"recipes": {"pixelpick": 3}}')
        with pytest.raises(BadInput):
            update_leaderboard(runs, tmp_path / "b.json", "last", "evaluation")


shares = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=4, max_size=4)


def made_board(ours: list[tuple[int, int]], theirs: list[tuple[int, int]]) -> Board:
    """Two recipes, each the random partner of the other, with two seeds of two rounds."""
    recipes, counts = {}, {}
    for name, other, every in (("one", "two", ours), ("two", "one", theirs)):
        rows = []
        for (seed, number), own in zip(((0, 0), (0, 1), (1, 0), (1, 1)), every, strict=True):
            counts[name, seed, number] = counted(*own)
            clicks = 10.0 * (number + 1)
            rows.append(Round(seed=seed, round=number, clicks=clicks, seconds=clicks, miou_val=None,
                              miou_test=sum(own) / 2))  # fmt: skip
        recipes[name] = Results(seeds=[0, 1], random=other, rounds=rows)
    return Board(Written(measured=Measurement(dataset="", split="test", checkpoint="last"), recipes=recipes), counts)


OPPOSITE = {"better": "worse", "worse": "better", "undecided": "undecided"}


@settings(max_examples=50, deadline=None)
@given(shares)
def test_the_same_runs_are_undecided(every: list[tuple[int, int]]) -> None:
    for pair in pairs_of(made_board(every, every)):
        for found in pair.leads.values():
            assert found is not None
            assert (found.difference.mean, verdict_of(found)) == (0, "undecided")


@settings(max_examples=50, deadline=None)
@given(shares, shares)
def test_swapped_recipes_have_swapped_verdicts(ours: list, theirs: list) -> None:
    one, two = pairs_of(made_board(ours, theirs))
    for cost, found in one.leads.items():
        other = two.leads[cost]
        assert found is not None
        assert other is not None
        assert found.difference.mean == -other.difference.mean
        assert verdict_of(found) == OPPOSITE[verdict_of(other)]


def test_a_sure_lead_is_better() -> None:
    ours, theirs = [(50, 50), (80, 80), (50, 50), (80, 80)], [(50, 50), (60, 60), (50, 50), (60, 60)]
    verdicts = [verdict_of(pair.leads["clicks"]) for pair in pairs_of(made_board(ours, theirs))]
    assert verdicts == ["better", "worse"]


def test_partners_of_shipped_recipes() -> None:
    names = ("pixelpick", "random-pixels", "full", "adaptive-superpixel", "rectangles", "nothing-known")
    assert [random_partner(name) for name in names] == [
        "random-pixels", None, None, "classbal-random", "rectangles-random", None
    ]  # fmt: skip


@pytest.mark.slow
def test_the_command(runs: list[Path], tmp_path: Path) -> None:
    done = run("compare", *runs, "--leaderboard", "b.json", cwd=tmp_path)
    done.expect(0, "pixelpick against random-pixels, 2 seeds: undecided at equal clicks (+7.5 [")
    assert "wrote b.json: 2 recipes, 4 runs" in done.out + done.err
    run("compare", *runs, "--leaderboard", "b.json", "--json", cwd=tmp_path).expect(2, err="mutually exclusive")
