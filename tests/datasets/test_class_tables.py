"""The classes of a folder: from --classes, from tables of other tools, checked against the masks."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.datasets.class_tables import ClassTable, find_classes, parse_classes
from stages.runtime.errors import BadInput


def save(root: Path, values: object) -> list[str]:
    """One mask with ``values`` in its pixels: numbers, or colours."""
    Image.fromarray(np.array([values], dtype=np.uint8)).save(root / "m.png")
    return ["m.png"]


def told(table: ClassTable) -> list[tuple[str, object]]:
    return [(each.name, each.value if table.encoding == "index" else each.colour) for each in table.classes]


def test_names_values_and_colours_are_parsed() -> None:
    found = parse_classes("road, car=3,tree=#6B8e23")
    assert [(each.name, each.value, each.colour) for each in found] == [
        ("road", None, None), ("car", 3, None), ("tree", None, (0x6B, 0x8E, 0x23)),
    ]  # fmt: skip
    for wrong in ("road,", "=3", "car=", "car=x", "car=#12"):
        with pytest.raises(BadInput, match="--classes"):
            parse_classes(wrong)


def test_names_number_the_values(tmp_path: Path) -> None:
    table = find_classes(tmp_path, save(tmp_path, [0, 1, 2, 255]), "road,car,tree")
    assert told(table) == [("road", 0), ("car", 1), ("tree", 2)]
    assert table.ignore == (255,)
    assert "value 255 is void" in table.notes
    assert len({each.colour for each in table.classes}) == 3


def test_values_are_taken_as_given(tmp_path: Path) -> None:
    table = find_classes(tmp_path, save(tmp_path, [0, 255]), "background=0,crack=255")
    assert (told(table), table.ignore) == ([("background", 0), ("crack", 255)], ())
    table = find_classes(tmp_path, save(tmp_path, [0, 7, 9]), "void=0,a=7,b=9")
    assert (told(table), table.ignore) == ([("a", 7), ("b", 9)], (0,))


def test_colours(tmp_path: Path) -> None:
    masks = save(tmp_path, [[255, 0, 0], [0, 0, 255], [0, 0, 0]])
    table = find_classes(tmp_path, masks, "car=#ff0000,water=#0000ff,void=#000000")
    assert table.encoding == "color"
    assert (told(table), table.ignore) == ([("car", (255, 0, 0)), ("water", (0, 0, 255))], ((0, 0, 0),))
    with pytest.raises(BadInput, match="colours that no class has, such as #000000"):
        find_classes(tmp_path, masks, "car=#ff0000,water=#0000ff")
    with pytest.raises(BadInput, match="class water has none"):
        find_classes(tmp_path, masks, "car=#ff0000,water")


@pytest.mark.parametrize(
    ("values", "classes", "sentence"),
    [
        ([0, 1, 5], "a,b", "0 (33.3 %), 1 (33.3 %), 5 (33.3 %), but the classes have 0, 1"),
        ([0, 255], "a,b", "the values 0 (50.0 %), 255 (50.0 %), but the classes have 0, 1"),
        ([1, 2], "a,b", "but the classes have 0, 1"),
        ([0, 1], "a,b=1", "values for some classes"),
        ([0, 1], "a,a", "names the class 'a' twice"),
        ([0, 1], None, "The masks have the values 0 (50.0 %), 1 (50.0 %). Name them with --classes NAME=VALUE"),
    ],
)
def test_values_that_fit_no_class_are_listed(
    values: list[int], classes: str | None, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput) as error:
        find_classes(tmp_path, save(tmp_path, values), classes)
    assert sentence in str(error.value)


def test_tables_of_other_tools(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no table of classes \(labelmap.txt, classes.txt\). Name them with --classes"):
        find_classes(tmp_path, [], None)
    (tmp_path / "instances.json").write_text(json.dumps({"categories": [{"id": 1, "name": "coral"}, {"name": "sand"}]}))
    assert told(find_classes(tmp_path, [], None)) == [("coral", None), ("sand", None)]
    (tmp_path / "classes.txt").write_text("road\ncar\n")
    assert told(find_classes(tmp_path, save(tmp_path, [0, 1]), None)) == [("road", 0), ("car", 1)]
    (tmp_path / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nvoid:0,0,0::\ncar:255,0,0::\n")
    table = find_classes(tmp_path, save(tmp_path, [[255, 0, 0], [0, 0, 0]]), None)
    assert (told(table), table.ignore) == ([("car", (255, 0, 0))], ((0, 0, 0),))


def test_masks_are_read_as_prepare_reads_them(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257, 514, 65535]], np.uint16)).save(tmp_path / "m.png")
    table = find_classes(tmp_path, ["m.png"], "a,b,c")
    assert (told(table), table.ignore) == ([("a", 0), ("b", 1), ("c", 2)], (255,))
    assert "16-bit values of the masks are bytes written twice (257 for value 1)" in table.notes
    assert told(find_classes(tmp_path, ["m.png"], "a=0,b=257,c=514,void=65535")) == [("a", 0), ("b", 257), ("c", 514)]
    save(tmp_path, [[0, 0, 0], [0, 1, 0]])
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "n.png")
    table = find_classes(tmp_path, ["m.png", "n.png"], "a,b")
    assert (table.encoding, told(table)) == ("index", [("a", 0), ("b", 1)])
    assert "class values are in the green channel of the masks" in table.notes


def test_smoothed_edges_are_told(tmp_path: Path) -> None:
    masks = save(tmp_path, [0] * 9 + [30, 90, 160, 240] + [255] * 9)
    table = find_classes(tmp_path, masks, "back=0,cell=255")
    assert (told(table), table.binarise) == ([("back", 0), ("cell", 255)], 128)
    with pytest.raises(BadInput, match=r"as smoothed edges make them\. Pass --classes NAME=0,NAME=255"):
        find_classes(tmp_path, masks, "back,cell")
