"""Neighbour lists, boxes and merging against hand-computed cases and slow, obvious implementations."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.regions.graph import adjacency, contract, contract_table, region_table
from stages.regions.merging import jensen_shannon_distance, merge, normalised, visiting_order


def two_classes(*first):
    """(K,2) shares from the probability of the first class."""
    return np.array([[p, 1 - p] for p in first])


def merged_map(rows, probabilities, epsilon=0.1, rank=None, **limits):
    """The map of root ids, in the ids of ``rows`` (which may have gaps), for regions in ascending order of id."""
    names, labels = np.unique(np.array(rows), return_inverse=True)
    labels = labels.reshape(np.shape(rows)).astype(np.int32)
    offsets, neighbours = adjacency(labels, len(names))
    rank = np.arange(len(names)) if rank is None else rank
    sizes = region_table(labels, len(names))["size"]
    return names[merge(probabilities, offsets, neighbours, epsilon, rank, sizes, **limits)[labels]].tolist()


# Slow, obvious implementations.


def apart(p, q):
    """The distance of (...,C) shares of any positive sum."""
    return jensen_shannon_distance(normalised(p), normalised(q))


def slow_distance(p, q):
    p, q = [value / math.fsum(p) for value in p], [value / math.fsum(q) for value in q]
    terms = [a * math.log(2 * a / (a + b)) for x, y in ((p, q), (q, p)) for a, b in zip(x, y, strict=True) if a > 0]
    return math.sqrt(max(math.fsum(terms) / 2, 0))


def slow_edges(labels):
    """{id: set of ids} by looking at every pixel."""
    edges = {int(i): set() for i in np.unique(labels) if i >= 0}
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            for yy, xx in ((y + 1, x), (y, x + 1)):
                if yy < height and xx < width:
                    i, j = int(labels[y, x]), int(labels[yy, xx])
                    if i != j and i >= 0 and j >= 0:
                        edges[i].add(j)
                        edges[j].add(i)
    return edges


def slow_merge(probabilities, edges, epsilon, uncertainty, max_fraction=math.inf):
    """Depth-first, as the published program does it: {id: root}."""
    root_of, roots = {}, 0
    for r in sorted(edges, key=lambda i: (-uncertainty[i], i)):
        if r in root_of:
            continue
        may_grow = (roots + sum(v != root for v, root in root_of.items())) / len(edges) < max_fraction
        root_of[r] = r
        roots += 1
        stack = [r] if may_grow else []
        while stack:
            for v in edges[stack.pop()]:
                if v not in root_of and slow_distance(probabilities[r], probabilities[v]) < epsilon:
                    root_of[v] = r
                    stack.append(v)
    return root_of


def slow_capped(probabilities, edges, epsilon, uncertainty, sizes, cap):
    """Ring by ring with a cap on the pixels: {id: root}."""
    root_of = {}
    for r in sorted(edges, key=lambda i: (-uncertainty[i], i)):
        if r in root_of:
            continue
        root_of[r] = r
        inside, ring, pixels = {r}, {r}, sizes[r]
        while ring:
            around = {v for u in ring for v in edges[u] if v not in root_of}
            ring = set()
            for v in sorted(v for v in around if slow_distance(probabilities[r], probabilities[v]) < epsilon):
                if pixels + sizes[v] > cap:
                    ring = set()
                    break
                pixels += sizes[v]
                root_of[v] = r
                ring.add(v)
            inside |= ring
    return root_of


def as_sets(offsets, neighbours):
    """{id: set of ids} of a CSR graph, after checking its form."""
    assert offsets.dtype == np.int64
    assert neighbours.dtype == np.int32
    lists = [neighbours[a:b].tolist() for a, b in pairwise(offsets.tolist())]
    assert offsets[-1] == len(neighbours)
    assert all(found == sorted(set(found)) for found in lists)
    return {i: set(found) for i, found in enumerate(lists)}


@st.composite
def maps(draw, void=True):
    """(H,W) int32 ids 0..K-1 without gaps, K, in places -1; ids of one pixel and of several parts are common."""
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    ids = st.integers(-1 if void else 0, draw(st.integers(0, 14)))
    raw = np.array(draw(st.lists(ids, min_size=height * width, max_size=height * width)))
    real = raw >= 0
    labels = np.full(height * width, -1, dtype=np.int32)
    names, labels[real] = np.unique(raw[real], return_inverse=True)
    return labels.reshape(height, width), len(names)


@st.composite
def cases(draw):
    """A map, its graph, shares (duplicates are common), an uncertainty (ties are common) and an epsilon."""
    labels, count = draw(maps())
    classes = draw(st.integers(2, 4))
    share = st.lists(st.integers(0, 6), min_size=classes, max_size=classes).filter(any)
    counts = draw(st.lists(share, min_size=count, max_size=count))
    probabilities = np.array(counts, dtype=np.float64).reshape(count, classes)
    probabilities /= probabilities.sum(1, keepdims=True)
    uncertainty = np.array(draw(st.lists(st.integers(0, 5), min_size=count, max_size=count)), dtype=np.float64) / 5
    epsilon = draw(st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.4, 0.9]))
    return labels, count, probabilities, uncertainty, epsilon


def parts_within(edges, members):
    """Number of connected components of the graph restricted to ``members``."""
    left, parts = set(members), 0
    while left:
        parts += 1
        stack = [left.pop()]
        while stack:
            found = edges[stack.pop()] & left
            left -= found
            stack.extend(found)
    return parts


# The distance.


@pytest.mark.parametrize(
    "p, q, expected",
    [
        ([1, 0], [0, 1], 0.832555),
        ([1, 0], [0.5, 0.5], 0.464501),
        ([0.5, 0.5], [0.6, 0.4], 0.071129),
        ([0.7, 0.2, 0.1], [0.6, 0.3, 0.1], 0.083420),
        ([0.9, 0.1], [0.8, 0.2], 0.099832),
        ([0.8, 0.1, 0.1], [0.7, 0.2, 0.1], 0.100811),
        ([18, 2], [4, 1], 0.099832),
    ],
)
def test_distance_of_known_pairs(p, q, expected):
    assert float(apart(np.array(p), np.array(q))) == pytest.approx(expected, abs=1e-6)
    assert apart(np.array(p), np.array(q)) == apart(np.array(q), np.array(p))


def test_distance_to_itself_is_zero():
    for p in ([0.3, 0.7], [1.0, 0.0], [5e-324, 1.0], [1 / 3] * 3):
        assert apart(np.array(p), np.array(p)) == 0


def test_tiny_shares_stay_finite():
    d = apart(np.array([5e-324, 1.0]), np.array([0.0, 1.0]))
    assert 0 <= d < 1e-6


def test_near_identical_vectors_are_close_and_never_nan():
    generator = np.random.default_rng(3)
    p = generator.dirichlet(np.full(19, 0.3), 20000).astype(np.float32)
    q = (p * (1 + 1e-5 * generator.standard_normal(p.shape))).astype(np.float32)
    d = apart(p, q)
    assert d.dtype == np.float64
    assert (d >= 0).all()
    assert (d < 1e-3).all()
    assert merged_map([[0, 1]], np.stack([p[0], q[0]])) == [[0, 0]]


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_distance_is_symmetric_to_the_bit_in_any_layout_and_shape(seed, classes):
    generator = np.random.default_rng(seed)
    p, q = generator.dirichlet(np.full(classes, 0.2), (2, 7)) + 1e-300
    expected = [slow_distance(a, b) for a, b in zip(p.tolist(), q.tolist(), strict=True)]
    d = apart(p, q)
    np.testing.assert_allclose(d, expected, rtol=0, atol=1e-7)
    assert d.max() <= math.sqrt(math.log(2)) + 1e-12
    assert np.array_equal(d, apart(q, p))
    assert np.array_equal(d, apart(np.asfortranarray(p), np.asfortranarray(q)))
    one_by_one = apart(p[:, None], q[None])
    assert one_by_one.shape == (7, 7)
    assert np.array_equal(d, np.diag(one_by_one))


# The order.


def test_visiting_order():
    uncertainty = np.array([0.2, 0.9, 0.2, 0.5])
    assert visiting_order(uncertainty, "uncertainty").tolist() == [2, 0, 3, 1]
    assert visiting_order(uncertainty, "reverse").tolist() == [0, 3, 1, 2]
    drawn = visiting_order(uncertainty, "random", np.random.default_rng(0))
    assert drawn.dtype == np.int64
    assert sorted(drawn.tolist()) == [0, 1, 2, 3]
    assert drawn.tolist() == visiting_order(uncertainty, "random", np.random.default_rng(0)).tolist()
    for order in ("random", "up"):
        with pytest.raises(ValueError, match=order):
            visiting_order(uncertainty, order)


# Merging, by hand.


@pytest.mark.parametrize("probabilities, merges", [([[0.9, 0.1], [0.8, 0.2]], True), ([[8, 1, 1], [7, 2, 1]], False)])
def test_threshold_is_on_the_distance_with_natural_log(probabilities, merges):
    assert merged_map([[0, 1]], np.array(probabilities)) == ([[0, 0]] if merges else [[0, 1]])


def test_small_steps_do_not_chain():
    assert merged_map([[0, 1, 2, 3]], two_classes(0.60, 0.66, 0.72, 0.78)) == [[0, 0, 0, 3]]


def test_what_is_taken_stays_taken():
    assert merged_map([[0, 1, 2, 3, 4]], two_classes(0.50, 0.60, 0.66, 0.72, 0.10)) == [[0, 0, 2, 2, 4]]


def test_diagonal_is_reached_only_through_a_member():
    blocks = np.kron([[0, 1], [2, 3]], np.ones((2, 2), dtype=int))
    expected = np.kron([[0, 0], [2, 0]], np.ones((2, 2), dtype=int))
    assert merged_map(blocks, two_classes(0.50, 0.60, 0.90, 0.55)) == expected.tolist()


def test_alike_but_apart_stays_apart_with_gaps_in_the_ids():
    assert merged_map([[5, 7, 9]], two_classes(0.90, 0.50, 0.84)) == [[5, 7, 9]]
    assert merged_map([[5, 9, 7]], two_classes(0.90, 0.50, 0.84)) == [[5, 5, 7]]


def test_order_of_the_roots_decides():
    probabilities = two_classes(0.60, 0.66, 0.72, 0.78)
    assert merged_map([[0, 1, 2, 3]], probabilities, rank=np.array([3, 2, 1, 0])) == [[0, 3, 3, 3]]
    assert merged_map([[0, 1, 2, 3]], probabilities, rank=np.array([1, 0, 2, 3])) == [[1, 1, 1, 1]]


def test_epsilon_zero_keeps_and_the_largest_joins_all_that_touch():
    rows = [[0, 1, -1, 2], [0, 3, -1, 2]]
    labels = np.array(rows, dtype=np.int32)
    offsets, neighbours = adjacency(labels, 4)
    probabilities = two_classes(1.0, 0.0, 0.5, 0.5)
    rank = np.array([2, 1, 3, 0])
    assert merge(probabilities, offsets, neighbours, 0.0, rank).tolist() == [0, 1, 2, 3]
    assert merge(probabilities, offsets, neighbours, 0.9, rank).tolist() == [3, 3, 2, 3]
    assert merge(two_classes(*[0.5] * 4), offsets, neighbours, 0.0, rank).tolist() == [0, 1, 2, 3]


def test_a_distance_of_exactly_epsilon_does_not_merge_in_any_ring():
    p = two_classes(0.50, 0.55, 0.60)
    for rows, shares, epsilon in (
        ([[0, 1]], p[[0, 2]], apart(p[0], p[2])),
        ([[0, 1, 2]], p, apart(p[0], p[2])),
    ):
        last = rows[0][-1]
        assert merged_map(rows, shares, epsilon)[0][-1] == last
        assert merged_map(rows, shares, np.nextafter(epsilon, 1))[0][-1] == 0


def test_no_regions_at_all():
    offsets, neighbours = adjacency(np.full((2, 3), -1, dtype=np.int32), 0)
    assert (offsets.tolist(), neighbours.tolist()) == ([0], [])
    roots = merge(np.zeros((0, 3)), offsets, neighbours, 0.1, np.zeros(0, dtype=np.int64))
    assert (roots.dtype, len(roots)) == (np.int32, 0)


def test_cap_takes_whole_rings_in_ascending_id_and_stops_at_the_first_that_does_not_fit():
    rows = [[3, 3, 0, 1, 1, 1, 2]]  # around root 0: first ring 1 (3 pixels) and 3 (2 pixels), second ring 2
    alike = two_classes(*[0.5] * 4)
    assert merged_map(rows, alike, max_pixels=7) == [[0, 0, 0, 0, 0, 0, 0]]
    assert merged_map(rows, alike, max_pixels=6) == [[0, 0, 0, 0, 0, 0, 2]]
    assert merged_map(rows, alike, max_pixels=5) == [[3, 3, 0, 0, 0, 0, 2]]
    assert merged_map(rows, alike, max_pixels=4) == [[3, 3, 0, 0, 0, 0, 2]]
    assert merged_map(rows, alike, max_pixels=3) == [[3, 3, 0, 1, 1, 1, 2]]  # 3 would fit, but comes after 1
    assert merged_map(rows, alike, max_pixels=1) == [[3, 3, 0, 1, 1, 1, 2]]
    with pytest.raises(ValueError, match="sizes"):
        merge(alike, *adjacency(np.array(rows, dtype=np.int32), 4), 0.1, np.arange(4), max_pixels=3)


def test_fraction_stops_growth():
    rows, pairs = [[0, 1, 2, 3, 4, 5]], two_classes(0.1, 0.1, 0.5, 0.5, 0.9, 0.9)
    assert merged_map(rows, pairs, max_fraction=1 / 6) == [[0, 0, 2, 3, 4, 5]]
    assert merged_map(rows, pairs, max_fraction=2 / 6) == [[0, 0, 2, 3, 4, 5]]
    assert merged_map(rows, pairs, max_fraction=0.4) == [[0, 0, 2, 2, 4, 5]]
    assert merged_map(rows, pairs, max_fraction=1.0) == [[0, 0, 2, 2, 4, 4]]
    ahead = np.array([0, 5, 1, 4, 2, 3])  # what was taken counts although its own turn lies ahead
    assert merged_map(rows, pairs, rank=ahead, max_fraction=2 / 6) == [[0, 0, 2, 3, 4, 5]]


# Merging, against the definition.


@settings(max_examples=400, deadline=None)
@given(cases(), st.sampled_from([None, 0.1, 0.3, 0.5, 0.75, 1.0]))
def test_merge_equals_the_slow_one(case, fraction):
    labels, count, probabilities, uncertainty, epsilon = case
    edges = slow_edges(labels)
    offsets, neighbours = adjacency(labels, count)
    rank = visiting_order(uncertainty, "uncertainty")
    roots = merge(probabilities, offsets, neighbours, epsilon, rank, max_fraction=fraction)
    expected = slow_merge(probabilities.tolist(), edges, epsilon, uncertainty, fraction or math.inf)
    assert roots.dtype == np.int32
    assert dict(enumerate(roots.tolist())) == expected
    for root in set(roots.tolist()):
        members = np.flatnonzero(roots == root)
        assert parts_within(edges, members.tolist()) == 1
        assert members[rank[members].argmin()] == root
    if epsilon == 0:
        assert roots.tolist() == list(range(count))
    if epsilon == 0.9 and fraction is None:
        assert len(set(roots.tolist())) == parts_within(edges, edges)


@settings(max_examples=200, deadline=None)
@given(cases(), st.integers(1, 12))
def test_capped_merge_equals_the_slow_one(case, cap):
    labels, count, probabilities, uncertainty, epsilon = case
    edges = slow_edges(labels)
    sizes = region_table(labels, count)["size"]
    rank = visiting_order(uncertainty, "uncertainty")
    roots = merge(probabilities, *adjacency(labels, count), epsilon, rank, sizes, max_pixels=cap)
    expected = slow_capped(probabilities.tolist(), edges, epsilon, uncertainty, sizes.tolist(), cap)
    assert dict(enumerate(roots.tolist())) == expected
    for root, members in ((r, np.flatnonzero(roots == r)) for r in set(roots.tolist())):
        assert sizes[members].sum() <= cap or members.tolist() == [root]
        assert parts_within(edges, members.tolist()) == 1


@settings(max_examples=100, deadline=None)
@given(cases(), st.randoms(use_true_random=False))
def test_permuted_ids_permute_the_roots(case, random):
    labels, count, probabilities, _, epsilon = case
    new_id, rank = np.array(random.sample(range(count), count), dtype=np.int32), random.sample(range(count), count)
    rank = np.array(rank, dtype=np.int64)
    roots = merge(probabilities, *adjacency(labels, count), epsilon, rank)
    moved = np.where(labels >= 0, np.append(new_id, -1)[labels], -1).astype(np.int32)
    old_id = np.argsort(new_id)
    again = merge(probabilities[old_id], *adjacency(moved, count), epsilon, rank[old_id])
    assert np.array_equal(again[new_id], new_id[roots])


def test_larger_map_equals_the_slow_one():
    generator = np.random.default_rng(7)
    labels = np.kron(np.arange(24 * 32).reshape(24, 32), np.ones((3, 3), dtype=np.int32)).astype(np.int32)
    field = generator.standard_normal((6, 8, 5)).repeat(4, 0).repeat(4, 1).reshape(-1, 5)
    logits = field * 3 + generator.standard_normal((768, 5)) * 0.3
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    uncertainty = generator.random(768)
    rank = visiting_order(uncertainty, "uncertainty")
    roots = merge(probabilities, *adjacency(labels, 768), 0.1, rank)
    expected = slow_merge(probabilities.tolist(), slow_edges(labels), 0.1, uncertainty)
    assert dict(enumerate(roots.tolist())) == expected
    assert 100 < len(set(roots.tolist())) < 600  # neither trivial case


# Graphs and tables.


@settings(max_examples=200, deadline=None)
@given(maps())
def test_adjacency_and_table_equal_the_slow_ones(case):
    labels, count = case
    assert as_sets(*adjacency(labels, count)) == slow_edges(labels)
    table = region_table(labels, count)
    assert list(table) == ["size", "y0", "x0", "y1", "x1"]
    assert all(values.dtype == np.int32 and values.shape == (count,) for values in table.values())
    for i in range(count):
        ys, xs = np.nonzero(labels == i)
        found = [int(table[name][i]) for name in table]
        assert found == [len(ys), ys.min(), xs.min(), ys.max(), xs.max()]


@settings(max_examples=200, deadline=None)
@given(maps(), st.integers(1, 6), st.randoms(use_true_random=False))
def test_contracting_equals_reading_the_merged_map(case, groups, random):
    labels, count = case
    names, group = np.unique([random.randrange(groups) for _ in range(count)], return_inverse=True)
    group = group.astype(np.int32)
    merged = np.where(labels >= 0, np.append(group, -1)[labels], -1).astype(np.int32)
    found = contract(*adjacency(labels, count), group, len(names))
    for values, expected in zip(found, adjacency(merged, len(names)), strict=True):
        assert values.dtype == expected.dtype
        assert np.array_equal(values, expected)
    table, expected_table = (
        contract_table(region_table(labels, count), group, len(names)),
        region_table(merged, len(names)),
    )
    for name, values in expected_table.items():
        assert table[name].dtype == values.dtype
        assert np.array_equal(table[name], values)


def test_maps_that_are_views_are_read_rightly():
    labels = np.array([[0, 0, 1], [2, -1, 1]], dtype=np.int32)
    assert as_sets(*adjacency(labels.T, 3)) == as_sets(*adjacency(labels, 3)) == {0: {1, 2}, 1: {0}, 2: {0}}
    table = region_table(labels.T, 3)
    assert {name: values.tolist() for name, values in table.items()} == {
        "size": [2, 2, 1],
        "y0": [0, 2, 0],
        "x0": [0, 0, 1],
        "y1": [1, 2, 0],
        "x1": [0, 1, 1],
    }
