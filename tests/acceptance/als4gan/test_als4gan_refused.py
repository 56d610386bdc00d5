"""Calls of ALS4GAN's stages that cannot be right are refused with their remedy, and nothing is written."""

import numpy as np
import pytest
from als4gan_support import CLASSES, ROUNDS, SHARES, answered, settings_of
from worlds import write_dataset, write_superpixels

from stages.commands import annotate_simulate, evaluate, extract_superpixels, pseudo_label, score, select, train
from stages.runtime.errors import BadInput
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.extract_superpixels import ExtractSettings
from stages.settings.pseudo_label import PseudoLabelSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from stages.settings.train import TrainSettings


def refused(world, tmp_path, what):
    """Calls that cannot be right, by what is wrong with them."""
    dataset, classifier, output = world["dataset"], world["classifier0"], tmp_path / "out.h5"
    scored = settings_of("scores", 1)
    match what:
        case "evaluate a classifier":
            evaluate.run(dataset, [classifier], output, settings_of("evaluation"))
        case "labels of a classifier":
            gated = PseudoLabelSettings(method="gated")
            pseudo_label.run(dataset, world["masks"], classifier, output, gated)
        case "regions of a classifier":
            base = write_superpixels(tmp_path, dataset)
            extract_superpixels.run(dataset, output, ExtractSettings(method="adaptive"), base, classifier)
        case "pixels of a classifier":
            score.run(dataset, output, ScoreSettings(measure="entropy"), classifier)
        case "a committee of a classifier":
            score.run(dataset, output, settings_of("scores", 1, committee=2), classifier)
        case "k-centre without a choice":
            asked = settings_of("queries", 1, **SHARES, rule="k-centre", fraction=0.05)
            kept = score.run(
                world["dataset"], tmp_path / "s.h5", settings_of("scores", 1, keep_features=True), world["classifier0"]
            )
            select.run(world["dataset"], kept, output, asked, world["ledger0"])
        case "k-centre without features":
            asked = settings_of("queries", 1, **SHARES, rule="k-centre")
            select.run(dataset, world["scores1"], output, asked, world["ledger0"])
        case "answered without a ledger":
            select.run(dataset, world["scores1"], output, settings_of("chosen"))
        case "answered for classes":
            select.run(dataset, world["scores1"], output, settings_of("chosen", image_answer="class"), world["ledger1"])
        case "answered twice":
            select.run(dataset, world["scores1"], output, settings_of("chosen"), world["masks"])
        case "clusters of images":
            asked = SelectSettings(rule="clusters")
            select.run(dataset, world["scores1"], output, asked, world["ledger0"])
        case "an objective without its architecture":
            TrainSettings.load({"objective": "image-classes"})
        case "an architecture without its objective":
            TrainSettings.load({"architecture": "classifier", "objective": "adversarial"})
        case "a classifier of masks":
            ledger = answered(tmp_path, dataset, "masks", image_answer="mask", budget=4)
            train.run(dataset, ledger, tmp_path / "m.safetensors", settings_of("classifier"))
        case "masks of classes":
            train.run(dataset, world["ledger1"], tmp_path / "m.safetensors", settings_of("model"))
        case "labels of classes":
            plain = settings_of("model", recipe="als4gan-supervised")
            train.run(dataset, world["ledger1"], tmp_path / "m.safetensors", plain)
        case "no image without a mask":
            ledger = answered(tmp_path, dataset, "all", image_answer="mask")
            train.run(dataset, ledger, tmp_path / "m.safetensors", settings_of("model"))
        case "no discriminator":
            plain = settings_of("model", recipe="als4gan-supervised", epochs=1)
            model = train.run(dataset, world["masks"], tmp_path / "plain.safetensors", plain)
            pseudo_label.run(dataset, world["masks"], model, output, PseudoLabelSettings(method="gated"))
        case "no masks beside":
            pseudo_label.run(dataset, world["ledger1"], world["model"], output, PseudoLabelSettings(method="gated"))
        case "errors in masks":
            wrong = AnnotateSettings(error_rate=0.1)
            annotate_simulate.run(dataset, world["chosen"], output, wrong, world[f"ledger{ROUNDS - 1}"])
        case "classes by another classifier":
            other = write_dataset(tmp_path / "o.h5", {"a": np.zeros((64, 64), np.uint8)}, CLASSES + 1)
            score.run(other, output, scored, classifier)


SEGMENTS_NOT = r"classifier0\.safetensors predicts classes of whole images\. Pass a segmentation model\.$"


@pytest.mark.parametrize(
    "what, sentence",
    [
        ("evaluate a classifier", SEGMENTS_NOT),
        ("labels of a classifier", SEGMENTS_NOT),
        ("regions of a classifier", SEGMENTS_NOT),
        ("pixels of a classifier", SEGMENTS_NOT),
        (
            "a committee of a classifier",
            r"classifier0\.safetensors is a classifier of images, which has no committee\. Use a measure of one pass "
            r"\(bvsb, entropy, least-confidence, margin, one-vs-rest-entropy\) with --committee 0\.$",
        ),
        (
            "k-centre without a choice",
            r"^--rule k-centre cannot choose 2 images of the 1 with the highest scores \(--fraction 0\.05\)\. "
            r"Raise --fraction, for example to 0\.5\.$",
        ),
        (
            "k-centre without features",
            r"scores1\.h5 has no features of images\. Score with --unit image, a classifier as --model and "
            r"--keep-features\.$",
        ),
        (
            "answered without a ledger",
            r"^No image has an answered class yet\. Pass --annotations with answers about classes of images\.$",
        ),
        (
            "answered for classes",
            r"^--rule answered queries masks\. Set --image-answer mask\.$",
        ),
        ("answered twice", r"^Nothing left to query: every image with an answered class already has a mask\.$"),
        (
            "clusters of images",
            r"^Rule clusters serves regions, and .*scores1\.h5 has images\. Use answered, diverse, k-centre, pool, "
            r"power, reverse-pool, stratified, top, typical, uniform\.$",
        ),
        (
            "an objective without its architecture",
            r"objective image-classes learns classes of images, and architecture deeplabv3plus predicts classes of "
            r"pixels; set an architecture that predicts classes of images$",
        ),
        (
            "an architecture without its objective",
            r"objective adversarial learns classes of pixels, and architecture classifier predicts classes of images; "
            r"set an architecture that predicts classes of pixels$",
        ),
        (
            "a classifier of masks",
            r"masks\.h5 has no classes of images\. Query them with --image-answer class\.$",
        ),
        (
            "masks of classes",
            r"ledger1\.h5 has no full masks, which objective adversarial learns from\. Query them with --image-answer "
            r"mask\.$",
        ),
        ("labels of classes", "has no labels of pixels, only classes of images. Set --objective image-classes."),
        (
            "no image without a mask",
            r"^Split 'train' has no unlabelled images left: every image has a mask\. Set --objective labels\.$",
        ),
        (
            "no discriminator",
            r"plain\.safetensors has no discriminator\. Train one with --objective adversarial\.$",
        ),
        (
            "no masks beside",
            r"ledger1\.h5 contains no full masks, which method gated needs\. Query masks of images first\.$",
        ),
        (
            "errors in masks",
            r"error-rate does not apply to answer mask; it is for answer class, dominant, image-class\.$",
        ),
        (
            "classes by another classifier",
            r"classifier0\.safetensors was trained for the classes class0, class1, class2, \.\.\. but .*o\.h5 has "
            r"class0, class1, class2, class3, \.\.\. Pass a model trained on these classes\.$",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_remedy(world, tmp_path, what, sentence):
    with pytest.raises(BadInput, match=sentence):
        refused(world, tmp_path, what)
    assert not (tmp_path / "out.h5").exists()
    assert not (tmp_path / "m.safetensors").exists()
