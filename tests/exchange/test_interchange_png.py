"""PNG files as other tools write them: other orders of classes, colours, sizes, half-finished work."""

import numpy as np
import pytest
from exchange_support import exported, imported, refused, truth_of, write_masks
from PIL import Image

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.queries import Queries


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
