"""Files as other tools write them: other orders of classes, polygons, colours, sizes, half-finished work."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.queries import Queries
from stages.commands import export_queries, import_answers
from stages.runtime.errors import BadInput, StageFailed
from stages.settings.import_answers import ImportSettings


def exported(one, output, ledger=None):
    return export_queries.run(one.dataset, one.queries, output, one.regions, ledger)


def imported(one, answers, output, force=False, **settings):
    made = ImportSettings(**settings)
    return import_answers.run(one.dataset, one.queries, answers, output, made, None, one.regions, force)


def refused(one, answers, output, says, **settings):
    with pytest.raises(BadInput, match=says):
        imported(one, answers, output, **settings)
    assert not output.exists()


def truth_of(one):
    with Dataset(one.dataset) as data:
        return {image: data.mask(image) for image in data.all_ids}


def write_masks(folder, one, change=lambda mask: mask, mode="L"):
    """The masks of the dataset as PNG."""
    for image, mask in truth_of(one).items():
        path = folder / f"{image}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(change(mask)).convert(mode).save(path)
    return folder


class TestPng:
    def test_finished_masks_answer_every_kind(self, asked, same, tmp_path):
        """Plain grey PNG with the numbers of the classes and 255 for void, of more images than were asked about."""
        for kind in ("pixel", "pixel-coarse", "dominant", "precise", "mask"):
            one = asked[kind]
            found = imported(one, write_masks(tmp_path / kind, one), tmp_path / f"{kind}.h5")
            # The clicks of exact labels are estimated from the same masks as the simulation does
            same(found, one.ledger, but=("seconds",))

    def test_one_file_answers_one_image(self, asked, tmp_path):
        one = asked["mask"]
        image = Annotations(one.ledger).ids[0]
        file = write_masks(tmp_path / "masks", one) / f"{image}.png"
        found = Annotations(imported(one, file, tmp_path / "a.h5"))
        assert found.mask_ids == {image}
        assert np.array_equal(found.label_map(image), truth_of(one)[image])
        assert found.header.counts["open"] == len(Queries(one.queries)) - 1
        assert found.answers.clicks.tolist() == [1713]
        assert found.answers.seconds.tolist() == [5400]

    def test_colours_of_the_dataset(self, asked, same, tmp_path):
        one = asked["mask"]
        with Dataset(one.dataset) as data:
            colours = np.full((256, 3), 255, np.uint8)
            colours[: len(data.palette)] = data.palette
        folder = write_masks(tmp_path / "masks", one, lambda mask: colours[mask], "RGB")
        red = colours.copy()
        red[1] = 255, 0, 0
        other = write_masks(tmp_path / "red", one, lambda mask: red[mask], "RGB")
        refused(
            one,
            other,
            tmp_path / "a.h5",
            r"colour \[255, 0, 0\], which is not a class\. Paint with the colours of the classes\.$",
        )
        # Class 0 is black here, so `background` had to move aside
        same(imported(one, folder, tmp_path / "a.h5"), one.ledger, but=("seconds",))

    def test_a_labelmap_of_another_order(self, asked, same, tmp_path):
        """As CVAT writes it: background first, colours of its own, files as indices into them."""
        one = asked["mask"]
        names = ["background", "class3", "class1", "void", "class0", "class2"]
        colours = np.array([[number * 40, 7, 9] for number in range(len(names))], np.uint8)
        place = np.zeros(256, np.uint8)
        for number, name in enumerate(names[1:], start=1):
            place[255 if name == "void" else int(name[-1])] = number
        folder = tmp_path / "task"
        write_masks(folder / "SegmentationClass", one, lambda mask: colours[place[mask]], "RGB")
        write_masks(folder / "SegmentationObject", one, lambda mask: mask * 0)
        lines = [f"{name}:{r},{g},{b}::" for name, (r, g, b) in zip(names, colours.tolist(), strict=True)]
        (folder / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "\n".join(lines) + "\n")
        same(imported(one, folder, tmp_path / "a.h5"), one.ledger, but=("seconds",))
        (folder / "labelmap.txt").write_text("\n".join(lines).replace("class2", "tree"))
        refused(
            one,
            folder,
            tmp_path / "b.h5",
            r"\[200, 7, 9\] \(tree\), which is not a class\. Paint with the colours of the classes\.$",
        )
        (folder / "labelmap.txt").write_text("class0;0,0,0")
        refused(
            one,
            folder,
            tmp_path / "b.h5",
            r"line 1: 'class0;0,0,0' does not have the form name:red,green,blue::\. Correct it\.$",
        )

    def test_masks_of_larger_images_are_resized_when_told_so(self, asked, same, tmp_path):
        one = asked["dominant"]
        folder = write_masks(tmp_path / "masks", one, lambda mask: np.kron(mask, np.ones((3, 3), np.uint8)))
        refused(one, folder, tmp_path / "a.h5", r"differ in size \(168x120 and 56x40\).*or pass --resize")
        same(imported(one, folder, tmp_path / "a.h5", resize=True), one.ledger)

    def test_unpainted_pixels_of_a_finished_mask_are_void(self, asked, tmp_path):
        one = asked["mask"]
        folder = write_masks(tmp_path / "masks", one, lambda mask: np.where(mask == 255, 252, mask).astype(np.uint8))
        found = Annotations(imported(one, folder, tmp_path / "a.h5"))
        for image in found.mask_ids:
            assert np.array_equal(found.label_map(image), truth_of(one)[image])

    @pytest.mark.parametrize("kind", ["mask", "precise"])
    def test_what_is_painted_in_part_stays_open(self, kind, asked, tmp_path, capsys):
        one = asked[kind]
        folder = exported(one, tmp_path / "masks", one.ledger)
        file = sorted(folder.rglob("*.png"))[0]
        image = file.relative_to(folder / "SegmentationClass").with_suffix("").as_posix()
        with Image.open(file) as picture:
            seen, palette = np.array(picture), picture.getpalette()
        y, x = np.argwhere(seen != 252)[0]
        seen[y, x] = 254
        changed = Image.fromarray(seen)
        changed.putpalette(palette)
        changed.save(file)
        found = Annotations(imported(one, folder, tmp_path / "a.h5"))
        assert "1 queries are painted in part and stay open" in capsys.readouterr().out
        assert found.header.counts["open"] == 1
        assert len(found.answers) == len(Queries(one.queries)) - 1
        assert found.label_map(image)[y, x] == 255
        assert (found.label_map(image) != Annotations(one.ledger).label_map(image)).any()

    @pytest.mark.parametrize(
        "value, kind, state, clicks", [(253, "dominant", 3, 1), (253, "precise", 3, 1), (255, "precise", 1, None)]
    )
    def test_skip_and_void(self, value, kind, state, clicks, asked, tmp_path):
        one = asked[kind]
        folder = write_masks(tmp_path / "masks", one, lambda mask: np.full_like(mask, value))
        found = Annotations(imported(one, folder, tmp_path / "a.h5"))
        assert set(found.answers.state) == {state}
        assert not found.exact_ids
        assert clicks is None or set(found.answers.clicks) == {clicks}
        assert not any((found.label_map(image) != 255).any() for image in found.ids)
        again = exported(one, tmp_path / "again", found.path)  # and so it is exported
        shown = np.concatenate([np.unique(np.array(Image.open(file))) for file in again.rglob("*.png")])
        assert set(shown.tolist()) == {value, 252}

    def test_a_mask_cannot_be_skipped(self, asked, tmp_path):
        one = asked["mask"]
        folder = write_masks(tmp_path / "masks", one, lambda mask: np.full_like(mask, 253))
        refused(
            one,
            folder,
            tmp_path / "a.h5",
            r"answers no query of .*\. Paint the queries of these images, then export again\.$",
        )

    def test_strange_files_are_refused(self, asked, tmp_path):
        one = asked["mask"]
        output = tmp_path / "a.h5"
        (tmp_path / "empty").mkdir()
        refused(one, tmp_path / "empty", output, r"contains no PNG files\. Pass the folder with the masks\.$")
        refused(
            one,
            tmp_path / "absent.png",
            output,
            r"^Cannot read .*absent\.png: .*\. Pass the file or folder with the answers\.$",
        )
        folder = write_masks(tmp_path / "masks", one)
        says = (
            r"contains the values \[9\]\. Use 0 to 3, 252 \(background\) and 253 \(skip\) and 254 \(open\) and 255 "
            r"\(void\)\.$"
        )
        refused(one, write_masks(tmp_path / "high", one, lambda mask: mask // 255 * 9), output, says)
        (folder / "zebra.png").write_bytes((folder / "three.png").read_bytes())
        refused(
            one,
            folder,
            output,
            r"zebra\.png is not an image of the dataset\. Name the files like the images, such as .*\.png\.$",
        )
        (folder / "zebra.png").rename(folder / "one.png")
        refused(one, folder, output, r"several images are called one\.png\. Keep the folders in its name\.$")
        (folder / "one.png").rename(folder / "x-three.png")
        (folder / "deep").mkdir()
        (folder / "x-three.png").rename(folder / "deep" / "three.png")
        refused(one, folder, output, r"contains image three twice\. Keep one of them\.$")
        (folder / "deep" / "three.png").unlink()
        for image in Annotations(one.ledger).mask_ids:
            file = folder / f"{image}.png"
            file.write_bytes(file.read_bytes()[:50])
        refused(one, folder, output, r"cannot be decoded \(.*\): it is damaged or not an image\. Replace it\.$")

    def test_changed_masks_are_read_anew(self, asked, tmp_path, capsys):
        one = asked["dominant"]
        folder = write_masks(tmp_path / "masks", one)
        output = imported(one, folder, tmp_path / "a.h5")
        imported(one, folder, output)
        assert "is up to date" in capsys.readouterr().out
        write_masks(folder, one, lambda mask: np.where(mask == 1, 0, mask).astype(np.uint8))
        imported(one, folder, output)
        assert "input answers changed" in capsys.readouterr().out
        assert (Annotations(output).answers.label != 1).all()


def document_of(one, tmp_path, name="c.coco.json"):
    return json.loads(exported(one, tmp_path / name, one.ledger).read_bytes())


def written(tmp_path, document, name="changed.json"):
    path = tmp_path / name
    path.write_text(json.dumps(document))
    return path


class TestCoco:
    @pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # its own, with NumPy 2
    def test_shapes_are_those_of_the_reference_library(self, asked, tmp_path):
        """Read by pycocotools itself: every region once, its area and box right, open ones named so."""
        from pycocotools.coco import COCO

        one = asked["dominant-coarse"]
        path = exported(one, tmp_path / "c.coco.json")
        reference, truth = COCO(str(path)), truth_of(one)
        assert len(reference.anns) == len(Queries(one.queries))
        for shape in reference.anns.values():
            mask = reference.annToMask(shape)
            picture = reference.imgs[shape["image_id"]]
            assert mask.shape == (picture["height"], picture["width"]) == truth[picture["file_name"][:-4]].shape
            assert mask.sum() == shape["area"]
            y, x = np.nonzero(mask)
            assert shape["bbox"] == [x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1]
            assert reference.cats[shape["category_id"]]["name"] == "open"

    def test_other_ids_other_names_and_compressed_runs(self, asked, same, tmp_path):
        """As tools rewrite it: numbers from anywhere, file names with folders and prefixes, packed strings."""
        one = asked["class-set"]
        document = document_of(one, tmp_path)
        for category in document["categories"]:
            category["id"] = 1000 - category["id"]
        for picture in document["images"]:
            picture["id"] += 70
            folder, name = ("/" + picture["file_name"]).rsplit("/", 1)
            picture["file_name"] = f"upload/7{folder}/{'0badf00d-' if name == 'three.png' else ''}{name}"
        for shape in document["annotations"]:
            shape |= {"id": shape["id"] * 3, "image_id": shape["image_id"] + 70, "score": 1.0}
            shape["category_id"] = 1000 - shape["category_id"]
            packed = coco.frPyObjects(shape["segmentation"], *shape["segmentation"]["size"])
            shape["segmentation"] = {"size": packed["size"], "counts": packed["counts"].decode()}
        document["annotations"].reverse()
        same(imported(one, written(tmp_path, document), tmp_path / "a.h5"), one.ledger, but=("seconds",))

    def test_polygons_and_boxes(self, asked, tmp_path):
        one = asked["mask"]
        image = Annotations(one.ledger).ids[0]
        height, width = truth_of(one)[image].shape
        document = {
            "images": [{"id": 1, "file_name": f"{image}.jpg", "height": height, "width": width}],
            "categories": [{"id": 1, "name": "class2"}, {"id": 2, "name": "class1"}, {"id": 3, "name": "Void"}],
            "annotations": [
                {
                    "image_id": 1,
                    "category_id": 1,
                    "segmentation": [[0, 0, 20, 0, 20, 10, 0, 10], [30, 20, 40, 20, 40, 30]],
                },
                {"image_id": 1, "category_id": 2, "segmentation": [], "bbox": [5, 5, 4, 3]},
                {"image_id": 1, "category_id": 3, "bbox": [0, 0, 2, 1]},
            ],
        }
        found = Annotations(imported(one, written(tmp_path, document), tmp_path / "a.h5"))
        labels = found.label_map(image)
        assert (labels[5:8, 5:9] == 1).all()  # what comes later lies on top
        assert (labels[:10, :20] != 255).sum() == 200 - 2
        assert labels[22, 38] == 2
        assert (labels[35:] == 255).all()
        assert found.mask_ids == {image}

    @pytest.mark.parametrize(
        "change, says",
        [
            (
                lambda d: d.pop("categories"),
                r"is not a COCO document \(categories: Field required\)\. Export it again\.$",
            ),
            (
                lambda d: d["images"][0].pop("height"),
                r"a COCO document \(images\.0\.height: Field required\)\. Export it again\.$",
            ),
            (
                lambda d: d["images"][0].update(file_name="zebra.png"),
                r"zebra\.png is not an image of the dataset\. Name the files like",
            ),
            (lambda d: d["images"].pop(), r"refers to image 4, which is not in the file\. Export it again\.$"),
            (lambda d: d["images"][1].update(file_name=d["images"][0]["file_name"]), r"twice\. Keep one of them\.$"),
            (
                lambda d: d["categories"][0].update(name="zebra"),
                r"unknown categories \('zebra'\)\. Rename them to one of class0, ",
            ),
            (
                lambda d: d["annotations"][0].update(category_id=99),
                r"unknown categories \(99\)\. Rename them to one of class0, ",
            ),
            (
                lambda d: d["annotations"][2]["segmentation"]["counts"].pop(),
                r"annotation 3 has runs that do not add up to the \d+ pixels of its image\. Export it again\.$",
            ),
            (
                lambda d: d["annotations"][2]["segmentation"].update(size=[1, 2]),
                r"has the size \(1, 2\), but its image has .*\. Export it again\.$",
            ),
            (lambda d: d["annotations"][2]["segmentation"].update(counts=[-5, 45]), r"COCO document .*greater than"),
            (lambda d: d["annotations"][2]["segmentation"].update(counts=[10**30]), "not a COCO document"),
            (lambda d: d["annotations"][2]["segmentation"].update(counts=[2**32] * 3), "runs that do not add up"),
            (lambda d: d["annotations"][2].update(segmentation=[[1e9, 1, 2, 3, 4, 5]]), "not a COCO document"),
            (lambda d: d["images"][0].update(height=60000, width=60000), r"differ in size \(60000x60000 and"),
            (lambda d: d["annotations"][2]["segmentation"].update(counts="06"), "runs that do not add up"),
            (
                lambda d: d["annotations"][2]["segmentation"].update(counts="o"),
                r"not a COCO string, or only a part of one\. Export it again\.$",
            ),
            (
                lambda d: d["annotations"][2].update(segmentation=[[1, 2, 3, 4]]),
                r"nor polygons with three corners or more\. Export it again\.$",
            ),
            (
                lambda d: d["annotations"][2].update(segmentation=[], bbox=[]),
                r"has neither a mask nor polygons .* or more\. Export it again\.$",
            ),
            (lambda d: d["annotations"][2].update(segmentation="mask"), "not a COCO document"),
            (
                lambda d: d["annotations"].clear(),
                r"answers no query of .*\. Paint the queries of these images, then export again\.$",
            ),
        ],
    )
    def test_what_does_not_fit_is_refused(self, change, says, asked, tmp_path):
        one = asked["dominant"]
        document = document_of(one, tmp_path)
        change(document)
        refused(one, written(tmp_path, document), tmp_path / "a.h5", says)

    def test_images_that_were_not_asked_about_are_told(self, asked, tmp_path, capsys):
        one, more = asked["mask"], asked["dominant"]
        document, shapes = document_of(one, tmp_path), document_of(more, tmp_path, "more.coco.json")
        (missing,) = set(Annotations(more.ledger).ids) - Annotations(one.ledger).mask_ids
        (picture,) = [picture for picture in shapes["images"] if picture["file_name"] == f"{missing}.png"]
        document["images"].append(picture | {"id": 99})
        drawn = [shape | {"image_id": 99} for shape in shapes["annotations"] if shape["image_id"] == picture["id"]]
        document["annotations"] += drawn
        imported(one, written(tmp_path, document), tmp_path / "a.h5")
        assert "ignored 1 images without queries" in capsys.readouterr().out


def rows_of(one, tmp_path, name="t.csv"):
    with exported(one, tmp_path / name).open() as file:
        return list(csv.DictReader(file))


def write_rows(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


class TestTables:
    def test_regions_come_with_their_boxes(self, asked, tmp_path):
        rows = rows_of(asked["dominant"], tmp_path)
        names = ["query", "image", "region", "y0", "x0", "y1", "x1", "class", "seconds", "annotator"]
        assert list(rows[0]) == names
        assert all(int(row["y0"]) <= int(row["y1"]) <= int(row["y0"]) + 7 for row in rows)

    def test_sets_take_several_classes(self, asked, tmp_path):
        one = asked["class-set"]
        rows = rows_of(one, tmp_path)
        cells = ["class2; class0", "void", "skip", "class1;VOID", "", "class3"]
        for row, cell in zip(rows, cells, strict=False):
            row["class"] = cell
        settings = {"seconds_per_click": 4.0, "annotator": "Ada"}
        found = Annotations(imported(one, write_rows(tmp_path / "filled.csv", rows), tmp_path / "a.h5", **settings))
        asked_rows = {int(row["query"]): cell for row, cell in zip(rows, cells, strict=False) if cell}
        expected = {
            "class2; class0": ([1, 0, 1, 0, 0], 255, 1, 2),
            "void": ([0, 0, 0, 0, 1], 255, 2, 1),
            "skip": ([0, 0, 0, 0, 0], 255, 3, 1),
            "class1;VOID": ([0, 1, 0, 0, 1], 255, 1, 2),
            "class3": ([0, 0, 0, 1, 0], 3, 1, 1),
        }
        answers = found.answers
        for row, query in enumerate(sorted(asked_rows)):
            named, label, state, clicks = expected[asked_rows[query]]
            assert answers.class_sets[row].tolist() == named
            assert (answers.label[row], answers.state[row], answers.clicks[row]) == (label, state, clicks)
            assert answers.seconds[row] == 4 * clicks
        assert found.annotators == ["Ada"]
        assert found.header.counts["open"] == len(rows) - 5

    @pytest.mark.parametrize(
        "cell, says",
        [
            ("class0;skip", "is not an answer; use classes, each once, void or skip"),
            ("class0;class0", "is not an answer; use classes, each once, void or skip"),
            ("class0;zebra", "'zebra' is not a class; use class0, .*, void or skip"),
        ],
    )
    def test_sets_that_are_none(self, cell, says, asked, tmp_path):
        one = asked["class-set"]
        rows = rows_of(one, tmp_path)
        rows[3]["class"] = cell
        refused(one, write_rows(tmp_path / "filled.csv", rows), tmp_path / "a.h5", f"line 5: .*{says}")

    @pytest.mark.parametrize(
        "change, says",
        [
            (
                lambda d: d.update(digest="0" * 64),
                r"other queries than .*\. Pass those queries, or fill in a new export\.$",
            ),
            (lambda d: d.pop("queries"), r'has no list "queries" of objects\. Fill in a new export\.$'),
            (lambda d: d["queries"].append(7), r'has no list "queries" of objects\. Fill in a new export\.$'),
            (lambda d: d["queries"][4].update(region=0.5), r"entry 4 of queries: region is 0\.5, not a whole number"),
            (lambda d: d["queries"][4].update(image="three?"), "keep image, region as exported"),
            (lambda d: d["queries"][4].update({"class": 3}), "class is 3, not a name or a list of names"),
            (
                lambda d: d["queries"][4].update({"class": ["class0", "class1"]}),
                "is not an answer; use one class, void or skip",
            ),
            (
                lambda d: d["queries"][4].update({"class": "class0", "seconds": True}),
                r"seconds is True, not a number from 0 to 1e\+09\.$",
            ),
            (lambda d: d["queries"][4].update({"class": "class0", "annotator": "x" * 65}), "annotator 'x+'"),
            (lambda d: d["queries"].append(d["queries"][4]), r"is answered twice\. Keep one of the answers\.$"),
        ],
    )
    def test_json_that_does_not_fit_is_refused(self, change, says, asked, tmp_path):
        one = asked["dominant"]
        document = json.loads(exported(one, tmp_path / "t.json", one.ledger).read_bytes())
        change(document)
        refused(one, written(tmp_path, document), tmp_path / "a.h5", says)

    def test_other_json_is_refused(self, asked, tmp_path):
        for content, says in (
            ("[1]", r"is neither a table of queries nor a COCO document\. Fill in a new export\.$"),
            ("{", r"is not valid JSON \(.*\)\. Export it again\.$"),
            ("[" * 10**5, r"is not valid JSON \(.*\)\. Export it again\.$"),
        ):
            (tmp_path / "t.json").write_text(content)
            refused(asked["dominant"], tmp_path / "t.json", tmp_path / "a.h5", says)

    def test_a_name_of_nobody_is_refused(self, asked, tmp_path):
        one = asked["dominant"]
        table = exported(one, tmp_path / "t.csv", one.ledger)
        refused(
            one,
            table,
            tmp_path / "a.h5",
            r"must have 1 to 64 printable characters\. Choose another name\.$",
            annotator=" ",
        )


class TestExport:
    @pytest.mark.parametrize("name", ["t.csv", "t.json", "t.coco.json", "masks"])
    def test_nothing_is_ever_replaced(self, name, asked, tmp_path, capsys):
        one = asked["dominant"]
        output = exported(one, tmp_path / name)
        exported(one, output)
        assert "is up to date" in capsys.readouterr().out
        with pytest.raises(
            BadInput, match=r"exists and may (contain|hold) answers\. Remove it,? or choose another output\.$"
        ):
            exported(one, output, one.ledger)
        file = output if output.is_file() else sorted(output.rglob("*.png"))[0]
        file.write_bytes(b"work of a day")
        with pytest.raises(
            BadInput, match=r"exists and may (contain|hold) answers\. Remove it,? or choose another output\.$"
        ):
            exported(one, output)
        assert file.read_bytes() == b"work of a day"
        assert not list(tmp_path.glob(".*"))

    def test_what_a_dead_process_left_is_removed(self, asked, tmp_path):
        (tmp_path / ".masks.1.partial" / "SegmentationClass").mkdir(parents=True)
        (tmp_path / ".masks.1.partial" / "SegmentationClass" / "x.png").write_bytes(b"half")
        exported(asked["dominant"], tmp_path / "masks")
        assert [path.name for path in tmp_path.iterdir()] == ["masks"]

    def test_a_folder_without_room_is_not_published(self, asked, tmp_path, monkeypatch):
        from stages.artifacts import publish

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(publish.os, "fsync", full)
        with pytest.raises(
            StageFailed, match=r"^Could not write .*: No space left on device\. Nothing was published\.$"
        ):
            exported(asked["dominant"], tmp_path / "masks")
        assert list(tmp_path.iterdir()) == []

    def test_images_go_along(self, asked, tmp_path, capsys):
        one = asked["mask"]
        for told in ("wrote 3 images", "wrote 0 images"):
            export_queries.run(one.dataset, one.queries, tmp_path / "names.txt", images=tmp_path / "images")
            assert told in capsys.readouterr().out
        with Dataset(one.dataset) as data:
            for image in (tmp_path / "names.txt").read_text().splitlines():
                with Image.open(tmp_path / "images" / f"{image}.png") as picture:
                    assert np.array_equal(np.array(picture), data.image(image))

    @pytest.mark.parametrize("name, says", [("t.xml", r"unknown ending\. Use \.csv"), ("t.npy", r"Use \.csv")])
    def test_unknown_endings(self, name, says, asked, tmp_path):
        with pytest.raises(BadInput, match=says):
            exported(asked["dominant"], tmp_path / name)
        assert list(tmp_path.iterdir()) == []

    def test_the_folder_is_one_of_pascal_voc(self, asked, tmp_path):
        """Masks as palette images whose colours the label map names; the list names them."""
        one = asked["precise"]
        folder = exported(one, tmp_path / "masks", one.ledger)
        names = (folder / "ImageSets/Segmentation/default.txt").read_text().split()
        assert sorted(names) == sorted(Annotations(one.ledger).ids)
        colours = {}
        for line in (folder / "labelmap.txt").read_text().splitlines()[1:]:
            name, colour, _, _ = line.split(":")
            colours[tuple(map(int, colour.split(",")))] = name
        assert len(colours) == 4 + 4
        for image in names:
            with Image.open(folder / "SegmentationClass" / f"{image}.png") as picture:
                assert picture.mode == "P"
                shown = {colours[tuple(colour)] for colour in np.array(picture.convert("RGB")).reshape(-1, 3)}
            labels = set(np.unique(Annotations(one.ledger).label_map(image)).tolist()) - {255}
            assert shown == {f"class{label}" for label in labels} | {"void", "background"}
