"""Acceptance check 17 of MADBAL: labels, regions, clusters and pixels that are missing."""

import math

import numpy as np
import pytest
from madbal_support import BUDGET, asked, history, patchworks, settings_of, trained
from worlds import write_superpixels

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.evaluation import Evaluation
from stages.artifacts.hdf5 import Artifact
from stages.artifacts.model import Model
from stages.artifacts.queries import Queries
from stages.artifacts.scores import Scores
from stages.artifacts.superpixels import Superpixels
from stages.commands import annotate_simulate, cluster_regions, evaluate, select
from stages.pixels.void import VOID
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.cluster_regions import ClusterSettings
from stages.settings.evaluate import EvaluateSettings

# An odd size, an image of one region, one that is void all over; last batches of one in training and validation
AWKWARD = {"a": (64, 96), "b": (64, 96), "c": (64, 96), "odd": (65, 97), "tiny": (8, 8), "zero": (64, 96)}
AWKWARD |= {"v0": (64, 96), "v1": (64, 96), "v2": (64, 96)}
CLUSTERS = 200


@pytest.fixture(scope="module")
def awkward(tmp_path_factory):
    """Two rounds with more clusters than regions, the training on crops that often hold no label."""
    folder = tmp_path_factory.mktemp("awkward")
    dataset = patchworks(folder / "dataset.h5", AWKWARD, void=("zero", "v2"))
    base = write_superpixels(folder, dataset, grid_scale=0.5)
    random = ClusterSettings(method="random", clusters=CLUSTERS)
    clusters = cluster_regions.run(dataset, base, folder / "clusters.h5", random)
    queries0 = asked(folder, dataset, base)[1]
    ledger0 = annotate_simulate.run(dataset, queries0, folder / "ledger0.h5", AnnotateSettings())
    model, support = trained(folder, dataset, ledger0, 0, epochs=6, batch=2, crop=(16, 16), validate_every=2)
    scores1, queries1 = asked(folder, dataset, base, 1, clusters, ledger0, support)
    ledger1 = annotate_simulate.run(dataset, queries1, folder / "ledger1.h5", AnnotateSettings(), ledger0)
    return dict(locals())


def test_check_17_nothing_stored_is_a_nan(awkward):
    for name in ("clusters", "queries0", "ledger0", "scores1", "queries1", "ledger1"):
        with Artifact(awkward[name]) as artifact:
            for path, values in artifact.arrays():
                if values.dtype.kind == "f":
                    assert np.isfinite(values[()]).all(), (name, path)
    for name in ("model", "support"):
        assert all(math.isfinite(value) for row in history(awkward[name]) for value in row.values())
        for checkpoint in ("last", "best"):
            weights = Model(awkward[name]).weights(checkpoint)
            assert all(tensor.isfinite().all() for tensor in weights.values() if tensor.is_floating_point())
    with Dataset(awkward["dataset"]) as data:
        assert (data.mask("zero") == VOID).all()
        assert (data.mask("v2") == VOID).all()


def test_check_17_empty_clusters_get_no_budget(awkward):
    scores, queries = Scores(awkward["scores1"]), Queries(awkward["queries1"])
    empty = scores.read("clusters/regions") == 0
    assert empty.sum() >= CLUSTERS - Superpixels(awkward["base"]).count > 0
    assert (scores.read("clusters/pixels")[empty] == 0).all()
    assert (np.array(queries.header.counts["cluster_score"])[empty] == 0).all()
    assert (np.array(queries.header.counts["cluster_queries"])[empty] == 0).all()
    # what rounding leaves goes to the first cluster with the fewest, even to an empty one; others then take it
    assert sum(queries.header.counts["cluster_budget"]) == BUDGET


def test_check_17_an_image_of_one_region_gives_what_it_has(awkward, capsys):
    for number in (0, 1):
        queries = Queries(awkward[f"queries{number}"])
        found = dict(zip(queries.ids, np.bincount(queries.image).tolist(), strict=True))
        assert found == {"a": 4, "b": 4, "c": 4, "odd": 4, "tiny": 1, "zero": 4}
        counts = queries.header.counts
        assert (counts["asked"], counts["queries"], counts["shortfall"]) == (24, 21, 3)
    chosen, folder = settings_of("queries", 1), awkward["folder"]
    arguments = awkward["dataset"], awkward["scores1"], folder / "again.h5", chosen, awkward["ledger0"], awkward["base"]
    select.run(*arguments)
    assert "3 fewer than budgeted" in capsys.readouterr().out


def test_check_17_an_image_that_is_void_costs_and_teaches_nothing(awkward):
    ledger = Annotations(awkward["ledger1"])
    assert (ledger.answers.label[ledger.rows_of("zero")] == VOID).all()
    assert len(ledger.rows_of("zero")) == 2 * BUDGET
    assert ledger.labelled_ids() == ["a", "b", "c", "odd", "tiny"]
    assert Model(awkward["model"]).header.counts["labelled_images"] == 5


def test_check_17_odd_sizes_read_the_mask_where_the_grid_says(awkward):
    ledger = Annotations(awkward["ledger1"])
    assert ledger.sizes["odd"] == (32, 48)
    y, x = ledger.queried_pixels("odd")
    with Dataset(awkward["dataset"]) as data:
        assert (ledger.answers.label[ledger.rows_of("odd")] == data.mask("odd")[y * 65 // 32, x * 97 // 48]).all()


def test_check_17_batches_without_labels_and_of_one_image_are_left_out(awkward):
    """Five images in batches of two: two steps an epoch; some of them find no label in their crops."""
    for name in ("model", "support"):
        rows = history(awkward[name])
        assert [row["step"] for row in rows] == list(range(2, 14, 2))
        assert 0 < sum(row["updates"] for row in rows) < 12
        assert all((row["loss"] > 0) == (row["updates"] > 0) for row in rows)
    assert [("val_area" in row) for row in history(awkward["support"])] == [False, True] * 3


def test_check_17_void_images_count_nowhere_in_an_evaluation(awkward, tmp_path):
    """All of a batch, and the last of it."""
    found = []
    for batch in (1, 2, 3):
        chosen = EvaluateSettings(split="val", batch=batch, device="cpu")
        path = evaluate.run(awkward["dataset"], [awkward["model"]], tmp_path / f"e{batch}.h5", chosen)
        found.append(Evaluation(path))
    confusion = found[0].confusion
    assert all((evaluation.confusion == confusion).all() for evaluation in found)
    with Dataset(awkward["dataset"]) as data:
        known = sum(int((data.mask(f"v{number}") != VOID).sum()) for number in range(3))
    assert confusion[0].sum() == known
    assert np.isfinite(found[0].read("miou")).all()
