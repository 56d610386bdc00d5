"""Queries of regions by rules that read more than scores: features and clusters, whole regions and best pixels."""

import numpy as np
import pytest
from worlds import random_masks, region_round, write_clusters, write_dataset, write_network, write_superpixels

from stages.artifacts.annotations import Annotations
from stages.artifacts.clusters import Clusters
from stages.artifacts.opening import read_any_header
from stages.artifacts.queries import Queries
from stages.artifacts.scores import Scores
from stages.artifacts.superpixels import Superpixels
from stages.commands import annotate_simulate, score, select
from stages.runtime.errors import BadInput
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regions")
    dataset = write_dataset(folder / "d.h5", random_masks(["a", "b", "c"], (48, 64), 3, void=0), 3)
    base = write_superpixels(folder, dataset)
    clusters, ledger = write_clusters(folder, dataset, base), region_round(folder, dataset, 0, base)
    model = write_network(folder / "m.safetensors", dataset)
    scored = ScoreSettings.load(
        {"unit": "region", "measure": "entropy", "best_pixel": True, "region_score": "highest", "device": "cpu"}
    )
    random = ScoreSettings.load({"unit": "region", "measure": "random", "best_pixel": True, "region_score": "highest"})
    return {
        "folder": folder,
        "dataset": dataset,
        "base": base,
        "clusters": clusters,
        "ledger": ledger,
        "scores": score.run(dataset, folder / "s.h5", scored, model, base, clusters, ledger),
        "random": score.run(dataset, folder / "r.h5", random, None, base),
    }


def chosen(world, scores="scores", ledger=True, clusters=True, **values):
    return Queries(
        select.run(
            world["dataset"],
            world[scores],
            world["folder"] / "q.h5",
            SelectSettings.load(values),
            world["ledger"] if ledger else None,
            world["base"],
            world["clusters"] if clusters is True else clusters,
            force=True,
        )
    )


def slow_k_centre(features, centres, candidates, count):
    """The candidates farthest from all centres and each other, one after the other, ties by number."""
    features, found = features.astype(np.float64), []
    for _ in range(count):
        rows = [row for row in candidates if row not in found]
        nearest = [min(((features[row] - features[c]) ** 2).sum() for c in [*centres, *found]) for row in rows]
        found.append(rows[int(np.argmax(np.array(nearest, np.float32)))])
    return found


class TestKCentre:
    def test_whole_regions_that_were_queried_are_centres(self, world):
        features, ledger = Clusters(world["clusters"]).features(), Annotations(world["ledger"])
        queried = ledger.answers.region.tolist()
        assert len(queried) == 4
        left = [region for region in range(len(features)) if region not in queried]
        queries = chosen(world, rule="k-centre", fraction=1, budget=6)
        assert queries.region.tolist() == slow_k_centre(features, queried, left, 6)
        assert "clusters" in queries.header.inputs

    def test_of_the_highest_scored_share(self, world):
        scores, queried = Scores(world["scores"]).region_scores(), Annotations(world["ledger"]).answers.region
        scores[queried] = -1
        best = np.sort(np.argsort(-scores, kind="stable")[: len(scores) // 4])
        features = Clusters(world["clusters"]).features()
        queries = chosen(world, rule="k-centre", fraction=0.25, budget=5)
        assert queries.region.tolist() == slow_k_centre(features, queried.tolist(), best.tolist(), 5)

    def test_without_a_ledger_it_starts_in_the_middle(self, world):
        features = Clusters(world["clusters"]).features().astype(np.float64)
        queries = chosen(world, "random", ledger=False, rule="k-centre", fraction=1, budget=3)
        assert queries.region[0] == ((features - features.mean(0)) ** 2).sum(1).argmin()

    @pytest.mark.parametrize("scope", ["image", "dataset"])
    def test_regions_with_queried_pixels_are_centres(self, world, scope, tmp_path):
        """In two rounds of best pixels no region is queried twice while others look different."""
        first = chosen(world, "random", False, rule="top", answer="pixel", budget=2)
        answers = annotate_simulate.run(world["dataset"], first.path, tmp_path / "l.h5", AnnotateSettings())
        random = ScoreSettings.load(
            {"unit": "region", "measure": "random", "best_pixel": True, "region_score": "highest", "seed": 1}
        )
        scores = score.run(world["dataset"], tmp_path / "s.h5", random, None, world["base"], None, answers)
        settings = SelectSettings.load(
            {"rule": "k-centre", "answer": "pixel", "budget": 2, "fraction": 1, "scope": scope}
        )
        arguments = world["dataset"], scores, tmp_path / "q.h5", settings, answers, world["base"], world["clusters"]
        second = Queries(select.run(*arguments))
        features, base = Clusters(world["clusters"]).features(), Superpixels(world["base"])
        expected = []
        for image in base.ids if scope == "image" else [None]:
            rows = range(base.count) if image is None else range(base.count)[base.rows[image]]
            centres = [region for region in first.region.tolist() if region in rows]
            expected += slow_k_centre(features, centres, rows, 2 if image else 6)
        assert second.region.tolist() == expected
        assert not set(second.region.tolist()) & set(first.region.tolist())

    def test_features_are_required(self, world, tmp_path):
        with pytest.raises(
            BadInput,
            match=r"^Features of regions come from their scores or clusters\. Score with a model and --keep-features, "
            r"or pass --clusters, the output of cluster-regions\.$",
        ):
            chosen(world, clusters=None, rule="k-centre", fraction=1)
        none = write_clusters(tmp_path, world["dataset"], world["base"], keep_features=False)
        with pytest.raises(BadInput, match=r"has no features\. Build it with --method kmeans --keep-features"):
            chosen(world, clusters=none, rule="k-centre", fraction=1)

    def test_clusters_of_other_regions_are_refused(self, world, tmp_path):
        other = write_superpixels(tmp_path, world["dataset"], region_pixels=256)
        with pytest.raises(
            BadInput, match=r"was made from another superpixels .*\. Pass the one it was made from, or rebuild it\.$"
        ):
            chosen(world, clusters=write_clusters(tmp_path, world["dataset"], other), rule="k-centre", fraction=1)


class TestClusters:
    def test_of_whole_regions_the_budget_is_split_over_clusters(self, world):
        queries, scores = chosen(world, clusters=None, rule="clusters", budget=9), Scores(world["scores"])
        counts, cluster = queries.header.counts, scores.region_clusters()
        assert sum(counts["cluster_budget"]) == sum(counts["cluster_queries"]) == 9
        assert (queries.cluster == cluster[queries.region]).all()
        assert not set(queries.region.tolist()) & set(Annotations(world["ledger"]).answers.region.tolist())
        for number in range(len(counts["cluster_budget"])):
            own = queries.region[queries.cluster == number]
            left = np.setdiff1d(np.flatnonzero(cluster == number), Annotations(world["ledger"]).answers.region)
            best = left[np.argsort(-scores.region_scores()[left], kind="stable")]
            assert own.tolist() == best[: len(own)].tolist()

    def test_scores_without_clusters_have_no_tables(self, world):
        with pytest.raises(BadInput, match=r"r\.h5 has no clusters\. Score with --clusters"):
            chosen(world, "random", rule="clusters")

    def test_the_budget_of_an_image_or_of_all(self, world):
        of_images = chosen(world, rule="clusters", answer="pixel", budget=4)
        assert np.bincount(of_images.image).tolist() == [4, 4, 4]
        of_all = chosen(world, rule="clusters", answer="pixel", budget=4, scope="dataset")
        assert len(of_all) == 12
        assert sum(of_images.header.counts["cluster_budget"]) == 4
        assert sum(of_all.header.counts["cluster_budget"]) == 12


def test_clusters_that_a_rule_does_not_read_leave_no_trace(world):
    plain, given = (chosen(world, clusters=clusters, rule="top").header for clusters in (None, True))
    assert plain.digest == given.digest
    assert "clusters" not in given.inputs


def test_clusters_are_refused_for_other_units(world, tmp_path):
    pixels = score.run(world["dataset"], tmp_path / "s.h5", ScoreSettings(measure="random"))
    with pytest.raises(BadInput, match=r"--clusters applies to scores of regions, and .*s\.h5 has pixels\. Omit it\."):
        select.run(world["dataset"], pixels, tmp_path / "q.h5", SelectSettings(), clusters=world["clusters"])


@pytest.mark.parametrize("rule", ["pool", "reverse-pool", "uniform", "power", "top"])
def test_best_pixels_by_every_rule_of_regions(world, rule):
    """Each query is its region's best pixel, and the named streams differ by image."""
    queries, scores = chosen(world, rule=rule, answer="pixel", budget=3), Scores(world["scores"])
    y, x = scores.best_pixels()
    assert (y[queries.region] == queries.y).all()
    assert (x[queries.region] == queries.x).all()
    assert np.bincount(queries.image).tolist() == [3, 3, 3]
    assert len(np.unique(queries.region)) == 9


def test_settings_that_do_not_apply_decide_nothing(world, capsys):
    """What a recipe says for other steps of the stage makes no queries stale."""
    arguments = world["dataset"], world["scores"], world["folder"] / "fresh.h5"
    first = SelectSettings.load({"rule": "top"}, offered={"scope": "dataset", "image_answer": "class", "power": 2.0})
    path = select.run(*arguments, first, world["ledger"], world["base"])
    assert not {"scope", "image_answer", "power"} & set(read_any_header(path).settings)
    capsys.readouterr()
    again = SelectSettings.load({"rule": "top"}, offered={"scope": "image", "image_answer": "mask", "power": 3.0})
    select.run(*arguments, again, world["ledger"], world["base"])
    assert "up to date" in capsys.readouterr().out
    with pytest.raises(BadInput, match="image-answer does not apply to unit region; it is for unit image"):
        select.run(*arguments, SelectSettings.load({"image_answer": "mask"}), world["ledger"], world["base"])


@pytest.mark.parametrize(
    "rule, says",
    [
        (
            "answered",
            r"Rule answered serves images, and .*s\.h5 has regions\. Use clusters, diverse, k-centre, pool, power, rev",
        ),
        ("best", r"Unknown rule 'best'\. Choose one of answered, clusters"),
    ],
)
def test_rules_that_do_not_fit_name_those_that_do(world, rule, says):
    with pytest.raises(BadInput, match=says):
        chosen(world, rule=rule)
