"""Label Studio: projects that it imports, and its exports as answers and as labels that exist."""

import base64
import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from exchange_support import imported, refused, written
from hypothesis import given
from hypothesis import strategies as st
from worlds import write_dataset

from stages.artifacts.annotations import Annotations
from stages.commands import export_queries, import_labels
from stages.datasets.encode import png_bytes
from stages.datasets.shapes.label_studio import drawn_bits, file_names, tasks_of
from stages.datasets.shapes.rle_pack import pack_mask, unpack_mask
from stages.runtime.errors import BadInput
from stages.settings.import_labels import ImportLabelsSettings

EXPORTS = Path(__file__).parent / "exports"
NAMES = ("sky", "building", "road", "pavement", "grass", "tree", "car", "pole", "person")
MAP = ",".join(f"{name}=class{number}" for number, name in enumerate(NAMES))
SIZE = (96, 128)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images called as in the exports, which are of the built-in scenes."""
    masks = {f"train_{number:05}": np.zeros(SIZE, np.uint8) for number in (0, 1, 5)}
    return write_dataset(tmp_path_factory.mktemp("ls") / "d.h5", masks, len(NAMES))


def taken(dataset: Path, file: str, output: Path) -> Annotations:
    return Annotations(import_labels.run(dataset, [EXPORTS / file], output, ImportLabelsSettings(map=MAP)))


def project(one, output: Path, ledger: Path | None = None) -> list:
    """The tasks of an exported project."""
    export_queries.run(one.dataset, one.queries, output, one.regions, ledger)
    return json.loads((output / "tasks.json").read_bytes())


def annotated(tasks: list) -> list:
    """An export of Label Studio after somebody accepted what the tasks start from."""
    found = []
    for number, task in enumerate(tasks):
        shapes = task["predictions"][0]["result"] if task["predictions"] else []
        annotation = {"id": number, "result": shapes, "was_cancelled": False, "updated_at": "2026", "lead_time": 4.0}
        found.append({"id": number, "data": task["data"], "annotations": [annotation], "predictions": []})
    return found


def small(export: list) -> list:
    """The same as JSON-MIN."""
    rows = []
    for each in export:
        (annotation,) = each["annotations"]
        values = [
            result["value"] | {name: result[name] for name in ("original_width", "original_height")}
            for result in annotation["result"]
        ]
        about = {"annotator": 1, "annotation_id": each["id"], "lead_time": annotation["lead_time"]}
        control = {"label": values} if values else {}
        if values and "choices" in values[0]:
            names = values[0]["choices"]
            control = {"label": names[0] if len(names) == 1 else {"choices": names}}
        rows.append({**each["data"], "id": each["id"], **control, **about})
    return rows


def as_csv(rows: list) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, sorted({name for row in rows for name in row}), quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {name: json.dumps(cell) if isinstance(cell, list | dict) else cell for name, cell in row.items()}
        )
    return text.getvalue()


KINDS = ("pixel", "pixel-coarse", "dominant", "dominant-coarse", "class-set", "precise", "mask", "image-class")


@pytest.mark.parametrize("kind", [*KINDS, "image-classes"])
def test_what_goes_out_comes_back(kind, asked, same, tmp_path):
    """The answers of a ledger by way of a project, in each form in which Label Studio exports it."""
    one = asked[kind]
    export = annotated(project(one, tmp_path / "p.labelstudio", one.ledger))
    (tmp_path / "full.json").write_text(json.dumps(export))
    (tmp_path / "small.json").write_text(json.dumps(small(export)))
    (tmp_path / "table.csv").write_text(as_csv(small(export)))
    changed = ("seconds", "clicks") if kind == "precise" else ("seconds",)
    for name in ("full.json", "small.json", "table.csv"):
        same(imported(one, tmp_path / name, tmp_path / f"{name}.h5"), one.ledger, but=changed)


def test_open_queries_are_shapes_to_relabel(asked, tmp_path):
    tasks = project(asked["dominant"], tmp_path / "p.labelstudio")
    labels = {
        label for task in tasks for shape in task["predictions"][0]["result"] for label in shape["value"]["brushlabels"]
    }
    assert labels == {"open"}
    assert all(task["data"]["image"].startswith("data:image/png;base64,") for task in tasks)
    told = (tmp_path / "p.labelstudio" / "config.xml").read_text()
    assert '<Label value="class0" background="#000000"/>' in told
    assert '<BrushLabels name="label" toName="image">' in told
    wrong = annotated(tasks)
    refused(asked["dominant"], written(tmp_path, wrong), tmp_path / "a.h5", "answers no query of")
    assert all(not task["predictions"] for task in project(asked["mask"], tmp_path / "m.labelstudio"))
    assert 'choice="multiple"' in config(asked["class-set"], tmp_path)


def config(one, tmp_path: Path) -> str:
    project(one, tmp_path / "c.labelstudio")
    return (tmp_path / "c.labelstudio" / "config.xml").read_text()


def test_the_last_annotation_of_an_image_counts_and_cancelled_ones_do_not(asked, tmp_path):
    one = asked["dominant"]
    export = annotated(project(one, tmp_path / "p.labelstudio", one.ledger))
    for each in export:
        (last,) = each["annotations"]
        other = [shape | {"value": shape["value"] | {"brushlabels": ["void"]}} for shape in last["result"]]
        first = last | {"result": other, "updated_at": "2025"}
        each["annotations"] = [last, first, last | {"result": other, "updated_at": "2027", "was_cancelled": True}]
    found = Annotations(imported(one, written(tmp_path, export), tmp_path / "a.h5")).answers
    assert np.array_equal(found.label, Annotations(one.ledger).answers.label)


def test_the_brush_of_the_page(dataset, tmp_path):
    """Two strokes drawn on the page of Label Studio 1.23.2; counts by its own decoder, alpha above 127."""
    ledger = taken(dataset, "label-studio-page.json", tmp_path / "l.h5")
    assert ledger.answers.label.tolist() == [6, 5]
    assert ledger.answers.areas.sizes().tolist() == [112, 55]
    rows, columns = np.nonzero(ledger.label_map("train_00005", 9) == 6)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (32, 55, 34, 78)


@pytest.mark.parametrize("ending", ["json", "min.json", "csv", "tsv"])
def test_shapes_of_every_kind(ending, dataset, tmp_path):
    """A polygon of 20 % x 30 %, a rectangle of 20 % x 10 % turned by 30 degrees, an ellipse, a point, a mask."""
    ledger = taken(dataset, f"label-studio-shapes.{ending}", tmp_path / "l.h5")
    sizes = dict(zip(ledger.answers.label.tolist(), ledger.answers.areas.sizes().tolist(), strict=True))
    rectangle, ellipse = 0.2 * 128 * 0.1 * 96, np.pi * 0.1 * 128 * 0.12 * 96
    assert sizes.keys() == {0, 2, 4, 6, 8}
    assert (sizes[6], sizes[4], sizes[0]) == (700, 200, 0)
    assert abs(sizes[2] - rectangle) < 0.05 * rectangle
    assert abs(sizes[8] - ellipse) < 0.02 * ellipse
    point = ledger.answers.label == 0
    assert (ledger.answers.y[point].item(), ledger.answers.x[point].item()) == (19, 115)


def test_brush_labels_as_coco(dataset, tmp_path):
    """A square of 20 x 20 pixels comes as the polygon through the centres of its corners."""
    ledger = taken(dataset, "label-studio-brush-coco.json", tmp_path / "l.h5")
    assert ledger.answers.areas.sizes().tolist()[0] in range(361, 401)


@pytest.mark.parametrize(
    ("file", "sizes"),
    [
        ("datumaro-cvat.xml", {6: 1200, 2: 200, 4: 190, 0: 0}),
        ("datumaro-coco.json", {6: 1200, 2: 200, 4: 190}),
        ("labelme.json", {6: 1200, 2: 200, 8: 317, 4: 72, 0: 0, 5: 0}),
    ],
)
def test_files_that_other_programs_wrote(file, sizes, dataset, tmp_path):
    """datumaro 1.13.12, with which CVAT converts, and labelme 6.3.1; areas by hand, a circle of radius 10."""
    ledger = taken(dataset, file, tmp_path / "l.h5")
    assert dict(zip(ledger.answers.label.tolist(), ledger.answers.areas.sizes().tolist(), strict=True)) == sizes


def test_masks_that_do_not_name_their_image(asked, tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    name = "task-1-annotation-1-by-1-label-building-0.png"
    refused(asked["mask"], shutil.copy(grey(tmp_path), folder / name).parent, tmp_path / "a.h5", "as JSON, or as brush")


def grey(folder: Path) -> Path:
    from PIL import Image

    Image.new("L", (4, 4)).save(folder / "grey.png")
    return folder / "grey.png"


def test_faults_are_one_sentence(dataset, tmp_path):
    (task,) = json.loads((EXPORTS / "label-studio-page.json").read_bytes())
    one, two = task["annotations"][0]["result"]

    def fails(change: dict, says: str) -> None:
        changed = {**one, "value": one["value"] | change.pop("value", {})} | change
        other = task | {"annotations": [task["annotations"][0] | {"result": [changed, two]}]}
        path = tmp_path / "t.json"
        path.write_text(json.dumps([other]))
        with pytest.raises(BadInput, match=says):
            import_labels.run(dataset, [path], tmp_path / "l.h5", ImportLabelsSettings(map=MAP))

    fails({"value": {"rle": [1, 2, 3]}}, r"task 197, result 0 \(car\) cannot be read \(is no mask of 128x96 pixels\)\.")
    fails({"value": {"rle": one["value"]["rle"][:40]}}, r"cannot be read \(ends in the middle\)\. Draw it again")
    fails({"value": {"rle": "x"}}, r"cannot be read \(.*\)\. Draw it again, or remove it\.")
    fails({"value": {"brushlabels": ["car", "tree"]}}, r"\(car, tree\) has several labels\. Keep one of them\.")
    fails({"original_width": None}, "does not say how large its image is")
    fails({"original_width": 64, "original_height": 192}, "has images of several sizes")
    fails({"value": {"rle": None, "x": float("nan")}}, "cannot be read")


def test_the_coordinates_of_a_stream_by_hand():
    """Two blocks: 8 values repeated (0), then 4 + 4 values one by one, of which the last pixel has alpha 200."""
    bits = f"{16:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}" + "1" + "00" + f"{7:03b}" + f"{0:08b}"
    bits += "0" + "01" + f"{7:04b}" + "".join(f"{value:08b}" for value in (9, 9, 9, 100, 9, 9, 9, 200))
    content = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))
    assert unpack_mask(content, (2, 2)).tolist() == [[False, False], [False, True]]


@given(st.integers(1, 7), st.integers(1, 9), st.data())
def test_masks_survive_packing(height, width, data):
    cells = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    inside = np.array(cells).reshape(height, width)
    assert np.array_equal(unpack_mask(pack_mask(inside), (height, width)), inside)


def test_long_runs_are_split():
    inside = np.ones((300, 400), dtype=bool)
    inside[7, 9] = False
    assert np.array_equal(unpack_mask(pack_mask(inside), (300, 400)), inside)


def test_names_of_files():
    assert file_names(["data:image/png;base64,AA", "", 3, "/data/local-files/?d=a/one.png"]) == ("a/one.png",)
    assert file_names(["/data/upload/3/0badf00d-my%20image.png"]) == ("/data/upload/3/0badf00d-my image.png",)


def test_what_was_chosen():
    whole = {"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": [{"value": {"choices": ["x", "y"]}}]}]}
    (task,) = tasks_of(Path("e.json"), [whole])
    assert (task.names, task.choices, task.seconds) == (("a.png",), ["x", "y"], None)
    assert tasks_of(Path("e.json"), [whole | {"annotations": []}]) == []
    with pytest.raises(BadInput, match="task 1 is not as Label Studio exports it"):
        tasks_of(Path("e.json"), [whole | {"annotations": [3]}])


def test_masks_as_pictures():
    """Of black, white and clear pixels the white one is inside."""
    pixels = np.array([[[0, 0, 0, 255], [255, 255, 255, 255], [255, 255, 255, 0]]], np.uint8)
    content = base64.b64encode(png_bytes(pixels)).decode()
    assert drawn_bits(f"data:image/png;base64,{content}", (1, 3)).tolist() == [[False, True, False]]
    for address, size in ((f"data:image/gif;base64,{content}", (1, 3)), ("data:image/png;base64,AAAA", (1, 3))):
        with pytest.raises(ValueError, match="is no PNG"):
            drawn_bits(address, size)
    with pytest.raises(ValueError, match="is a mask of 3x1 pixels, not 1x3"):
        drawn_bits(f"data:image/png;base64,{content}", (3, 1))
