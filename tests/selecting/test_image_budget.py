"""Budgets of whole images: the specification's table and rounds, the guards, and invariants of a whole selection."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.selecting.image_budget import ImageBudget, image_budget, next_count

TABLE = [  # N, r, alpha, beta; B, n0, q, T, T * q, image-level labels of the public code
    (1679, 0.02, 0.1, 0.5, 34, 3, 2, 17, 34, 37),
    (1679, 0.02, 0.1, 0.9, 34, 3, 3, 12, 36, 39),
    (1679, 0.05, 0.1, 0.5, 84, 8, 4, 21, 84, 92),
    (1679, 0.05, 0.5, 0.9, 84, 42, 38, 3, 114, 156),
    (1679, 0.125, 0.1, 0.5, 210, 21, 11, 20, 220, 241),
    (642, 0.02, 0.1, 0.9, 13, 1, 1, 13, 13, 14),
    (642, 0.05, 0.1, 0.5, 33, 3, 2, 17, 34, 37),
    (642, 0.125, 0.1, 0.5, 81, 8, 4, 21, 84, 92),
]

shares = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)


def sizes_of(budget: ImageBudget, pool: int, seed_in_selection: bool = False) -> list[int]:
    """How many images each round takes, until one takes none."""
    sizes = [next_count(budget, 0, 0, pool)]
    selected = sizes[0] if seed_in_selection else 0
    while count := next_count(budget, len(sizes), selected, pool - sum(sizes)):
        sizes.append(count)
        selected += count
    return sizes


@pytest.mark.parametrize("row", TABLE)
def test_the_table_of_check_5(row):
    images, ratio, alpha, beta, *expected, asked_by_reference, labels_of_reference = row
    found = image_budget(images, ratio, alpha, beta)
    assert [found.budget, found.seed, found.query, found.rounds] == expected
    assert found.rounds * found.query == asked_by_reference
    assert found.seed + found.rounds * found.query == labels_of_reference
    sizes = sizes_of(found, images)  # unlike the public code, the last round stops at B
    assert len(sizes) == 1 + found.rounds
    assert sum(sizes[1:]) == found.budget


def test_guards_of_check_5():
    assert image_budget(100, 0.07, 0.1, 0.5).budget == 7
    assert 0.07 * 100 > 7
    assert image_budget(1680, 0.05, 0.1, 0.5).budget == 84
    assert 0.29 * 100 < 29
    assert image_budget(1000, 0.1, 0.29, 0.5).seed == 29
    assert image_budget(1000, 0.2, 0.5, 0.07).query == 7
    assert image_budget(20, 0.02, 0.1, 0.5) == ImageBudget(budget=1, seed=1, query=1, rounds=1)
    assert image_budget(20, 0.5, 0, 0) == ImageBudget(budget=10, seed=1, query=1, rounds=10)


def test_rounds_of_check_6():
    assert sizes_of(image_budget(642, 0.05, 0.1, 0.5), 642) == [3, *[2] * 16, 1]


def test_a_seed_set_that_counts_leaves_less_to_query():
    budget = image_budget(642, 0.05, 0.1, 0.5, seed_in_selection=True)
    assert budget == ImageBudget(33, 3, 2, 15)
    assert sizes_of(budget, 642, True) == [3, *[2] * 15]
    whole = image_budget(10, 1, 1, 1, seed_in_selection=True)
    assert whole == ImageBudget(10, 10, 10, 0)
    assert sizes_of(whole, 10, True) == [10]


@given(images=st.integers(1, 3000), ratio=st.integers(1, 1000), alpha=shares, beta=shares, counts=st.booleans())
@settings(max_examples=300, deadline=None)
def test_agrees_with_exact_arithmetic_and_takes_the_budget(images, ratio, alpha, beta, counts):
    exact = max(1, -(-images * ratio // 1000))
    seed = max(1, int(Fraction(str(alpha)) * exact))
    if exact + (0 if counts else seed) > images:
        with pytest.raises(ValueError, match="exceed the"):
            image_budget(images, ratio / 1000, alpha, beta, counts)
        return
    found = image_budget(images, ratio / 1000, alpha, beta, counts)
    query = max(1, -int(-Fraction(str(beta)) * seed // 1))
    assert (found.budget, found.seed, found.query) == (exact, seed, query)
    assert 1 <= found.query <= found.seed <= found.budget <= images
    sizes = sizes_of(found, images, counts)
    assert sum(sizes[0 if counts else 1 :]) == found.budget
    assert len(sizes) == 1 + found.rounds
    assert set(sizes[1:-1]) <= {found.query}


def test_a_pool_that_runs_out_ends_the_selection():
    budget = image_budget(100, 0.1, 0.5, 0.6)
    assert budget == ImageBudget(10, 5, 3, 4)
    assert sizes_of(budget, 12) == [5, 3, 3, 1]
    assert sizes_of(budget, 5) == [5]
    assert next_count(budget, 5, 10, 50) == 0
    assert next_count(budget, 5, 11, 50) == 0


@pytest.mark.parametrize(
    "arguments, fault",
    [
        ((0, 0.1, 0.1, 0.5), "at least 1 image"),
        ((10, 0, 0.1, 0.5), "the ratio"),
        ((10, 1.01, 0.1, 0.5), "the ratio"),
        ((10, float("nan"), 0.1, 0.5), "the ratio"),
        ((10, 0.1, -0.1, 0.5), "seed_share"),
        ((10, 0.1, 0.1, 1.1), "query_share"),
        ((10, 0.1, 0.1, float("nan")), "query_share"),
        ((10, 1, 0.1, 0.5), "10 images plus a seed set of 1"),
        ((1, 0.1, 0.1, 0.5), "1 images plus a seed set of 1"),
    ],
)
def test_faults(arguments, fault):
    with pytest.raises(ValueError, match=fault):
        image_budget(*arguments)


@pytest.mark.parametrize("arguments", [(-1, 0, 9), (1, -1, 9), (1, 0, -1), (0, 0, 4)])
def test_faults_of_a_round(arguments):
    with pytest.raises(ValueError, match=r"negative|only 4"):
        next_count(ImageBudget(10, 5, 3, 4), *arguments)
