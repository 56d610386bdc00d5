"""Where answers would silently be wrong, and names that stand for something else."""

import csv
import io
import json

import numpy as np
import pytest
from exchange_support import document_of, exported, imported, refused, truth_of, write_masks, written
from PIL import Image
from worlds import random_masks, write_dataset

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer, build_in_memory
from stages.artifacts.header import Header, now, recorded_versions
from stages.artifacts.publish import publish_bytes
from stages.artifacts.queries import Queries
from stages.artifacts.verify import verify_one
from stages.commands import annotate_simulate, export_queries, import_answers, score, select
from stages.runtime.errors import BadInput
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.import_answers import ImportSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings


@pytest.mark.parametrize("kind", ["dominant", "class-set"])
def test_paint_that_spills_into_an_open_region_does_not_answer_it(kind, asked, tmp_path, capsys):
    """One region is painted by its box, which reaches into others that are open still."""
    one = asked[kind]
    document = json.loads(exported(one, tmp_path / "open.coco.json").read_bytes())
    shape = document["annotations"][5]
    x, y, wide, high = shape["bbox"]
    (class1,) = [category["id"] for category in document["categories"] if category["name"] == "class1"]
    spilled = [[x - 3, y - 3, x + wide + 3, y - 3, x + wide + 3, y + high + 3, x - 3, y + high + 3]]
    document["annotations"].append(shape | {"segmentation": spilled, "category_id": class1, "id": 999})
    found = Annotations(imported(one, written(tmp_path, document), tmp_path / "a.h5"))
    assert len(found.answers) == 1
    assert found.header.counts["open"] == len(Queries(one.queries)) - 1
    if kind == "class-set":
        assert found.answers.class_sets[0].tolist() == [0, 1, 0, 0, 0]
    else:
        assert found.answers.label.tolist() == [1]
    assert "queries are painted in part and stay open" in capsys.readouterr().out


@pytest.mark.parametrize("pair", [("image-class", "mask"), ("dominant", "precise"), ("dominant", "class-set")])
def test_the_ledger_of_other_queries_fills_nothing_in(pair, asked, tmp_path):
    answered, wanted = (asked[kind] for kind in pair)
    with pytest.raises(BadInput, match=r"was not made from .*\. Pass the ledger of these queries\.$"):
        export_queries.run(wanted.dataset, wanted.queries, tmp_path / "masks", wanted.regions, answered.ledger)
    assert list(tmp_path.iterdir()) == []


def test_grey_masks_in_an_exported_folder_are_numbers(asked, same, tmp_path):
    """A script that fills the folder writes grey files; the label map beside them is about colours."""
    one = asked["mask"]
    folder = exported(one, tmp_path / "masks")
    write_masks(folder / "SegmentationClass", one)
    same(imported(one, folder, tmp_path / "a.h5"), one.ledger, but=("seconds",))


def test_a_mask_without_any_class_is_none(asked, tmp_path):
    one = asked["mask"]
    folder = write_masks(tmp_path / "masks", one, lambda mask: np.full_like(mask, 255))
    refused(
        one,
        folder,
        tmp_path / "a.h5",
        r"answers no query of .*\. Paint the queries of these images, then export again\.$",
    )


ODD = ["void", "Skip", "a:b", "#hash", "c;d", 'e"f, g', "open"]


def renamed(path, names):
    """The dataset with other names of its classes."""
    with Dataset(path) as data:
        arrays = {name: data.read(name) for name, _ in data.arrays() if not name.startswith("index/")}
        table = {name: data.strings(f"index/{name}") for name in ("id", "split")}
        numbers = {name: data.read(f"index/{name}") for name in ("height", "width", "label")}
        attributes = data.attributes | {"classes": names, "palette": [[0, 0, 0]] * len(names)}

    def fill(writer: Writer) -> Header:
        for name, array in arrays.items():
            writer.array(name, array)
        for name, texts in table.items():
            writer.strings(f"index/{name}", texts)
        for name, array in numbers.items():
            writer.array(f"index/{name}", array)
        versions = recorded_versions()
        return Header("dataset", "prepare", {}, {}, 0, attributes=attributes, versions=versions, created=now())

    publish_bytes(path, build_in_memory(fill))
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.json", "t.coco.json", "masks"])
def test_odd_names_of_classes_come_back(name, same, tmp_path):
    """Names that mean something in the formats, and colours that are all alike."""
    masks = random_masks(["x", "y"], (20, 30), len(ODD), void=0.3)
    dataset = renamed(write_dataset(tmp_path / "d.h5", masks, len(ODD)), ODD)
    scores = score.run(dataset, tmp_path / "s.h5", ScoreSettings(measure="random"))
    queries = select.run(dataset, scores, tmp_path / "q.h5", SelectSettings(rule="uniform", budget=80))
    ledger = annotate_simulate.run(dataset, queries, tmp_path / "truth.h5", AnnotateSettings())
    assert (Annotations(ledger).answers.state == 2).sum() > 10
    answers = export_queries.run(dataset, queries, tmp_path / name, annotations=ledger)
    same(import_answers.run(dataset, queries, answers, tmp_path / "a.h5", ImportSettings()), ledger)


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a//b", "a/./b", ""])
def test_ids_that_are_no_names_of_files_are_refused(name, tmp_path):
    masks = random_masks(["x", "y"], (8, 8), 2)
    path = write_dataset(tmp_path / "d.h5", masks, 2)

    def fill(writer: Writer) -> Header:
        for column, texts in (("id", [name, "y"]), ("split", ["train", "train"])):
            writer.strings(f"index/{column}", texts)
        for column in ("height", "width", "label"):
            writer.array(f"index/{column}", np.array([8, 8], np.int32))
        versions = recorded_versions()
        return Header("dataset", "prepare", {}, {}, 0, versions=versions, created=now())

    publish_bytes(path, build_in_memory(fill))
    with pytest.raises(BadInput, match=r"which is not a valid file name\. Prepare it again\.$"):
        Dataset(path)


def test_label_maps_as_editors_write_them(asked, same, tmp_path):
    one = asked["precise"]
    folder = exported(one, tmp_path / "masks", one.ledger)
    file = folder / "labelmap.txt"
    text = file.read_text()
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    same(imported(one, folder, tmp_path / "a.h5"), one.ledger, but=("seconds", "clicks"))
    lines = text.splitlines()
    file.write_text("\n".join([*lines, "class1:0,0,0::"]))
    refused(one, folder, tmp_path / "b.h5", r"'class1' has the colour of another name\. Choose another colour\.$")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_tables_as_spreadsheets_write_them(separator, asked, same, tmp_path):
    one = asked["class-set"]
    rows = list(csv.DictReader(exported(one, tmp_path / "t.csv", one.ledger).open()))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=separator, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    (tmp_path / "saved.csv").write_bytes(b"\xef\xbb\xbf" + text.getvalue().encode())
    same(imported(one, tmp_path / "saved.csv", tmp_path / "a.h5"), one.ledger)


def test_json_with_a_byte_order_mark(asked, same, tmp_path):
    one = asked["dominant"]
    for name in ("t.json", "t.coco.json"):
        file = exported(one, tmp_path / name, one.ledger)
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
        same(imported(one, file, tmp_path / f"{name}.h5"), one.ledger)


@pytest.mark.parametrize("seconds", [10**400, 1e39, "1e39"])
def test_times_of_no_sense(seconds, asked, tmp_path):
    one = asked["dominant"]
    document = json.loads(exported(one, tmp_path / "t.json", one.ledger).read_bytes())
    document["queries"][3]["seconds"] = seconds
    refused(
        one, written(tmp_path, document), tmp_path / "a.h5", r"^.*: seconds is .*, not a number from 0 to 1e\+09\.$"
    )


def test_a_ledger_among_its_answers_stays_fresh(asked, tmp_path, capsys):
    one = asked["mask"]
    folder = write_masks(tmp_path / "masks", one)
    output = imported(one, folder, folder / "a.h5")
    (folder / ".DS_Store").write_bytes(b"x")
    imported(one, folder, output)
    assert "is up to date" in capsys.readouterr().out
    assert verify_one(output)[0] == []


def test_files_of_other_formats_are_no_png(asked, tmp_path):
    one = asked["mask"]
    folder = tmp_path / "masks"
    for image, mask in truth_of(one).items():
        path = folder / f"{image}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path, "GIF")
    refused(one, folder, tmp_path / "a.h5", r"cannot be decoded as PNG \(.*\)\. Replace it\.$")


def test_a_coco_file_of_a_far_too_large_image(asked, tmp_path):
    """Refused by its size, before anything is painted; with --resize too."""
    one = asked["mask"]
    document = document_of(one, tmp_path)
    side = 65536
    document["images"][0] |= {"height": side, "width": side}
    for shape in document["annotations"]:
        if shape["image_id"] == document["images"][0]["id"]:
            shape["segmentation"] = {"size": [side, side], "counts": [0, side * side]}
    for resize in (False, True):
        refused(one, written(tmp_path, document), tmp_path / "a.h5", "differ in size", resize=resize)
