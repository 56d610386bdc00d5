"""Shapes of labelme, COCO and CVAT: the pixels that they cover, computed by hand, and faults of their files."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from stages.datasets.shapes.drawing import Point, box, ellipse, painted, pixels_of, polygons
from stages.datasets.shapes.files import read_drawings
from stages.runtime.errors import BadInput

# x + y < 8 from the corner: row y has the pixels whose centre (x + 1/2, y + 1/2) is inside, 7 - y of them
TRIANGLE = [[0, 0], [8, 0], [0, 8]]
TRIANGLE_ROWS = [7, 6, 5, 4, 3, 2, 1, 0]


def covered(form, size, grid=None) -> np.ndarray:
    inside = np.zeros(grid or size, dtype=np.int64)
    inside.ravel()[pixels_of(form, size, grid or size)] = 1
    return inside


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_triangle_covers_the_pixels_whose_centre_is_inside():
    inside = covered(polygons([TRIANGLE], "t"), (8, 10))
    assert inside.sum(1).tolist() == TRIANGLE_ROWS
    assert inside[3].tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]


def test_a_rectangle_keeps_its_area_on_a_grid_of_half_the_size():
    """Corners (2, 4) and (10, 8) are (1, 2) and (5, 4) at half the size: 4 x 2 pixels."""
    form = box(2, 4, 10, 8, 0, "b")
    assert covered(form, (12, 16)).sum() == 8 * 4
    half = covered(form, (12, 16), (6, 8))
    assert np.argwhere(half)[[0, -1]].tolist() == [[2, 1], [3, 4]]
    assert half.sum() == 4 * 2


def test_turned_by_a_right_angle_a_box_stands_upright():
    """8 x 4 around (8, 6) becomes 4 x 8."""
    assert np.argwhere(covered(box(4, 4, 12, 8, 90, "b"), (16, 16)))[[0, -1]].tolist() == [[2, 6], [9, 9]]


def test_an_ellipse_is_as_large_as_it_should_be():
    inside = covered(ellipse(20, 15, 12, 8, 0, "e"), (30, 40))
    assert abs(inside.sum() - np.pi * 12 * 8) < 0.03 * np.pi * 12 * 8
    assert np.argwhere(inside).mean(0).tolist() == pytest.approx([14.5, 19.5], abs=0.2)


def test_parts_outside_of_the_image_are_cut_off():
    assert covered(box(-5, -5, 2, 3, 0, "b"), (6, 6)).sum() == 2 * 3
    assert covered(box(20, 20, 30, 30, 0, "b"), (6, 6)).sum() == 0
    assert covered(polygons([[[-1e5, -1e5], [1e5, -1e5], [1e5, 1e5], [-1e5, 1e5]]], "p"), (4, 4), (16, 16)).all()


def test_a_point_is_in_the_pixel_it_falls_in():
    assert covered(Point(5.9, 3.2), (8, 8), (4, 4)).nonzero() == (np.array([1]), np.array([2]))


def test_overlaps_by_order_or_by_size():
    """A square of 4 x 4 drawn after one of 2 x 2 hides it, unless the smaller one is on top."""
    small, large = (pixels_of(box(1, 1, 1 + side, 1 + side, 0, "b"), (6, 6), (6, 6)) for side in (2, 4))
    later, smaller = (painted([small, large], (6, 6), rule) for rule in ("later", "smaller"))
    assert np.bincount(later.ravel() + 1).tolist() == [20, 0, 16]
    assert np.bincount(smaller.ravel() + 1).tolist() == [20, 4, 12]


def test_labelme(tmp_path):
    patch = io.BytesIO()
    Image.fromarray(np.array([[255, 0, 255], [0, 255, 0]], np.uint8)).save(patch, "PNG")
    shapes = [
        {"label": "a", "points": TRIANGLE, "shape_type": "polygon", "flags": {}},
        {"label": "b", "points": [[6, 5], [2, 1]], "shape_type": "rectangle"},
        {"label": "c", "points": [[5, 5], [5, 8]], "shape_type": "circle"},
        {"label": "d", "points": [[3.5, 2.5]], "shape_type": "point"},
        {"label": "e", "points": [[4, 1], [6, 2]], "shape_type": "mask",
         "mask": base64.b64encode(patch.getvalue()).decode()},
    ]  # fmt: skip
    file = {"version": "5.4", "imagePath": "..\\photos\\one.jpg", "imageHeight": 8, "imageWidth": 10, "shapes": shapes}
    (found,) = read_drawings(write(tmp_path / "one.json", file))
    assert found.names == ("..\\photos\\one.jpg", "one.json")
    assert found.size == (8, 10)
    assert [shape.label for shape in found.shapes] == list("abcde")
    forms = [shape.form for shape in found.shapes]
    assert covered(forms[0], (8, 10)).sum(1).tolist() == TRIANGLE_ROWS
    assert np.argwhere(covered(forms[1], (8, 10)))[[0, -1]].tolist() == [[1, 2], [4, 5]]
    assert covered(forms[2], (12, 12)).sum() == 4 * (3 + 3 + 2), "centres nearer than 3"
    assert np.argwhere(covered(forms[3], (8, 10))).tolist() == [[2, 3]]
    assert np.argwhere(covered(forms[4], (8, 10))).tolist() == [[1, 4], [1, 6], [2, 5]]
    assert covered(forms[4], (8, 10), (16, 20)).sum() == 3 * 4


COCO = {
    "categories": [{"id": 7, "name": "a"}],
    "images": [{"id": 3, "file_name": "one.jpg", "height": 3, "width": 4}],
}


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 0, 3, 0, 3, 2, 1, 2]],
        {"size": [3, 4], "counts": [3, 2, 1, 2, 4]},  # down the columns: 3 outside, 2 inside, ...
        "compressed",
    ],
)
def test_coco_polygons_and_both_kinds_of_runs(segmentation, tmp_path):
    """The square of columns 1 and 2, rows 0 and 1."""
    if segmentation == "compressed":
        runs = {"size": [3, 4], "counts": [3, 2, 1, 2, 4]}
        segmentation = {"size": [3, 4], "counts": coco.frPyObjects(runs, 3, 4)["counts"].decode()}
    annotation = {"id": 1, "image_id": 3, "category_id": 7, "segmentation": segmentation}
    (found,) = read_drawings(write(tmp_path / "c.json", COCO | {"annotations": [annotation]}))
    assert (found.names[0], found.size, found.shapes[0].label) == ("one.jpg", (3, 4), "a")
    assert covered(found.shapes[0].form, (3, 4)).tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    # at (6, 8), each pixel is four
    assert covered(found.shapes[0].form, (3, 4), (6, 8)).sum() == 16


def test_lists_of_masks_as_sam_writes_them(tmp_path):
    mask = {"segmentation": {"size": [3, 4], "counts": [3, 2, 7]}, "area": 2, "bbox": [1, 0, 1, 2]}
    (found,) = read_drawings(write(tmp_path / "one.json", [mask]))
    assert (found.names, found.size) == (("one.json", "one.json"), (3, 4))
    assert np.argwhere(covered(found.shapes[0].form, (3, 4))).tolist() == [[0, 1], [1, 1]]
    image = {"image_id": 9, "file_name": "sa_9.jpg", "height": 3, "width": 4}
    (found,) = read_drawings(write(tmp_path / "two.json", {"image": image, "annotations": [mask]}))
    assert found.names[0] == "sa_9.jpg"


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><name>t</name></task></meta>
<image id="0" name="sub/one.jpg" width="10" height="8">
 <box label="b" xtl="2" ytl="1" xbr="6" ybr="5" z_order="1"/>
 <polygon label="a" points="0.00,0.00;8.00,0.00;0.00,8.00" z_order="0"><attribute name="x">1</attribute></polygon>
 <ellipse label="c" cx="5" cy="4" rx="3" ry="3" z_order="1"/>
 <points label="d" points="3.5,2.5;9.0,7.9" z_order="2"/>
 <mask label="e" rle="1, 2, 1, 1, 1" left="4" top="1" width="3" height="2" z_order="3"/>
 <tag label="whole"/>
</image>
<image id="1" name="two.jpg" width="4" height="4"></image>
</annotations>"""


def test_cvat(tmp_path):
    one, two = read_drawings(write(tmp_path / "annotations.xml", CVAT))
    assert (one.names, one.size, two.shapes) == (("sub/one.jpg",), (8, 10), ())
    assert [shape.label for shape in one.shapes] == list("abcdde"), "lower layers first"
    forms = [shape.form for shape in one.shapes]
    assert covered(forms[0], (8, 10)).sum(1).tolist() == TRIANGLE_ROWS
    assert covered(forms[1], (8, 10)).sum() == 16
    assert [np.argwhere(covered(form, (8, 10))).tolist() for form in forms[3:5]] == [[[2, 3]], [[7, 9]]]
    assert np.argwhere(covered(forms[5], (8, 10))).tolist() == [[1, 5], [1, 6], [2, 5]]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.json", "{", r"a\.json is not valid JSON"),
        ("a.json", {"x": 1}, r"is neither a COCO document nor a file of labelme"),
        ("a.json", {"shapes": [{"points": []}]}, r"is not a file of labelme \(shapes\.0\.label: Field required\)"),
        ("a.json", {"shapes": [{"label": "a", "points": [[0, 0], [1, 1]]}]}, r"shape 0 \(a\) has fewer than three"),
        ("a.json", {"shapes": [{"label": "a", "points": [[0, 0]], "shape_type": "line"}]}, r"is a line, which has no"),
        ("a.json", {"shapes": [{"label": "a", "points": [[0, 0]] * 2, "shape_type": "mask", "mask": "AA=="}]},
         r"has a mask that is not a PNG"),
        ("a.json", {"shapes": [{"label": "a", "points": [[0, 1e9], [1, 1], [2, 2]]}]}, r"corner that is no place"),
        ("a.json", COCO | {"annotations": [{"id": 5, "image_id": 3, "segmentation": {"size": [3, 4], "counts": [9]}}]},
         r"annotation 5 has runs that do not add up to the 12 pixels"),
        ("a.json", COCO | {"annotations": [{"image_id": 3, "segments_info": []}]}, r"panoptic COCO, .* of instances"),
        ("a.xml", "<annotations>", r"is not valid XML"),
        ("a.xml", '<!DOCTYPE x [<!ENTITY a "b">]><annotations/>', r"declares a document type"),
        ("a.xml", "<annotations><track/></annotations>", r'Export the task as "CVAT for images 1\.1"'),
        ("a.xml", CVAT.replace("<box", "<polyline"), r"polyline 0 \(b\) has no area"),
        ("a.xml", CVAT.replace('xtl="2"', 'xtl="two"'), r"has xtl = 'two', which is no number"),
        ("a.xml", CVAT.replace("1, 2, 1, 1, 1", "1, 2"), r"a mask that cannot be read \(has runs that do not add up"),
        ("a.xml", CVAT.replace('left="4"', 'left="8"'), r"a mask that cannot be read \(leads out of the image\)"),
    ],
)  # fmt: skip
def test_faults_are_one_sentence_with_their_place(name, content, sentence, tmp_path):
    with pytest.raises(BadInput, match=sentence):
        read_drawings(write(tmp_path / name, content))
