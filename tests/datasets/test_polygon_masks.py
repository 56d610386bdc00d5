"""Masks drawn as polygons: labelme, COCO and CVAT at `prepare`, overlaps, the rest, and faults."""

import json

import numpy as np
import pytest
from PIL import Image

from stages.artifacts.dataset import Dataset
from stages.commands import prepare
from stages.datasets.description import load_description
from stages.runtime.errors import BadInput
from stages.settings.prepare import PrepareSettings

VOID = 255
SIZE = (12, 16)
# 6 x 6 pixels of a tree on 8 x 8 of grass, drawn after it
TREE, GRASS = [[2, 2], [8, 2], [8, 8], [2, 8]], [[0, 0], [8, 0], [8, 8], [0, 8]]
CLASSES = '[{ name = "grass", color = [0, 200, 0] }, { name = "tree", color = [0, 90, 0], labels = ["oak", "Tree"] }]'


def folder_of(tmp_path, masks='masks = "{id}.json"', keys="", more="", names=("one", "two")):
    for name in names:
        Image.new("RGB", SIZE[::-1]).save(tmp_path / f"{name}.jpg")
    text = f'name = "own"\nclasses = {CLASSES}\n[masks]\nencoding = "polygons"\n{keys}\n'
    (tmp_path / "own.toml").write_text(f'{text}[splits.train]\nimages = "{{id}}.jpg"\n{masks}\n{more}\n')
    return tmp_path


def labelme(folder, name, *shapes, size=SIZE):
    listed = [{"label": label, "points": points, "shape_type": "polygon"} for label, points in shapes]
    content = {"imagePath": f"../old/{name}.jpg", "imageHeight": size[0], "imageWidth": size[1], "shapes": listed}
    (folder / f"{name}.json").write_text(json.dumps(content))


def prepared(folder, name="d.h5", **settings):
    return Dataset(prepare.run(str(folder / "own.toml"), folder, folder / name, PrepareSettings(**settings)))


def refused(folder, sentence):
    with pytest.raises(BadInput, match=sentence) as error:
        prepared(folder)
    assert not (folder / "d.h5").exists()
    return error.value


def pixels(data, image="one"):
    """Number of pixels of grass, tree and void."""
    return np.bincount(data.mask(image).ravel(), minlength=256)[[0, 1, VOID]].tolist()


def test_labelme_with_labels_of_their_own_and_void_around(tmp_path):
    folder = folder_of(tmp_path)
    labelme(folder, "one", ("Grass", GRASS), ("oak", TREE))
    labelme(folder, "two")
    data = prepared(folder)
    assert pixels(data) == [64 - 36, 36, 192 - 64]
    assert data.mask("one")[2, :9].tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 255]
    assert pixels(data, "two") == [0, 0, 192], "an image without shapes has no class"
    half = prepared(folder, "half.h5", scale=0.5)
    assert pixels(half) == [16 - 9, 9, 48 - 16]


@pytest.mark.parametrize(
    ("keys", "first", "expected"),
    [
        ("", "tree", [64, 0, 128]),
        ('overlap = "smaller"', "tree", [28, 36, 128]),
        ('overlap = "smaller"', "grass", [28, 36, 128]),
        ('rest = "grass"', "grass", [28 + 128, 36, 0]),
        ('rest = "void"\nignore = ["tree"]', "grass", [28, 0, 164]),
    ],
)
def test_overlaps_and_the_rest(keys, first, expected, tmp_path):
    if "ignore" in keys:
        keys = keys.replace('"tree"', '"bush"')
    folder = folder_of(tmp_path, keys=keys, names=["one"])
    shapes = [("grass", GRASS), ("bush" if "ignore" in keys else "tree", TREE)]
    labelme(folder, "one", *(shapes if first == "grass" else shapes[::-1]))
    assert pixels(prepared(folder)) == expected


@pytest.mark.parametrize("kind", ["coco", "cvat"])
def test_one_file_for_all_images(kind, tmp_path):
    name = "ann/instances.json" if kind == "coco" else "ann/annotations.xml"
    folder = folder_of(tmp_path, f'masks = "{name}"')
    (folder / "ann").mkdir()
    if kind == "coco":
        rings = [[[number for corner in ring for number in corner]] for ring in (GRASS, TREE)]
        document = {
            "categories": [{"id": 1, "name": "grass"}, {"id": 2, "name": "oak"}],
            "images": [
                {"id": i, "file_name": f"data/{n}.jpg", "height": 12, "width": 16} for i, n in ((1, "two"), (2, "one"))
            ],
            "annotations": [{"id": i, "image_id": 2, "category_id": i, "segmentation": rings[i - 1]} for i in (1, 2)],
        }
        (folder / name).write_text(json.dumps(document))
    else:
        shapes = "".join(
            f'<polygon label="{label}" points="{";".join(f"{x},{y}" for x, y in ring)}" z_order="{layer}"/>'
            for label, ring, layer in (("oak", TREE, 1), ("grass", GRASS, 0))
        )
        size = 'width="16" height="12"'
        images = f'<image name="one.jpg" {size}>{shapes}</image><image name="two.jpg" {size}/>'
        (folder / name).write_text(f"<annotations>{images}</annotations>")
    data = prepared(folder)
    assert pixels(data) == [28, 36, 128]
    assert pixels(data, "two") == [0, 0, 192]
    Image.new("RGB", SIZE[::-1]).save(folder / "three.jpg")
    with pytest.raises(BadInput, match=r"has no shapes of .*three\.jpg\. Add the image there, or leave it out"):
        prepared(folder)


def test_a_table_of_files_names_shapes_too(tmp_path):
    folder = folder_of(tmp_path, names=["one"])
    labelme(folder, "one", ("grass", GRASS))
    (folder / "files.csv").write_text("image,mask\none.jpg,one.json\n")
    text = (folder / "own.toml").read_text().partition("[masks]")
    (folder / "own.toml").write_text(f'{text[0]}files = "files.csv"\n[masks]\nencoding = "polygons"\n')
    assert pixels(prepared(folder)) == [64, 0, 128]


@pytest.mark.parametrize(
    ("shape", "size", "sentence"),
    [
        (("bush", GRASS), SIZE, r"labels that are no class, with their number of shapes: 'bush' \(1\)\. Add them to"),
        (("grass", GRASS), (9, 9), r"is for an image of 9x9, but .*one\.jpg is 16x12"),
        (("grass", GRASS[:2]), SIZE, r"has fewer than three corners"),
    ],
)
def test_faults_of_shapes(shape, size, sentence, tmp_path):
    folder = folder_of(tmp_path, names=["one"])
    labelme(folder, "one", shape, size=size)
    refused(folder, sentence)


@pytest.mark.parametrize(
    ("masks", "keys", "more", "sentence"),
    [
        ('masks = "{id}.json"', 'rest = "sea"', "", r"masks\.rest: 'sea' is not a class\. Use grass, tree or void"),
        ('masks = "{id}.json"', "binarise = 3", "", r"binarise does not apply to encoding = \"polygons\""),
        ('masks = "{id}.json"', "ignore = [255]", "", r"the key ignore must list names of labels"),
        ('masks = "{id}.json"', 'ignore = ["oak"]', "", r"masks\.ignore: oak also means classes\.1 \(tree\)"),
        ('masks = "{id}.json"', "", "[tiles]\nsize = 64", r"tiles: masks are read part by part, and shapes are not"),
        ('masks = "a.json"', 'encoding = "index"', "", r"'a\.json' has no \{id\} field"),
    ],
)
def test_faults_of_descriptions(masks, keys, more, sentence, tmp_path):
    folder = folder_of(tmp_path, masks, keys, more)
    if "encoding" in keys:
        path = folder / "own.toml"
        path.write_text(path.read_text().replace('encoding = "polygons"\n', ""))
    with pytest.raises(BadInput, match=sentence):
        load_description(str(folder / "own.toml"))


def test_descriptions_without_shapes_mean_what_they_meant():
    """Keys that are newer and not used do not enter the digest of a dataset."""
    meaning = load_description("camvid").meaning()
    assert not {"overlap", "rest"} & meaning["masks"].keys()
    assert all("labels" not in item for item in meaning["classes"])
