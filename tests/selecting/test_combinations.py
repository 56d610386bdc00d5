"""Every measure with every unit, rule, answer and scope: it works, or one sentence says what does.

The lists come from the registries, so that a new measure or rule is tried with all others. Random scores are
tried with every rule, answer and scope. The other measures are tried with every rule, and share out the answers and
scopes besides the first one.
"""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from worlds import (
    random_masks,
    random_round,
    region_round,
    write_clusters,
    write_dataset,
    write_network,
    write_superpixels,
)

from stages.artifacts.annotations import Annotations
from stages.artifacts.queries import Queries
from stages.artifacts.superpixels import Superpixels
from stages.commands import score, select
from stages.runtime.errors import BadInput
from stages.runtime.parts import MEASURES, RULES
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings

pytestmark = pytest.mark.slow

KINDS = ("pixel", "region", "image", "image by a classifier")
REGION_ANSWERS = ("dominant", "class-set", "precise", "pixel")
IMAGE_ANSWERS = ("mask", "class", "classes")
SCOPES = ("image", "dataset")
ANSWERS = {"pixel": (None,), "region": REGION_ANSWERS, "image": IMAGE_ANSWERS}
BUDGET = 2
SHARES = 3  # of the answers and scopes besides the first one, one of which a measure is tried with
SIZE = (32, 40)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A dataset, what it takes to score it in every way, a ledger per unit, and the scores made so far."""
    folder = tmp_path_factory.mktemp("world")
    names = [f"i{number}" for number in range(5)]
    dataset = write_dataset(folder / "d.h5", random_masks(names, SIZE, 3, void=0), 3)
    base = write_superpixels(folder, dataset)
    (folder / "pixels").mkdir()
    (folder / "regions").mkdir()
    (folder / "images").mkdir()
    asked = {"rule": "uniform", "image_answer": "classes", "budget": 2}
    world = {
        "folder": folder,
        "dataset": dataset,
        "base": base,
        "clusters": write_clusters(folder, dataset, base),
        "network": write_network(folder / "n.safetensors", dataset),
        "classifier": write_network(folder / "c.safetensors", dataset, of_sets=False, architecture="classifier"),
        "pixel": random_round(folder / "pixels", dataset, 0, select_settings={"budget": 3}),
        "region": region_round(folder / "regions", dataset, 0, base),
        "image": random_round(folder / "images", dataset, 0, select_settings=asked, score_settings={"unit": "image"}),
        "made": {},
    }
    ledgers = {unit: Annotations(world[unit]) for unit in ("pixel", "region", "image")}
    return world | {"opened": ledgers | {"regions": Superpixels(base)}}


def can_score(measure, kind):
    """As the registry has it: a classifier of one class per image has no committee and no classes that overlap."""
    if kind != "image by a classifier":
        return True
    return measure != "random" and MEASURES[measure].facts == {"of": "classes", "passes": False}


def scores_of(world, measure, kind):
    """The file of scores, made once; BadInput if they cannot be."""
    key = (measure, kind)
    if key not in world["made"]:
        unit, chance = kind.split()[0], measure == "random"
        offered = {"best_pixel": True, "keep_features": True, "keep_classes": True, "device": "cpu"}
        if chance:
            offered["region_score"] = "highest"
        elif MEASURES[measure].facts["passes"]:
            offered["committee"] = 2
        settings = ScoreSettings.load({"measure": measure, "unit": unit}, offered=offered)
        model = None if chance else world["network" if unit == kind else "classifier"]
        if kind == "image by a classifier" and chance:
            raise BadInput("Random scores need no classifier.")
        inputs = {}
        if unit == "region":
            inputs = {"superpixels": world["base"], "annotations": world["region"]}
            inputs |= {} if chance else {"clusters": world["clusters"]}
        path = world["folder"] / f"{measure}-{kind.replace(' ', '-')}.h5"
        world["made"][key] = score.run(world["dataset"], path, settings, model, **inputs)
    return world["made"][key]


def can_select(measure, kind, rule, answer, scope):
    """Whether the parts say that they go together."""
    unit, facts = kind.split()[0], RULES[rule].facts
    if unit not in facts["units"] or answer not in ANSWERS[unit]:
        return False
    if scope is not None and unit != "pixel" and answer != "pixel":
        return False
    if {"clusters", "predicted"} & set(facts["needs"]) and measure == "random":
        return False
    if "features" in facts["needs"] and unit == "pixel" and measure == "random":
        return False
    if {"features", "predicted"} & set(facts["needs"]) and kind == "image":
        return False
    return not ("answered" in facts["needs"] and answer != "mask")


def selected(world, measure, kind, rule, answer, scope):
    unit = kind.split()[0]
    values = {"rule": rule, "budget": BUDGET}
    if answer in REGION_ANSWERS:
        values["answer"] = answer
    elif answer is not None:
        values["image_answer"] = answer
    if scope is not None:
        values["scope"] = scope
    settings = SelectSettings.load(values, offered={"fraction": 1.0})
    inputs = {"superpixels": world["base"], "clusters": world["clusters"]} if unit == "region" else {}
    scores, output = scores_of(world, measure, kind), world["folder"] / "q.h5"
    return select.run(world["dataset"], scores, output, settings, world[unit], force=True, **inputs)


def require_valid(world, measure, kind, rule, answer, scope, path):
    """Queries that can be answered, as many as the budget says, none of them answered before, in rank order."""
    queries, unit = Queries(path), kind.split()[0]
    ledger = world["opened"][unit]
    images, per_image = len(queries.ids), unit == "pixel" or answer == "pixel"
    expected = BUDGET * images if per_image else BUDGET
    if not RULES[rule].facts["budget"]:
        expected = 2  # images whose class was answered
    assert len(queries) == expected
    assert queries.round == 1
    rows = set(
        zip(queries.image.tolist(), queries.y.tolist(), queries.x.tolist(), queries.region.tolist(), strict=True)
    )
    assert len(rows) == expected
    if per_image:
        assert (queries.unit, queries.answer) == ("pixel", "class")
        assert ((queries.y >= 0) & (queries.y < SIZE[0]) & (queries.x >= 0) & (queries.x < SIZE[1])).all()
        for number, image in enumerate(queries.ids):
            y, x = ledger.queried_pixels(image)
            own = queries.image == number
            assert not {*zip(queries.y[own], queries.x[own], strict=True)} & {*zip(y, x, strict=True)}
            if scope != "dataset":
                assert own.sum() == BUDGET
    else:
        assert queries.unit == unit
        assert (queries.y == -1).all()
    if unit == "region":
        regions = world["opened"]["regions"]
        assert (regions.images_of(queries.region) == queries.image).all()
        if answer != "pixel":
            assert not set(queries.region.tolist()) & set(ledger.answers.region.tolist())
            assert queries.answer == answer
        else:
            labels = [regions.labels(image) for image in queries.ids]
            inside = [labels[image][y, x] for image, y, x in zip(queries.image, queries.y, queries.x, strict=True)]
            first = np.array([regions.rows[image].start for image in queries.ids])
            assert (first[queries.image] + inside == queries.region).all()
    if not RULES[rule].facts["orders"]:
        rank, group = queries.read("queries/score"), queries.image if per_image and scope != "dataset" else None
        for number in [None] if group is None else range(images):
            own = slice(None) if number is None else group == number
            assert (np.diff(rank[own]) <= 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("measure", ["random", *MEASURES.names()])
def test_every_combination_works_or_says_what_does(world, measure, kind):
    if not can_score(measure, kind):
        with pytest.raises(BadInput) as refusal:
            scores_of(world, measure, kind)
        require_told(refusal.value)
        return
    unit, told = kind.split()[0], Counter()
    others = REGION_ANSWERS + IMAGE_ANSWERS if measure == "random" else ()  # of other units: once
    answers = dict.fromkeys((*ANSWERS[unit], *others))
    scopes = SCOPES if unit == "pixel" else (None, *SCOPES)
    ways = list(product(answers, scopes))
    if measure != "random":
        first, *others = ways
        ways = [first, *others[MEASURES.names().index(measure) % SHARES :: SHARES]]
    for rule, (answer, scope) in product(RULES.names(), ways):
        path, refusal = outcome(world, measure, kind, rule, answer, scope)
        works = can_select(measure, kind, rule, answer, scope)
        assert (refusal is None) == works, f"{measure}, {kind}, {rule}, {answer}, {scope}: {refusal}"
        if refusal is None:
            require_valid(world, measure, kind, rule, answer, scope, path)
        else:
            require_told(refusal)
        told["works" if works else "refused"] += 1
    print(f"{measure}, {kind}: {told['works']} work, {told['refused']} are refused")
    assert told["works"]
    assert told["refused"]


def outcome(*combination):
    """The queries, or why there are none."""
    try:
        return selected(*combination), None
    except BadInput as refusal:
        return None, refusal


def require_told(refusal):
    """Each fault says what is wrong and what to do, on one line."""
    for fault in refusal.faults:
        assert fault.endswith(".")
        assert "\n" not in fault
        assert len(fault) < 300
