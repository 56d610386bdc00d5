"""How far a model contradicts answers: by hand on made probabilities, and by the real stage."""

import numpy as np
import pytest
import torch
from worlds import random_masks, random_round, region_round, write_dataset, write_network, write_superpixels

from stages.artifacts.annotations import Annotations
from stages.artifacts.scores import Scores
from stages.commands import score
from stages.runtime.errors import BadInput
from stages.scoring.contradiction import contradicted, mean_contradicted
from stages.settings.score import ScoreSettings

# Logits of 3 classes at 4 pixels whose softmax is known: 2, 1, 1 of 4; 1, 8, 1 of 10; all alike; 1, 1, 3 of 5
ODDS = torch.tensor([[2.0, 1, 1, 1], [1, 8, 1, 1], [1, 1, 1, 3]])
PROBABILITY = ODDS.log().softmax(0)


def test_one_minus_the_probability_of_the_named_class():
    found = contradicted(PROBABILITY, np.array([0, 1, 1, 0]), np.array([0, 1, 2, 3]))
    assert found == pytest.approx([1 - 0.5, 1 - 0.8, 1 - 1 / 3, 1 - 0.2])


def test_regions_by_the_mean_and_class_sets_by_all_their_classes(tmp_path):
    """Pixels 0 and 1 answered 1: 1 - (0.25 + 0.8) / 2. Pixels 2 and 3 with the set {0, 2}: 1 - (2/3 + 0.8) / 2."""
    from stages.artifacts.answers import Answers
    from stages.pixels.runs import Areas

    sets = np.zeros((2, 4), dtype=np.uint8)
    sets[1, [0, 2]] = 1
    areas = Areas(np.arange(3), np.array([0, 2], np.int32), np.array([2, 2], np.int32))

    class Ledger:
        answers = Answers.of(2, 3, region=[0, 1], label=[1, 255], class_sets=sets, areas=areas)

    found = mean_contradicted(Ledger, np.arange(2), PROBABILITY)
    assert found == pytest.approx([1 - (0.25 + 0.8) / 2, 1 - (2 / 3 + 0.8) / 2])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contradiction")
    dataset = write_dataset(folder / "d.h5", random_masks(["a", "b", "c"], (16, 24), 3), 3)
    return folder, dataset, write_network(folder / "m.safetensors", dataset)


def test_scores_of_answered_pixels(world):
    """0 but at answered pixels with a class; there the score is 1 - the probability of least confidence's model."""
    folder, dataset, model = world
    ledger = random_round(folder, dataset, 0, None, {"budget": 12})
    settings = ScoreSettings(measure="contradiction", device="cpu")
    path = score.run(dataset, folder / "s.h5", settings, model, annotations=ledger)
    least = score.run(dataset, folder / "l.h5", ScoreSettings(measure="least-confidence", device="cpu"), model)
    with Scores(path) as scores, Scores(least) as confident, Annotations(ledger) as answers:
        assert scores.attributes["measure"] == "contradiction"
        given = answers.answers
        for number, image in enumerate(answers.ids):
            found, rows = scores.map(image), np.flatnonzero(given.image == number)
            named = rows[given.state[rows] == 1]
            assert set(np.flatnonzero(found)) <= set((given.y[named] * 24 + given.x[named]).tolist())
            assert (found[given.y[named], given.x[named]] > 0).all()
            lowest = confident.map(image)[given.y[named], given.x[named]]  # of the most probable class
            assert (found[given.y[named], given.x[named]] >= lowest - 1e-6).all()


def test_scores_of_answered_regions(world, tmp_path):
    _, dataset, model = world
    regions = write_superpixels(tmp_path, dataset, region_pixels=16)
    ledger = region_round(tmp_path, dataset, 0, regions, select_settings={"budget": 20})
    settings = ScoreSettings(measure="contradiction", unit="region", device="cpu")
    path = score.run(dataset, tmp_path / "s.h5", settings, model, regions, annotations=ledger)
    with Scores(path) as scores, Annotations(ledger) as answers:
        named = answers.answers.region[answers.answers.state == 1]
        assert sorted(np.flatnonzero(scores.region_scores())) == sorted(named.tolist())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, r"scores answers\. Pass their ledger with --annotations"),
        ({"unit": "image"}, "scores answers about pixels and regions; set unit pixel or region"),
        ({"unit": "region", "best_pixel": True}, "has no best_pixel; set unit pixel"),
    ],
)
def test_what_it_does_not_apply_to(world, tmp_path, settings, sentence):
    with pytest.raises(BadInput, match=sentence):
        score.run(world[1], tmp_path / "x.h5", ScoreSettings.load({"measure": "contradiction", **settings}), world[2])
