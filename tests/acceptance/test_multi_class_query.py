"""The acceptance checks A1 to A14 of the multi-class query specification, by their numbers.

A1 is also in tests/regions/test_cutters.py, A4 and A10 in tests/training/test_class_sets.py, A7 to A9 in
tests/pseudo_labelling/test_prototypes.py; A15 (kills) in tests/commands.
"""

import numpy as np
import pytest
import torch
from tasks import samples_of
from worlds import TINY, changed, random_masks, region_round, write_dataset, write_superpixels

from stages.answering.simulated.answered import within_budget
from stages.answering.simulated.trimming import evidence, inside
from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import ANSWERED, ANSWERED_VOID
from stages.artifacts.dataset import Dataset
from stages.artifacts.model import Model
from stages.artifacts.pseudo_labels import PseudoLabels
from stages.artifacts.queries import Queries
from stages.artifacts.scores import Scores
from stages.artifacts.superpixels import Superpixels
from stages.commands import pseudo_label, score, select, train
from stages.evaluating.confusion import mean_iou
from stages.networks.build import build_network
from stages.pixels.void import VOID
from stages.regions.cut import cut
from stages.regions.cutters.seeds import fitting_blocks
from stages.regions.reductions import region_sums
from stages.runtime.errors import BadInput
from stages.runtime.randomness import stream
from stages.scoring.balance import class_shares, class_weights, probability_weights, rescaled
from stages.scoring.measures.bvsb import bvsb
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.network import NetworkSettings
from stages.settings.pseudo_label import PseudoLabelSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from stages.settings.train import TrainSettings
from stages.training.loop import Training
from stages.training.samples.maps import SetSamples, collate
from stages.training.schedules import build_schedule
from stages.training.window import Window, crop_image, crop_labels

CLASSES = 3
COSINE = {"classifier": "cosine", "align_corners": False}


@pytest.mark.parametrize(
    "height, width, asked, slots",
    [(1024, 2048, 2048, 2048), (375, 500, 183, 70), (333, 500, 162, 60), (320, 480, 150, 150), (281, 500, 137, 50)],
)
def test_a1_seeds_counts(height, width, asked, slots):
    assert fitting_blocks(height, width, asked, 5).slots == slots


def test_a1_same_input_same_map():
    image = stream(0, "image").integers(0, 256, (48, 64, 3)).astype(np.uint8)
    assert (cut(image, "seeds", count=12) == cut(image.copy(), "seeds", count=12)).all()


def test_a2_trim():
    labels = np.zeros((12, 16), np.int32)
    labels[:, 8:] = 1
    mask = np.ones((12, 16), np.uint8)
    mask[:, :9] = 0
    mask[5:7, 2:4] = VOID
    seen = evidence(mask, labels, 3, 2, 5)
    assert (seen > 0).astype(int).tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert seen.sum(1).tolist() == [60, 60, 0]
    assert (~inside(labels, 5)).any(0).nonzero()[0].tolist() == [5, 6, 7, 8, 9, 10]
    whole = evidence(mask, labels, 3, 2, 0)
    assert (whole > 0).astype(int).tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 0]]
    assert whole.sum(1).tolist() == [96, 96, 0]


def test_a3_thin_regions_are_seen_whole():
    labels = np.zeros((12, 16), np.int32)
    labels[:, 6:10], labels[:, 10:] = 1, 2
    mask = np.ones((12, 16), np.uint8)
    mask[:, :8] = 0
    seen = evidence(mask, labels, 4, 2, 5)
    assert seen.sum(1).tolist() == [36, 48, 36, 0]
    assert (seen > 0).astype(int).tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_trimming_is_a_dilation_of_the_border():
    from scipy.ndimage import binary_dilation

    generator = stream(0, "labels")
    labels = np.kron(generator.integers(0, 5, (4, 5)), np.ones((7, 6))).astype(np.int32)
    padded = np.pad(labels, 1, mode="edge")
    middle = padded[1:-1, 1:-1]
    border = np.zeros(labels.shape, bool)
    for other in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        border |= other != middle
    for trim in (1, 3, 5):
        assert (inside(labels, trim) == ~binary_dilation(border, np.ones((trim, trim)))).all()


LABELS = {"A": np.array([[0, 0], [1, 2]], np.int32), "B": np.array([[0, 0], [1, 1]], np.int32)}
CHANCE = {
    "A": [[(0.8, 0.1, 0.1), (0.5, 0.4, 0.1)], [(0.2, 0.6, 0.2), (0.1, 0.1, 0.8)]],
    "B": [[(0.6, 0.3, 0.1), (0.6, 0.3, 0.1)], [(0.1, 0.7, 0.2), (0.2, 0.7, 0.1)]],
}


class TestA5:
    """Two images, two classes and void; A has regions 0, 1, 2 and B 0, 1."""

    def scored(self):
        sums, pixels = [], []
        for image, chance in CHANCE.items():
            logits = torch.tensor(chance, dtype=torch.float64).log().permute(2, 0, 1).float()
            labels = torch.from_numpy(LABELS[image]).long()
            found = region_sums(bvsb(logits[None])[0], logits.argmax(0), labels, LABELS[image].max() + 1, 3)
            sums.append(found[0])
            pixels.append(found[1])
        return np.concatenate(sums), np.concatenate(pixels)

    def test_pixbal(self):
        shares = np.mean([np.mean(chance, (0, 1)) for chance in CHANCE.values()], 0)
        assert shares == pytest.approx([0.3875, 0.4, 0.2125])
        weights = probability_weights(shares, 6)
        assert weights == pytest.approx([0.090451, 0.086505, 0.193213], abs=1e-6)
        sums, pixels = self.scored()
        scores = (sums * weights).sum(1) / pixels.sum(1)
        scores[pixels.argmax(1) == 2] = 0
        assert scores == pytest.approx([0.041834, 0.028835, 0, 0.045226, 0.024716], abs=1e-6)
        assert np.argsort(-scores, kind="stable").tolist() == [3, 0, 1, 4, 2]

    def test_bvsb_and_classbal(self):
        sums, pixels = self.scored()
        means = rescaled(sums.sum(1) / pixels.sum(1))
        assert means == pytest.approx([0.9, 0.55556, 0, 1, 0.42857], abs=1e-5)
        shares = class_shares(pixels.argmax(1), pixels.sum(1), 3, "regions")
        assert shares == pytest.approx([0.4, 0.4, 0.2])
        weighed = means * class_weights(shares)[pixels.argmax(1)]
        assert weighed == pytest.approx([0.60329, 0.37240, 0, 0.67032, 0.28728], abs=1e-5)


def test_a6_budget():
    prices = np.array([2, 1, 2, 1, 1])  # of B0, A0, A1, B1, A2, the order of A5
    assert within_budget(prices, 3).tolist() == [True, True, False, False, False]
    assert within_budget(prices, 3, "exceeded").tolist() == [True, True, True, False, False]
    assert within_budget(prices, None).all()


def test_a11_schedule_with_a_floor():
    settings = TrainSettings(schedule="poly", poly_power=0.9, epochs=80)
    factor = build_schedule(settings.optimisation, 1000)
    assert 2e-5 * factor(40_000) == pytest.approx(1.07177e-5, rel=1e-5)
    floored = next(step for step in range(77_000, 80_000) if 2e-5 * factor(step) <= 1e-6)
    assert floored == 77_133
    factor = build_schedule(changed(settings.optimisation, {"epochs": 30}), 1000)
    assert next(step for step in range(27_000, 30_000) if 1e-5 * factor(step) <= 1e-6) == 27_678


def test_a12_mean_over_classes_with_a_union():
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    confusion = np.bincount(truth * 3 + predicted, minlength=9).reshape(3, 3)
    assert 100 * mean_iou(confusion) == pytest.approx(58.333, abs=1e-3)


def test_a13_network():
    settings = NetworkSettings(
        backbone="resnet50s", separable=True, weights="none", aspp_dropout=0.1, decoder_dropouts=(0, 0), **COSINE
    )
    with torch.device("meta"):
        network = build_network(settings, 20)
        shallow, deep = network.backbone(torch.rand(1, 3, 513, 513))
    assert shallow.shape == (1, 256, 129, 129)
    assert deep.shape == (1, 2048, 33, 33)
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(26.806, abs=5e-4)


def test_a13_logits_are_cosines_over_the_temperature():
    network = build_network(
        NetworkSettings(**{k: TINY[k] for k in ("backbone", "head_width", "low_level_width")}, **COSINE), 4
    )
    network.eval()
    image = torch.rand(1, 3, 33, 33)
    with torch.inference_mode():
        logits = network(image)
        network.classifier.weight *= 7
        again = network(image)
        reduced = network.classifier(network.features(image).bfloat16())
    assert logits.shape == (1, 4, 33, 33)
    assert logits.abs().max() * 0.1 <= 1 + 1e-5
    assert torch.allclose(logits, again, atol=1e-5)
    assert reduced.dtype == torch.float32


def test_a14_ids_are_cropped_as_the_image_and_never_interpolated():
    ids = stream(0, "ids").integers(0, 200, (20, 24)).astype(np.int32)
    image = np.repeat(ids[..., None].astype(np.uint8), 3, 2)
    exact = Window(20, 24, 4, 6, 8, 10, False)
    assert (crop_labels(ids, exact, -1) == ids[4:12, 6:16]).all()
    for window in (exact, Window(20, 24, 4, 6, 8, 10, True)):
        assert (crop_image(image, window, (0, 0, 0))[..., 0] == crop_labels(ids, window, -1)).all()
    larger = crop_labels(ids, Window(37, 43, 20, 20, 30, 40, True), -1)
    assert set(np.unique(larger)) <= {*np.unique(ids), -1}
    assert (larger == -1).any()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Six images of 48x64 with patches of three classes and a strip of void; squares of 256 pixels, two rounds."""
    folder = tmp_path_factory.mktemp("sets")
    masks, images = {}, {}
    for number in range(6):
        generator = stream(number, "scene")
        mask = np.kron(generator.integers(0, CLASSES, (4, 5)), np.ones((12, 13)))[:48, :64].astype(np.uint8)
        colours = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])[mask]
        images[f"i{number}"] = np.clip(colours + generator.integers(-30, 30, colours.shape), 0, 255).astype(np.uint8)
        mask[-14:, -14:] = VOID
        masks[f"i{number}"] = mask
    splits = {f"i{number}": "train" if number < 4 else "val" for number in range(6)}
    dataset = write_dataset(folder / "d.h5", masks, CLASSES, splits, images)
    regions = write_superpixels(folder, dataset, region_pixels=256)
    asked, answered = {"answer": "class-set", "budget": 30, "rule": "uniform"}, {"click_budget": 25}
    ledger = region_round(folder, dataset, 0, regions, select_settings=asked, annotate_settings=answered)
    return folder, dataset, regions, ledger


def settings_of_stage_1(**changes):
    values = TINY | COSINE | {"objective": "class-sets", "epochs": 3, "batch": 4, "crop": (48, 64)}
    return TrainSettings.load(changes, offered=values)


def test_sets_are_the_classes_inside_and_cost_a_click_each(world):
    _, dataset, regions, path = world
    ledger, cut = Annotations(path), Superpixels(regions)
    answers = ledger.answers
    with Dataset(dataset) as data:
        for row in range(len(answers)):
            image = ledger.ids[answers.image[row]]
            labels, mask = cut.labels(image), data.mask(image)
            own = labels == answers.region[row] - cut.rows[image].start
            seen = own & inside(labels, 5)
            found = np.unique(mask[seen if seen.any() else own])
            expected = [int(name in found) for name in [*range(CLASSES), VOID]]
            assert answers.class_sets[row].tolist() == expected
            assert answers.clicks[row] == sum(expected)
            alone = sum(expected) == 1 and not expected[-1]
            assert answers.label[row] == (found[0] if alone else VOID)
            assert answers.state[row] == (ANSWERED if any(expected[:-1]) else ANSWERED_VOID)
    assert answers.clicks.sum() >= 25 > answers.clicks[:-1].sum()
    assert ledger.header.counts["last_round"]["unanswered"] == 30 - len(answers)


def test_void_may_be_left_out_of_the_sets(world, tmp_path):
    _, dataset, regions, _ = world
    asked = {"answer": "class-set", "budget": 40, "rule": "uniform"}
    path = region_round(
        tmp_path, dataset, 0, regions, select_settings=asked, annotate_settings={"void_policy": "exclude"}
    )
    answers = Annotations(path).answers
    assert not answers.class_sets[:, -1].any()
    nothing = ~answers.class_sets.any(1)
    assert nothing.any()
    assert (answers.clicks[nothing] == 1).all()
    assert (answers.state[nothing] == ANSWERED_VOID).all()


def test_select_does_not_depend_on_the_truth(world, tmp_path):
    _, dataset, regions, _ = world
    with Dataset(dataset) as data:
        names = list(data.all_ids)
        images = {name: data.image(name) for name in names}
        splits = data.splits
    other = write_dataset(tmp_path / "d.h5", random_masks(names, (48, 64), CLASSES), CLASSES, splits, images)
    chosen = []
    for number, each in enumerate((dataset, other)):
        cut = write_superpixels(tmp_path, each, region_pixels=256) if number else regions
        scores = score.run(
            each, tmp_path / f"s{number}.h5", ScoreSettings(unit="region", measure="random"), superpixels=cut
        )
        asked = SelectSettings(rule="top", budget=9, answer="class-set")
        chosen.append(Queries(select.run(each, scores, tmp_path / f"q{number}.h5", asked, superpixels=cut)))
    assert (chosen[0].region == chosen[1].region).all()


def test_rounds_never_ask_a_region_twice(world, tmp_path):
    _, dataset, regions, ledger = world
    asked = {"answer": "class-set", "budget": 12, "rule": "uniform"}
    later = Annotations(region_round(tmp_path, dataset, 1, regions, ledger, select_settings=asked)).answers
    assert len(np.unique(later.region)) == len(later)


class TestStage1:
    @pytest.mark.slow
    def test_learns_and_is_repeatable(self, world, tmp_path):
        _, dataset, _, ledger = world
        digests = {
            Model(train.run(dataset, ledger, tmp_path / f"{n}.safetensors", settings_of_stage_1(workers=n))).digest
            for n in (0, 2)
        }
        assert len(digests) == 1

    def test_answers_reach_the_loss_as_they_are_in_the_ledger(self, world):
        _, dataset, _, path = world
        samples = samples_of(dataset, path, settings_of_stage_1(scale_range=(1, 1), flip=0), SetSamples)
        batch = collate([samples[(index, 0)] for index in range(len(samples))])
        ledger = Annotations(path)
        assert batch.sets.shape[1] == CLASSES
        for number, image in enumerate(samples.ids):
            places, sets = ledger.set_map(image)
            own = batch.labels[number].numpy()
            assert ((own >= 0) == (places >= 0)).all()
            assert (batch.sets.numpy()[own[own >= 0]] == sets[places[places >= 0]][:, :CLASSES]).all()

    def test_a_batch_without_answers_moves_no_weight_but_the_schedule(self, world, monkeypatch):
        _, dataset, _, ledger = world
        calls = []
        monkeypatch.setattr(Training, "descend", lambda self, *_: calls.append(self.state.step))
        monkeypatch.setattr("stages.training.samples.maps.crop_labels", lambda places, *_: np.full_like(places, -1))
        model = train.run(dataset, ledger, world[0] / "none.safetensors", settings_of_stage_1(epochs=2))
        assert calls == []
        assert Model(model).header.counts["epochs"] == 2

    def test_void_as_a_class_is_learned_but_never_a_result(self, world, tmp_path):
        from stages.commands import evaluate
        from stages.settings.evaluate import EvaluateSettings

        _, dataset, regions, ledger = world
        model = train.run(dataset, ledger, tmp_path / "m.safetensors", settings_of_stage_1(learn_void=True))
        assert Model(model).outputs == CLASSES + 1
        evaluation = evaluate.run(dataset, [model], tmp_path / "e.h5", EvaluateSettings(split="val"))
        from stages.artifacts.evaluation import Evaluation

        assert Evaluation(evaluation).confusion.shape[1:] == (CLASSES, CLASSES)
        for output, number in (("drop", CLASSES), ("ban", CLASSES + 1)):
            scored = ScoreSettings(unit="region", measure="bvsb", class_balance="probability", void_output=output)
            scores = Scores(score.run(dataset, tmp_path / f"{output}.h5", scored, model, regions))
            shares, weights = scores.read("classes/share"), scores.read("classes/weight")
            assert len(shares) == number
            assert shares.sum() == pytest.approx(1, abs=1e-6)
            offsets, of_class = scores.read("histogram/offsets"), scores.read("histogram/class")
            again = np.add.reduceat(scores.read("histogram/score") * weights[of_class], offsets[:-1])
            again /= scores.read("regions/size")
            again[scores.read("regions/predicted") == CLASSES] = 0
            assert scores.region_scores() == pytest.approx(again, rel=1e-4, abs=1e-7)

    def test_batch_does_not_change_the_scores(self, world, tmp_path):
        _, dataset, regions, ledger = world
        model = train.run(dataset, ledger, tmp_path / "m.safetensors", settings_of_stage_1())
        digests = set()
        for batch in (1, 4):
            scored = ScoreSettings(unit="region", measure="bvsb", class_balance="probability", batch=batch)
            digests.add(Scores(score.run(dataset, tmp_path / f"s{batch}.h5", scored, model, regions)).digest)
        assert len(digests) == 1


@pytest.fixture(scope="module")
def model(world):
    return train.run(world[1], world[3], world[0] / "stage1.safetensors", settings_of_stage_1())


class TestStage2:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"expansion": "none"},
            {"expansion": "largest"},
            {"method": "candidates"},
            {"method": "argmax"},
            {"flip": True, "scales": (0.75, 1.0)},
        ],
    )
    def test_labels_lie_in_the_sets(self, world, model, tmp_path, changes):
        _, dataset, regions, path = world
        settings = PseudoLabelSettings(**{"method": "prototypes"} | changes)
        pseudo = PseudoLabels(pseudo_label.run(dataset, path, model, tmp_path / "p.h5", settings, regions))
        ledger = Annotations(path)
        spread = 0
        for image in ledger.ids:
            labels, (places, sets) = pseudo.label_map(image), ledger.set_map(image)
            asked = ledger.queried_area(image)
            spread += int((labels[~asked] != VOID).sum())
            if settings.method != "argmax":
                named = (places >= 0) & (labels != VOID)
                assert sets[places[named], labels[named]].all()
                full = sets[:, :CLASSES].any(1)[np.maximum(places, 0)] & (places >= 0)
                assert (labels[full] != VOID).all()
        assert (spread > 0) == (settings.method == "prototypes" and settings.prototypes.expansion != "none")
        again = pseudo_label.run(dataset, path, model, tmp_path / "again.h5", settings, regions)
        assert PseudoLabels(again).digest == pseudo.digest

    def test_stage_2_trains_on_them(self, world, model, tmp_path):
        _, dataset, regions, path = world
        settings = PseudoLabelSettings(method="prototypes")
        labels = pseudo_label.run(dataset, path, model, tmp_path / "p.h5", settings, regions)
        stage2 = Model(train.run(dataset, labels, tmp_path / "m.safetensors", settings_of_stage_1(objective="labels")))
        assert stage2.header.counts["clicks"] == Annotations(path).cost()["clicks"]

    def test_what_does_not_fit_is_refused(self, world, model, tmp_path):
        _, dataset, regions, path = world
        prototypes = PseudoLabelSettings(method="prototypes")
        with pytest.raises(
            BadInput, match=r"^Class sets belong to regions\. Pass the queried regions with --superpixels\.$"
        ):
            pseudo_label.run(dataset, path, model, tmp_path / "p.h5", prototypes)
        other = write_superpixels(tmp_path, dataset, region_pixels=64)
        with pytest.raises(
            BadInput,
            match=r"answers queries of other regions than .*grid\.h5\. Pass the superpixels that were queried\.$",
        ):
            pseudo_label.run(dataset, path, model, tmp_path / "p.h5", prototypes, other)
        linear = settings_of_stage_1(classifier="linear")
        plain = train.run(dataset, path, tmp_path / "plain.safetensors", linear)
        told = (
            r"has no cosine classifier, which prototypes need\. Train a model with --architecture deeplabv3plus "
            r"--classifier cosine\.$"
        )
        with pytest.raises(BadInput, match=told):
            pseudo_label.run(dataset, path, plain, tmp_path / "p.h5", prototypes, regions)
        dominant = region_round(tmp_path, dataset, 0, regions)
        with pytest.raises(BadInput, match=r"contains no class sets\. Use --method sieve\.$"):
            pseudo_label.run(dataset, dominant, model, tmp_path / "p.h5", prototypes, regions)
        with pytest.raises(BadInput, match=r"has no class sets\. Set --objective labels\.$"):
            train.run(dataset, dominant, tmp_path / "m.safetensors", settings_of_stage_1())
        labels = pseudo_label.run(dataset, path, model, tmp_path / "good.h5", prototypes, regions)
        told = r"holds pseudo_labels, but objective class-sets learns from annotations\. Pass a ledger\.$"
        with pytest.raises(BadInput, match=told):
            train.run(dataset, labels, tmp_path / "m.safetensors", settings_of_stage_1())


def test_trim_must_be_odd():
    with pytest.raises(BadInput, match=r"trim must be odd \(its square is centred on the border\), or 0 for none$"):
        AnnotateSettings.load({"trim": 4})
    assert AnnotateSettings.load({"trim": 0}).flat()["trim"] == 0
