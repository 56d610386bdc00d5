"""COCO files as other tools write them: polygons, runs, other names, half-finished work."""

import numpy as np
import pytest
from exchange_support import document_of, exported, imported, refused, truth_of, written
from pycocotools import mask as coco

from stages.artifacts.annotations import Annotations
from stages.artifacts.queries import Queries


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
                r"unknown categories \('99'\)\. Rename them to one of class0, ",
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
            (lambda d: d["images"][0].update(height=60000, width=60000), r"size \(40, 56\), but .* \(60000, 60000\)"),
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
