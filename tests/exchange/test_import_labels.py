"""Labels that exist already: points, shapes, partial and whole masks as a ledger, and what is queried after them."""

import json

import numpy as np
import pytest
from PIL import Image
from worlds import write_dataset

from stages.answering.exchange.points import HEADINGS, read_points
from stages.artifacts.annotations import Annotations
from stages.artifacts.queries import Queries
from stages.artifacts.superpixels import Superpixels
from stages.commands import extract_superpixels, import_labels, prepare, score, select
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput
from stages.settings.extract_superpixels import ExtractSettings
from stages.settings.import_labels import ImportLabelsSettings
from stages.settings.prepare import PrepareSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings

SIZE = (12, 16)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two images of the pool and one to test on, with the classes class0, class1, class2."""
    masks = {name: np.zeros(SIZE, np.uint8) for name in ("dive/one", "two", "held")}
    path = tmp_path_factory.mktemp("labels") / "d.h5"
    return write_dataset(path, masks, 3, {"dive/one": "train", "two": "train", "held": "test"})


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with two JPEG of 32 x 24 pixels, and the dataset made of them at half the size."""
    folder = tmp_path_factory.mktemp("photos")
    for number in (1, 2):
        Image.new("RGB", (32, 24)).save(folder / f"Reef {number}.JPG")
    classes = [f'{{ name = "{name}", color = [{number}, 0, 0] }}' for number, name in enumerate(("Coral", "Sand"))]
    text = f'name = "reef"\nclasses = [{", ".join(classes)}]\n[splits.train]\nimages = "{{id}}.JPG"\n'
    (folder / "d.toml").write_text(text)
    return prepare.run(str(folder / "d.toml"), folder, folder / "d.h5", PrepareSettings(long_side=16))


def taken(dataset, tmp_path, *files, name="l.h5", annotations=None, names=None, images=None, **settings):
    made = ImportLabelsSettings(**settings)
    return Annotations(import_labels.run(dataset, files, tmp_path / name, made, annotations, names, images))


def refused(dataset, tmp_path, file, sentence, **settings):
    with pytest.raises(BadInput, match=sentence) as error:
        taken(dataset, tmp_path, file, **settings)
    assert not (tmp_path / "l.h5").exists()
    return error.value


def table(tmp_path, *lines, name="p.csv"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


def labelme(tmp_path, name, *shapes, size=SIZE):
    listed = [{"label": label, "points": points, "shape_type": kind} for label, kind, points in shapes]
    content = {"imagePath": f"{name}.jpg", "imageHeight": size[0], "imageWidth": size[1], "shapes": listed}
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def square(label, left, top, side):
    return label, "rectangle", [[left, top], [left + side, top + side]]


def picture(tmp_path, name, pixels, mode="L"):
    path = tmp_path / f"{name}.png"
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def test_points_of_coralnet_become_pixels(dataset, tmp_path):
    """Names with and without folder and ending, in any case of letters; an unlabelled point is left out."""
    path = table(
        tmp_path, "Name,Row,Column,Label,Machine suggestion 1", "one.jpg,0,15,CLASS1,x", "dive/one.JPG,11,3,class2,x",
        "two,5,6,void,x", "two,7,7,,x",
    )  # fmt: skip
    found = taken(dataset, tmp_path, path)
    assert found.ids == ["dive/one", "two"]
    answers = found.answers
    rows = sorted(np.stack([answers.image, answers.y, answers.x, answers.label], 1).tolist())
    assert rows == [[0, 0, 15, 1], [0, 11, 3, 2], [1, 5, 6, VOID]]
    assert found.cost() == {"answers": 3, "clicks": 0, "seconds": 0}
    assert found.label_map("dive/one")[[0, 11], [15, 3]].tolist() == [1, 2]
    assert (found.label_map("dive/one") != VOID).sum() == 2
    assert found.next_round == 1


@pytest.mark.parametrize("place", range(12))
def test_columns_under_the_usual_headings(place, tmp_path):
    """Each heading of the table is found, in capitals, with spaces, and in tables with semicolons or tabs."""
    headings = {column: known[place % len(known)] for column, known in HEADINGS.items()}
    headings["x"] = f" {headings['x'][0].upper()}{headings['x'][1:]} "
    values = {"image": "a b.jpg", "y": "3", "x": "4.5", "label": "tree", "annotator": "me", "height": 9, "width": 8}
    mark = ",;\t"[place % 3]
    path = table(tmp_path, mark.join(headings.values()), mark.join(map(str, values.values())))
    found = read_points(path)
    assert (found.images, found.labels, found.annotators) == (["a b.jpg"], ["tree"], ["me"])
    assert (found.y.tolist(), found.x.tolist(), found.sizes.tolist()) == ([3], [4.5], [[9, 8]])


def test_coordinates_of_the_original_file_are_mapped_to_the_dataset(photos, tmp_path):
    """Pixel (23, 31) of the photograph is (11, 15) of the dataset; two points fall into one pixel."""
    lines = ["image,row,column,label", "Reef 1.JPG,23,31,sand", "Reef 1.JPG,0,0,coral", "Reef 1.JPG,1,1,sand"]
    found = taken(photos, tmp_path, table(tmp_path, *lines))
    assert found.sizes["Reef 1"] == (12, 16)
    assert found.answers.y.tolist() == [11, 0]
    assert found.answers.x.tolist() == [15, 0]
    assert found.answers.label.tolist() == [1, 0]
    # a rectangle of 8 x 8 from (16, 8) on is one of 4 x 4 from (8, 4) on; on a grid of half the size 2 x 2
    drawn = labelme(tmp_path, "Reef 1", square("Coral", 16, 8, 8), size=(24, 32))
    found = taken(photos, tmp_path, drawn, name="s.h5")
    assert np.argwhere(found.label_map("Reef 1") == 0)[[0, -1]].tolist() == [[4, 8], [7, 11]]
    found = taken(photos, tmp_path, drawn, name="g.h5", grid_scale=0.5)
    assert np.argwhere(found.label_map("Reef 1") == 0)[[0, -1]].tolist() == [[2, 4], [3, 5]]
    flat = labelme(tmp_path, "Reef 1", square("Coral", 1, 1, 4), size=(20, 32))
    refused(photos, tmp_path / "none", flat, "has a size of 32x20, but image Reef 1 has 16x12")


def test_the_folder_of_the_originals_can_be_passed(photos, tmp_path):
    """If the folder that the dataset was prepared from is gone; a file of another shape is no original."""
    other = tmp_path / "elsewhere"
    other.mkdir()
    folder = photos.parent.rename(photos.parent.with_name("moved"))
    try:
        moved, path = folder / "d.h5", table(tmp_path, "image,row,column,label", "Reef 1,23,31,sand")
        refused(moved, tmp_path, path, r"whose size is not known.*Pass the folder of the original files with --images")
        Image.new("RGB", (64, 64)).save(other / "Reef 1.png")
        refused(moved, tmp_path, path, r"whose size is not known", images=other)
        Image.new("RGB", (64, 48)).save(other / "Reef 1.png")
        assert taken(moved, tmp_path, path, images=other).answers.y.tolist() == [5], "23 * 12 // 48"
    finally:
        folder.rename(photos.parent)


def test_shapes_become_regions_with_exact_labels(dataset, tmp_path):
    """6 x 6 pixels of class1 with 2 x 2 of class2 on top, void, and a point."""
    shapes = [square("class1", 1, 1, 6), square("CLASS2", 2, 2, 2), square("void", 10, 1, 3)]
    drawn = labelme(tmp_path, "one", *shapes, ("class0", "point", [[15.5, 11.5]]))
    found = taken(dataset, tmp_path, drawn, seconds_per_label=3)
    assert found.answers.areas.sizes().tolist() == [0, 36 - 4, 4, 9]
    assert found.answers.region.tolist() == [-1, 0, 1, 2]
    assert found.answers.label.tolist() == [0, 1, 2, VOID]
    assert found.cost() == {"answers": 4, "clicks": 4, "seconds": 12}
    labels = found.label_map("dive/one")
    assert np.bincount(labels.ravel(), minlength=256)[[0, 1, 2, VOID]].tolist() == [1, 32, 4, 192 - 37]
    assert found.label_map("dive/one", 3)[1:4, 10:13].tolist() == [[3] * 3] * 3, "void is learned if asked for"
    assert found.exact_area("dive/one").sum() == 36 + 9 + 1
    assert found.region_files[0].method == "drawn"
    assert found.cut_files == []
    assert found.mask_ids == set()


def test_coco_cvat_and_points_in_one_ledger_with_names_of_their_own(dataset, tmp_path):
    categories = [{"id": 1, "name": "Acropora"}, {"id": 2, "name": "Rock"}]
    images = [{"id": 1, "file_name": "dive/one.jpg", "height": 12, "width": 16}]
    shape = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 3, 0, 3]]}
    document = {"categories": categories, "images": images, "annotations": [shape, shape | {"id": 2, "category_id": 2}]}
    (tmp_path / "instances.json").write_text(json.dumps(document))
    box = '<box label="Porites" xtl="0" ytl="0" xbr="2" ybr="2"/>'
    text = f'<annotations><image name="two.jpg" width="16" height="12">{box}</image></annotations>'
    (tmp_path / "annotations.xml").write_text(text)
    table(tmp_path, "image,y,x,class", "two,9,9,Rock")
    (tmp_path / "names.csv").write_text("label,class\nAcropora,class1\nPorites,CLASS2\n")
    found = taken(dataset, tmp_path, tmp_path / "instances.json", tmp_path / "annotations.xml", tmp_path / "p.csv",
                  names=tmp_path / "names.csv", map="Rock=omit")  # fmt: skip
    assert np.bincount(found.label_map("dive/one").ravel(), minlength=256)[[1, VOID]].tolist() == [12, 192 - 12]
    assert np.bincount(found.label_map("two").ravel(), minlength=256)[[2, VOID]].tolist() == [4, 192 - 4]
    assert found.answers.label.tolist() == [1, 2]


def test_masks_are_whole_or_partial(dataset, tmp_path):
    """Value 9 means not labelled; a mask without it is that of a whole image."""
    part = np.full(SIZE, 9, np.uint8)
    part[2:6, 3:8] = 1
    part[2, 3] = 255
    whole = np.full(SIZE, 2, np.uint8)
    whole[0] = 255
    folder = tmp_path / "masks"
    (folder / "dive").mkdir(parents=True)
    picture(folder, "dive/one", part)
    picture(folder, "two", whole)
    found = taken(dataset, tmp_path, folder, unlabelled="9")
    assert found.mask_ids == {"two"}
    assert found.answers.areas.sizes().tolist() == [20, 0]
    labels = found.label_map("dive/one")
    assert labels[2, 3:8].tolist() == [VOID, 1, 1, 1, 1]
    assert (labels != VOID).sum() == 19
    assert np.array_equal(found.label_map("two"), whole)
    assert found.exact_area("dive/one").sum() == 20
    assert found.exact_area("two").all()
    refused(
        dataset, tmp_path / "none", folder, r"no class of the dataset, with their number of labels or pixels: 9 \(1"
    )
    found = taken(dataset, tmp_path, folder, name="v.h5", others="void")
    assert found.mask_ids == {"dive/one", "two"}


def test_masks_by_colour(dataset, tmp_path):
    """The dataset's colours are (0, 0, 0), (20, 0, 0), (40, 0, 0); a label map names others."""
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[:, :4] = (20, 0, 0)
    pixels[:, 4:8] = (9, 9, 250)
    path = picture(tmp_path, "two", pixels, "RGB")
    found = taken(dataset, tmp_path, path, map="#0909fa=class2").label_map("two")
    assert found[0, [0, 5, 10]].tolist() == [1, 2, 0]
    found = taken(dataset, tmp_path, path, name="u.h5", unlabelled="#0909FA").label_map("two")
    assert found[0, [0, 5, 10]].tolist() == [1, VOID, 0]
    (tmp_path / "labelmap.txt").write_text("rock:0,0,0::\nclass0:20,0,0::\nbackground:9,9,250::\n")
    found = taken(dataset, tmp_path, path, name="m.h5", map="rock=class2", unlabelled="background").label_map("two")
    assert found[0, [0, 5, 10]].tolist() == [0, VOID, 2]


def test_labels_of_other_splits_are_left_out_and_said_so(dataset, tmp_path, capsys):
    path = table(tmp_path, "image,row,column,label", "two,1,1,class0", "held,1,1,class0", "held,1,2,class0")
    assert len(taken(dataset, tmp_path, path).answers) == 1
    assert "left out 2 labels of images in split 'test'" in capsys.readouterr().out
    path = table(tmp_path, "image,row,column,label", "held,1,1,class0", name="h.csv")
    refused(dataset, tmp_path / "none", path, "labels no image of this split")


def test_a_ledger_is_continued(dataset, tmp_path):
    first = taken(dataset, tmp_path, table(tmp_path, "image,row,column,label,annotator", "two,1,1,class0,eva"))
    drawn = labelme(tmp_path, "two", square("class1", 0, 0, 4))
    found = taken(dataset, tmp_path, drawn, name="m.h5", annotations=first.path)
    assert found.answers.round.tolist() == [0, 1]
    assert found.annotators == ["eva", "person"]
    found = taken(dataset, tmp_path, drawn, name="n.h5", annotations=found.path)
    assert found.answers.superpixels.tolist() == [-1, 0, 0], "the same shapes again"
    assert found.label_map("two")[:2, :2].tolist() == [[1, 1], [1, 0]]


def test_all_faults_at_once_but_not_without_end(dataset, tmp_path):
    lines = [f"two,{100 + row},0,class0" for row in range(30)]
    path = table(
        tmp_path,
        "image,row,column,label",
        "three,1,1,class0",
        "two,1,1,class0",
        "two,1,1,class1",
        "two,2,2,tree",
        *lines,
    )
    drawn = labelme(tmp_path, "four", square("class1", 0, 0, 4))
    with pytest.raises(BadInput) as error:
        taken(dataset, tmp_path, path, drawn)
    faults = error.value.faults
    assert len(faults) == 21
    assert faults[0].startswith(f"{path}: three is not an image of the dataset.")
    assert f"{path}, line 6: row 100, column 0 is outside of image two (16x12). Correct or remove it." in faults
    assert faults[-1] == "14 more faults of these kinds."
    few = table(tmp_path, *["image,row,column,label", "two,1,1,class0", "two,1,1,class1", "two,2,2,tree"])
    with pytest.raises(BadInput) as error:
        taken(dataset, tmp_path, few, drawn)
    assert len(error.value.faults) == 3
    assert any("is class1, but class0 in line 2. Keep one of them." in fault for fault in error.value.faults)
    assert any("tree (1). Name their classes with --map LABEL=CLASS" in fault for fault in error.value.faults)
    assert any("four.jpg is not an image of the dataset" in fault for fault in error.value.faults)


def test_files_that_contradict_each_other(dataset, tmp_path):
    one = table(tmp_path, "image,row,column,label", "two,1,1,class0", "two,2,2,class1", name="a.csv")
    two = table(tmp_path, "image,row,column,label", "two,1,1,class0", "two,2,2,void", name="b.csv")
    with pytest.raises(BadInput) as error:
        taken(dataset, tmp_path, one, two)
    assert error.value.faults == [
        "Image two: the pixel in row 2, column 2 of the dataset is class1 in one file and void in another. Keep one of "
        "them."
    ]


@pytest.mark.parametrize(
    ("lines", "settings", "sentence"),
    [
        (["image,row,label", "two,1,class0"], {}, r"lacks a column for column \(or x\)\. Name the columns"),
        (["image,row,column,label", "two,a,1,class0"], {}, r"line 2: row is 'a', not a number"),
        (["image,row,column,label", "two,1"], {}, r"line 2 has fewer columns"),
        (["image,row,column,label"], {}, r"contains no labelled points"),
        (["image,row,column,label", "two,0.5,0.25,class0"], {}, r"coordinates from 0 to 1, not in pixels"),
        (["image,row,column,label", "two,-1,1,class0"], {}, r"row -1, column 1 is outside of image two"),
        (["image,row,column,label", "two,1,1,tree"], {"map": "tree=class9"}, r"'class9' in the names of labels"),
        (["image,row,column,label", "two,1,1,tree"], {"map": "tree"}, r"--map tree: write LABEL=CLASS"),
        (["image,row,column,label", "two,1,1,class0"], {"annotator": "\t"}, r"annotator's name must have"),
        (["image,y,x,label,height,width", "two,1,1,class0,13,16"], {}, r"line 2 has a size of 16x13, but image two"),
    ],
)
def test_faults_of_tables(lines, settings, sentence, dataset, tmp_path):
    refused(dataset, tmp_path, table(tmp_path, *lines), sentence, **settings)


def test_other_faults(dataset, tmp_path):
    refused(dataset, tmp_path, tmp_path / "no.csv", r"no\.csv does not exist")
    refused(dataset, tmp_path, tmp_path, r"contains no labels\. Pass tables")
    (tmp_path / "x.h6").touch()
    refused(dataset, tmp_path, tmp_path / "x.h6", r"contains no labels")
    path = picture(tmp_path, "two", np.full(SIZE, 255, np.uint8))
    refused(dataset, tmp_path, path, r"has no pixel of a class")
    path = picture(tmp_path, "two", np.zeros((12, 12), np.uint8))
    refused(dataset, tmp_path, path, r"has a size of 12x12, but image two has 16x12")
    path = picture(tmp_path, "two", np.zeros(SIZE, np.uint8))
    with pytest.raises(BadInput, match=r"both label areas of image two\. Keep one of them"):
        taken(dataset, tmp_path, path, labelme(tmp_path, "two", square("class0", 0, 0, 2)))


def queried(dataset, tmp_path, unit, ledger, **chosen):
    regions = None
    if unit == "region":
        cut = ExtractSettings(method="grid", region_pixels=16, workers=1)
        regions = extract_superpixels.run(dataset, tmp_path / "r.h5", cut)
    random = ScoreSettings(measure="random", unit=unit)
    scores = score.run(dataset, tmp_path / f"{unit}.h5", random, superpixels=regions)
    made = SelectSettings(**chosen)
    return Queries(select.run(dataset, scores, tmp_path / f"q-{unit}.h5", made, ledger, regions)), regions


def test_the_first_queries_avoid_the_labels(dataset, tmp_path):
    """The left half of one image is drawn, a pixel is labelled right of it, the other image has a mask."""
    drawn = labelme(tmp_path, "one", ("class1", "rectangle", [[0, 0], [8, 12]]))
    point = table(tmp_path, "image,row,column,label", "one,3,12,class0")
    mask = picture(tmp_path, "two", np.zeros(SIZE, np.uint8))
    ledger = taken(dataset, tmp_path, drawn, point, mask).path
    pixels, _ = queried(dataset, tmp_path, "pixel", ledger, rule="uniform", budget=500)
    assert set(zip(pixels.image.tolist(), pixels.y.tolist(), pixels.x.tolist(), strict=True)) == {
        (0, y, x) for y in range(12) for x in range(8, 16) if (y, x) != (3, 12)
    }
    assert pixels.round == 1
    regions, path = queried(dataset, tmp_path, "region", ledger, rule="top", budget=0)
    with Superpixels(path) as cut:
        left = cut.read("regions/x0")[regions.region]
    assert len(regions) == 6, "squares of 4 x 4: 3 rows of 2 columns"
    assert left.tolist().count(8) == left.tolist().count(12) == 3
    images, _ = queried(dataset, tmp_path, "image", ledger, rule="top", budget=0)
    assert [images.ids[image] for image in images.image] == ["dive/one"]


def test_a_run_starts_from_labels(photos, tmp_path, preloaded):
    """`labels` in run.toml: the first model learns from them, and round 1 queries other pixels."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "dataset.h5").write_bytes(photos.read_bytes())
    grid = [(number, y, x) for number in (2, 1) for y in range(0, 24, 2) for x in range(0, 32, 2)]
    points = [f"Reef {number}.JPG,{y},{x},coral" for number, y, x in grid]
    path = table(tmp_path, "Name,Row,Column,Label", *points[:-5])
    done = preloaded.run("import-labels", run / "dataset.h5", path, "--images", photos.parent, "-o", run / "labels.h5",
                         cwd=tmp_path)  # fmt: skip
    assert (done.code, "round 0, 379 points in 2 images" in done.out) == (0, True), done
    train = 'weights = "none"\nbackbone = "mobilenetv3_small_050"\nhead_width = 16\nlow_level_width = 8\nbatch = 2'
    settings = f'[settings.train]\n{train}\ncrop = "none"\nepochs = 1\ndevice = "cpu"\n[settings.select]\nbudget = 9'
    (run / "run.toml").write_text(f'recipe = "pixelpick"\nrounds = 2\nlabels = "labels.h5"\n{settings}\n')
    done = preloaded.run("next", run, cwd=tmp_path)
    assert done.code == 0, done
    assert "Round 1 needs answers" in done.out
    queries = Queries(run / "round-1" / "queries.h5")
    assert {queries.ids[image] for image in queries.image} == {"Reef 1"}
    assert sorted(zip(queries.y.tolist(), queries.x.tolist(), strict=True)) == [(11, x) for x in range(11, 16)]
