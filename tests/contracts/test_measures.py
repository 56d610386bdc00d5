"""What every measure must keep; new ones are picked up from the registry."""

import os
import subprocess
import sys

import pytest
import torch

from stages.runtime.errors import BadInput
from stages.runtime.parts import MEASURES
from stages.scoring.measures import measure
from stages.scoring.measuring import measure_of_passes, plain_measure

PASSES = [part.name for part in MEASURES.parts() if part.facts["passes"]]
PLAIN = [part.name for part in MEASURES.parts() if not part.facts["passes"]]
EXCLUSIVE = [part.name for part in MEASURES.parts() if part.facts["of"] == "classes"]
OF_ONE_PASS = [name for name in PLAIN if name in EXCLUSIVE]
OF_PRESENCE = [name for name in PLAIN if name not in EXCLUSIVE]


def random_logits(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 4


def scores_of(name, *passes):
    """By a measure of one pass, of the first; by one of several, of all: three equal ones where one is given."""
    if name in PLAIN:
        return plain_measure(name)(passes[0])
    return measure_of_passes(name, iter(passes if len(passes) > 1 else passes * 3))


@pytest.mark.parametrize("name", MEASURES.names())
class TestEveryMeasure:
    def test_shape_dtype_and_range(self, name):
        scores = scores_of(name, *(random_logits(2, 5, 7, 6, seed=seed) for seed in range(4)))
        assert scores.shape == (2, 7, 6)
        assert scores.dtype == torch.float32
        assert (scores >= 0).all()
        assert torch.isfinite(scores).all()

    def test_classes_may_be_permuted(self, name):
        passes = [random_logits(1, 6, 4, 4, seed=seed) for seed in range(4)]
        permuted = [logits[:, [3, 1, 5, 0, 4, 2]] for logits in passes]
        torch.testing.assert_close(scores_of(name, *permuted), scores_of(name, *passes), atol=1e-6, rtol=0)

    def test_two_classes_are_enough(self, name):
        assert scores_of(name, torch.tensor([3.0, 0.0]).view(1, 2, 1, 1)).shape == (1, 1, 1)

    def test_extreme_logits_stay_finite(self, name):
        extremes = [torch.tensor([low, high, 0.0]).view(1, 3, 1, 1) for low, high in ((-1e30, 1e30), (1e4, -1e4))]
        for passes in (extremes, extremes[:1], extremes[1:]):
            scores = scores_of(name, *passes)
            assert torch.isfinite(scores).all()
            assert (scores >= 0).all()

    def test_pixels_do_not_depend_on_each_other(self, name):
        passes = [random_logits(2, 3, 4, 5, seed=seed) for seed in range(3)]
        window = scores_of(name, *(logits[1:, :, 2:3, 3:4] for logits in passes))
        torch.testing.assert_close(scores_of(name, *passes)[1:, 2:3, 3:4], window)

    def test_says_what_it_is(self, name):
        assert MEASURES[name].about.endswith((".", "]"))
        assert "committee" in MEASURES[name].settings.model_fields


@pytest.mark.parametrize("name", PLAIN)
def test_uniform_is_the_most_uncertain(name):
    logits = random_logits(1, 6, 4, 4)
    assert (scores_of(name, logits) <= scores_of(name, torch.zeros(1, 6, 4, 4)) + 1e-6).all()


@pytest.mark.parametrize("name", OF_ONE_PASS)
class TestEveryMeasureOfExclusiveClasses:
    def test_extreme_logits_stay_ordered(self, name):
        """Where float32 softmax is exactly one-hot, the smaller gap is still the more uncertain."""
        gaps = torch.tensor([10.0, 20.0, 40.0, 80.0])
        logits = torch.stack([gaps, torch.zeros(4), torch.zeros(4)]).view(1, 3, 1, 4)
        assert (scores_of(name, logits + 1000)[0, 0].diff() < 0).all()

    def test_adding_a_constant_changes_nothing(self, name):
        logits = random_logits(1, 4, 5, 5)
        torch.testing.assert_close(scores_of(name, logits), scores_of(name, logits + 7), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", OF_PRESENCE)
class TestEveryMeasureOfPresence:
    def test_extreme_logits_stay_ordered(self, name):
        """Where float32 sigmoids are exactly 0 and 1, the smaller distance from 0 is still the more uncertain."""
        distances = torch.tensor([10.0, 20.0, 40.0, 80.0, 1e30])
        scores = scores_of(name, torch.stack([distances, -distances]).view(1, 2, 1, 5))[0, 0]
        assert torch.isfinite(scores).all()
        assert (scores.diff() < 0).all()

    def test_presence_and_absence_are_alike(self, name):
        logits = random_logits(1, 4, 5, 5)
        assert torch.equal(scores_of(name, logits), scores_of(name, -logits))


@pytest.mark.parametrize("name", PASSES)
class TestEveryMeasureOfPasses:
    def test_the_order_of_passes_does_not_matter(self, name):
        passes = [random_logits(1, 5, 3, 3, seed=seed) for seed in range(4)]
        torch.testing.assert_close(scores_of(name, *passes[::-1]), scores_of(name, *passes), atol=1e-6, rtol=0)

    def test_the_number_of_equal_rounds_does_not_matter(self, name):
        passes = [random_logits(1, 5, 3, 3, seed=seed) for seed in range(3)]
        torch.testing.assert_close(scores_of(name, *passes, *passes), scores_of(name, *passes), atol=1e-6, rtol=0)

    def test_two_passes_are_the_fewest(self, name):
        assert MEASURES[name].settings.load({"committee": 2}).committee == 2
        with pytest.raises(BadInput, match="greater than or equal to 2"):
            MEASURES[name].settings.load({"committee": 1})


class TestNumbers:
    """Two passes that are certain of different classes, and the same pass several times."""

    certain = (torch.tensor([50.0, 0.0]).view(1, 2, 1, 1), torch.tensor([0.0, 50.0]).view(1, 2, 1, 1))

    def test_passes_that_disagree(self):
        assert float(scores_of("bald", *self.certain)) == pytest.approx(0.693147, abs=1e-6)
        assert float(scores_of("predictive-entropy", *self.certain)) == pytest.approx(0.693147, abs=1e-6)
        assert float(scores_of("variation-ratio", *self.certain)) == pytest.approx(0.5)
        assert float(scores_of("variation-ratio", *self.certain, self.certain[0])) == pytest.approx(1 / 3)

    def test_passes_that_are_unsure_alike(self):
        """Nothing to learn about the weights: BALD is 0 where entropy is highest."""
        logits = torch.zeros(1, 4, 1, 1)
        assert float(scores_of("bald", logits)) == pytest.approx(0, abs=1e-6)
        assert float(scores_of("predictive-entropy", logits)) == pytest.approx(1.386294, abs=1e-6)

    def test_identical_passes(self):
        logits = random_logits(2, 5, 7, 6)
        assert float(scores_of("bald", logits).max()) <= 1e-6
        torch.testing.assert_close(
            scores_of("predictive-entropy", logits), scores_of("entropy", logits), atol=1e-6, rtol=0
        )
        assert float(scores_of("variation-ratio", logits).abs().max()) <= 1e-6

    def test_by_the_definition_in_double_precision(self):
        passes = [random_logits(1, 4, 3, 3, seed=seed) for seed in range(5)]
        p = torch.stack(passes).double().softmax(2)
        each, mean = -(p * p.log()).sum(2).mean(0), p.mean(0)
        total = -(mean * mean.log()).sum(1)
        torch.testing.assert_close(scores_of("bald", *passes).double(), total - each, atol=1e-6, rtol=0)
        torch.testing.assert_close(scores_of("predictive-entropy", *passes).double(), total, atol=1e-6, rtol=0)
        votes = torch.stack([(p.argmax(2) == c).double().mean(0) for c in range(4)]).amax(0)
        torch.testing.assert_close(scores_of("variation-ratio", *passes).double(), 1 - votes, atol=1e-6, rtol=0)


class TestOneVsRestEntropy:
    def test_by_hand(self):
        """Of 1/2, 1/4, 1/4: ln 2 and twice 2 ln 2 - 3/4 ln 3. Of two equal classes: twice ln 2."""
        logits = torch.tensor([0.5, 0.25, 0.25]).log().view(1, 3, 1, 1)
        expected = 0.693147 + 2 * (2 * 0.693147 - 0.75 * 1.098612)
        assert float(scores_of("one-vs-rest-entropy", logits)) == pytest.approx(expected, abs=1e-5)
        assert float(scores_of("one-vs-rest-entropy", torch.zeros(1, 2, 1, 1))) == pytest.approx(1.386294, abs=1e-5)

    def test_by_the_definition_in_double_precision(self):
        logits = random_logits(2, 6, 5, 5)
        p = logits.double().softmax(1)
        expected = -(torch.special.xlogy(p, p) + torch.special.xlogy(1 - p, 1 - p)).sum(1)
        torch.testing.assert_close(scores_of("one-vs-rest-entropy", logits).double(), expected, atol=1e-5, rtol=0)


class TestWhatPlugInsGetWrong:
    @pytest.fixture(autouse=True)
    def unregistered(self, monkeypatch):
        monkeypatch.setattr(MEASURES, "found", dict(MEASURES.found))

    def test_a_result_of_another_shape(self):
        measure("flat")(lambda logits: logits.mean())
        with pytest.raises(BadInput, match=r"Measure flat returned \(\) for logits \(1, 3, 2, 2\); it must return"):
            plain_measure("flat")(torch.zeros(1, 3, 2, 2))

    def test_settings_without_passes(self):
        with pytest.raises(BadInput, match="derive CommitteeSettings from PassesSettings"):
            measure("mine", passes=True, settings=MEASURES["margin"].settings)

    def test_a_measure_of_passes_where_there_is_one(self):
        with pytest.raises(BadInput, match="Measure bald reads several passes"):
            plain_measure("bald")


def test_listing_the_measures_and_rules_loads_neither_torch_nor_cv2():
    code = (
        "import sys; from stages.runtime.parts import MEASURES, RULES; MEASURES.names(), RULES.names();"
        "sys.exit(bool({'torch', 'cv2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0
