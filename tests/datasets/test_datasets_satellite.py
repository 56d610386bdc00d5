"""UC Merced with DLRSD masks and DeepGlobe: stand-ins laid out as distributed, and the one real pair."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.artifacts.dataset import Dataset
from stages.commands import prepare
from stages.datasets.description import DatasetDescription, load_description
from stages.datasets.mask_files import class_lookup, decode_mask, read_mask
from stages.pixels.resize import resize_mask
from stages.runtime.errors import BadInput
from stages.settings.prepare import PrepareSettings

UCM, DEEPGLOBE = load_description("ucm-dlrsd"), load_description("deepglobe")
SCENES = ("agricultural", "mobilehomepark", "tenniscourt")
ODD_SIZES = {"agricultural03": (250, 256), "tenniscourt01": (257, 242)}
STRIPES = [[0, 255, 255], [255, 255, 0], [255, 0, 255], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]]


def prepared(name: str, root: Path, **settings: object) -> Path:
    return prepare.run(name, root, root.parent / "d.h5", PrepareSettings(**{"workers": 1} | settings))


@pytest.fixture
def ucm(tmp_path: Path) -> Path:
    """Ten images of each of three scenes, some of odd size, with indexed masks: columns of the classes 1, 5, 17."""
    root = tmp_path / "ucm"
    for scene in SCENES:
        images, masks = root / "UCMerced_LandUse/Images" / scene, root / "DLRSD/Images" / scene
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for n in range(10):
            height, width = ODD_SIZES.get(f"{scene}{n:02d}", (256, 256))
            image = np.full((height, width, 3), 10 * n, np.uint8)
            Image.fromarray(image).save(images / f"{scene}{n:02d}.tif")
            values = np.array([1, 5, 17], np.uint8)[np.arange(width) * 3 // width]
            mask = Image.fromarray(np.tile(values, (height, 1)), "P")
            mask.putpalette([0, 0, 0, *UCM.palette.ravel().tolist()])
            mask.save(masks / f"{scene}{n:02d}.png")
    return root


def test_ucm_as_distributed(ucm: Path) -> None:
    with Dataset(prepared("ucm-dlrsd", ucm, size=(64, 48))) as data:
        assert data.header.counts == {"train": 22, "val": 2, "test": 6}  # 21.6, 2.4 and 6 of 30
        assert len(data.classes) == 17
        assert data.palette[[0, 4, 16]].tolist() == [[166, 202, 240], [0, 128, 0], [0, 255, 255]]
        assert set(data.sizes.values()) == {(64, 48)}
        expected = np.tile(np.repeat([0, 4, 16], 16), (64, 1))
        for id in data.all_ids:
            assert data.image(id).shape == (64, 48, 3)
            assert (data.mask(id) == expected).all()
            assert data.image_classes[data.labels[id]] == id[:-2]
        assert (data.labels["tenniscourt07"], data.labels["agricultural00"]) == (20, 0)
        assert [sum(id.startswith(scene) for id in data.ids("test")) for scene in SCENES] == [2, 2, 2]


def test_ucm_images_and_masks_have_one_shape_whatever_the_settings(ucm: Path) -> None:
    for settings in ({}, {"size": (256, 256)}, {"long_side": 64}, {"scale": 0.5}):
        with Dataset(prepared("ucm-dlrsd", ucm, **settings)) as data:
            for id in (*ODD_SIZES, "mobilehomepark00"):
                assert data.image(id).shape[:2] == data.mask(id).shape == data.sizes[id]
            if "size" in settings:
                assert set(data.sizes.values()) == {(256, 256)}


def test_ucm_values_are_those_of_dlrsd() -> None:
    lookup = class_lookup(UCM)
    assert decode_mask(np.array([[1, 5, 17, 0]], np.uint8), lookup).tolist() == [[0, 4, 16, 255]]
    assert decode_mask(np.arange(1, 18, dtype=np.uint8)[None], lookup).tolist() == [list(range(17))]
    with pytest.raises(
        BadInput,
        match=r"contains 1 pixels of value 18, which is not in the class table\. Add it to a class or to ignore\.$",
    ):
        decode_mask(np.array([[18]], np.uint8), lookup)


LAYOUTS = {
    "torchgeo": ("DLRSD/Images/{scene}", "DLRSD/Labels/{scene}"),
    "flat": ("DLRSD/Images", "DLRSD/Labels"),
    "public code": ("UCMerced_Images", "UCMerced_Labels"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_ucm_in_other_layouts_is_the_same_dataset(ucm: Path, tmp_path: Path, name: str) -> None:
    with Dataset(prepared("ucm-dlrsd", ucm, size=(16, 16))) as data:
        expected, digest = {id: data.mask(id) for id in data.all_ids}, data.digest
    root = tmp_path / "other"
    for source, folder in zip(("UCMerced_LandUse/Images", "DLRSD/Images"), LAYOUTS[name], strict=True):
        for path in sorted((ucm / source).rglob("*.*")):
            place = root / folder.format(scene=path.parent.name) / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
    with Dataset(prepared("ucm-dlrsd", root, size=(16, 16))) as data:
        assert {id: data.mask(id).tolist() for id in data.all_ids} == {id: m.tolist() for id, m in expected.items()}
        assert data.digest == digest


def test_ucm_in_no_layout_is_told_where_it_may_be(tmp_path: Path) -> None:
    tmp_path.joinpath("empty").mkdir()
    told = (
        r"nothing matches UCMerced_LandUse/Images/\*/\*\.tif, DLRSD/Images/\*/\*\.tif, .*UCMerced_Images/\*\.tif under"
    )
    with pytest.raises(BadInput, match=told):
        prepared("ucm-dlrsd", tmp_path / "empty")


def test_ucm_images_of_other_sizes_with_masks_of_256(ucm: Path) -> None:
    """The image is resized to the mask, whose columns of 86, 85 and 85 pixels stay as they are."""
    for id in ODD_SIZES:
        values = np.array([1, 5, 17], np.uint8)[np.arange(256) * 3 // 256]
        Image.fromarray(np.tile(values, (256, 1))).save(ucm / f"DLRSD/Images/{id[:-2]}/{id}.png")
    with Dataset(prepared("ucm-dlrsd", ucm)) as data:
        assert set(data.sizes.values()) == {(256, 256)}
        for id in ODD_SIZES:
            assert (data.image(id) == 10 * int(id[-2:])).all()
            assert np.bincount(data.mask(id)[0], minlength=17)[[0, 4, 16]].tolist() == [86, 85, 85]


def test_elsewhere_another_size_is_a_fault_and_polygons_go_with_the_image_as_it_is(tmp_path: Path) -> None:
    description = """
    name = "own"
    classes = [{ name = "a", color = [0, 0, 0] }]
    [splits.a]
    images = "{id}.jpg"
    masks = "{id}.png"
    """
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "x.jpg")
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "x.png")
    own = tmp_path / "own.toml"
    own.write_text(description)
    with pytest.raises(BadInput, match=r"x\.png \(30x20\) and .*x\.jpg \(20x20\) differ in size"):
        prepared(str(own), tmp_path)
    own.write_text(description + "[masks]\nresize_images = true\n")
    with Dataset(prepared(str(own), tmp_path)) as data:
        assert data.sizes == {"x": (20, 30)}
    own.write_text(description + 'polygons = "{id}.json"\n[masks]\nresize_images = true\n')
    with pytest.raises(BadInput, match=r"masks\.resize_images: polygons are outlines in the image as it is"):
        load_description(str(own))


@pytest.mark.parametrize("both", [{"scale": 0.5}, {"long_side": 64}, {"scale": 0.5, "long_side": 64}])
def test_a_size_excludes_the_other_ways(both: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=r"scale, long_side and size are mutually exclusive; set one of them$"):
        PrepareSettings.load({"size": "256,256"} | both)


def test_sizes_from_the_command_line() -> None:
    assert PrepareSettings.load({"size": "256,320"}).size == (256, 320)
    assert PrepareSettings.load({"size": "none"}).size is None
    for wrong in ("256", "256,7", "1,2,3", "a,b"):
        with pytest.raises(BadInput, match="size"):
            PrepareSettings.load({"size": wrong})


def stripes(height: int, width: int) -> np.ndarray:
    """Seven upright stripes in the order of the palette, the unknown last, (H, W, 3) u8."""
    return np.tile(np.array(STRIPES, np.uint8)[np.arange(width) * 7 // width], (height, 1, 1))


@pytest.fixture
def deepglobe(tmp_path: Path) -> Path:
    """Five pairs: masks with soft edges, drawn at four times the size, in which rows 0..n of 8 are class n."""
    root = tmp_path / "land-train"
    root.mkdir()
    for n in range(5):
        colours = np.full((256, 256, 3), STRIPES[(n + 1) % 6], np.uint8)
        colours[: 32 * (n + 1)] = STRIPES[n]
        soft = Image.fromarray(colours).resize((64, 64), Image.Resampling.BICUBIC)
        soft.save(root / f"{100 + n}_mask.png")
        Image.fromarray(np.full((64, 64, 3), 40 * n, np.uint8)).save(root / f"{100 + n}_sat.jpg")
    return root


def test_deepglobe_colours() -> None:
    lookup = class_lookup(DEEPGLOBE)
    assert decode_mask(np.array([STRIPES], np.uint8), lookup).tolist() == [[0, 1, 2, 3, 4, 5, 255]]
    assert decode_mask(np.array([[[3, 250, 251], [127, 127, 127], [128, 128, 128]]], np.uint8), lookup).tolist() == [
        [0, 255, 5]
    ]
    assert decode_mask(np.array([[[255, 0, 0], [200, 90, 3]]], np.uint8), lookup).tolist() == [[255, 255]]
    every = np.array([[[255 * (corner >> bit & 1) for bit in range(3)] for corner in range(8)]], np.uint8)
    assert sorted(decode_mask(every, lookup).ravel().tolist()) == [0, 1, 2, 3, 4, 5, 255, 255]


@pytest.mark.parametrize("size", [(320, 320), (7, 7), (100, 33), (3, 5)])
def test_resizing_makes_no_new_class(size: tuple[int, int]) -> None:
    mask = decode_mask(stripes(70, 84), class_lookup(DEEPGLOBE))
    small = resize_mask(mask, *size)
    assert set(np.unique(small)) <= set(np.unique(mask))
    columns = ((np.arange(size[1]) + 0.5) * 84 / size[1]).astype(int) * 7 // 84
    assert (small == np.where(columns == 6, 255, columns)).all()


def test_deepglobe_as_distributed(deepglobe: Path) -> None:
    with Dataset(prepared("deepglobe", deepglobe, long_side=32)) as data:
        assert data.header.counts == {"train": 4, "test": 1}  # 3.6, 0.4 and 1 of 5
        assert data.image_classes == data.classes == [item.name for item in DEEPGLOBE.classes]
        for n in range(5):
            mask = data.mask(str(100 + n))
            assert mask.shape == (32, 32)
            assert (mask[: 4 * n + 3] == n).all()
            assert (mask[4 * n + 5 :] == n + 1).all()
        # at 4 of 8 rows both have half: the lower class
        assert data.labels == {"100": 1, "101": 2, "102": 3, "103": 3, "104": 4}


def test_deepglobe_in_the_layout_of_the_public_code_with_a_red_pixel(deepglobe: Path, tmp_path: Path) -> None:
    root = tmp_path / "flat"
    for pattern, folder in (("*_sat.jpg", "DeepGlobe_Images"), ("*_mask.png", "DeepGlobe_Labels")):
        (root / folder).mkdir(parents=True)
        for path in sorted(deepglobe.glob(pattern)):
            path.rename(root / folder / path.name)
    mask = root / "DeepGlobe_Labels/100_mask.png"
    pixels = np.array(Image.open(mask))
    pixels[0, 0] = (201, 90, 3)
    Image.fromarray(pixels).save(mask)
    with Dataset(prepared("deepglobe", root)) as data:
        assert len(data.all_ids) == 5
        assert data.mask("100")[0, :2].tolist() == [255, 0]
        assert data.ignored == [(0, 0, 0), (255, 0, 0)]


def test_masks_of_the_unknown_alone_are_refused_in_a_jpeg_too(deepglobe: Path) -> None:
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(deepglobe / "101_mask.png")
    (deepglobe / "102_mask.png").unlink()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(deepglobe / "102_mask.png", format="JPEG")
    with pytest.raises(BadInput) as caught:
        prepared("deepglobe", deepglobe)
    assert [
        ("101_mask.png: no pixel has a class" in fault, "102_mask.png: no pixel has a class" in fault)
        for fault in caught.value.faults
    ] == [
        (True, False),
        (False, True),
    ]


def test_binarise_belongs_to_colours_that_it_leaves_as_they_are(tmp_path: Path) -> None:
    def told(classes: str, masks: str) -> str:
        path = tmp_path / "own.toml"
        path.write_text(f'name = "own"\nclasses = [{classes}]\nmasks = {{ {masks} }}\nsplits.a.images = "{{id}}.png"')
        with pytest.raises(BadInput) as caught:
            load_description(str(path))
        return str(caught.value)

    black = '{ name = "black", color = [0, 0, 0] }'
    grey = '{ name = "grey", color = [128, 0, 0] }'
    lone = '{ name = "black", color = [0, 0, 0] }, { name = "one", color = [0, 0, 1] }'
    assert "classes.1 (one): no mask has the value 1 after masks.binarise" in told(lone, "binarise = 128")
    assert "masks.binarise = 0: input should be greater" in told(black, 'encoding = "color", binarise = 0')
    colours = told(f"{black}, {grey}", 'encoding = "color", binarise = 128')
    assert "classes.1 (grey): no mask has the colour (128, 0, 0) after masks.binarise" in colours


@pytest.mark.shared
def test_the_real_pair_has_the_published_counts(shared: Path, tmp_path: Path) -> None:
    sample = shared / "deepglobe_sample"
    mask = decode_mask(read_mask(sample / "6399_mask.png", "color"), class_lookup(DEEPGLOBE))
    counts = np.bincount(mask.ravel(), minlength=256)
    assert counts[[0, 1, 2, 3, 4, 5, 255]].tolist() == [0, 1491420, 3013524, 102792, 931980, 20660, 432328]
    with Dataset(prepare.run("deepglobe", sample, tmp_path / "d.h5", PrepareSettings(long_side=320))) as data:
        assert data.splits == {"6399": "train"}
        assert data.image_classes[data.labels["6399"]] == "rangeland"
        assert data.sizes == {"6399": (320, 320)}
        assert set(np.unique(data.mask("6399"))) <= {1, 2, 3, 4, 5, 255}
        assert data.image("6399").std() > 10


def test_both_are_described_as_specified() -> None:
    for description, colours in ((UCM, 17), (DEEPGLOBE, 6)):
        assert isinstance(description, DatasetDescription)
        assert len({item.color for item in description.classes}) == colours
        assert description.division is not None
        assert description.division.shares == {"train": 0.72, "val": 0.08, "test": 0.2}
        assert description.split_names == ["train", "val", "test"]
    assert UCM.palette.tolist()[5:8] == [[128, 0, 0], [255, 233, 233], [160, 160, 164]]
    assert UCM.class_names[9:12] == ["mobile home", "pavement", "sand"]
    assert DEEPGLOBE.palette.tolist() == STRIPES[:6]
