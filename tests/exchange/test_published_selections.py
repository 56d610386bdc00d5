"""Selections in the files of other programs: into queries and back, on what their code writes."""

import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
from exchange_support import exported

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.queries import Queries
from stages.artifacts.superpixels import Superpixels
from stages.commands import annotate_simulate, import_answers, import_queries, import_regions
from stages.datasets.pickle_files import read_pickle
from stages.recipes.experiment import Wanted, write_plan
from stages.regions.imported import region_map
from stages.reporting.agreement import compared
from stages.runtime.errors import BadInput
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.import_answers import ImportSettings
from stages.settings.import_queries import ImportQueriesSettings
from stages.settings.import_regions import ImportRegionsSettings

COLUMNS = ("image", "y", "x", "region")


def taken(one, selection, output, ledger=None, order=None, regions="", **settings):
    regions = one.regions if regions == "" else regions
    made = ImportQueriesSettings(**settings)
    return import_queries.run(one.dataset, selection, output, made, ledger, regions, order)


def refused(one, tmp_path, content, sentence, **settings):
    path = tmp_path / "s.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(BadInput, match=sentence):
        taken(one, path, tmp_path / "x.h5", **settings)
    assert not (tmp_path / "x.h5").exists()


def units(path):
    queries = Queries(path)
    return set(zip(*(getattr(queries, name).tolist() for name in COLUMNS), strict=True))


@pytest.mark.parametrize("kind", ["pixel", "pixel-coarse"])
def test_points_come_back_as_the_same_pixels(kind, asked, tmp_path):
    one = asked[kind]
    record = exported(one, tmp_path / "q.points.pkl")
    assert units(taken(one, record, tmp_path / "q.h5")) == units(one.queries)
    queries, found = Queries(one.queries), read_pickle(record)
    assert list(found) == sorted(queries.sizes)
    for image, points in found.items():
        assert (points["height"], points["width"]) == queries.sizes[image]
        order = np.lexsort((points["x_coords"], points["y_coords"]))
        assert order.tolist() == list(range(9)), "row by row"


def test_points_of_paths_and_lists_as_the_annotation_tool_writes_them(asked, tmp_path):
    one, queries = asked["pixel"], Queries(asked["pixel"].queries)
    content = {}
    for place, image in enumerate(queries.ids):
        rows = queries.image == place
        height, width = queries.sizes[image]
        columns = {"y_coords": queries.y[rows].tolist(), "x_coords": queries.x[rows].tolist()}
        content[f"/home/someone/data/{image}.png"] = {"height": height, "width": width} | columns
    (tmp_path / "s.pkl").write_bytes(pickle.dumps(content))
    assert units(taken(one, tmp_path / "s.pkl", tmp_path / "q.h5")) == units(one.queries)


def test_dense_masks_in_the_order_of_the_images(asked, tmp_path):
    one, queries = asked["pixel"], Queries(asked["pixel"].queries)
    masks = [np.zeros(queries.sizes[image], bool) for image in queries.ids]
    for place, y, x in zip(queries.image, queries.y, queries.x, strict=True):
        masks[place][y, x] = True
    (tmp_path / "s.pkl").write_bytes(pickle.dumps(masks))
    assert units(taken(one, tmp_path / "s.pkl", tmp_path / "q.h5")) == units(one.queries)
    with pytest.raises(BadInput, match=r"has images of several sizes, which no single array holds\. Use \.points\.pkl"):
        exported(one, tmp_path / "q.points.npy")
    refused(one, tmp_path, masks[:-1], r"masks of 3 images, and the split has 4\. Check --split")


def test_a_numpy_file_of_masks_round_trips(tmp_path):
    from worlds import write_dataset

    masks = {name: np.zeros((6, 8), np.uint8) for name in ("b", "a")}
    dataset = write_dataset(tmp_path / "d.h5", masks, 2)
    chosen = np.zeros((2, 6, 8), np.uint8)
    chosen[0, 1, 2] = chosen[1, 5, 7] = chosen[1, 0, 0] = 1
    np.save(tmp_path / "s.npy", chosen)
    output = import_queries.run(dataset, tmp_path / "s.npy", tmp_path / "q.h5", ImportQueriesSettings())
    assert units(output) == {(0, 1, 2, -1), (1, 0, 0, -1), (1, 5, 7, -1)}

    class One:
        queries, regions = output, None

    One.dataset = dataset
    assert np.array_equal(np.load(exported(One, tmp_path / "q.points.npy")), chosen.astype(bool))
    (tmp_path / "order.txt").write_text("b\na\n")
    turned = import_queries.run(
        dataset, tmp_path / "s.npy", tmp_path / "t.h5", ImportQueriesSettings(), order=tmp_path / "order.txt"
    )
    assert units(turned) == {(1, 1, 2, -1), (0, 0, 0, -1), (0, 5, 7, -1)}


@pytest.mark.parametrize("name", ["q.regions.pkl", "q.stride-100.pkl", "q.ranked.pkl"])
def test_regions_come_back(name, asked, tmp_path):
    one = asked["dominant"]
    path = exported(one, tmp_path / name)
    output = taken(one, path, tmp_path / "q.h5", stride=100)
    assert units(output) == units(one.queries)
    if name != "q.regions.pkl":  # which forgets the order between images
        assert Queries(output).region.tolist() == Queries(one.queries).region.tolist()
    if name == "q.ranked.pkl":
        assert Queries(output).read("queries/score").tolist() == Queries(one.queries).read("queries/score").tolist()
    assert Queries(output).answer == "dominant"
    assert Queries(taken(one, path, tmp_path / "s.h5", stride=100, answer="class-set")).answer == "class-set"


def test_numbers_over_all_images_by_hand(asked, tmp_path):
    one, regions = asked["dominant"], Superpixels(asked["dominant"].regions)
    numbers = np.array([100 * 2 + 3, 5, 100 * 3 + 0])
    (tmp_path / "s.pkl").write_bytes(pickle.dumps(numbers))
    found = Queries(taken(one, tmp_path / "s.pkl", tmp_path / "q.h5", stride=100))
    first = regions.first_regions
    assert found.region.tolist() == [first[2] + 3, first[0] + 5, first[3]]
    refused(one, tmp_path, numbers, r"numbers regions over all images\. Pass --stride")
    refused(one, tmp_path, numbers, r"names image 150, and the split has 4\. Check --stride", stride=2)
    refused(one, tmp_path, np.array([99]), r"image a/one has no region 99 in .*\(import-regions\)", stride=100)


def test_lists_of_labelled_regions(asked, tmp_path):
    one, regions = asked["class-set"], Superpixels(asked["class-set"].regions)
    content = {
        "trg_label_im_idx": [], "trg_pool_im_idx": [], "trg_pool_suppix": {},
        "trg_label_suppix": {"data/seeds_32/train/label/three.pkl": [4, 2], "x/label/a/two.pkl": [7]},
    }  # fmt: skip
    (tmp_path / "datalist_01.pkl").write_bytes(pickle.dumps(content))
    output = taken(one, tmp_path / "datalist_01.pkl", tmp_path / "q.h5", answer="class-set")
    first = dict(zip(regions.ids, regions.first_regions, strict=True))
    assert Queries(output).region.tolist() == [first["three"] + 4, first["three"] + 2, first["a/two"] + 7]


def test_names_of_images_come_back_in_their_order(asked, tmp_path):
    one = asked["mask"]
    for ending in ("npy", "txt"):
        output = taken(one, exported(one, tmp_path / f"names.{ending}"), tmp_path / f"{ending}.h5")
        assert Queries(output).image.tolist() == Queries(one.queries).image.tolist()
        assert Queries(output).answer == "mask"


def test_region_maps_keep_the_numbers_of_the_other_program(tmp_path):
    from worlds import write_dataset

    dataset = write_dataset(tmp_path / "d.h5", {"a": np.zeros((8, 9), np.uint8), "b": np.ones((8, 9), np.uint8)}, 2)
    folder = tmp_path / "label"
    folder.mkdir()
    labels = np.zeros((8, 9), np.int16)
    labels[:, 3:6], labels[:, 6:] = 7, 40
    for image in "ab":
        content = {"labels": labels, "valid_idxes": np.unique(labels)}
        (folder / f"{image}_leftImg8bit.png.pkl").write_bytes(pickle.dumps(content))
    settings = ImportRegionsSettings(rest="none", workers=1)
    regions = import_regions.run(dataset, [folder], tmp_path / "r.h5", settings)
    with Superpixels(regions) as found:
        assert found.numbers.tolist() == [0, 7, 40] * 2
        assert found.labels("a").tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2]] * 8
        assert found.adjacency("b")[1].tolist() == [1, 0, 2, 1]
        assert found.method == "imported"
    (tmp_path / "s.pkl").write_bytes(pickle.dumps({"b": [np.int64(40), np.int64(0)], "a": []}))
    made = ImportQueriesSettings()
    queries = import_queries.run(dataset, tmp_path / "s.pkl", tmp_path / "q.h5", made, superpixels=regions)
    assert Queries(queries).region.tolist() == [5, 3]
    ledger = annotate_simulate.run(dataset, queries, tmp_path / "a.h5", AnnotateSettings(), superpixels=regions)
    with Annotations(ledger) as answered:
        assert answered.label_map("b")[0].tolist() == [1, 1, 1, 255, 255, 255, 1, 1, 1]

    class One:
        pass

    One.dataset, One.queries, One.regions = dataset, queries, regions
    assert read_pickle(exported(One, tmp_path / "back.regions.pkl")) == {"a": [], "b": [40, 0]}
    # the next selection contains the first, as lists of labelled regions do
    (tmp_path / "s.pkl").write_bytes(pickle.dumps({"b": [40, 0, 7], "a": [7]}))
    later = import_queries.run(dataset, tmp_path / "s.pkl", tmp_path / "q1.h5", made, ledger, regions)
    assert Queries(later).region.tolist() == [4, 1]
    assert Queries(later).round == 1
    (folder / "a_leftImg8bit.png.pkl").unlink()
    with pytest.raises(BadInput, match=r"has no map of 1 of 2 images, such as a\. Pass the maps or masks"):
        import_regions.run(dataset, [folder], tmp_path / "x.h5", settings)


def test_rectangles_are_regions(tmp_path):
    boxes = np.zeros((4, 4), np.int16)  # of a grid of 2 by 2, whose right column is outside of the image
    boxes[0], boxes[2] = (0, 0, 1, 4), (2, 0, 2, 4)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"boxes": boxes, "valid_idxes": [0, 2]}))
    assert region_map(tmp_path / "a.pkl").tolist() == [[0] * 5, [0] * 5, [2] * 5]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"boxes": boxes, "valid_idxes": [4]}))
    with pytest.raises(BadInput, match="contains no rectangles"):
        region_map(tmp_path / "a.pkl")


def test_pixels_that_a_region_map_lost_are_those_chosen_before(tmp_path):
    from worlds import write_dataset

    dataset = write_dataset(tmp_path / "d.h5", {"a": np.zeros((8, 8), np.uint8), "b": np.ones((8, 8), np.uint8)}, 2)
    folder = tmp_path / "pool"
    folder.mkdir()
    labels = np.arange(16, dtype=np.int16).reshape(4, 4)  # half the size of the images
    labels[1, 2] = labels[3, 0] = -1
    content = {"labels": labels, "valid_idxes": np.unique(labels), "clusters": np.zeros(15, np.int32)}
    (folder / "a_leftImg8bit.png.pkl").write_bytes(pickle.dumps(content))
    output = import_queries.run(dataset, folder, tmp_path / "q.h5", ImportQueriesSettings())
    assert units(output) == {(0, 1, 2, -1), (0, 3, 0, -1)}
    assert Queries(output).sizes == {"a": (4, 4), "b": (4, 4)}
    ledger = annotate_simulate.run(dataset, output, tmp_path / "a.h5", AnnotateSettings())
    labels[0, 0] = -1
    (folder / "a_leftImg8bit.png.pkl").write_bytes(pickle.dumps(content))
    later = import_queries.run(dataset, folder, tmp_path / "q1.h5", ImportQueriesSettings(), ledger)
    assert units(later) == {(0, 0, 0, -1)}


def test_answered_points_are_answers(asked, same, tmp_path):
    one = asked["pixel"]
    record = exported(one, tmp_path / "answered.points.pkl", one.ledger)
    settings = ImportSettings(seconds_per_click=1.0)
    found = import_answers.run(one.dataset, one.queries, record, tmp_path / "a.h5", settings)
    with Annotations(found) as ours, Annotations(one.ledger) as theirs, Dataset(one.dataset) as data:
        for image in data.all_ids:
            assert np.array_equal(ours.label_map(image), theirs.label_map(image)), image
    content = read_pickle(record)
    content["three"]["y_coords"][0] += 1
    (tmp_path / "moved.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(BadInput, match=r"of three was not queried\. Pass the queries that the record answers"):
        import_answers.run(one.dataset, one.queries, tmp_path / "moved.pkl", tmp_path / "x.h5", settings)
    queried = exported(one, tmp_path / "open.points.pkl")
    with pytest.raises(BadInput, match=r"contains no answered points \(category_id\)"):
        import_answers.run(one.dataset, one.queries, queried, tmp_path / "x.h5", settings)


def test_a_planned_run_starts_from_the_selection(asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = asked["pixel"]
    write_plan(
        Wanted(["pixelpick"], one.dataset, Path("run"), rounds=2, overrides=["evaluate.split=train"]),
        tmp_path / "run.mk",
    )
    first = "run/round-0/queries.h5"
    (tmp_path / "run/round-0").mkdir(parents=True)
    taken(one, exported(one, tmp_path / "q.points.pkl"), Path(first))
    made = subprocess.run(["make", "-n", "-f", "run.mk", "-o", first], capture_output=True, text=True, check=True)
    steps = [line.split()[1] for line in made.stdout.splitlines() if line.startswith("alseg ")]
    assert steps[:3] == ["annotate-simulate", "train", "evaluate"]
    assert steps.count("select") == 1


def test_other_contents_are_refused(asked, tmp_path):
    pixel, region = asked["pixel"], asked["dominant"]
    points = {"height": 40, "width": 56, "y_coords": [1], "x_coords": [2]}
    for content, sentence in (
        ({}, "contains no selection of a known form"),
        (5, "contains no selection of a known form"),
        ({"nowhere": points}, "nowhere is not an image of the dataset"),
        ({"three": points | {"x_coords": [56]}}, "lie outside of 40 x 56 pixels"),
        ({"three": points | {"x_coords": [1, 2]}}, "lie outside of"),
        ({"three": points | {"y_coords": ["1"]}}, "expected a list of whole numbers"),
        ({"three": points | {"y_coords": [1, 1], "x_coords": [2, 2]}}, "selects a pixel of image three twice"),
        ({"three": points | {"height": 41}}, "Prepare the dataset in that size"),
        ({"three": points | {"height": 20}}, "Prepare the dataset in the size that the selection was made on"),
        ({"three": points, "x/three": points}, "image three twice"),
    ):
        refused(pixel, tmp_path, content, sentence)
    refused(pixel, tmp_path, {"three": [1]}, r"selects regions\. Pass --superpixels")
    refused(region, tmp_path, {"three": points}, r"selects pixels, not regions\. Omit --superpixels")
    refused(region, tmp_path, {"three": [1]}, r"Set --answer to one of dominant, class-set, precise", answer="mask")
    refused(region, tmp_path, {"three": []}, "selects nothing")
    refused(region, tmp_path, [(0.5, 3, 1)], "contains no selection of a known form")


def test_selections_are_compared_query_by_query(asked, tmp_path):
    one = asked["dominant"]
    content = read_pickle(exported(one, tmp_path / "q.ranked.pkl"))
    spare = next(
        number for number in range(30) if ("three", number) not in {(n.split(",")[0], r) for _, n, r in content}
    )
    changed = [*content[:-1], (0.0, "three,three,three", spare)]
    changed[0], changed[1] = changed[1], changed[0]
    (tmp_path / "s.pkl").write_bytes(pickle.dumps(changed))
    theirs = Queries(taken(one, tmp_path / "s.pkl", tmp_path / "q.h5"))
    found = compared(Queries(one.queries), theirs)["against"]
    assert found["queries"] == [40, 40]
    assert found["shared"] == 39
    assert found["share"] == 39 / 40
    assert found["same_place_in_order"] == 37
    assert found["shared_in_first_half"] == 20
    assert found["images_that_differ"] in (1, 2)
    with pytest.raises(BadInput, match="Pass queries of one unit"):
        compared(Queries(one.queries), Queries(asked["pixel"].queries))
    with pytest.raises(BadInput, match="--against compares queries"):
        compared(Queries(one.queries), Annotations(one.ledger))
