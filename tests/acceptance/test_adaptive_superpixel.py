"""The acceptance checks of the adaptive superpixel specification that need more than one function, by their numbers.

Checks 1 to 9 are in tests/regions/test_merging.py, 14 to 18 also in test_votes.py there and in
tests/pseudo_labelling/test_sieve.py, 21 to 23 in test_votes.py and test_cutters.py there and in
tests/answering/test_clicks.py; the time of 24 is in `make bench`.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import TINY, random_masks, region_round, write_dataset, write_superpixels

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Artifact
from stages.artifacts.model import Model
from stages.artifacts.opening import read_any_header
from stages.artifacts.pseudo_labels import PseudoLabels
from stages.artifacts.queries import Queries
from stages.artifacts.scores import Scores
from stages.artifacts.superpixels import Superpixels
from stages.commands import annotate_simulate, extract_superpixels, pseudo_label, score, select, train
from stages.evaluating.confusion import intersection_over_union, mean_iou
from stages.pixels.maps import lookup
from stages.pixels.runs import areas_of
from stages.pixels.void import VOID
from stages.regions.reductions import region_means, region_sums
from stages.runtime.errors import BadInput
from stages.runtime.randomness import stream
from stages.scoring.balance import class_shares, class_weights
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.extract_superpixels import ExtractSettings
from stages.settings.pseudo_label import PseudoLabelSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from stages.settings.train import OptimisationSettings, TrainSettings
from stages.training.losses.cross_entropy import cross_entropy
from stages.training.schedules import build_schedule
from stages.training.window import Scales

CLASSES = 4
EPSILON = 0.02  # a model of a few steps tells little apart


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Four images of 64x128 with patches of classes and a little void; base regions, one round, a model."""
    folder = tmp_path_factory.mktemp("world")
    masks, images = {}, {}
    for number in range(6):
        generator = stream(number, "scene")
        small = generator.integers(0, CLASSES, (4, 8))
        mask = np.kron(small, np.ones((16, 16))).astype(np.uint8)
        colours = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [200, 200, 40]])
        noise = generator.integers(-30, 30, (64, 128, 3))
        images[f"i{number}"] = np.clip(colours[mask] + noise, 0, 255).astype(np.uint8)
        mask[:3, :5] = VOID
        masks[f"i{number}"] = mask
    splits = {f"i{number}": "train" if number < 4 else "val" for number in range(6)}
    dataset = write_dataset(folder / "dataset.h5", masks, CLASSES, splits, images)
    base = write_superpixels(folder, dataset, method="seeds", count=32, region_pixels=None)
    return {"folder": folder, "dataset": dataset, "base": base} | chain(folder / "first", dataset, base)


def chain(folder: Path, dataset: Path, base: Path, rounds: int = 3) -> dict[str, Path]:
    """The recipe adaptive-superpixel, stage by stage; the artifacts of its last round, and all of them."""
    folder.mkdir()
    ledger = region_round(folder, dataset, 0, base, select_settings={"rule": "uniform", "budget": 16})
    settings = TrainSettings(**TINY | {"batch": 4}, epochs=12, crop=(64, 128), head_lr=3e-3, backbone_lr=3e-3)
    model = train.run(dataset, ledger, folder / "model0.safetensors", settings)
    made = {"ledger0": ledger, "model0": model}
    for number in range(1, rounds):
        regions = extract_superpixels.run(
            dataset,
            folder / f"regions{number}.h5",
            ExtractSettings(method="adaptive", epsilon=EPSILON, workers=1),
            base,
            model,
        )
        ledger = region_round(folder, dataset, number, regions, ledger, model, {"budget": 6})
        pseudo = pseudo_label.run(
            dataset, ledger, model, folder / f"pseudo{number}.h5", PseudoLabelSettings(min_pixels=0)
        )
        model = train.run(dataset, pseudo, folder / f"model{number}.safetensors", settings)
        names = {"regions": regions, "ledger": ledger, "pseudo": pseudo, "model": model}
        made |= {f"{name}{number}": path for name, path in names.items()}
    return made


def test_check_10_merging_starts_from_the_base_only(world, tmp_path):
    settings = ExtractSettings(method="adaptive", workers=1)
    told = (
        r"contains merged regions\. Pass the base regions they were merged from \(.*\.h5\): each round starts from "
        r"those\.$"
    )
    with pytest.raises(BadInput, match=told):
        extract_superpixels.run(world["dataset"], tmp_path / "again.h5", settings, world["regions1"], world["model1"])
    inputs = Superpixels(world["regions2"]).header.inputs
    assert inputs["superpixels"].digest == Superpixels(world["base"]).digest
    assert inputs["model"].digest == Model(world["model1"]).digest


def test_merged_regions_are_unions_of_base_regions(world):
    base, merged = Superpixels(world["base"]), Superpixels(world["regions1"])
    region, root = merged.read("base/region"), merged.read("regions/root")
    assert merged.count < base.count
    assert (region[root] == np.arange(merged.count)).all()
    for image in base.ids:
        below, above = base.labels(image), merged.labels(image)
        assert (region[base.rows[image]][below] == above + merged.rows[image].start).all()
    sizes = np.bincount(region, weights=base.region_sizes, minlength=merged.count)
    assert (sizes == merged.region_sizes).all()


def test_merging_is_that_of_the_definition(world):
    """The whole stage against means and merging written out region by region (check 24)."""
    from stages.networks.predictor import load_predictor

    base, merged = Superpixels(world["base"]), Superpixels(world["regions1"])
    predictor = load_predictor(Model(world["model0"]), "last", torch.device("cpu"), "auto")
    with Dataset(world["dataset"]) as data:
        image = base.ids[0]
        logits = predictor.logits(torch.from_numpy(data.image(image)).permute(2, 0, 1)[None])[0]
    chance = logits.softmax(0).double().numpy()
    ordered = np.sort(chance, 0)
    labels = base.labels(image)
    count = labels.max() + 1
    mean = np.array([chance[:, labels == region].mean(1) for region in range(count)])
    unsure = np.array([(ordered[-2] / ordered[-1])[labels == region].mean() for region in range(count)])
    touching = {(a, b) for a, b in zip(labels[:, :-1].ravel(), labels[:, 1:].ravel(), strict=True) if a != b}
    touching |= {(a, b) for a, b in zip(labels[:-1].ravel(), labels[1:].ravel(), strict=True) if a != b}
    touching |= {(b, a) for a, b in touching}

    def far(a, b):
        middle = (mean[a] + mean[b]) / 2
        return np.sqrt(sum((mean[c] * np.log(mean[c] / middle)).sum() / 2 for c in (a, b)))

    root = np.full(count, -1)
    for start in sorted(range(count), key=lambda region: (-unsure[region], region)):
        if root[start] >= 0:
            continue
        root[start], stack = start, [start]
        while stack:
            member = stack.pop()
            for other in range(count):
                if (member, other) in touching and root[other] < 0 and far(start, other) < EPSILON:
                    root[other] = start
                    stack.append(other)
    found = merged.read("regions/root")[merged.rows[image]] - base.rows[image].start
    assert (found[merged.labels(image)] == root[labels]).all()


UNCERTAINTY = np.array([0.8, 0.6, 0.5, 0.5])
SIZES = np.array([100, 50, 30, 20])
PREDICTED = np.array([0, 0, 1, 2])


@pytest.mark.parametrize(
    "by, scale, weights, scores, order",
    [
        ("pixels", 1, [0.472367, 0.860708, 0.904837], [0.377893, 0.283420, 0.430354, 0.452419], [3, 2, 0, 1]),
        ("regions", 1, [0.606531, 0.778801, 0.778801], [0.485225, 0.363918, 0.389400, 0.389400], [0, 2, 3, 1]),
        ("pixels", 0.25, [0.829029, 0.963194, 0.975310], [0.663223, 0.497417, 0.481597, 0.487655], [0, 1, 3, 2]),
        ("pixels", 0, [1, 1, 1], [0.8, 0.6, 0.5, 0.5], [0, 1, 2, 3]),
    ],
)
def test_check_11_class_balance(by, scale, weights, scores, order):
    shares = class_shares(PREDICTED, SIZES, 3, by)
    found = class_weights(shares, scale)
    assert found == pytest.approx(weights, abs=1e-6)
    score = UNCERTAINTY * found[PREDICTED]
    assert score == pytest.approx(scores, abs=1e-6)
    assert np.argsort(-score, kind="stable").tolist() == order


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("by", ["regions", "pixels"])
def test_check_12_shares_and_scores(world, tmp_path, scale, by):
    settings = ScoreSettings(unit="region", measure="bvsb", class_balance=by, input_scale=scale)
    path = score.run(world["dataset"], tmp_path / "s.h5", settings, world["model0"], world["base"])
    scores = Scores(path)
    shares, predicted = scores.read("classes/share"), scores.read("regions/predicted")
    assert shares.sum() == pytest.approx(1, abs=1e-9)
    weighed = scores.read("regions/uncertainty") * np.exp(-shares)[predicted]
    assert scores.region_scores() == pytest.approx(weighed, rel=1e-6)
    offsets, pixels = scores.read("histogram/offsets"), scores.read("histogram/pixels")
    assert (np.add.reduceat(pixels, offsets[:-1]) == scores.read("regions/size")).all()
    queries = Queries(
        select.run(
            world["dataset"], path, tmp_path / "q.h5", SelectSettings(rule="top", budget=9), superpixels=world["base"]
        )
    )
    assert len(np.unique(queries.region)) == 9
    assert (np.diff(queries.read("queries/score")) <= 0).all()
    assert (Superpixels(world["base"]).images_of(queries.region) == queries.image).all()
    too_many = SelectSettings(rule="top", budget=10_000)
    everything = Queries(select.run(world["dataset"], path, tmp_path / "t.h5", too_many, superpixels=world["base"]))
    assert len(everything) == Superpixels(world["base"]).count


@pytest.mark.slow
def test_check_13_random_is_uniform_over_regions(tmp_path):
    """An image cut into nine times as many regions gets nine times as many queries; same seed, same set."""
    masks = {"large": np.zeros((48, 48), np.uint8), "small": np.zeros((16, 16), np.uint8)}
    dataset = write_dataset(tmp_path / "d.h5", masks, 3)
    regions = write_superpixels(tmp_path, dataset, region_pixels=16)
    drawn = np.zeros(2)
    for seed in range(60):
        scored = ScoreSettings(unit="region", measure="random", seed=seed)
        scores = score.run(dataset, tmp_path / f"s{seed}.h5", scored, superpixels=regions)
        chosen = SelectSettings(rule="uniform", budget=16, seed=seed)
        queries = Queries(select.run(dataset, scores, tmp_path / f"q{seed}.h5", chosen, superpixels=regions))
        assert ((queries.region >= 0) & (queries.region < Superpixels(regions).count)).all()
        drawn += np.bincount(queries.image, minlength=2)
        again = select.run(dataset, scores, tmp_path / "again.h5", chosen, superpixels=regions, force=True)
        assert read_any_header(again).digest == queries.digest
    assert drawn[0] / drawn.sum() == pytest.approx(0.9, abs=0.03)


def test_check_14_a_void_region_costs_one_click_and_labels_nothing(tmp_path):
    mask = np.full((16, 16), VOID, np.uint8)
    mask[:8, :8] = 1
    dataset = write_dataset(tmp_path / "d.h5", {"a": mask, "b": np.ones((16, 16), np.uint8)}, 3)
    regions = write_superpixels(tmp_path, dataset)
    ledger = Annotations(region_round(tmp_path, dataset, 0, regions, select_settings={"budget": 8}))
    assert ledger.cost() == {"answers": 8, "clicks": 8, "seconds": 8}
    assert ledger.header.counts["void"] == 3
    labels = ledger.label_map("a")
    assert (labels == mask).all()
    assert ledger.answers.votes.sum(1).tolist() == [64] * 8


def test_check_17_and_18_sieved_labels(world):
    """Kept pixels lie in asked regions and carry their answer; the rest is unlabelled; later rounds win."""
    ledger, pseudo = Annotations(world["ledger2"]), PseudoLabels(world["pseudo2"])
    kept, pixels = pseudo.read("regions/kept"), pseudo.read("regions/pixels")
    assert ((kept >= 1) & (kept <= pixels)).all()
    assert (kept < pixels).any()
    answers = ledger.answers
    named = np.flatnonzero(answers.of_regions & (answers.label != VOID))
    assert (pseudo.read("regions/answer") == named).all()
    for image in ledger.ids:
        labels, asked = pseudo.label_map(image), ledger.queried_area(image)
        assert (labels[~asked] == VOID).all()
        given = set(answers.label[ledger.rows_of(image)].tolist())
        assert set(np.unique(labels).tolist()) <= given | {VOID}
    everything = pseudo_label.run(
        world["dataset"],
        world["ledger2"],
        world["model1"],
        world["folder"] / "whole.h5",
        PseudoLabelSettings(min_pixels=10**6),
    )
    whole = PseudoLabels(everything)
    for image in ledger.ids:  # a gate above every region keeps all, which is what the ledger itself says
        assert (whole.label_map(image) == ledger.label_map(image)).all()


def test_check_18_where_the_later_round_was_sieved_out_the_earlier_one_stays():
    from stages.pseudo_labelling.sieve import sieve

    first, second = np.zeros((2, 6), np.int32), np.full((2, 6), -1, np.int32)
    first[:, 4:] = -1
    second[:, 2:] = 0
    areas = areas_of(first, np.array([0])).followed_by(areas_of(second, np.array([0])))
    index, owner = areas.pixels(np.arange(2))
    sure = np.where((owner == 1) & np.isin(index, [2, 8]), 0.1, 0.9)
    kept, _ = sieve(sure, owner, 2, "max", 20, 0, 0.05)
    labels = np.full(12, VOID, np.uint8)
    labels[index[kept]] = np.array([4, 7], np.uint8)[owner[kept]]
    assert labels.reshape(2, 6).tolist() == [[4, 4, 4, 7, 7, 7]] * 2


def test_check_19_loss_schedule_and_scales():
    logits = torch.randn(2, CLASSES, 2, 2, requires_grad=True)
    labels = torch.full((2, 2, 2), VOID, dtype=torch.uint8)
    labels[0, 0, 0], labels[1, 0, 1], labels[1, 1, 1] = 0, 1, 2
    total, mass = cross_entropy(logits, labels)
    each = -torch.log_softmax(logits, 1)
    mean = (each[0, 0, 0, 0] + each[1, 1, 0, 1] + each[1, 2, 1, 1]) / 3
    assert float((total / mass).detach()) == pytest.approx(float(mean.detach()), rel=1e-5)
    nothing, none = cross_entropy(logits, torch.full_like(labels, VOID))
    nothing.backward()
    assert (float(nothing.detach()), int(none), float(logits.grad.abs().sum())) == (0, 0, 0)
    factor = build_schedule(OptimisationSettings(schedule="poly", poly_power=0.9, epochs=60), 1000)
    assert 0.007 * factor(30_000) == pytest.approx(0.003751, abs=5e-7)
    assert Scales(0.5, 2.0, 0.25).choices() == [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    generator = stream(0, "scales")
    assert {Scales(0.5, 2.0, 0.25).draw(generator) for _ in range(200)} == set(Scales(0.5, 2.0, 0.25).choices())


def test_check_20_an_absent_class_does_not_count():
    confusion = np.array([[3, 1, 0], [1, 5, 0], [0, 0, 0]])
    assert intersection_over_union(confusion)[:2] == pytest.approx([0.6, 0.714286], abs=1e-6)
    assert mean_iou(confusion) == pytest.approx(0.657143, abs=1e-6)


def test_check_21_oracle_regions_lose_nothing(world, tmp_path):
    regions = write_superpixels(tmp_path, world["dataset"], method="oracle")
    assert Superpixels(regions).attributes["oracle_privilege"] == "oracle regions"
    ledger = Annotations(
        region_round(tmp_path, world["dataset"], 0, regions, select_settings={"rule": "uniform", "budget": 30})
    )
    last = ledger.header.counts["last_round"]
    assert last["achievable_accuracy"] == 1
    assert last["label_precision"] == 1
    assert last["void"] == 0


def test_check_22_precise_rectangles_stop_at_the_click_budget(world, tmp_path):
    regions = write_superpixels(tmp_path, world["dataset"], region_pixels=256)
    asked = {"answer": "precise", "budget": 40, "rule": "uniform"}
    ledger = Annotations(
        region_round(
            tmp_path,
            world["dataset"],
            0,
            regions,
            select_settings=asked,
            annotate_settings={"click_budget": 30, "seconds_per_click": 2},
        )
    )
    clicks = ledger.answers.clicks
    assert clicks.sum() >= 30 > clicks[:-1].sum()
    assert ledger.cost()["seconds"] == 2 * clicks.sum()
    assert ledger.header.counts["last_round"]["unanswered"] == 40 - len(clicks)
    with Dataset(world["dataset"]) as data:
        for image in ledger.exact_ids:
            labels, asked_area = ledger.label_map(image), ledger.queried_area(image)
            assert (labels[asked_area] == data.mask(image)[asked_area]).all()
            assert (labels[~asked_area] == VOID).all()
    assert ledger.mask_ids == set()


@pytest.mark.slow
def test_check_25_same_seed_same_artifacts(world, tmp_path):
    again = chain(tmp_path / "again", world["dataset"], world["base"])
    for name, path in again.items():
        assert read_any_header(path).digest == read_any_header(world[name]).digest, name


def test_check_25_mismatched_inputs_are_refused(world, tmp_path):
    scored = ScoreSettings(unit="region", measure="bvsb")
    with pytest.raises(
        BadInput, match=r"was made from another model .*\. Pass the one it was made from, or rebuild it\.$"
    ):
        score.run(world["dataset"], tmp_path / "s.h5", scored, world["model1"], world["regions1"])
    scores = score.run(world["dataset"], tmp_path / "s.h5", scored, world["model0"], world["regions1"])
    with pytest.raises(
        BadInput, match=r"was made from another superpixels .*\. Pass the one it was made from, or rebuild it\.$"
    ):
        select.run(world["dataset"], scores, tmp_path / "q.h5", SelectSettings(), superpixels=world["base"])
    asked = select.run(
        world["dataset"], scores, tmp_path / "q.h5", SelectSettings(budget=2), superpixels=world["regions1"]
    )
    with pytest.raises(
        BadInput, match=r"was made from another superpixels .*\. Pass the one it was made from, or rebuild it\.$"
    ):
        annotate_simulate.run(
            world["dataset"], asked, tmp_path / "a.h5", AnnotateSettings(), superpixels=world["regions2"]
        )
    other = write_dataset(tmp_path / "other.h5", random_masks(["i0", "i1"], (64, 128), CLASSES), CLASSES)
    for call in (
        lambda: score.run(other, tmp_path / "x.h5", scored, world["model0"], world["base"]),
        lambda: pseudo_label.run(other, world["ledger1"], world["model0"], tmp_path / "x.h5", PseudoLabelSettings()),
        lambda: train.run(other, world["pseudo1"], tmp_path / "x.safetensors", TrainSettings(**TINY)),
    ):
        with pytest.raises(
            BadInput, match=r"was made from another dataset .*\. Pass the one it was made from, or rebuild it\.$"
        ):
            call()
    assert not (tmp_path / "x.h5").exists()


def test_what_was_asked_is_asked_again_only_within_the_limit(world, tmp_path):
    """Merged regions of which more than the share lies in asked regions are left out; 1 leaves none out."""
    ledger, regions = Annotations(world["ledger1"]), Superpixels(world["regions2"])
    share = (
        np.concatenate(
            [
                np.bincount(
                    regions.labels(image)[ledger.queried_area(image)], minlength=np.ptp([*rows_of(regions, image)])
                )
                for image in regions.ids
            ]
        )
        / regions.region_sizes
    )
    assert ((share > 0) & (share < 1)).any()
    scored = ScoreSettings(unit="region", measure="bvsb")
    scores = score.run(world["dataset"], tmp_path / "s.h5", scored, world["model1"], world["regions2"])
    for most in (0.0, 0.5, 1.0):
        every = SelectSettings(rule="top", budget=0, exclude_queried=most)
        path = select.run(
            world["dataset"], scores, tmp_path / f"q{most}.h5", every, world["ledger1"], world["regions2"]
        )
        assert set(Queries(path).region.tolist()) == set(np.flatnonzero(share <= most).tolist())


def rows_of(regions, image):
    rows = regions.rows[image]
    return rows.start, rows.stop


def test_reductions_are_means_over_the_pixels_of_each_region():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 5, (12, 14), generator=generator)
    values = torch.rand(3, 12, 14, generator=generator)
    found = region_means(values, labels, 6)
    for region in range(5):
        assert torch.allclose(found[:, region], values[:, labels == region].double().mean(1), atol=1e-9)
    assert (found[:, 5] == 0).all()
    half = torch.rand(4, 6, 7, generator=generator)
    assert torch.equal(lookup(half, (12, 14)), half.repeat_interleave(2, 1).repeat_interleave(2, 2))
    full = lookup(half, (12, 14))
    sums, histogram = region_sums(5 * full[0], full.argmax(0), labels, 6, 4)
    for region in range(5):
        inside = labels == region
        assert sums[region].sum() == pytest.approx(float(5 * full[0][inside].sum()), rel=1e-5)
        first = inside & (full.argmax(0) == 0)
        assert sums[region, 0] == pytest.approx(float(5 * full[0][first].sum()), rel=1e-5)
        assert histogram[region].tolist() == torch.bincount(full.argmax(0)[inside], minlength=4).tolist()


def test_ledger_of_regions_reads_without_its_region_files(world, tmp_path):
    copy = tmp_path / "alone.h5"
    copy.write_bytes(world["ledger2"].read_bytes())
    ledger = Annotations(copy)
    assert [file.method for file in ledger.region_files] == ["seeds", "adaptive", "adaptive"]
    assert ledger.answers.areas.sizes().tolist() == ledger.answers.votes.sum(1).tolist()
    assert all((ledger.label_map(image) != VOID).any() for image in ledger.labelled_ids())
    with Artifact(world["ledger1"]) as before:
        for column in ("image", "region", "class", "clicks"):
            old = before.read(f"answers/{column}")
            assert (ledger.read(f"answers/{column}")[: len(old)] == old).all()
