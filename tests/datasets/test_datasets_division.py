"""One set of files divided into splits: how many go where, which, and what is recorded."""

from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.artifacts.dataset import Dataset
from stages.commands import prepare
from stages.datasets.description import load_description
from stages.datasets.division import allot, divide
from stages.runtime.errors import BadInput
from stages.settings.prepare import PrepareSettings

PAPER = {"train": 0.72, "val": 0.08, "test": 0.2}


@st.composite
def shares(draw: st.DrawFn) -> dict[str, float]:
    """One to six shares in whole percent."""
    cuts = sorted(draw(st.sets(st.integers(1, 99), max_size=5)))
    return {f"s{b}": (b - a) / 100 for a, b in zip([0, *cuts], [*cuts, 100], strict=True)}


@given(st.lists(st.integers(1, 60), min_size=1, max_size=25), shares())
def test_every_image_once_and_shares_within_one(sizes: list[int], given: dict[str, float]) -> None:
    table = allot(sizes, list(given.values()))
    assert [sum(row) for row in table] == sizes
    assert min(min(row) for row in table) >= 0
    for column, share in zip(zip(*table, strict=True), given.values(), strict=True):
        exact = Fraction(str(share))
        assert abs(sum(column) - sum(sizes) * exact) < 1
        assert all(abs(count - size * exact) < 2 for count, size in zip(column, sizes, strict=True))


@given(st.dictionaries(st.text(max_size=4), st.integers(-1, 3), min_size=1, max_size=40), shares(), st.randoms())
def test_a_division_does_not_depend_on_the_order(
    labels: dict[str, int], given: dict[str, float], random: object
) -> None:
    found = divide(labels, given, 5)
    assert found.keys() == labels.keys()
    assert set(found.values()) <= given.keys()
    shuffled = list(labels.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert divide(dict(shuffled), given, 5) == found


def test_the_numbers_of_the_paper() -> None:
    """2100 images of 21 scenes: 1680 of training, a tenth of them for validation, and every scene alike."""
    assert allot([100] * 21, list(PAPER.values())) == [[72, 8, 20]] * 21
    assert np.sum(allot([803], list(PAPER.values())), 0).tolist() == [578, 64, 161]  # 578.16, 64.24, 160.6


def test_small_strata_do_not_all_round_the_same_way() -> None:
    assert np.sum(allot([1] * 100, list(PAPER.values())), 0).tolist() == [72, 8, 20]
    assert np.sum(allot([3] * 100, [0.7, 0.1, 0.2]), 0).tolist() == [210, 30, 60]
    assert allot([3, 0], [1 / 3, 1 / 3, 1 / 3]) == [[1, 1, 1], [0, 0, 0]]


def test_a_class_keeps_its_images_when_another_grows() -> None:
    labels = {f"{letter}{n}": place for place, letter in enumerate("ab") for n in range(50)}
    before, after = divide(labels, PAPER, 0), divide(labels | {f"b{n}": 1 for n in range(50, 100)}, PAPER, 0)
    assert all(after[id] == split for id, split in before.items() if labels[id] == 0)


def test_seeds_divide_differently_and_at_random() -> None:
    labels = {str(n): n % 3 for n in range(300)}
    first, second = (divide(labels, {"train": 0.8, "test": 0.2}, seed) for seed in (0, 1))
    both = sum(first[id] == second[id] == "test" for id in labels)
    assert 4 <= both <= 22  # 60 of 300 twice: 12 on average, deviation 2.8
    for found in (first, second):
        assert Counter(labels[id] for id, split in found.items() if split == "test") == {0: 20, 1: 20, 2: 20}


HEAD = """
name = "own"
classes = [{ name = "a", color = [0, 0, 9] }, { name = "b", color = [9, 0, 0] }]
splits.all = { images = "{kind}{id}.png" }
splits.extra = { images = "extra/{id}.png" }
"""


def describe(folder: Path, text: str, head: str = HEAD) -> str:
    path = folder / "own.toml"
    path.write_text(head + text)
    return str(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten dark and ten bright images, and one in a split of its own."""
    root = tmp_path / "files"
    (root / "extra").mkdir(parents=True)
    for n in range(10):
        for kind, level in (("xdark", 20), ("xlight", 220)):
            Image.fromarray(np.full((8, 9, 3), level + n, np.uint8)).save(root / f"{kind}{n}.png")
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(root / "extra/dark10.png")
    return root


LABELLED = """
[division]
split = "all"
shares = { train = 0.7, val = 0.1, test = 0.2 }
[image_labels]
source = "name"
classes = ["dark", "light"]
"""
PLAIN = HEAD.replace('"{kind}{id}.png"', '"x{id}.png"')


def test_a_prepared_dataset_has_the_divided_splits(root: Path, tmp_path: Path) -> None:
    own = describe(tmp_path, LABELLED, PLAIN)
    assert load_description(own).split_names == ["train", "val", "test", "extra"]
    with Dataset(prepare.run(own, root, tmp_path / "d.h5", PrepareSettings(workers=1))) as data:
        assert data.header.counts == {"train": 14, "val": 2, "test": 4, "extra": 1}
        places = [["train", "val", "test", "extra"].index(data.splits[id]) for id in data.all_ids]
        assert list(zip(places, data.all_ids, strict=True)) == sorted(zip(places, data.all_ids, strict=True))
        for split, each in (("train", 7), ("val", 1), ("test", 2)):
            assert Counter(data.labels[id] for id in data.ids(split)) == {0: each, 1: each}
        train = np.stack([data.image(id) for id in data.ids("train")]) / 255
        assert np.allclose(data.attributes["mean"], train.mean((0, 1, 2)))
        assert np.allclose(data.attributes["std"], train.std((0, 1, 2)))
        first = dict(data.splits)
    with Dataset(prepare.run(own, root, tmp_path / "other.h5", PrepareSettings(seed=1))) as data:
        assert data.splits != first
        assert data.header.counts == {"train": 14, "val": 2, "test": 4, "extra": 1}


def test_images_without_labels_are_divided_too(root: Path, tmp_path: Path) -> None:
    own = describe(tmp_path, LABELLED.partition("[image_labels]")[0], PLAIN)
    with Dataset(prepare.run(own, root, tmp_path / "d.h5", PrepareSettings(workers=1))) as data:
        assert data.header.counts == {"train": 14, "val": 2, "test": 4, "extra": 1}


def test_a_split_may_be_divided_into_itself_and_another(root: Path, tmp_path: Path) -> None:
    own = describe(tmp_path, '[division]\nsplit = "all"\nshares = { all = 0.9, val = 0.1 }', PLAIN)
    with Dataset(prepare.run(own, root, tmp_path / "d.h5", PrepareSettings(workers=1))) as data:
        assert data.header.counts == {"all": 18, "val": 2, "extra": 1}


@pytest.mark.parametrize(
    "text, said",
    [
        ('split = "all"\nshares = { train = 0.7, test = 0.2 }', "division: the shares sum to 0.9. Make them sum to 1."),
        (
            'split = "al"\nshares = { train = 1 }',
            "division.split: unknown split 'al'. Use one of all, ex",
        ),
        ('split = "all"\nshares = { a = 0.5, extra = 0.5 }', "division.shares: extra is the name of another split"),
        ('split = "all"\nshares = { a = 1.0, b = 0.0 }', "division.shares.b = 0.0: input should be greater than 0"),
        ('split = "all"\nshares = {}', "division.shares is empty. List at least one item."),
        ('split = "all"\nshares = { a = "1" }', "division.shares.a"),
        ("shares = { a = 1 }", "division.split is missing. Add it."),
        ("split = 3\nshares = 4", "division.split = 3"),
    ],
)
def test_faulty_divisions(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_description(describe(tmp_path, f"[division]\n{text}"))
    assert said in str(caught.value)


def test_thirds_may_be_rounded(tmp_path: Path) -> None:
    own = describe(tmp_path, '[division]\nsplit = "all"\nshares = { a = 0.333333, b = 0.333333, c = 0.333333 }')
    assert load_description(own).division is not None
