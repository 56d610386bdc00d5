"""Acceptance checks 6 and 7 of ALS4GAN: which images are asked about in a round, and that no label leaks into it."""

from types import SimpleNamespace

import numpy as np
import pytest
import tasks
from als4gan_support import (
    BUDGET,
    RATIO,
    ROUNDS,
    SEED,
    SHARES,
    SIZES,
    answered,
    chain,
    changed,
    digest,
    names,
    settings_of,
)

from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import Answers
from stages.artifacts.dataset import Dataset
from stages.artifacts.model import Model
from stages.artifacts.opening import open_any
from stages.artifacts.queries import Queries
from stages.artifacts.scores import Scores
from stages.commands import annotate_simulate, pseudo_label, score, select, train
from stages.recipes.plan import build_rules, read_plan, rounds_of_budget
from stages.runtime.errors import BadInput
from stages.runtime.parts import RULES
from stages.runtime.randomness import stream
from stages.selecting.chooser import Chooser
from stages.selecting.extra import Mixture
from stages.selecting.image_budget import image_budget
from stages.selecting.images import choose_images
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.pseudo_label import PseudoLabelSettings
from stages.settings.select import SelectSettings
from stages.training.samples.streams import StreamSamples

# --- budgets and ranks ------------------------------------------------------------------------------------------------


def test_check_6_rounds_ask_for_the_budget_and_for_no_image_twice(world):
    asked = [names(world[f"queries{number}"]) for number in range(ROUNDS)]
    assert [len(each) for each in asked] == SIZES  # the last round asks for what is left of the budget alone
    with Dataset(world["dataset"]) as data:
        pool = set(data.ids("train"))
    for each in asked:
        assert len(set(each)) == len(each)
        assert set(each) <= pool
        pool -= set(each)
    plan = read_plan("als4gan", None, [f"select.{name}={value}" for name, value in (RATIO | SHARES).items()])
    with Dataset(world["dataset"]) as data:
        assert rounds_of_budget(plan, data) == ROUNDS
    assert Queries(world["queries1"]).header.counts["rounds"] == ROUNDS - 1


def test_the_last_answers_train_no_classifier():
    """Nothing that make is asked for needs it (section 2.3)."""
    rules = {rule.target: rule for rule in build_rules(read_plan("als4gan"), ROUNDS, [])}
    left, needed = ["$(RUN)/evaluation.h5"], set()
    while left:
        needed.add(target := left.pop())
        left += [need for need in rules[target].needs if need in rules]
    fits = {target for target in rules if target.endswith("classifier.safetensors")}
    assert len(fits) == ROUNDS
    assert fits - needed == {f"$(RUN)/round-{ROUNDS - 1}/classifier.safetensors"}


def test_check_6_every_round_asks_for_the_most_uncertain_of_what_is_left(world):
    """By the classifier before, ties by id; the seed set is drawn."""
    gone = set(names(world["queries0"]))
    assert Queries(world["queries0"]).attributes["measure"] == "random"
    for number in range(1, ROUNDS):
        scores = Scores(world[f"scores{number}"])
        assert scores.header.inputs["model"].digest == digest(world[f"classifier{number - 1}"])
        order = sorted(zip(-scores.image_scores(), scores.ids, strict=True))
        left = [image for _, image in order if image not in gone]
        found = Queries(world[f"queries{number}"])
        assert names(world[f"queries{number}"]) == left[: SIZES[number]]
        assert found.attributes["measure"] == "entropy"
        values = dict(zip(scores.ids, scores.image_scores(), strict=True))
        asked = names(world[f"queries{number}"])
        assert found.read("queries/score") == pytest.approx([values[image] for image in asked])
        gone |= set(left[: SIZES[number]])


def test_check_6_the_chosen_are_what_was_asked_after_the_seed_set(world):
    chosen, ledger = names(world["chosen"]), Annotations(world["masks"])
    assert chosen == [image for number in range(1, ROUNDS) for image in names(world[f"queries{number}"])]
    assert len(set(chosen)) == len(chosen) == BUDGET
    assert not set(chosen) & set(names(world["queries0"]))
    assert ledger.mask_ids == set(chosen) == set(ledger.labelled_ids())
    samples = tasks.samples_of(world["dataset"], world["masks"], settings_of("model"), StreamSamples)
    with Dataset(world["dataset"]) as data:
        assert sorted(samples.ids + samples.unlabelled) == data.ids("train")
    assert samples.ids == sorted(chosen)
    assert Model(world["model"]).header.counts["labelled_images"] == BUDGET


def test_check_6_same_seed_same_queries(world, tmp_path):
    """However many images are scored together; another seed draws another seed set."""
    made = chain(tmp_path, world["dataset"], 3, batch=3)
    for name, path in made.items():
        assert digest(path) == digest(world[name]), name
    again = settings_of("queries", 0, **SHARES, seed=1)
    drawn = select.run(world["dataset"], made["scores0"], tmp_path / "other.h5", again)
    assert set(names(drawn)) != set(names(world["queries0"]))


@pytest.mark.parametrize("counts, sizes", [(False, SIZES), (True, [3, 2, 2])])
def test_check_6_the_seed_set_counts_if_asked_for_and_a_spent_budget_is_refused(world, tmp_path, counts, sizes):
    dataset, ledger, asked, shares = world["dataset"], None, [], SHARES | {"seed_in_selection": counts}
    scores = score.run(dataset, tmp_path / "s.h5", settings_of("scores"))
    for number in range(len(sizes)):
        chosen = settings_of("queries", number, **shares)
        queries = select.run(dataset, scores, tmp_path / f"q{number}.h5", chosen, ledger)
        ledger = annotate_simulate.run(dataset, queries, tmp_path / f"l{number}.h5", AnnotateSettings(), ledger)
        asked.append(names(queries))
    assert [len(each) for each in asked] == sizes
    told = r"^The budget of 7 images is spent\. Query their masks with --rule answered, or raise --ratio\.$"
    with pytest.raises(BadInput, match=told):
        select.run(dataset, scores, tmp_path / "more.h5", settings_of("queries", 9, **shares), ledger)
    found = names(select.run(dataset, scores, tmp_path / "c.h5", settings_of("chosen", **shares), ledger))
    assert found == [image for each in asked[0 if counts else 1 :] for image in each]
    assert len(found) == BUDGET


def test_check_6_the_random_arm_has_the_same_budget(world, tmp_path):
    chosen = settings_of("queries", recipe="s4gan-random")
    flat = chosen.settled("scores", unit="image").flat()
    assert (flat["rule"], flat["image_answer"], flat["seed_share"]) == ("uniform", "mask", None)
    found = set()
    for seed in (0, 1):
        scores = score.run(world["dataset"], tmp_path / f"s{seed}.h5", settings_of("scores", recipe="s4gan-random"))
        asked = settings_of("queries", recipe="s4gan-random", seed=seed)
        queries = select.run(world["dataset"], scores, tmp_path / f"q{seed}.h5", asked)
        assert len(set(names(queries))) == len(Queries(queries)) == BUDGET
        found.add(frozenset(names(queries)))
    assert len(found) == 2


class Known(SimpleNamespace):
    """As much of scores or of a ledger as choosing needs."""


def ledger_of(ids, rounds):
    """A ledger in which image-level answers came about the images ``rounds`` (a list of them per round)."""
    number = [number for number, images in enumerate(rounds) for _ in images]
    image = [index for images in rounds for index in images]
    answers = Answers.of(len(image), 6, image=image, round=number, label=0, image_level=1)
    return Known(ids=ids, answers=answers, image_rows=np.arange(len(image)), mask_ids=set())


def choose(scores, ledger, number, **values):
    settings = SelectSettings.load(values).settled("scores", unit="image")
    rule = Chooser(RULES[settings.rule], settings.of_rule, number)
    return choose_images(scores, ledger, settings.image, len(scores.ids), settings.budget, rule, Mixture())


def test_check_6_rounds_of_642_images():
    """DeepGlobe at 5 %: 16 rounds of two and one of one, where the reference queries 34 and drops one."""
    ids, generator = [f"{number:03}" for number in range(642)], stream(0, "642")
    spend = {"ratio": 0.05, "seed_share": 0.1, "query_share": 0.5}
    asked = []
    for number in range(18):
        values = generator.random(642)
        scores = Known(ids=ids, image_scores=lambda values=values: values)
        ledger = ledger_of(ids, asked) if asked else None
        found, counts = choose(scores, ledger, number, rule="top", image_answer="class", **spend)
        asked.append(found["image"].tolist())
        assert (counts["budget"], counts["seed"], counts["rounds"]) == (33, 3, 17)
    assert [len(each) for each in asked] == [3, *[2] * 16, 1]
    told = r"^The budget of 33 images is spent\. Query their masks with --rule answered, or raise --ratio\.$"
    with pytest.raises(BadInput, match=told):
        choose(scores, ledger_of(ids, asked), 18, rule="top", image_answer="class", **spend)
    found, _ = choose(scores, ledger_of(ids, asked), 18, rule="answered", **spend)
    assert found["image"].tolist() == [image for each in asked[1:] for image in each]
    assert len(choose(scores, None, 0, rule="uniform", ratio=0.05)[0]["image"]) == 33


def test_masks_can_be_asked_for_round_by_round_too(world, tmp_path):
    """Then masks are what counts for the budget."""
    dataset, ledger, sizes = world["dataset"], None, []
    for number in range(ROUNDS):
        ledger = answered(tmp_path, dataset, f"m{number}", ledger, image_answer="mask", **RATIO, **SHARES)
        sizes.append(int((Annotations(ledger).answers.round == number).sum()))
    assert sizes == SIZES
    with pytest.raises(BadInput, match=r"^The budget of 7 images is spent\. Raise --ratio\.$"):
        answered(tmp_path, dataset, "more", ledger, image_answer="mask", **RATIO, **SHARES)


@pytest.mark.parametrize("ratio, images", [(0.6, 12), (1.0, 20)])
def test_without_a_seed_set_the_budget_may_be_all_there_is(world, tmp_path, ratio, images):
    ledger = answered(tmp_path, world["dataset"], "all", image_answer="mask", ratio=ratio)
    assert len(Annotations(ledger).mask_ids) == images


def test_a_budget_that_the_images_do_not_suffice_for_is_refused(world, tmp_path):
    told = (
        r"^The budget does not fit: 20 images plus a seed set of 2 exceed the 20 of the dataset; lower the ratio or "
        r"the seed share, or count the seed set towards the budget \(--seed-in-selection\)\.$"
    )
    with pytest.raises(BadInput, match=told):
        answered(tmp_path, world["dataset"], "all", image_answer="class", ratio=1.0, seed_share=0.1)


# --- leaks ------------------------------------------------------------------------------------------------------------


def test_check_7_scores_and_queries_read_no_label(world, blind, tmp_path):
    scores = score.run(blind, tmp_path / "s.h5", settings_of("scores", 1), world["classifier0"])
    assert digest(scores) == digest(world["scores1"])
    queries = select.run(blind, scores, tmp_path / "q.h5", settings_of("queries", 1, **SHARES), world["ledger0"])
    assert digest(queries) == digest(world["queries1"])

    def unnamed(file):
        file["index/label"][:] = -1

    nameless = changed(blind, tmp_path / "nameless.h5", unnamed)
    told = r"nameless\.h5 has no mask for image t\d\d\. Prepare the dataset with masks, or use `alseg annotate`\.$"
    with pytest.raises(BadInput, match=told):  # so they are gone
        annotate_simulate.run(nameless, queries, tmp_path / "l.h5", AnnotateSettings(), world["ledger0"])


def test_check_7_training_opens_no_mask_but_those_of_the_ledger(world, blind, tmp_path):
    """Neither of the classifier, which has none, nor of the segmentation network, whose other images have none."""
    fit = train.run(
        blind, world["ledger0"], tmp_path / "c.safetensors", settings_of("classifier", validation_split="none")
    )
    seen = settings_of("classifier", validation_split="none")
    assert digest(fit) == digest(train.run(world["dataset"], world["ledger0"], tmp_path / "d.safetensors", seen))
    model = train.run(blind, world["masks"], tmp_path / "m.safetensors", settings_of("model"))
    assert digest(model) == digest(world["model"])
    gated = PseudoLabelSettings(method="gated", gate=0.3, device="cpu")
    found = {
        digest(pseudo_label.run(dataset, world["masks"], model, tmp_path / f"{number}.h5", gated))
        for number, dataset in enumerate((blind, world["dataset"]))
    }
    assert len(found) == 1


# --- artifacts --------------------------------------------------------------------------------------------------------


def test_artifacts_of_the_chain_are_sound(world):
    """Every one opens as what it is and says which seed made it."""
    for name, path in world.items():
        if name not in ("folder", "dataset"):
            assert open_any(path).header.seed == 0
    whole = image_budget(20, **RATIO, **SHARES)
    assert (whole.budget, whole.seed, 1 + whole.rounds) == (BUDGET, SEED, ROUNDS)
