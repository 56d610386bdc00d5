"""Augmentation, class weights, the loop's skipped step, early stop and resume."""

import csv

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as V
from hypothesis import given, settings
from hypothesis import strategies as st
from tasks import training_of
from worlds import TINY, random_masks, random_round, write_dataset

from stages.artifacts.annotations import Annotations
from stages.artifacts.model import Model
from stages.commands import train
from stages.pixels.resize import source_indices
from stages.runtime.errors import BadInput
from stages.runtime.randomness import stream
from stages.settings.train import AugmentationSettings, TrainSettings
from stages.training.colour import ColourDraw, augment_colour, draw_colour, gaussian_blur
from stages.training.learners.network import label_weights
from stages.training.samples.maps import epoch_batches
from stages.training.window import Scales, Window, crop_image, crop_labels, draw_window


@given(
    size=st.tuples(st.integers(4, 40), st.integers(4, 40)),
    crop=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    scale=st.floats(0.3, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_window_reads_every_cell_from_inside_the_source_or_pads_it(size, crop, scale, seed):
    window = draw_window(size, crop, Scales(scale, scale), 0.5, np.random.default_rng(seed))
    codes = np.arange(size[0] * size[1]).reshape(size) % 255
    labels = crop_labels(codes.astype(np.uint8), window)
    image = crop_image(codes.astype(np.uint8)[..., None].repeat(3, 2), window, (1, 2, 3))
    assert labels.shape == crop
    assert image.shape == (*crop, 3)
    rows, columns = window.visible
    assert 1 <= rows <= crop[0]
    assert 1 <= columns <= crop[1]
    upright = labels[:, ::-1] if window.mirrored else labels
    assert (upright[:rows, :columns] != 255).all()
    assert (upright[rows:] == 255).all()
    assert (upright[:, columns:] == 255).all()
    padding = (image[:, ::-1] if window.mirrored else image)[rows:]
    assert (padding == [1, 2, 3]).all()


@given(source=st.integers(1, 60), scaled=st.integers(1, 180))
@settings(max_examples=100, deadline=None)
def test_source_indices_are_pixel_centres(source, scaled):
    found = source_indices(0, scaled, scaled, source)
    exact = [int(np.floor((i + 0.5) * source / scaled + 1e-9)) for i in range(scaled)]
    assert found.tolist() == exact
    assert found.min() >= 0
    assert found.max() < source


def test_without_scaling_the_crop_is_the_image_itself():
    image = np.random.default_rng(0).integers(0, 256, (9, 11, 3)).astype(np.uint8)
    window = Window(9, 11, 2, 3, 5, 6, False)
    assert (crop_image(image, window, (0, 0, 0)) == image[2:7, 3:9]).all()
    mirrored = crop_image(image, Window(9, 11, 2, 3, 5, 6, True), (0, 0, 0))
    assert (mirrored == image[2:7, 3:9][:, ::-1]).all()


@pytest.mark.parametrize("size, sigma", [(3, 0.3), (9, 1.1), (25, 2.0)])
def test_blur_equals_torchvision(size, sigma):
    image = torch.rand(3, 30, 40)
    expected = V.gaussian_blur(image, [size, size], [sigma, sigma])
    assert torch.allclose(gaussian_blur(image, size, sigma), expected, atol=1e-6)


def test_colour_augmentation_keeps_range_and_touches_only_its_sample():
    images = torch.rand(3, 3, 24, 24)
    draws = [
        ColourDraw((), False, 0.0),
        ColourDraw((("hue", 0.1), ("brightness", 1.6), ("contrast", 0.4), ("saturation", 1.8)), False, 1.0),
        ColourDraw((), True, 0.0),
    ]
    done = augment_colour(images, draws)
    assert torch.equal(done[0], images[0])
    assert not torch.allclose(done[1], images[1])
    assert torch.allclose(done[2][0], done[2][1])
    assert (done >= -1e-6).all()
    assert (done <= 1 + 1e-6).all()


def test_images_of_other_bands_get_brightness_and_contrast_but_no_hue_saturation_or_grey():
    images = torch.tensor([0.2, 0.4, 0.6, 0.8, 0.0]).view(1, 5, 1, 1).expand(1, 5, 4, 4).clone()
    none = [ColourDraw((("hue", 0.3), ("saturation", 2.0)), True, 0.0)]
    assert torch.equal(augment_colour(images, none), images)
    found = augment_colour(images, [ColourDraw((("brightness", 1.5), ("contrast", 0.5)), False, 0.0)])
    # times 1.5 and clipped: 0.3 0.6 0.9 1 0; halfway to their mean of 0.56
    assert torch.allclose(found[0, :, 0, 0], torch.tensor([0.43, 0.58, 0.73, 0.78, 0.28]))


def test_colour_draws_have_the_stated_frequencies():
    chosen = TrainSettings(jitter=0.8, grey=0.2, blur=0.5)
    draws = [draw_colour(chosen.augmentation, stream(0, "test", number)) for number in range(2000)]
    shares = [np.mean([bool(getattr(draw, name)) for draw in draws]) for name in ("jitter", "grey", "sigma")]
    assert shares == pytest.approx([0.8, 0.2, 0.5], abs=0.04)
    hues = [factor for draw in draws for name, factor in draw.jitter if name == "hue"]
    assert -0.2 <= min(hues) < -0.15
    assert 0.15 < max(hues) <= 0.2


@pytest.mark.parametrize(
    "seed, jitter, grey, sigma, following",
    [
        (1, (), False, 1.3422672675852219, 0.8965029647577131),
        (
            2,
            (
                ("saturation", 1.7963145032253098),
                ("hue", -0.00801564144982625),
                ("brightness", 1.5320465647497004),
                ("contrast", 1.6792324527378928),
            ),
            False,
            1.6147715040858142,
            0.11496539594869504,
        ),
        (
            3,
            (
                ("contrast", 0.7623822221425726),
                ("brightness", 1.1335694447144449),
                ("hue", -0.14499759959469813),
                ("saturation", 0.7178660659600166),
            ),
            True,
            0.0,
            0.2888855021760941,
        ),
    ],
)
def test_colour_draws_by_default_are_as_before_sigma_and_kernel_could_be_set(seed, jitter, grey, sigma, following):
    """Numbers noted down before, and the stream is where it was left then."""
    generator = stream(seed, "pin colour")
    assert draw_colour(AugmentationSettings(), generator) == ColourDraw(jitter, grey, sigma, kernel=0)
    assert generator.random() == following


@pytest.mark.parametrize(
    "sigma, side", [(0.0, 1), (0.3, 1), (0.606, 1), (0.607, 3), (0.99, 3), (1.0, 3), (1.3, 5), (2.0, 7), (3.0, 9)]
)
def test_kernel_of_sigma(sigma, side):
    """int(3.3 sigma), one more where even; a side of 1 changes nothing, and a larger one blurs as torchvision does."""
    chosen = TrainSettings(jitter=0, grey=0, blur=1, blur_sigma=(sigma, sigma), blur_kernel="sigma")
    draw = draw_colour(chosen.augmentation, stream(0, "test"))
    assert (draw.sigma, draw.kernel) == (sigma, side)
    image = torch.rand(1, 3, 20, 24)
    expected = image if side == 1 else V.gaussian_blur(image, [side, side], [sigma, sigma])
    done = augment_colour(image, [draw])
    assert torch.equal(done, image) if side == 1 else torch.allclose(done, expected, atol=1e-6)


@pytest.mark.parametrize("kernel", ["image", "sigma"])
def test_a_sigma_of_zero_blurs_nothing(kernel):
    chosen = TrainSettings(jitter=0, grey=0, blur=1, blur_sigma=(0, 0), blur_kernel=kernel)
    images = torch.rand(2, 3, 40, 60)
    draws = [draw_colour(chosen.augmentation, stream(0, "test", number)) for number in range(2)]
    assert torch.equal(augment_colour(images, draws), images)
    other = ColourDraw((), True, 0.0)  # so that the batch is gone through
    assert torch.equal(augment_colour(images, [draws[0], other])[0], images[0])


def test_each_sample_is_blurred_with_its_own_kernel():
    images = torch.rand(3, 3, 40, 60)
    done = augment_colour(images, [ColourDraw((), False, 1.0, kernel) for kernel in (1, 3, 0)])
    assert torch.equal(done[0], images[0])
    assert torch.allclose(done[1], gaussian_blur(images[1], 3, 1.0))
    assert torch.allclose(done[2], gaussian_blur(images[2], 5, 1.0))  # a tenth of 40, and 1


def test_a_kernel_wider_than_the_crop_is_cut_to_what_reflection_reaches():
    images = torch.rand(1, 3, 4, 5)
    done = augment_colour(images, [ColourDraw((), False, 9.0, 29)])
    assert torch.allclose(done[0], gaussian_blur(images[0], 7, 9.0))


def test_class_weights():
    counts = np.array([60, 30, 10, 0])
    assert label_weights("none", counts) is None
    assert label_weights("complement", counts) == pytest.approx([0.4, 0.7, 0.9, 1.0])
    inverse = label_weights("inverse", counts)
    assert inverse[:3] * counts[:3] == pytest.approx([inverse[0] * 60] * 3)
    assert inverse[:3].mean() == pytest.approx(1)
    assert inverse[3] == 1


@given(count=st.integers(1, 60), batch=st.integers(2, 9), epoch=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_an_epoch_shows_every_image_once_but_a_lone_last_one(count, batch, epoch):
    batches = epoch_batches(count, batch, 0, epoch)
    shown = np.concatenate(batches).tolist()
    assert len(set(shown)) == len(shown)
    assert len(shown) == (count - 1 if count % batch == 1 and count > 1 else count)
    assert [len(part) for part in batches[:-1]] == [batch] * (len(batches) - 1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    names = [f"i{number}" for number in range(6)]
    splits = dict(zip(names, ["train"] * 4 + ["val"] * 2, strict=True))
    masks = random_masks(names, (32, 32), 3)
    generator = np.random.default_rng(0)
    images = {name: generator.integers(0, 256, (32, 32, 3)).astype(np.uint8) for name in names}
    dataset = write_dataset(folder / "d.h5", masks, 3, splits, images)
    return folder, dataset, random_round(folder, dataset, 0)


def build_training(world, key="key", **changes):
    folder, dataset, ledger = world
    return training_of(folder / "m.safetensors", dataset, ledger, TrainSettings(**TINY | changes), 3, key)


def test_a10_a_batch_without_labels_changes_nothing(world, monkeypatch):
    """A10: parameters and optimiser state stay as they are, and the logged loss is finite."""
    training = build_training(world, key="unlabelled", epochs=1, patience=0)
    nothing = np.full((32, 32), 255, np.uint8)
    monkeypatch.setattr(Annotations, "label_map", lambda self, image, void=255: nothing)
    network = training.learner.modules["network"]
    before = {name: value.clone() for name, value in network.named_parameters()}
    trained = training.run()
    assert all(torch.equal(before[name], value) for name, value in network.named_parameters())
    assert training.optimisers["network"].state_dict()["state"] == {}
    assert trained.history[0]["loss"] == 0
    assert trained.history[0]["updates"] == 0


def test_early_stop_after_patience_validations_without_better(world, monkeypatch):
    training = build_training(world, key="patience", epochs=50, patience=3)
    results = iter([0.1, 0.3, 0.2, 0.3, 0.29, 0.5])
    monkeypatch.setattr(training.learner, "validate", lambda: {"miou": next(results), "accuracy": 0.0})
    trained = training.run()
    assert len(trained.history) == 5
    assert trained.best_epoch == 2


def test_best_and_last_weights_are_both_kept(world):
    folder, dataset, ledger = world
    model = Model(train.run(dataset, ledger, folder / "both.safetensors", TrainSettings(**TINY, epochs=6)))
    assert model.checkpoints() == ["last", "best"]
    last, best = model.weights("last"), model.weights("best")
    assert last.keys() == best.keys()
    if model.attributes["best_epoch"] != 6:
        assert any(not torch.equal(last[name], best[name]) for name in last)
    lines = (folder / "both.history.csv").read_text().splitlines()
    assert len(lines) == 7
    assert (folder / "both.curve.png").read_bytes().startswith(b"\x89PNG")


def test_every_round_starts_from_the_same_weights(world):
    """A12: the initial weights depend on settings and seed, not on any model before."""
    states = [
        build_training(world, key=f"start{number}").learner.modules["network"].state_dict() for number in range(2)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.slow
def test_loader_processes_change_neither_model_nor_history(world):
    digests, rows = set(), []
    for workers in (0, 2):
        output = world[0] / f"w{workers}.safetensors"
        chosen = TrainSettings(**TINY, epochs=2, workers=workers)
        digests.add(Model(train.run(world[1], world[2], output, chosen)).digest)
        with output.with_name(f"w{workers}.history.csv").open() as file:
            rows.append([{**row, "images_per_second": None} for row in csv.DictReader(file)])
    assert len(digests) == 1
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    "optimiser, schedule",
    [("adam", "constant"), ("adamw", "one-cycle"), ("sgd", "poly"), ("adam", "milestones")],
)
def test_training_learns_its_labels(world, optimiser, schedule):
    rates = {"backbone_lr": 1e-3, "head_lr": 5e-3} if optimiser != "sgd" else {"backbone_lr": 5e-2, "head_lr": 5e-2}
    plain = {
        "jitter": 0,
        "grey": 0,
        "blur": 0,
        "flip": 0,
        "scale_range": (1, 1),
        "aspp_dropout": 0,
        "decoder_dropouts": (0, 0),
    }
    training = build_training(
        world,
        key=optimiser + schedule,
        epochs=12,
        optimiser=optimiser,
        schedule=schedule,
        **({"milestones": (8,)} if schedule == "milestones" else {}),
        **rates,
        **plain,
    )
    history = training.run().history
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_separate_rates_for_backbone_and_head(world):
    training = build_training(world, backbone_lr=0.0, head_lr=1e-2, epochs=1, weight_decay=0.0)
    network = training.learner.modules["network"]
    before = {name: value.clone() for name, value in network.named_parameters()}
    training.run()
    moved = {name for name, value in network.named_parameters() if not torch.equal(before[name], value)}
    assert moved
    assert not any(name.startswith("backbone.") for name in moved)


def test_one_labelled_image_is_refused(tmp_path):
    dataset = write_dataset(tmp_path / "d.h5", random_masks(["a"], (32, 32), 3), 3)
    ledger = random_round(tmp_path, dataset, 0)
    with pytest.raises(
        BadInput,
        match=r"has labels in 1 images, but batch normalisation needs at least 2 per process\. Annotate more images\.$",
    ):
        train.run(dataset, ledger, tmp_path / "m.safetensors", TrainSettings(**TINY, epochs=1))


def test_batch_normalisation_learns_its_statistics_at_the_rate_asked_for(world):
    folder, dataset, ledger = world
    slow = TrainSettings(**TINY, epochs=1, crop=(32, 32), norm_momentum=1e-6)
    usual = TrainSettings(**TINY, epochs=1, crop=(32, 32))
    weights = [
        Model(train.run(dataset, ledger, folder / f"{name}.safetensors", settings)).weights("last")
        for name, settings in (("slow", slow), ("usual", usual))
    ]
    means = [name for name in weights[0] if name.endswith("running_mean")]
    moved = [max(float(each[name].abs().max()) for name in means) for each in weights]
    assert moved[0] < 1e-3 < moved[1]
