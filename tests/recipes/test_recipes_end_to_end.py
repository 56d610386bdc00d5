"""Shipped recipes, each run end to end on tiny scenes."""

import csv
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alseg_cli.app import app
from stages.artifacts.annotations import Annotations
from stages.artifacts.evaluation import Evaluation
from stages.artifacts.labels import open_labels
from stages.artifacts.model import Model
from stages.artifacts.opening import open_any
from stages.artifacts.queries import Queries
from stages.commands import prepare
from stages.recipes.experiment import common_words, joined, numbered
from stages.recipes.plan import read_plan
from stages.recipes.recipe import load_recipe, recipe_names
from stages.reporting.comparison import read_run
from stages.runtime.errors import BadInput
from stages.settings.prepare import PrepareSettings

pytestmark = pytest.mark.slow

METHODS = [name for name in recipe_names() if load_recipe(name).steps]
SCENES = """
name = "tiny"
classes = {classes}
[generator]
name = "scenes"
height = 48
width = 64
images = {{ train = 4, val = 2, test = 2 }}
"""
REGION_RECIPES = {
    "adaptive-superpixel": 3,
    "adaptive-superpixel-reference": 2,
    "classbal": 2,
    "classbal-neighbours": 2,
    "classbal-random": 2,
    "classbal-uncertainty": 2,
    "oracle-superpixel": 2,
    "rectangles": 2,
}
SET_RECIPES = {
    "multi-class-query": 2,
    "multi-class-query-reference": 1,
    "multi-class-query-random": 2,
    "dominant-query": 2,
}
# Recipes with other steps or choices than any above; all others only change settings, see the first test
OTHER_RECIPES = {
    "alseg": 2,
    "adaptive-superpixel-merged-once-reference": 3,
    "multi-class-query-argmax-reference": 1,
    "full-xception65": 1,
    "madbal-full": 1,
    "pixelpick-neighbours": 2,
}
CLUSTER_RECIPES = {"madbal": 3, "madbal-reference": 2}
# rounds, the seed set's among them, and whether images come from a classifier
IMAGE_RECIPES = {"als4gan": 3, "als4gan-supervised": 3, "als4gan-reference": 3, "s4gan-random": 1, "random-images": 1}
TAUGHT_RECIPES = {
    "pixelpick-teacher": 1,
    "adaptive-superpixel-teacher": 2,
    "multi-class-query-teacher": 1,
    "fixmatch-images": 1,
}
SET_CLICKS = 8
# A model of two epochs predicts alike nearly everywhere, so that next to nothing must be merged for regions to be left
FEW_REGIONS = ["select.budget=6", "annotate-simulate.click-budget=6", "extract-superpixels.epsilon=0.002"]
FEW_REGIONS += ["extract-superpixels.workers=1", "extract-superpixels.count=40"]
ONE_PER_IMAGE = ["select.budget=1", "extract-superpixels.workers=1", "extract-superpixels.count=40"]
FEW_SETS = ["select.budget=14", f"annotate-simulate.click-budget={SET_CLICKS}"]
FEW_SETS += ["extract-superpixels.workers=1", "extract-superpixels.count=24"]
ON_A_GRID = ["extract-superpixels.grid-scale=0.5", "extract-superpixels.workers=1"]
FEW_CLUSTERS = ["cluster-regions.workers=1", "cluster-regions.clusters=3"]
FEW_CLUSTERS += ["support.epochs=1", "support.batch=2", "support.lossiness-width=8"]
FEW_IMAGES = ["select.ratio=0.5", "train.steps-per-epoch=2", "train.discriminator-width=4"]
FEW_IMAGES += ["train.self-training-from=1", "train.gate=0.5"]
FEW_FITS = ["classifier.epochs=1", "classifier.batch=2"]
AS_ON_CITYSCAPES = ["train.learn-void=true", "score.void-output=ban", "annotate-simulate.void-policy=count"]
TINY = ["train.epochs=2", "train.batch=2", "train.head-width=16", "train.low-level-width=8", "train.device=cpu"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    from stages.datasets.description import load_description

    classes = (
        "["
        + ",".join(f'{{name = "{c.name}", color = {list(c.color)}}}' for c in load_description("scenes").classes)
        + "]"
    )
    folder = tmp_path_factory.mktemp("scenes")
    description = folder / "tiny.toml"
    description.write_text(SCENES.format(classes=classes))
    return prepare.run(str(description), None, folder / "scenes.h5", PrepareSettings())


def steps_of(name):
    """The steps of a recipe without their settings."""
    return [(step.name, step.stage, step.rounds, step.reads) for step in load_recipe(name).steps]


def few(name):
    """Overrides that make a run of the recipe as short as it can be."""
    chosen = list(TINY)
    if name in REGION_RECIPES or "superpixel" in name:
        chosen += FEW_REGIONS
    elif "query" in name:
        chosen += FEW_SETS
    elif name.startswith("alseg"):
        chosen += ONE_PER_IMAGE
    if name in CLUSTER_RECIPES:
        chosen += FEW_CLUSTERS
    if name.startswith("madbal") and name != "madbal-full":
        chosen += ON_A_GRID
    if name in IMAGE_RECIPES or name.endswith("images"):
        chosen += FEW_IMAGES
    if IMAGE_RECIPES.get(name, 0) > 1:
        chosen += FEW_FITS
    if name.startswith("rectangles"):
        chosen += ["annotate-simulate.click-budget=60"]
    if name == "multi-class-query":
        chosen += AS_ON_CITYSCAPES
    return chosen


def run_all(rounds, dataset, folder):
    """The commands of one plan of all recipes, one after another in this process; what is made once is linked."""
    plans = {name: read_plan(name, "scenes", few(name)) for name in rounds}
    for run in joined(
        [numbered(plan, rounds[name], name, common_words(name, "scenes")) for name, plan in plans.items()]
    ):
        for rule in run.rules:
            target, same = (Path(file.replace("$(RUN)", str(folder))) for file in (rule.target, rule.same_as))
            if rule.same_as:
                target.parent.mkdir(parents=True, exist_ok=True)
                for file in same.parent.glob(f"{same.stem}.*"):
                    (target.parent / file.name).hardlink_to(file)
                continue
            names = {"$(DATASET)": str(dataset), "$@": rule.target}
            words = [names.get(word, word).replace("$(RUN)", str(folder)) for word in rule.words]
            result = CliRunner().invoke(app, words, catch_exceptions=False)
            assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def runs(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    rounds = {"pixelpick": 3, "random-pixels": 2, "pixelpick-reference": 2, "pixelpick-warm": 2, "full": 1}
    rounds |= REGION_RECIPES | SET_RECIPES | OTHER_RECIPES | CLUSTER_RECIPES | IMAGE_RECIPES | TAUGHT_RECIPES
    rounds |= {"madbal-random": 2}
    run_all(rounds, scenes, folder)
    return {name: folder / name for name in rounds}


@pytest.mark.parametrize("name", METHODS)
def test_is_run_end_to_end_or_has_the_steps_of_one_that_is(name, runs):
    if name in runs:
        assert sorted(runs[name].glob("**/evaluation.json"))
    else:
        assert steps_of(name) in [steps_of(other) for other in runs]


def test_every_round_adds_its_pixels(runs):
    for number in range(3):
        ledger = Annotations(runs["pixelpick"] / f"round-{number}" / "annotations.h5")
        assert len(ledger.answers) == 4 * 10 * (number + 1)
    assert Queries(runs["pixelpick"] / "round-1" / "queries.h5").attributes["measure"] == "margin"
    assert Queries(runs["random-pixels"] / "round-1" / "queries.h5").attributes["measure"] == "random"


def test_labels_on_disk_are_labels_trained_on(runs):
    """A6: no query pass follows the last training."""
    for folder in (runs["pixelpick"] / f"round-{number}" for number in range(3)):
        ledger, model = Annotations(folder / "annotations.h5"), Model(folder / "model.safetensors")
        assert model.header.inputs["labels"].digest == ledger.digest
        assert model.header.counts["labelled_pixels"] == (ledger.answers.label != 255).sum()


def test_adaptive_rounds_train_on_sieved_labels(runs):
    for number, kind in enumerate(["annotations", "pseudo-labels", "pseudo-labels"]):
        folder = runs["adaptive-superpixel"] / f"round-{number}"
        labels, model = open_labels(folder / f"{kind}.h5"), Model(folder / "model.safetensors")
        assert model.header.inputs["labels"].digest == labels.digest
        labelled = sum(int((labels.label_map(image) != 255).sum()) for image in labels.labelled_ids())
        assert model.header.counts["labelled_pixels"] == labelled
        assert model.header.counts["clicks"] == 6 * (number + 1)


def test_regions_merged_once_serve_all_later_rounds(runs):
    folder = runs["adaptive-superpixel-merged-once-reference"]
    merged, warm = open_any(folder / "regions.h5"), Model(folder / "round-0" / "model.safetensors")
    assert merged.header.inputs["model"].digest == warm.digest
    for number in (1, 2):
        queries = Queries(folder / f"round-{number}" / "queries.h5")
        assert queries.header.inputs["superpixels"].digest == merged.header.digest


def test_region_recipes_ask_what_they_say(runs):
    for name, method, balance, answer in (
        ("classbal", "seeds", "regions", "dominant"),
        ("classbal-uncertainty", "seeds", "none", "dominant"),
        ("adaptive-superpixel", "adaptive", "pixels", "dominant"),
        ("oracle-superpixel", "oracle", "pixels", "dominant"),
        ("rectangles", "grid", "none", "precise"),
    ):
        folder = runs[name] / "round-1"
        scores, queries, ledger = (
            open_any(folder / "scores.h5"),
            Queries(folder / "queries.h5"),
            folder / "annotations.h5",
        )
        assert scores.attributes["class_balance"] == balance
        assert queries.answer == answer
        assert Annotations(ledger).region_files[-1].method == method
        assert (queries.attributes["oracle_privilege"] == "oracle regions") == (name == "oracle-superpixel")


@pytest.mark.parametrize("name", CLUSTER_RECIPES)
def test_cluster_recipes_ask_one_pixel_of_each_region_they_choose(name, runs):
    for number in range(CLUSTER_RECIPES[name]):
        folder = runs[name] / f"round-{number}"
        queries, ledger = Queries(folder / "queries.h5"), Annotations(folder / "annotations.h5")
        assert (queries.unit, queries.answer) == ("pixel", "class")
        assert len(queries) == len(set(queries.region.tolist())) == 4 * 4  # images, pixels in each
        assert (queries.cluster >= 0).all() == (number > 0)
        assert len(ledger.answers) == 16 * (number + 1)
        assert ledger.sizes == dict.fromkeys(ledger.ids, (24, 32))  # the grid; images are 48 x 64
        spots = set(
            zip(ledger.answers.image.tolist(), ledger.answers.y.tolist(), ledger.answers.x.tolist(), strict=True)
        )
        assert len(spots) == len(ledger.answers)


@pytest.mark.parametrize("name", CLUSTER_RECIPES)
def test_support_heads_choose_and_are_not_what_is_reported(name, runs):
    support = Model(runs[name] / "round-0" / "support.safetensors")
    model = Model(runs[name] / "round-0" / "model.safetensors")
    assert support.has_support
    assert not model.has_support
    weights = model.weights("best" if name == "madbal-reference" else "last")
    own = support.weights("last")
    assert all((own[key] == value).all() for key, value in weights.items())
    assert any(key.startswith("support.") for key in own)


@pytest.mark.parametrize("name", [name for name in SET_RECIPES if name != "dominant-query"])
def test_both_stages_learn_from_what_they_should(name, runs):
    for number in range(SET_RECIPES[name]):
        folder = runs[name] / f"round-{number}"
        stage1, stage2 = (Model(folder / f"{stage}.safetensors") for stage in ("stage1", "stage2"))
        ledger, labels = Annotations(folder / "annotations.h5"), open_any(folder / "pseudo-labels.h5")
        assert stage1.header.settings["objective"] == "class-sets"
        assert stage2.header.settings["objective"] == "labels"
        assert stage1.header.inputs["labels"].digest == labels.header.inputs["annotations"].digest == ledger.digest
        assert labels.header.inputs["model"].digest == stage1.digest
        assert labels.attributes["method"] == "prototypes"
        assert stage2.header.inputs["labels"].digest == labels.digest
        assert stage1.knows_void == stage2.knows_void == (name == "multi-class-query")
        for evaluation, model in {"stage1-evaluation": stage1, "evaluation": stage2}.items():
            assert set(Evaluation(folder / f"{evaluation}.h5").strings("models/digest")) == {model.digest}
        if number:
            scores = open_any(folder / "scores.h5")
            chance = name == "multi-class-query-random"
            assert scores.attributes["measure"] == ("random" if chance else "bvsb")
            asker = Model(folder.parent / f"round-{number - 1}" / "stage1.safetensors")
            assert chance or scores.header.inputs["model"].digest == asker.digest
            assert chance or scores.attributes["class_balance"] == "probability"


@pytest.mark.parametrize("name", SET_RECIPES)
def test_answers_name_what_was_asked_until_the_clicks_are_spent(name, runs):
    number = SET_RECIPES[name] - 1
    answers = Annotations(runs[name] / f"round-{number}" / "annotations.h5").answers
    queries = Queries(runs[name] / f"round-{number}" / "queries.h5")
    assert queries.answer == ("dominant" if name == "dominant-query" else "class-set")
    assert answers.class_sets.any() == (name != "dominant-query")
    if name != "dominant-query":
        assert (answers.clicks == answers.class_sets.sum(1).clip(min=1)).all()
    for each in range(number + 1):
        clicks = answers.clicks[answers.round == each]
        if name.endswith("reference"):
            assert clicks[:-1].sum() <= SET_CLICKS < clicks.sum()
        else:
            assert clicks[:-1].sum() < SET_CLICKS <= clicks.sum()


def test_dominant_query_differs_in_what_is_asked_alone(runs):
    folder = runs["dominant-query"] / "round-1"
    scores, model = open_any(folder / "scores.h5"), Model(folder / "model.safetensors")
    assert scores.attributes["class_balance"] == "probability"
    assert scores.header.inputs["model"].digest == Model(folder.parent / "round-0" / "model.safetensors").digest
    assert model.header.settings["objective"] == "labels"
    assert model.attributes["network"]["classifier"] == "cosine"
    regions = {open_any(runs[name] / "base.h5").header.digest for name in ("dominant-query", "multi-class-query")}
    assert len(regions) == 1


@pytest.mark.parametrize("name", TAUGHT_RECIPES)
def test_recipes_with_a_teacher_buy_what_others_buy_and_learn_from_more(name, runs):
    folder = runs[name] / f"round-{TAUGHT_RECIPES[name] - 1}"
    models = [Model(path) for path in sorted(folder.glob("*.safetensors"))]
    for model in models:
        assert model.header.settings["objective"] == "teacher"
        assert {key.partition(".")[0] for key in model.tensors()} == {"last", "best"}, "neither student nor thresholds"
    students = [model.header.settings["student"] for model in models]
    assert students == (["class-sets", "labels"] if "query" in name else ["labels"])
    unlabelled = {"pixelpick-teacher": 0, "fixmatch-images": 2}  # of others as many as got no region
    assert models[0].header.counts["unlabelled_images"] == unlabelled.get(
        name, models[0].header.counts["unlabelled_images"]
    )
    with models[0].path.with_suffix(".history.csv").open() as file:
        assert [row["taught"] != "" for row in csv.DictReader(file)] == [True, True]


def test_compare_tells_either_stage(runs):
    run = runs["multi-class-query"]
    for name in ("evaluation", "stage1-evaluation"):
        result = CliRunner().invoke(app, ["compare", str(run), "--evaluation", name], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        told = [entry.miou for entry in read_run(run, "last", name)]
        found = [Evaluation(run / f"round-{number}" / f"{name}.h5").read("miou")[0] for number in range(2)]
        assert told == pytest.approx([100 * miou for miou in found])
    with pytest.raises(BadInput, match=r"^There is no stage3\.h5 with last weights below .*\. Run its rounds first\.$"):
        read_run(run, "last", "stage3")


def test_method_and_baseline_share_their_first_round(runs):
    """Same seed, same first draw, same training: the curves start at one point."""
    for file in ("queries.h5", "annotations.h5", "model.safetensors"):
        digests = {open_any(runs[name] / "round-0" / file).header.digest for name in ("pixelpick", "random-pixels")}
        assert len(digests) == 1


def test_reference_records_its_privilege(runs):
    queries = Queries(runs["pixelpick-reference"] / "round-1" / "queries.h5")
    assert queries.attributes["oracle_privilege"] != "none"
    ledger = Annotations(runs["pixelpick-reference"] / "round-1" / "annotations.h5")
    assert ledger.header.counts["void"] == 0
    assert Queries(runs["pixelpick"] / "round-1" / "queries.h5").attributes["oracle_privilege"] == "none"


def test_full_supervision_buys_masks(runs):
    ledger = Annotations(runs["full"] / "round-0" / "annotations.h5")
    assert ledger.mask_ids == set(ledger.ids)
    assert ledger.cost()["seconds"] == 4 * 5400


def test_evaluation_reports_last_and_best(runs):
    evaluation = Evaluation(runs["pixelpick"] / "round-2" / "evaluation.h5")
    assert evaluation.strings("models/checkpoint") == ["last", "best"]
    assert evaluation.confusion.sum() > 0


def test_compare_prints_rounds_and_draws(runs, tmp_path):
    words = ["compare", str(runs["pixelpick"]), str(runs["random-pixels"]), "--full", str(runs["full"])]
    result = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "curve.png")], catch_exceptions=False)
    assert result.exit_code == 0
    assert re.search(r"pixelpick\s.*random-pixels", result.output)
    assert "full" in result.output
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("file", ["scores.h5", "queries.h5", "annotations.h5"])
@pytest.mark.parametrize("run", ["pixelpick", "full"])
def test_inspect_draws_what_an_artifact_holds(runs, scenes, tmp_path, run, file):
    picture = tmp_path / "picture.png"
    words = ["inspect", str(runs[run] / "round-0" / file), "--dataset", str(scenes), "--png", str(picture)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_committee_scores_by_soft_and_hard_vote(runs, scenes, tmp_path):
    model = runs["pixelpick"] / "round-0" / "model.safetensors"
    for vote in ("soft", "hard"):
        words = ["score", str(scenes), "--model", str(model), "--committee", "3", "--vote", vote]
        maps = []
        for output in (tmp_path / f"{vote}1.h5", tmp_path / f"{vote}2.h5"):
            result = CliRunner().invoke(app, [*words, "-o", str(output)], catch_exceptions=False)
            assert result.exit_code == 0, result.output
            maps.append(open_any(output).header.digest)
        assert maps[0] == maps[1]
    words = ["score", str(scenes), "--model", str(model), "-o", str(tmp_path / "plain.h5")]
    CliRunner().invoke(app, words, catch_exceptions=False)
    assert open_any(tmp_path / "plain.h5").header.digest != maps[0]
