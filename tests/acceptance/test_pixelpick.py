"""The acceptance checks A1 to A22 of the PixelPick specification, by their numbers.

A12 and A15 (networks) are in tests/networks, the timing of A22 in `make bench`; both are named again here where a
part of them is checked.
"""

import csv

import numpy as np
import pytest
import torch
from torch import nn
from worlds import choose_pixels, random_masks, random_round, write_dataset

from stages.answering.simulated.answered import IN_ERROR
from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import COLUMNS
from stages.artifacts.dataset import Dataset
from stages.artifacts.queries import Queries
from stages.commands import export_queries, import_answers, score, select
from stages.evaluating.confusion import confusion_matrix, intersection_over_union, mean_iou, pixel_accuracy
from stages.networks.predictor import Predictor
from stages.recipes.resolve import resolve
from stages.runtime.errors import BadInput
from stages.runtime.numbers import mean_defined
from stages.runtime.parts import MEASURES, RULES
from stages.runtime.randomness import stream
from stages.scoring.committee import soft_vote
from stages.selecting.coverage import spatial_coverage
from stages.selecting.pixels import split_budget
from stages.selecting.ranking import pool_size
from stages.settings.import_answers import ImportSettings
from stages.settings.prepare import PrepareSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from stages.settings.train import TrainSettings
from stages.training.colour import blur_kernel_size
from stages.training.losses.cross_entropy import cross_entropy
from stages.training.schedules import build_schedule, milestones, poly
from stages.training.window import Scales, crop_labels, draw_window


def scores_of(measure, probabilities):
    logits = torch.tensor(probabilities, dtype=torch.float32).log().view(1, -1, 1, 1)
    return float(MEASURES[measure](logits))


VECTORS = [(0.5, 0.3, 0.2), (0.6, 0.3, 0.1), (0.4, 0.35, 0.25)]


@pytest.mark.parametrize(
    "vector, least_confidence, margin, entropy",
    [
        (VECTORS[0], 0.5, 0.2, 1.0297),
        (VECTORS[1], 0.4, 0.3, 0.8979),
        (VECTORS[2], 0.6, 0.05, 1.0805),
        ((1 / 11,) * 11, 0.9091, 0.0, 2.3979),
        ((1.0, 0.0, 0.0), 0.0, 1.0, 0.0),
    ],
)
def test_a1_measures(vector, least_confidence, margin, entropy):
    assert scores_of("least-confidence", vector) == pytest.approx(least_confidence, abs=5e-5)
    assert 1 - scores_of("margin", vector) == pytest.approx(margin, abs=5e-5)
    if 0.0 not in vector:  # the logarithm of zero is no logit; the next test has the finite case
        assert scores_of("entropy", vector) == pytest.approx(entropy, abs=5e-5)


@pytest.mark.parametrize("measure", ["least-confidence", "margin", "entropy", "bvsb"])
def test_a1_a_logit_gap_of_200_is_certain_and_finite(measure):
    value = float(MEASURES[measure](torch.tensor([200.0, 0.0, 0.0]).view(1, 3, 1, 1)))
    assert value == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("measure", ["least-confidence", "margin", "entropy", "bvsb"])
def test_a2_the_third_vector_is_the_most_uncertain(measure):
    scores = [scores_of(measure, vector) for vector in VECTORS]
    assert max(scores) == scores[2]


def test_a3_pool_size():
    assert [pool_size(h * w, 0.05) for h, w in ((360, 480), (256, 512), (300, 400))] == [8640, 6553, 6000]
    best = choose_pixels("top", np.arange(12.0).reshape(3, 4), np.zeros((3, 4), bool), 2, None, 0.5)
    assert best.tolist() == [11, 10]


MARGINS = np.array([[0.9, 0.1, 0.5], [0.2, 0.8, 0.3]])
EXCLUDED = np.array([[False, True, False], [True, False, False]])  # (0,1) is labelled, (1,0) void


def cells(indices):
    return {divmod(int(index), 3) for index in indices}


@pytest.mark.parametrize("scores, pool", [(1 - MARGINS, {(1, 2), (0, 2), (1, 1)}), (MARGINS, {(0, 0), (1, 1), (0, 2)})])
def test_a4_the_pool_is_drawn_from_evenly_and_excluded_cells_never(scores, pool):
    draws = 3000
    counts: dict[tuple[int, int], int] = dict.fromkeys(pool, 0)
    for seed in range(draws):
        found = cells(choose_pixels("pool", scores, EXCLUDED, 2, np.random.default_rng(seed), 0.5))
        assert len(found) == 2
        for cell in found:
            counts[cell] += 1  # KeyError: a cell outside the pool
    # 2/3 each; the standard deviation of the share is 0.0086
    assert all(abs(count / draws - 2 / 3) < 0.045 for count in counts.values())


def test_a4_top_takes_the_two_best():
    found = choose_pixels("top", 1 - MARGINS, EXCLUDED, 2, np.random.default_rng(0), 0.5)
    assert [divmod(int(index), 3) for index in found] == [(1, 2), (0, 2)]


@pytest.mark.parametrize("rule", [part.name for part in RULES.parts() if "pixel" in part.facts["units"]])
def test_a5_saturated_scores_do_not_bring_excluded_pixels_back(rule):
    scores, excluded = np.zeros((6, 8), np.float32), np.ones((6, 8), bool)
    excluded[2, 3:6] = False
    for seed in range(50):
        found = choose_pixels(rule, scores, excluded, 2, np.random.default_rng(seed), 0.05)
        assert len(set(found.tolist())) == 2
        assert not excluded.ravel()[found].any()


def test_a5_a_shortfall_is_recorded(tmp_path):
    small = np.array([[0, 255], [1, 2]], np.uint8)
    dataset = write_dataset(tmp_path / "d.h5", {"large": np.zeros((4, 4), np.uint8), "small": small}, 3)
    settings = {"budget": 2, "exclude_void": True}
    first = random_round(tmp_path, dataset, 0, None, settings)
    scores = score.run(dataset, tmp_path / "s.h5", ScoreSettings(measure="random"))
    queries = Queries(select.run(dataset, scores, tmp_path / "q.h5", SelectSettings(**settings), first))
    per_image = np.bincount(queries.image, minlength=2)
    assert queries.ids == ["large", "small"]
    assert per_image.tolist() == [2, 1]
    assert queries.header.counts["shortfall"] == 1


def test_a6_a7_budget_and_unchanged_rows(tmp_path):
    """A6: n (r + 1) distinct labels per image. A7: earlier rows stay, (image, y, x) is unique, void is avoided."""
    dataset = write_dataset(tmp_path / "d.h5", random_masks(["a", "b", "c"], (12, 15), 4), 4)
    settings = {"budget": 5, "exclude_void": True}
    before = None
    for number in range(4):
        ledger = Annotations(random_round(tmp_path, dataset, number, before and before.path, settings))
        answers = ledger.answers
        assert np.bincount(answers.image).tolist() == [5 * (number + 1)] * 3
        places = np.stack([answers.image, answers.y, answers.x], 1)
        assert len(np.unique(places, axis=0)) == len(places)
        assert (answers.label != 255).all()
        if before is not None:
            for column in COLUMNS:
                old = getattr(before.answers, column)
                assert (getattr(answers, column)[: len(old)] == old).all()
        before = ledger


@pytest.mark.shared
@pytest.mark.slow
def test_a8_the_published_first_draw(tmp_path, shared):
    """Class counts, mean distinct classes, mean coverage and one image's pixels, on the real CamVid."""
    from stages.commands import annotate_simulate, prepare
    from stages.settings.annotate_simulate import AnnotateSettings

    dataset = prepare.run("camvid", shared / "camvid", tmp_path / "camvid.h5", PrepareSettings(workers=2))
    scores = score.run(dataset, tmp_path / "s.h5", ScoreSettings(measure="random", unit="pixel", dtype="float16"))
    settings = SelectSettings(rule="uniform", stream="legacy", exclude_void=True, budget=10)
    queries = select.run(dataset, scores, tmp_path / "q.h5", settings)
    ledger = Annotations(annotate_simulate.run(dataset, queries, tmp_path / "a.h5", AnnotateSettings()))
    last = ledger.header.counts["last_round"]
    assert [last["per_class"][name] for name in Dataset(dataset).classes] == [
        629,
        909,
        41,
        1215,
        165,
        363,
        45,
        42,
        222,
        29,
        10,
    ]
    assert last["mean_distinct_classes"] == pytest.approx(4.1798, abs=5e-5)
    assert Queries(queries).header.counts["mean_coverage"] == pytest.approx(222.055, abs=5e-4)
    rows = ledger.rows["0001TP_006690"]
    answers = ledger.answers
    found = set(zip(answers.x[rows].tolist(), answers.y[rows].tolist(), answers.label[rows].tolist(), strict=True))
    places = [(86, 90), (257, 161), (372, 180), (328, 222), (48, 234), (477, 237), (455, 249), (253, 294), (270, 329)]
    places.append((156, 331))
    labels = [1, 0, 8, 8, 1, 8, 8, 8, 3, 3]
    assert found == {(x, y, label) for (x, y), label in zip(places, labels, strict=True)}


@pytest.mark.parametrize("scale", [0.5, 0.6, 0.75, 0.9, 1.1, 1.5, 1.99])
def test_a9_every_supervised_cell_has_the_class_of_a_labelled_pixel(scale):
    """The class changes at every pixel, so any misalignment of label and place shows."""
    height, width = 36, 48
    codes = (np.arange(height * width) % 251).reshape(height, width).astype(np.uint8)
    labels = np.full((height, width), 255, np.uint8)
    generator = np.random.default_rng(0)
    seen = 0
    for _ in range(20):
        y, x = generator.integers(0, height, 40), generator.integers(0, width, 40)
        labels[:] = 255
        labels[y, x] = codes[y, x]
        window = draw_window((height, width), (30, 40), Scales(scale, scale), 0.5, generator)
        cropped = crop_labels(labels, window)
        origin = crop_labels(codes, window)  # which pixel each cell of the crop shows
        supervised = cropped != 255
        assert (cropped[supervised] == origin[supervised]).all()
        assert set(cropped[supervised].tolist()) <= set(codes[y, x].tolist())
        seen += int(supervised.sum())
    assert seen > 0


def test_a9_image_and_labels_show_the_same_place():
    """A picture of vertical stripes: where the crop shows a stripe's middle, the label says that stripe."""
    from stages.training.window import crop_image

    stripes = np.repeat(np.arange(6), 14)[None].repeat(24, 0).astype(np.uint8)
    image = (stripes * 30)[..., None].repeat(3, 2)
    generator = np.random.default_rng(1)
    for scale in (0.5, 0.8, 1.0, 1.37, 2.0):
        window = draw_window(stripes.shape, (20, 60), Scales(scale, scale), 0.5, generator)
        labels, pixels = crop_labels(stripes, window), crop_image(image, window, (255, 255, 255))
        inside = np.zeros(labels.shape, bool)
        inside[:, 2:-2] = (labels[:, 2:-2] == labels[:, :-4]) & (labels[:, 2:-2] == labels[:, 4:])
        inside &= labels != 255
        assert inside.any()
        assert (np.abs(pixels[inside][:, 0].astype(int) - 30 * labels[inside]) <= 1).all()


def test_a10_loss():
    logits = torch.zeros(1, 2, 1, 5)
    logits[0, :, 0, 0] = torch.tensor([2.0, 0.0])
    labels = torch.tensor([[[0, 1, 255, 255, 255]]], dtype=torch.uint8)
    total, mass = cross_entropy(logits, labels)
    assert float(total / mass) == pytest.approx(0.410038, abs=1e-6)


def test_a11_schedules():
    voc = poly(7350, 0.9)
    assert 0.01 * voc(0) == 0.01
    assert 0.01 * voc(3675) == pytest.approx(0.00535887, abs=1e-8)
    assert [poly(12, 0.9)(step) for step in range(3)] == pytest.approx([1, 0.924678, 0.848666], abs=1e-6)
    steps = 92
    camvid = milestones(steps, (21, 41), 0.1)
    for epoch, rate in ((1, 5e-4), (21, 5e-4), (22, 5e-5), (41, 5e-5), (42, 5e-6), (50, 5e-6)):
        for step in ((epoch - 1) * steps, epoch * steps - 1):
            assert 5e-4 * camvid(step) == pytest.approx(rate)


@pytest.mark.parametrize("profile", ["camvid", "cityscapes", "voc2012"])
def test_a11_the_backbone_learns_at_a_tenth(profile):
    settings = resolve("train", {}, "pixelpick", profile).settings
    assert isinstance(settings, TrainSettings)
    assert settings.optimisation.backbone_lr == pytest.approx(settings.optimisation.head_lr / 10)
    assert build_schedule(settings.optimisation, 92)(0) == 1


def test_a13_miou():
    truth = torch.tensor([0, 0, 1, 1, 2, 255], dtype=torch.uint8)
    predicted = torch.tensor([0, 1, 1, 1, 0, 2])
    confusion = confusion_matrix(truth, predicted, 4).numpy()
    iou = intersection_over_union(confusion)
    assert iou[:3] == pytest.approx([1 / 3, 2 / 3, 0])
    assert np.isnan(iou[3])
    assert mean_iou(confusion) == pytest.approx(1 / 3)
    assert pixel_accuracy(confusion) == pytest.approx(0.6)


class Recorder(nn.Module):
    """A network that notes what it is given and answers with the input's first two channels."""

    pad_multiple = 8

    def forward(self, images):
        self.size = tuple(images.shape[-2:])
        return images[:, :2]


def test_a14_sizes_padding_and_kernels():
    """The query grids are in tests/datasets; here the padding for the network, the crop back, blur and pad colours."""
    network = Recorder()
    predictor = Predictor(network, (0.0,) * 3, (1.0,) * 3, torch.device("cpu"))
    images = torch.randint(0, 256, (1, 3, 375, 500), dtype=torch.uint8)
    logits = predictor.logits(images)
    assert network.size == (376, 504)
    assert logits.shape[-2:] == (375, 500)
    assert torch.equal(logits[0, 0], images[0, 0].float() / 255)
    assert [blur_kernel_size(*size) for size in ((360, 480), (256, 512), (320, 320))] == [37, 25, 33]
    from stages.datasets.description import load_description

    colours = [
        [int(255 * value) for value in load_description(name).mean] for name in ("camvid", "cityscapes", "voc2012")
    ]
    assert colours == [[105, 108, 110], [73, 82, 72], [123, 116, 103]]


def test_a16_soft_vote_is_the_mean_of_the_passes_uncertainty():
    passes = [torch.tensor(vector).log().view(1, 3, 1, 1) for vector in ([0.5, 0.3, 0.2], [0.3, 0.5, 0.2])]
    assert 1 - float(soft_vote(passes, MEASURES["margin"])) == pytest.approx(0.2, abs=1e-6)


def test_a17_annotator_errors(tmp_path):
    masks = random_masks(["a", "b", "c"], (20, 20), 5, void=0.0)
    dataset = write_dataset(tmp_path / "d.h5", masks, 5)
    erring = {"error_rate": 0.1}
    before = None
    for number in range(3):
        ledger = Annotations(random_round(tmp_path, dataset, number, before, annotate_settings=erring))
        before = ledger.path
    answers = ledger.answers
    truth = np.array([masks[ledger.ids[i]][y, x] for i, y, x in zip(answers.image, answers.y, answers.x, strict=True)])
    wrong = answers.label != truth
    assert (answers.annotator[wrong] == IN_ERROR).all()
    assert (answers.label < 5).all()
    for number in range(3):
        for image in range(3):
            rows = (answers.round == number) & (answers.image == image)
            assert rows.sum() == 10
            assert wrong[rows].sum() == (1 if number else 0)  # round 0 stays clean
    again = Annotations(ledger.path).answers
    assert (again.label == answers.label).all()
    clean = tmp_path / "clean"
    clean.mkdir()
    faultless = Annotations(random_round(clean, dataset, 0, annotate_settings={"error_rate": 0.0}))
    oracle = Annotations(tmp_path / "ledger0.h5")
    assert (faultless.answers.label == oracle.answers.label).all()


def test_a18_coverage():
    assert spatial_coverage(np.array([0, 4, 4]), np.array([0, 3, 0])) == pytest.approx(4.0)
    alone = spatial_coverage(np.array([3]), np.array([5]))
    assert np.isnan(alone)
    assert mean_defined([alone]) is None


def test_a18_rounds_have_independent_statistics(tmp_path):
    dataset = write_dataset(tmp_path / "d.h5", random_masks(["a", "b"], (16, 16), 3), 3)
    random_round(tmp_path, dataset, 0)
    random_round(tmp_path, dataset, 1, tmp_path / "ledger0.h5")
    queries = Queries(tmp_path / "queries1.h5")
    own = [spatial_coverage(queries.y[queries.image == i], queries.x[queries.image == i]) for i in range(2)]
    assert queries.header.counts["mean_coverage"] == pytest.approx(np.mean(own))


def test_a19_diversity_split(tmp_path):
    shares = split_budget(3670, 36, np.random.default_rng(0))
    assert sorted(shares.tolist()) == [101] * 2 + [102] * 34
    assert shares.sum() == 3670
    dataset = write_dataset(tmp_path / "d.h5", random_masks(list("abcdefghij"), (16, 16), 3), 3)
    random_round(tmp_path, dataset, 0, None, {"image_share": 0.3, "budget": 10, "rule": "uniform"})
    queries = Queries(tmp_path / "queries0.h5")
    counts = np.bincount(queries.image, minlength=10)
    assert sorted(counts[counts > 0].tolist()) == [33, 33, 34]


@pytest.fixture
def human_world(tmp_path):
    masks = random_masks(["a", "b"], (10, 12), 3, void=0.2)
    dataset = write_dataset(tmp_path / "d.h5", masks, 3)
    scores = score.run(dataset, tmp_path / "s.h5", ScoreSettings(measure="random"))
    queries = select.run(dataset, scores, tmp_path / "q.h5", SelectSettings(budget=6))
    table = export_queries.run(dataset, queries, tmp_path / "q.csv")
    with table.open() as file:
        lines = list(csv.DictReader(file))
    return tmp_path, dataset, queries, masks, lines


def write_table(path, lines):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return path


def answer_for(masks, line):
    label = masks[line["image"]][int(line["y"]), int(line["x"])]
    return "void" if label == 255 else f"class{label}"


def test_a20_people_answer_like_the_simulation(human_world):
    from stages.commands import annotate_simulate
    from stages.settings.annotate_simulate import AnnotateSettings

    folder, dataset, queries, masks, lines = human_world
    table = write_table(folder / "t.csv", [line | {"class": answer_for(masks, line)} for line in reversed(lines)])
    people = Annotations(import_answers.run(dataset, queries, table, folder / "p.h5", ImportSettings()))
    simulated = Annotations(annotate_simulate.run(dataset, queries, folder / "a.h5", AnnotateSettings()))
    for column in ("image", "y", "x", "round", "label", "state", "clicks"):
        assert (getattr(people.answers, column) == getattr(simulated.answers, column)).all()


def test_a20_unanswered_queries_stay_open(human_world):
    folder, dataset, queries, masks, lines = human_world
    answered = [line | {"class": answer_for(masks, line) if number % 2 else ""} for number, line in enumerate(lines)]
    table = write_table(folder / "t.csv", answered)
    ledger = Annotations(import_answers.run(dataset, queries, table, folder / "p.h5", ImportSettings()))
    assert len(ledger.answers) == 6
    assert ledger.header.counts["open"] == 6
    given = {(line["image"], int(line["y"]), int(line["x"])) for line in answered if line["class"] not in ("", "void")}
    labelled = {(image, y, x) for image in masks for y, x in np.argwhere(ledger.label_map(image) != 255).tolist()}
    assert labelled == given
    # an open query may be asked again, an answered one may not
    scores = folder / "s.h5"
    following = Queries(select.run(dataset, scores, folder / "q1.h5", SelectSettings(budget=50), ledger.path))
    asked = set(zip(following.image.tolist(), following.y.tolist(), following.x.tolist(), strict=True))
    done = set(zip(ledger.answers.image.tolist(), ledger.answers.y.tolist(), ledger.answers.x.tolist(), strict=True))
    assert not asked & done


@pytest.mark.parametrize(
    "change, fault",
    [
        ({"y": "9999"}, "query {query} is about {place}, not {found}; keep image, y, x as exported"),
        ({"image": "zebra"}, "query {query} is about {place}, not {found}; keep image, y, x as exported"),
        ({"query": "77"}, "unknown query 77; the file contains 12"),
        ({"class": "zebra"}, "'zebra' is not a class; use class0, class1, class2, void or skip"),
        ({"x": "left"}, "x is 'left', not a whole number"),
        ({"seconds": "-3", "class": "class0"}, "seconds is '-3', not a number from 0 to 1e+09"),
    ],
)
def test_a20_changed_rows_are_refused(human_world, change, fault):
    folder, dataset, queries, masks, lines = human_world
    answered = [line | {"class": answer_for(masks, line)} for line in lines]
    table = write_table(folder / "t.csv", [answered[0] | change, *answered[1:]])
    with pytest.raises(BadInput) as refused:
        import_answers.run(dataset, queries, table, folder / "p.h5", ImportSettings())
    place = {name: lines[0][name] if name == "image" else int(lines[0][name]) for name in ("image", "y", "x")}
    found = place | {name: int(value) if name == "y" else value for name, value in change.items() if name in place}
    assert refused.value.faults == [
        f"{table}, line 2: {fault.format(query=lines[0]['query'], place=place, found=found)}."
    ]
    assert not (folder / "p.h5").exists()


def test_a21_selection_does_not_depend_on_the_order_of_images(tmp_path):
    masks = random_masks(["a", "b", "c", "d"], (14, 14), 3)
    chosen = []
    for folder, names in (("one", "abcd"), ("two", "dbca")):
        (tmp_path / folder).mkdir()
        dataset = write_dataset(tmp_path / folder / "d.h5", {name: masks[name] for name in names}, 3)
        random_round(tmp_path / folder, dataset, 0)
        queries = Queries(tmp_path / folder / "queries0.h5")
        chosen.append(
            {(queries.ids[i], int(y), int(x)) for i, y, x in zip(queries.image, queries.y, queries.x, strict=True)}
        )
    assert chosen[0] == chosen[1]


def test_a21_seeds_differ_and_rounds_differ(tmp_path):
    def draw(seed, number, image):
        return stream(seed, "select", number, image).random(4).tolist()

    assert draw(0, 0, "a") == draw(0, 0, "a")
    assert len({tuple(draw(*key)) for key in ((0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b"))}) == 4


def test_a22_what_is_timed_is_right():
    """`make bench` times margin score and selection; here its result against a plain computation."""
    logits = torch.randn(1, 11, 36, 48, generator=torch.Generator().manual_seed(0)) * 3
    top = logits.softmax(1).sort(1, descending=True).values
    expected = 1 - (top[:, 0] - top[:, 1])
    assert torch.allclose(MEASURES["margin"](logits), expected, atol=1e-6)
    scores = expected[0].numpy()
    found = choose_pixels("top", scores, np.zeros(scores.shape, bool), 10, np.random.default_rng(0), 0.05)
    assert set(found.tolist()) == set(np.argsort(-scores.ravel(), kind="stable")[:10].tolist())
