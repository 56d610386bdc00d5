"""Local prototypes: the specification's numbers, and the same rules as loops over pixels."""

import math
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.pixels.void import VOID
from stages.pseudo_labelling import prototypes as module
from stages.pseudo_labelling.prototypes import (
    argmax_in_candidates,
    expand,
    localise,
    naive_argmax,
    neighbours8,
    prototypes,
    pseudo_labels,
    thresholds,
    unit,
)

RULES = ["none", "reference", "largest"]
PAIRS = torch.tensor([[0, 0, 1, 1, 2, 2]] * 2)
ANGLES = [[0, 20, 10, 45, 0, 0], [90, 60, 75, 25, 90, 90]]


def check_7(angles):
    """Features, scores, labels, asked and sets of check A7."""
    radians = torch.tensor(angles).double() * math.pi / 180
    scores = torch.zeros(2, 2, 6)
    scores[0, 0, 0] = scores[1, 1, 0] = 0.5
    return torch.stack([radians.cos(), radians.sin()]).float(), scores, PAIRS, torch.tensor([0]), torch.ones(1, 2) > 0


def tau_of(features, scores, labels, asked, sets, quantile="median"):
    points = prototypes(scores, labels, asked, sets)
    _, owner, classes, similarity = localise(features, labels, asked, sets, points)
    return thresholds(owner, classes, similarity, sets, quantile)


@pytest.mark.parametrize("rule", ["reference", "largest"])
def test_check_a7(rule):
    inputs = check_7(ANGLES)
    assert prototypes(*inputs[1:]).tolist() == [[0, 6]]
    assert tau_of(*inputs)[0].tolist() == pytest.approx([0.93969, 0.86603], abs=1e-5)
    expected = [[0, 0, 0, VOID, VOID, VOID], [1, 1, 1, VOID, VOID, VOID]]
    assert pseudo_labels(*inputs, rule).tolist() == expected


@pytest.mark.parametrize(
    "rule, top", [("reference", [0, 0, 0, 0]), ("largest", [0, 0, 1, 1]), ("none", [0, 0, VOID, VOID])]
)
def test_check_a7_where_a_prototype_fails_its_own_threshold(rule, top):
    angles = [list(row) for row in ANGLES]
    angles[0][2], angles[1][1] = 30, 152
    inputs = check_7(angles)
    assert tau_of(*inputs)[0].tolist() == pytest.approx([0.93969, 0.46947], abs=1e-5)
    bottom = [1, 1, VOID if rule == "none" else 1, VOID]
    assert pseudo_labels(*inputs, rule).tolist() == [[*top, VOID, VOID], [*bottom, VOID, VOID]]


def test_the_minimum_instead_of_the_median():
    features, scores, labels, asked, sets = check_7([[0, 20, 10, 45, 0, 0], [30, 90, 75, 25, 90, 90]])
    sets = torch.tensor([[True, False]])
    assert tau_of(features, scores, labels, asked, sets).tolist() == [[pytest.approx(0.86603, abs=1e-5), 1]]
    assert tau_of(features, scores, labels, asked, sets, "minimum")[0, 0] == pytest.approx(0, abs=1e-6)
    top = [0, 0, 0, VOID, VOID, VOID], [0, 0, 0, 0, VOID, VOID]
    for quantile, row in zip(["median", "minimum"], top, strict=True):
        assert pseudo_labels(features, scores, labels, asked, sets, "reference", quantile)[0].tolist() == row


@pytest.mark.parametrize("temperature, point", [(1.0, 1), (0.1, 0)])
def test_check_a8_temperature_of_the_prototypes(temperature, point):
    scores = torch.tensor([[[0.9, 0.9]], [[0.8, 0.89]], [[0.8, -1.0]]])
    labels, sets = torch.zeros(1, 2, dtype=torch.long), torch.tensor([[True, False, False]])
    assert prototypes(scores, labels, torch.tensor([0]), sets, temperature).tolist() == [[point, -1, -1]]


def test_of_equal_pixels_the_first_is_the_prototype():
    scores = torch.rand(20, 1, 1, generator=torch.Generator().manual_seed(0)).expand(-1, 3, 333)
    labels = (torch.arange(333) > 0).long().expand(3, -1)
    points = prototypes(scores, labels, torch.tensor([1]), torch.ones(1, 20) > 0)
    assert points.tolist() == [[1] * 20]


def test_check_a9_argmax_in_candidates():
    scores, labels = torch.tensor([-0.2, -0.1, 0.5]).view(3, 1, 1), torch.zeros(1, 1, dtype=torch.long)
    assert argmax_in_candidates(scores, labels, torch.tensor([0]), torch.tensor([[True, True, False]])).item() == 1
    assert naive_argmax(scores, labels, torch.tensor([0])).item() == 2


def test_corners_touch_and_nothing_does_not():
    labels = torch.tensor([[0, 0, 1], [0, 0, -1], [-1, -1, 2], [4, -1, -1]])
    inside, outside = neighbours8(labels, torch.tensor([2, 0, 7]))
    # 1 and 2 both lie at a corner of 0 or not at all; 4 touches no region
    assert list(zip(inside.tolist(), outside.tolist(), strict=True)) == [(2, 0), (0, 1), (0, 2)]


def test_classes_of_one_prototype_go_to_the_smallest():
    """Features and scores that are the same everywhere: nothing exceeds a threshold that it only equals."""
    generator = torch.Generator().manual_seed(0)
    features = unit(torch.randn(37, 1, 1, generator=generator)).expand(-1, 9, 31).contiguous()
    labels = (torch.arange(31) // 8).expand(9, -1).contiguous()
    sets = torch.tensor([[False, True, False, True, True]])
    for rule in RULES:
        result = pseudo_labels(features, torch.zeros(5, 9, 31), labels, torch.tensor([1]), sets, rule)
        assert torch.equal(result, torch.where(labels == 1, 1, VOID))


def test_layout_and_length_of_the_features_do_not_matter():
    generator = torch.Generator().manual_seed(1)
    features, scores = torch.randn(8, 20, 24, generator=generator), torch.randn(4, 20, 24, generator=generator)
    labels = (torch.arange(20) // 5)[:, None] * 4 + torch.arange(24) // 6
    asked, sets = torch.tensor([14, 5, 2]), torch.rand(3, 4, generator=generator) < 0.6
    last = features.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    before = torch.get_float32_matmul_precision()
    for rule in RULES:
        expected = pseudo_labels(unit(features), scores, labels, asked, sets, rule)
        assert expected.dtype == torch.uint8
        assert torch.equal(pseudo_labels(unit(last), scores, labels, asked, sets, rule), expected)
        assert torch.equal(pseudo_labels(last, scores, labels, asked, sets, rule, normalise=True), expected)
        assert torch.equal(pseudo_labels(features, scores, labels, asked, sets, rule, normalise=True), expected)
    assert torch.get_float32_matmul_precision() == before
    assert unit(torch.zeros(3, 2)).tolist() == [[0, 0]] * 3


def test_faults():
    labels, sets = torch.zeros(2, 2, dtype=torch.long), torch.ones(2, 3) > 0
    for asked in ([0, 0], [0, -1]):
        with pytest.raises(ValueError, match="twice, or has a negative id"):
            prototypes(torch.zeros(3, 2, 2), labels, torch.tensor(asked), sets)
    with pytest.raises(ValueError, match="256 classes"):
        pseudo_labels(
            torch.ones(1, 2, 2), torch.zeros(256, 2, 2), labels, torch.tensor([0]), torch.ones(1, 256) > 0, "none"
        )


@st.composite
def pictures(draw):
    """Small whole numbers as features and scores, so that sums are exact and ties frequent; ids that are missing."""
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    dimensions, number = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))

    def whole(low, high, *shape):
        return torch.randint(low, high, shape, generator=generator)

    labels = whole(-1, draw(st.integers(1, 8)), height, width)
    if draw(st.booleans()):  # regions of more than a pixel or two
        labels = labels[torch.arange(height) // 3][:, torch.arange(width) // 2]
    asked = torch.randperm(9, generator=generator)[: draw(st.integers(0, 5))]
    sets = torch.rand(len(asked), number, generator=generator) < 0.5
    features = whole(-2, 3, dimensions, height, width).float()
    return features, whole(0, 3, number, height, width) / 2, labels, asked, sets


def slow(features, scores, labels, asked, sets, rule, quantile):
    """The rules of the specification, one pixel after the other."""
    height, width = labels.shape
    pixels = [(y, x) for y in range(height) for x in range(width)]
    probability = scores.softmax(0, dtype=torch.float64).float()
    own, spread, best = {}, {}, {}
    for region, row in sorted(zip(asked.tolist(), sets.tolist(), strict=True)):
        inside = [p for p in pixels if labels[p] == region]
        names = [c for c, there in enumerate(row) if there]
        if not inside or not names:
            continue
        vector = {}
        for c in names:
            y, x = max(inside, key=lambda p: (float(probability[(c, *p)]), -p[0] * width - p[1]))
            vector[c] = features[:, y, x]

        def compare(p, vector=vector):
            return {c: float(v @ features[:, p[0], p[1]]) for c, v in vector.items()}

        reached = {c: [] for c in names}
        for p in inside:
            similarity = compare(p)
            c = min(names, key=lambda c: (-similarity[c], c))
            own[p] = c
            reached[c].append(similarity[c])
        at = {c: (len(v) - 1) // 2 if quantile == "median" else 0 for c, v in reached.items()}
        tau = {c: sorted(v)[at[c]] if v else 1.0 for c, v in reached.items()}
        touched = {int(labels[y, x]) for y, x in pixels for v, u in inside if max(abs(y - v), abs(x - u)) <= 1}
        ring = touched - {-1, *asked.tolist()}
        for p in (p for p in pixels if int(labels[p]) in ring):
            similarity = compare(p)
            passed = [c for c in names if similarity[c] > tau[c]]
            if passed:
                spread[p] = min(names, key=lambda c: (-similarity[c], c))
                best.setdefault(p, []).extend((-similarity[c], c) for c in passed)
    if rule == "largest":
        spread = {p: min(candidates)[1] for p, candidates in best.items()}
    painted = own if rule == "none" else spread | own
    return [[painted.get((y, x), VOID) for x in range(width)] for y in range(height)]


@settings(max_examples=120, deadline=None)
@given(pictures(), st.sampled_from(RULES), st.sampled_from(["median", "minimum"]), st.sampled_from([1, 3, 256]))
def test_like_loops_over_pixels(picture, rule, quantile, piece):
    with patch.object(module, "PIECE", piece), patch.object(module, "CHUNK", 16 * piece):
        assert pseudo_labels(*picture, rule, quantile).tolist() == slow(*picture, rule, quantile)


@settings(max_examples=60, deadline=None)
@given(pictures(), st.sampled_from(["reference", "largest"]), st.randoms(use_true_random=False))
def test_the_order_of_the_regions_does_not_matter(picture, rule, random):
    features, scores, labels, asked, sets = picture
    order = random.sample(range(len(asked)), len(asked))
    expected = pseudo_labels(*picture, rule)
    assert torch.equal(pseudo_labels(features, scores, labels, asked[order], sets[order], rule), expected)


@settings(max_examples=60, deadline=None)
@given(pictures(), st.sampled_from(RULES), st.integers(0, 2**32))
def test_what_always_holds(picture, rule, seed):
    _, scores, labels, asked, sets = picture
    features = unit(torch.randn(5, *labels.shape, generator=torch.Generator().manual_seed(seed)))
    result = pseudo_labels(features, scores, labels, asked, sets, rule)
    named = asked[sets.any(1)]
    near = torch.zeros_like(labels, dtype=torch.bool)
    for region, row in zip(asked.tolist(), sets, strict=True):
        inside = labels == region
        names = row.nonzero()[:, 0].tolist()
        assert set(result[inside].tolist()) <= set(names or [VOID])
        if names:
            grown = torch.nn.functional.max_pool2d(inside[None].float(), 3, 1, 1)[0] > 0
            near |= torch.isin(labels, labels[grown]) & (labels >= 0)
    assert (result[~near] == VOID).all()
    if rule == "none":
        assert ((result != VOID) == torch.isin(labels, named)).all()


@settings(max_examples=60, deadline=None)
@given(pictures())
def test_argmax_like_loops(picture):
    _, scores, labels, asked, sets = picture
    row = {region: names.nonzero()[:, 0].tolist() for region, names in zip(asked.tolist(), sets, strict=True)}
    result, naive = argmax_in_candidates(scores, labels, asked, sets), naive_argmax(scores, labels, asked)
    everywhere = naive_argmax(scores, labels, asked, "image")
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            region, values = int(labels[y, x]), scores[:, y, x].tolist()
            names = row.get(region) or []
            assert result[y, x] == min(names, key=lambda c: (-values[c], c), default=VOID)
            assert naive[y, x] == (values.index(max(values)) if region in row else VOID)
            assert everywhere[y, x] == values.index(max(values))


def test_expand_leaves_asked_regions_alone():
    features, scores, labels, _, _ = check_7(ANGLES)
    asked, sets = torch.tensor([1, 0]), torch.tensor([[False, False], [True, True]])
    points = prototypes(scores, labels, asked, sets)
    assert (expand(features, labels, asked, sets, points, torch.zeros(2, 2), "largest") == VOID).all()
    assert pseudo_labels(features, scores, labels, asked, sets, "reference")[:, 2:].unique().tolist() == [VOID]


@pytest.mark.parametrize(
    "angle, rule, classes", [(30, "reference", [1, 0]), (30, "largest", [0, 0]), (45, "largest", [0, 0])]
)
def test_two_regions_that_want_the_same_pixel(angle, rule, classes):
    """The left region wants class 0, the right one class 1; once the right one has the higher id, once the left one."""
    radians = torch.tensor([[0, 60, angle, 20, 90]]) * math.pi / 180
    features, scores = torch.stack([radians.cos(), radians.sin()]), torch.zeros(2, 1, 5)
    scores[0, 0, 0] = scores[1, 0, 4] = 1
    for ids, expected in zip(([0, 0, 1, 2, 2], [2, 2, 1, 0, 0]), classes, strict=True):
        asked, sets = torch.tensor([ids[0], ids[4]]), torch.eye(2) > 0
        result = pseudo_labels(features, scores, torch.tensor([ids]), asked, sets, rule)
        assert result.tolist() == [[0, 0, expected, 1, 1]]
