"""Votes of neighbours by hand, and that neither order nor chunks matter."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.pseudo_labelling import neighbours
from stages.pseudo_labelling.neighbours import decide, lowest, vote
from stages.pseudo_labelling.references import References, centres, pool_references


def unit(*rows):
    return torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float32), dim=1)


REFERENCES = unit((1, 0), (0.6, 0.8), (0, 1))  # cosines 1, 0.6 and 0 with (1, 0)
CLASSES = torch.tensor([0, 1, 1])


@pytest.mark.parametrize(
    ("number", "first"),
    [
        (1, 1.0),
        (2, 1 / (1 + math.exp(-1))),
        (3, 1 / (1 + math.exp(-1) + math.exp(-2.5))),
        (9, 1 / (1 + math.exp(-1) + math.exp(-2.5))),  # there are only three
    ],
)
def test_votes_by_hand(number, first):
    (shares,) = vote(unit((1, 0)), REFERENCES, CLASSES, 3, number, 0.4).tolist()
    assert shares == pytest.approx([first, 1 - first, 0], abs=1e-6)


def test_those_as_similar_as_the_last_vote_too():
    twins = unit((1, 0), (1, 0), (0, 1))
    (shares,) = vote(unit((1, 0)), twins, torch.tensor([2, 0, 1]), 3, 1, 0.1).tolist()
    assert shares == pytest.approx([0.5, 0, 0.5])


def test_decisions_by_hand():
    shares = torch.tensor([[[0.5, 0.6, 0.4]], [[0.5, 0.3, 0.45]], [[0, 0.1, 0.15]]])
    assert decide(shares, 0).tolist() == [[0, 0, 1]]  # of equals the smallest class
    assert decide(shares, 0.2).tolist() == [[255, 0, 255]]
    assert decide(shares, 0.3).tolist() == [[255, 0, 255]]  # 0.3 apart is enough
    assert decide(shares, 0.31).tolist() == [[255, 255, 255]]


def test_the_lowest_keys_of_each_class():
    assert lowest(np.array([0.3, 0.1, 0.2, 0.9, 0.3]), np.array([0, 0, 1, 1, 0]), 2).tolist() == [0, 1, 2, 3]
    assert lowest(np.array([0.5, 0.4, 0.2]), np.array([7, 7, 7]), 1).tolist() == [2]


def test_centres():
    y, x = centres(np.array([0, 5]), (2, 4))
    assert y.tolist() == [0.25, 0.75]
    assert x.tolist() == [0.125, 0.375]


cases = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 14), st.integers(0, 2**32 - 1))


@settings(max_examples=40, deadline=None)
@given(cases)
def test_the_order_of_references_and_chunks_are_without_effect(case):
    pixels, known, number, seed = case
    generator = torch.Generator().manual_seed(seed)
    features, references = (
        torch.nn.functional.normalize(torch.randn(count, 3, generator=generator).round(), dim=1)  # with ties
        for count in (pixels, known)
    )
    classes = torch.randint(0, 4, (known,), generator=generator)
    expected = vote(features, references, classes, 4, number, 0.1)
    assert expected.sum(1).allclose(torch.ones(pixels))
    order = torch.randperm(known, generator=generator)
    before, neighbours.CHUNK = neighbours.CHUNK, known
    try:
        found = vote(features, references[order], classes[order], 4, number, 0.1)
    finally:
        neighbours.CHUNK = before
    assert found.allclose(expected, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(0, 2**32 - 1))
def test_the_nearest_of_a_reference_is_itself(known, seed):
    generator = torch.Generator().manual_seed(seed)
    references = torch.nn.functional.normalize(torch.randn(known, 8, generator=generator), dim=1)
    classes = torch.randint(0, 5, (known,), generator=generator)
    shares = vote(references, references, classes, 5, 1, 0.07)
    assert shares.argmax(1).tolist() == classes.tolist()
    assert decide(shares.T[:, None], 0.9)[0].tolist() == classes.tolist()


def part(place, pixels, generator):
    label = generator.integers(0, 3, pixels).astype(np.uint8)
    return References(np.full(pixels, place), np.arange(pixels), label, generator.random(pixels))


def rows(found):
    return set(zip(found.image.tolist(), found.pixel.tolist(), found.label.tolist(), strict=True))


def test_the_cap_draws_the_same_whatever_the_order_of_the_images():
    parts = [part(place, 200, np.random.default_rng(place)) for place in range(40)]
    found, reversed_order = pool_references(parts, 7), pool_references(reversed(parts), 7)
    assert np.bincount(found.label).tolist() == [7, 7, 7]
    assert rows(found) == rows(reversed_order)
    assert (np.diff(found.image) >= 0).all(), "sorted by image"
    every = pool_references(parts, 10**6)
    assert len(every) == 40 * 200
    lowest_keys = sorted(every.key[every.label == 1])[:7]
    assert sorted(found.key[found.label == 1]) == lowest_keys


def test_memory_does_not_grow_with_the_pool():
    def peak(images):
        tracemalloc.start()
        pool_references((part(place, 500, np.random.default_rng(place)) for place in range(images)), 10)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(20)
    assert peak(400) < 1.5 * peak(40)
