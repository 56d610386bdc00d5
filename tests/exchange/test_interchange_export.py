"""Exported files are whole or absent, and never replace what may hold answers."""

import numpy as np
import pytest
from exchange_support import exported
from PIL import Image

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.commands import export_queries
from stages.runtime.errors import BadInput, StageFailed


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
