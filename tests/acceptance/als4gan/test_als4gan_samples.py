"""Acceptance check 11 of ALS4GAN: samples are scaled, padded and mirrored, and their labels with them."""

import numpy as np
import pytest
import tasks
from als4gan_support import answered, made_of, patchwork, settings_of

from stages.artifacts.dataset import Dataset
from stages.pixels.void import VOID
from stages.runtime.randomness import stream
from stages.training.samples.images import ImageSamples
from stages.training.samples.streams import STREAMS, StreamSamples
from stages.training.window import Scales, Window, crop_image, crop_labels

FACTORS = [number / 10 for number in range(5, 17)]
CODED = 50  # side of the images; every factor makes it a whole number of pixels


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """Images of 50x50 whose grey is 20 + 60 times the class; three of six have masks, all have a class."""
    folder, pairs = tmp_path_factory.mktemp("coded"), {}
    for number in range(6):
        mask = stream(number, "coded").integers(0, 4, (2, 2)).repeat(25, 0).repeat(25, 1).astype(np.uint8)
        pairs[f"t{number}"] = np.repeat(20 + 60 * mask[..., None], 3, 2), mask
    dataset = made_of(folder / "d.h5", pairs, 4)
    classes = answered(folder, dataset, "classes", image_answer="class")
    return dataset, answered(folder, dataset, "masks", classes, image_answer="mask", budget=3)


def samples_of(kind, coded, **own):
    own |= {"crop": (80, 80), "scale_step": 0.1, "scale_range": (0.5, 1.6)}
    return tasks.samples_of(*coded, settings_of("classifier" if kind is ImageSamples else "model", **own), kind)


def keys_of(samples):
    """What the samples are asked for, 30 times each."""
    if isinstance(samples, ImageSamples):
        return [(index, turn) for index in range(len(samples)) for turn in range(30)]
    return [(name, index, turn) for name in STREAMS for index in range(3) for turn in range(30)]


def test_check_11_scales_are_those_of_the_recipe():
    fit = settings_of("classifier").augmentation
    assert Scales(*fit.scale_range, fit.scale_step).choices() == pytest.approx(FACTORS)
    model = settings_of("model").augmentation  # mirrored, not scaled
    assert (model.scale_range, model.flip) == ((1, 1), 0.5)


def test_check_11_samples_are_scaled_padded_and_aligned(coded):
    """Where the sample is no padding the grey tells the label, but for pixels between two classes."""
    samples, found = samples_of(StreamSamples, coded), set()
    for key in keys_of(samples):
        image, labels, valid, _ = samples[key]
        rows, columns = int(valid.any(1).sum()), int(valid.any(0).sum())
        assert rows == columns
        found.add(rows / CODED)
        padding = ~valid
        left = bool(valid[0, 0])  # mirrored ones have theirs on the left
        assert valid[:rows, :columns].all() if left else valid[:rows, -columns:].all()
        assert valid.sum() == rows * columns
        assert (image[padding] == samples.padding[0]).all()
        assert np.abs(image[padding] / 255 - 0.5).max(initial=0) < 1 / 255  # 0 but for rounding once the mean is off
        assert (labels[padding] == VOID).all()
        if key[0] == "unlabelled":
            assert (labels == VOID).all()
            continue
        assert (labels[valid] != VOID).all()
        wrong = valid & (np.abs(image[..., 0].astype(int) - 20 - 60 * labels.astype(int)) > 30)
        assert wrong.sum() <= 2 * (rows + columns)
    assert sorted(found) == pytest.approx(FACTORS)


@pytest.mark.parametrize("kind", [StreamSamples, ImageSamples])
def test_check_11_mirrored_twice_is_as_it_was(coded, kind):
    """The same draws but for the mirror."""
    plain, mirrored, half = (samples_of(kind, coded, flip=flip) for flip in (0.0, 1.0, 0.5))
    shown, times = 0, 0
    for key in keys_of(plain):
        for each, other, either in zip(plain[key], mirrored[key], half[key], strict=True):
            if isinstance(each, np.ndarray) and each.ndim > 1:
                assert (other[:, ::-1] == each).all()
                assert (either == each).all() or (either == other).all()
        shown, times = shown + int((half[key][0] == mirrored[key][0]).all()), times + 1
    assert 0.3 < shown / times < 0.7
    window = Window(60, 70, 3, 5, 40, 50, False)
    image, mask = patchwork(0)
    for crop in (lambda own: crop_labels(mask, own), lambda own: crop_image(image, own, (0, 0, 0))):
        assert (crop(Window(60, 70, 3, 5, 40, 50, True))[:, ::-1] == crop(window)).all()


def test_check_11_images_of_the_classifier_are_scaled_and_their_class_is_not(coded):
    samples, found = samples_of(ImageSamples, coded, flip=0.0), set()
    with Dataset(coded[0]) as data:
        for index, turn in keys_of(samples):
            image, target, _ = samples[(index, turn)]
            rows = int((image[:, 0, 0] != samples.padding[0]).sum())
            found.add(rows / CODED)
            assert (image[rows:] == samples.padding[0]).all()
            assert target == np.bincount(data.mask(samples.ids[index]).ravel()).argmax()
    assert sorted(found) == pytest.approx(FACTORS)
