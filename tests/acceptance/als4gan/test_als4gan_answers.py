"""Acceptance check 8 of ALS4GAN: answers about classes of images, and masks beside them."""

import numpy as np
import pytest
from als4gan_support import BUDGET, CLASSES, ROUNDS, SCENES, SEED, SIZES, answered, settings_of
from worlds import write_dataset

from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import ANSWERED, ANSWERED_VOID, COLUMNS
from stages.artifacts.dataset import Dataset
from stages.artifacts.model import Model
from stages.artifacts.scores import Scores
from stages.commands import annotate_simulate, score, train
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput
from stages.training.samples.images import image_targets


def test_check_8_classes_by_name_reach_the_classifier(named):
    folder, dataset, path = named
    ledger = Annotations(path)
    found = {
        ledger.ids[image]: int(label) for image, label in zip(ledger.answers.image, ledger.answers.label, strict=True)
    }
    assert found == {"tenniscourt07": 20, "agricultural00": 0, "beach03": 3, "river01": 16}
    assert ledger.image_classes == SCENES
    assert ledger.header.counts["last_round"]["per_class"]["tenniscourt"] == 1
    assert ledger.answers.clicks.tolist() == [1] * 4
    assert {name: int(label) for name, label in image_targets(ledger).items()} == found
    model = train.run(dataset, path, folder / "m.safetensors", settings_of("classifier"))
    assert Model(model).outputs == 21
    scores = Scores(score.run(dataset, folder / "s.h5", settings_of("scores", 1), model))
    p = scores.read("images/probability").astype(np.float64)
    assert p.shape == (4, 21)
    assert p.sum(1) == pytest.approx(1, abs=1e-5)  # check 4: of one softmax
    assert scores.image_scores() == pytest.approx(-(p * np.log(p)).sum(1), abs=1e-5)


def halves(*parts):
    """A mask of 10x10 whose pixels are the given (class, number) one after the other."""
    return np.concatenate([np.full(number, name, np.uint8) for name, number in parts]).reshape(10, 10)


MASKS = {
    "water": halves((4, 60), (3, 40)),
    "tie": halves((5, 30), (2, 30), (VOID, 40)),
    "unknown": halves((VOID, 100)),
    "rare": halves((1, 76), (0, 4), (VOID, 20)),
}


def test_check_8_the_majority_is_the_class_and_an_unknown_image_teaches_nothing(tmp_path):
    dataset = write_dataset(tmp_path / "d.h5", MASKS, 6)
    ledger = Annotations(answered(tmp_path, dataset, "one", image_answer="class"))
    answers = {ledger.ids[image]: row for row, image in enumerate(ledger.answers.image)}
    labels = {name: int(ledger.answers.label[row]) for name, row in answers.items()}
    assert labels == {"water": 4, "tie": 2, "unknown": VOID, "rare": 1}
    assert ledger.answers.state[answers["unknown"]] == ANSWERED_VOID
    assert (ledger.answers.clicks == 1).all()
    assert ledger.header.counts["void"] == 1
    assert image_targets(ledger).keys() == {"water", "tie", "rare"}
    assert ledger.labelled_ids() == []  # of pixels none is labelled
    alone = write_dataset(tmp_path / "u.h5", {"unknown": MASKS["unknown"]}, 6)
    (tmp_path / "alone").mkdir()
    nothing = answered(tmp_path / "alone", alone, "one", image_answer="class")
    with pytest.raises(BadInput, match=r"has no classes of images: every answer is void\. Annotate more\.$"):
        train.run(alone, nothing, tmp_path / "m.safetensors", settings_of("classifier"))


@pytest.mark.parametrize("share, rare", [(0.05, [0, 1]), (0.051, [1]), (0.0, [0, 1])])
def test_check_8_all_classes_in_an_image_cost_a_click_each(tmp_path, share, rare):
    """4 of 80 known pixels are a share of 0.05."""
    dataset = write_dataset(tmp_path / "d.h5", MASKS, 6)
    path = answered(tmp_path, dataset, "all", image_answer="classes", annotate={"presence_share": share})
    ledger = Annotations(path)
    sets = {ledger.ids[image]: ledger.answers.class_sets[row] for row, image in enumerate(ledger.answers.image)}
    found = {name: np.flatnonzero(row).tolist() for name, row in sets.items()}
    assert found == {"water": [3, 4], "tie": [2, 5], "unknown": [], "rare": rare}
    for row, image in enumerate(ledger.answers.image):
        named = len(found[ledger.ids[image]])
        assert ledger.answers.clicks[row] == ledger.answers.seconds[row] == max(named, 1)
        assert ledger.answers.state[row] == (ANSWERED if named else ANSWERED_VOID)
    assert ledger.names_sets
    masks = Annotations(answered(tmp_path, dataset, "masks", path, rule="answered", image_answer="mask"))
    assert (masks.answers.class_sets[:4] == ledger.answers.class_sets).all()
    assert not masks.answers.class_sets[4:].any()
    assert all((masks.label_map(name) == mask).all() for name, mask in MASKS.items())


def test_check_8_one_ledger_carries_classes_and_masks_side_by_side(world, tmp_path):
    before, after = Annotations(world[f"ledger{ROUNDS - 1}"]), Annotations(world["masks"])
    old = len(before.answers)
    assert old == SEED + BUDGET
    for column in COLUMNS:
        assert (getattr(after.answers, column)[:old] == getattr(before.answers, column)).all()
    answers = after.answers
    assert answers.image_level.tolist() == [1] * old + [0] * BUDGET
    assert answers.clicks.tolist() == [1] * old + [1713] * BUDGET
    assert answers.round.tolist() == [n for n, size in enumerate(SIZES) for _ in range(size)] + [ROUNDS] * BUDGET
    assert after.cost() == {"answers": old + BUDGET, "clicks": old + 1713 * BUDGET, "seconds": old + 5400 * BUDGET}
    assert Model(world["model"]).header.counts["clicks"] == old + 1713 * BUDGET
    with Dataset(world["dataset"]) as data:
        for image in after.mask_ids:
            assert (after.label_map(image) == data.mask(image)).all()
        for row in range(old):
            counts = np.bincount(data.mask(after.ids[answers.image[row]]).ravel(), minlength=256)[:CLASSES]
            assert answers.label[row] == counts.argmax()
    cheap = settings_of("masks", clicks_per_mask=20.0)
    ledger = f"ledger{ROUNDS - 1}"
    path = annotate_simulate.run(world["dataset"], world["chosen"], tmp_path / "m.h5", cheap, world[ledger])
    assert Annotations(path).cost()["clicks"] == old + 20 * BUDGET
