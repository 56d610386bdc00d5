"""Polygon files: found, checked, placed in the prepared image, and what precise answers then cost."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from worlds import region_round, write_superpixels

from alseg_cli.app import app
from alseg_cli.exits import exit_codes
from stages.answering.clicks import mask_vertices, polygon_clicks
from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.queries import Queries
from stages.artifacts.superpixels import Superpixels
from stages.commands import prepare
from stages.datasets.decode import read_polygons
from stages.datasets.description import load_description
from stages.datasets.files import find_samples
from stages.pixels.resize import place_vertices
from stages.runtime.errors import BadInput
from stages.settings.prepare import PrepareSettings

HEIGHT, WIDTH = 32, 64
TRAIN = ("aachen_1", "bonn_2")
PRECISE = {"answer": "precise", "rule": "uniform", "budget": 8}


def image_path(root: Path, id: str, split: str = "train") -> Path:
    return root / f"leftImg8bit/{split}/{id.split('_')[0]}/{id}_leftImg8bit.png"


def polygon_path(root: Path, id: str, split: str = "train") -> Path:
    return root / f"gtFine/{split}/{id.split('_')[0]}/{id}_gtFine_polygons.json"


def write_polygons(path: Path, *polygons: list, height: int = HEIGHT, width: int = WIDTH) -> None:
    objects = [{"label": "road", "polygon": polygon} for polygon in polygons]
    path.write_text(json.dumps({"imgHeight": height, "imgWidth": width, "objects": objects}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two training images and one of validation as Cityscapes lays them out, without polygon files."""
    root = tmp_path / "cityscapes"
    mask = np.full((HEIGHT, WIDTH), 7, np.uint8)
    mask[8:24, 10:40] = 26
    for split, id in (*(("train", id) for id in TRAIN), ("val", "ulm_3")):
        labels = polygon_path(root, id, split).with_name(f"{id}_gtFine_labelIds.png")
        for path, array in ((image_path(root, id, split), mask[..., None].repeat(3, 2)), (labels, mask)):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return root


def prepared(root: Path, name: str = "d", **settings: object) -> Path:
    given = PrepareSettings(**{"workers": 1} | settings)
    return prepare.run("cityscapes", root, root.parent / f"{name}.h5", given)


def faults(root: Path) -> list[str]:
    with pytest.raises(BadInput) as caught:
        prepared(root, "refused")
    assert not (root.parent / "refused.h5").exists()
    return caught.value.faults


def test_vertices_are_stored_at_the_prepared_size(root: Path) -> None:
    write_polygons(
        polygon_path(root, TRAIN[0]),
        [[0, 0], [63, 0], [64, 31], [63, 32], [-1, 3]],  # the last three outside
        [[11, 9], [11, 9], [10.9, 8.2], [13, 30]],
    )
    write_polygons(polygon_path(root, TRAIN[1]))
    with Dataset(prepared(root, scale=0.5)) as data:
        found = data.vertices(TRAIN[0])
        assert found is not None
        assert found.dtype == np.int32
        assert found.tolist() == [[0, 0], [0, 31], [4, 5], [4, 5], [4, 5], [15, 6]]
        empty = data.vertices(TRAIN[1])
        assert empty is not None
        assert (empty.shape, empty.dtype) == ((0, 2), np.int32)
        assert data.vertices("ulm_3") is None
        assert data.sizes[TRAIN[0]] == (HEIGHT // 2, WIDTH // 2)
    with Dataset(prepared(root, "whole")) as data:
        found = data.vertices(TRAIN[0])
        assert found is not None
        assert found.tolist() == [[0, 0], [0, 63], [9, 11], [9, 11], [8, 10], [30, 13]]


def test_vertices_on_the_border_stay_inside_every_size() -> None:
    corners = np.array([[0, 0], [6, 9], [7, 9], [6, 10], [3.5, 4.99]])
    for new in (3, 4), (7, 10), (14, 20), (13, 19), (1, 1):
        placed = place_vertices(corners, (7, 10), new)
        exact = [[y * new[0] // 7, x * new[1] // 10] for y, x in ((0, 0), (6, 9), (3.5, 4.99))]
        assert placed.tolist() == exact


def test_other_keys_of_the_file_are_left_unread(tmp_path: Path) -> None:
    item = {"label": "car", "polygon": [[1, 2], [3.5, 4]], "deleted": 0, "date": None}
    (tmp_path / "p.json").write_text(json.dumps({"objects": [item, item], "imgWidth": 9, "imgHeight": 8, "x": [1]}))
    size, vertices = read_polygons(tmp_path / "p.json")
    assert size == (8, 9)
    assert vertices.tolist() == [[2, 1], [4, 3.5]] * 2


def test_without_any_polygon_file_nothing_changes(root: Path, tmp_path: Path) -> None:
    """The artifact and its digests are those of a description that does not know the key."""
    shipped = Path(__file__).parents[2] / "data/datasets/cityscapes.toml"
    lines = [line for line in shipped.read_text().splitlines() if not line.startswith("polygons")]
    assert len(lines) == len(shipped.read_text().splitlines()) - 2
    (tmp_path / "plain.toml").write_text("\n".join(lines))
    plain = prepare.run(str(tmp_path / "plain.toml"), root, tmp_path / "plain.h5", PrepareSettings(workers=1))
    with Dataset(prepared(root)) as data, Dataset(plain) as other:
        assert data.digest == other.digest
        assert data.header.inputs == other.header.inputs
        assert "polygons" not in data
        assert data.vertices(TRAIN[0]) is None
        before = data.header.inputs["source"].digest
    for id in TRAIN:
        write_polygons(polygon_path(root, id), [[1, 1]])
    with Dataset(prepared(root)) as data:  # polygon files that came later make the artifact stale, as changed ones do
        assert data.header.inputs["source"].digest != before
        assert data.vertices(TRAIN[0]) is not None
    write_polygons(polygon_path(root, TRAIN[0]), [[1, 1], [22, 22]])
    with Dataset(prepared(root)) as data:
        found = data.vertices(TRAIN[0])
        assert found is not None
        assert found.tolist() == [[1, 1], [22, 22]]


def test_the_digest_of_the_source_is_the_one_it_always_was() -> None:
    """Of a description without polygons, image labels and division: by the keys it had before there were any.

    Default settings, other layouts and archives are not part of it: they change nothing in the prepared dataset.
    """
    from stages.artifacts.header import digest_of

    description = load_description("camvid")
    values = description.model_dump(mode="json", by_alias=True)
    for split in values["splits"].values():
        assert split.pop("polygons") is None
        assert split.pop("layouts") == []
        assert split.pop("without") is None
        assert set(split) == {"images", "masks", "list"}
    assert values.pop("defaults") == {}
    assert values.pop("image_labels") is values.pop("division") is values["masks"].pop("binarise") is None
    assert values.pop("files") is values.pop("by_hand") is values.pop("tiles") is None
    assert len(values.pop("archives")) == 1
    assert set(values.pop("images").values()) == {None}
    assert values["masks"].pop("resize_images") is False
    assert values["masks"].pop("overlap") is values["masks"].pop("rest") is None
    assert {item.pop("labels") for item in values["classes"]} == {None}
    assert set(values["masks"]) == {"encoding", "ignore"}
    assert prepare.source_digest(description, []) == digest_of([values])


def test_some_images_without_polygons_are_faults(root: Path) -> None:
    write_polygons(polygon_path(root, TRAIN[0]), [[1, 1]])
    write_polygons(polygon_path(root, "bonn_7"), [[1, 1]])
    assert faults(root) == [
        f"The image {image_path(root, TRAIN[1])} has no polygon file {polygon_path(root, TRAIN[1])}. "
        "Add it, or remove splits.train.polygons from the description to use none.",
        f"The polygon file {polygon_path(root, 'bonn_7')} has no image {image_path(root, 'bonn_7')}. "
        "Add the image or remove the polygon file.",
    ]


def test_with_a_list_the_polygons_of_other_splits_are_none_of_this_one(root: Path, tmp_path: Path) -> None:
    text = 'name = "own"\nclasses = [{ name = "a", color = [0, 0, 0] }]\n'
    for split, ids in (("one", TRAIN[:1]), ("two", TRAIN[1:])):
        (root / f"{split}.txt").write_text("\n".join(ids))
        text += f'[splits.{split}]\nimages = "leftImg8bit/train/{{city}}/{{id}}_leftImg8bit.png"\n'
        text += f'polygons = "gtFine/train/{{city}}/{{id}}_gtFine_polygons.json"\nlist = "{split}.txt"\n'
    (tmp_path / "own.toml").write_text(text)
    write_polygons(polygon_path(root, TRAIN[1]), [[1, 1]])
    samples, wrong = find_samples(load_description(str(tmp_path / "own.toml")), root)
    assert wrong == []
    assert [sample.polygons for sample in samples] == [None, polygon_path(root, TRAIN[1])]


def test_the_pattern_is_checked(tmp_path: Path) -> None:
    text = 'name = "own"\nclasses = [{ name = "a", color = [0, 0, 0] }]\n[splits.train]\nimages = "i/{id}.png"\n'
    (tmp_path / "own.toml").write_text(text + 'polygons = "{city}/{id}.json"\n')
    with pytest.raises(BadInput, match=r"splits.train: the polygons pattern uses \{city\}, which the images pattern"):
        load_description(str(tmp_path / "own.toml"))


def test_all_faults_inside_polygon_files_are_told_at_once(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = (
        polygon_path(root, TRAIN[0]),
        polygon_path(root, TRAIN[1]),
        polygon_path(root, "ulm_3", "val"),
    )
    first.write_text('{"imgHeight": 32,')
    polygons = '[[1, 2], ["3", 4], [5], [1, 2, 3], 7, [NaN, 1], [null, 1], [true, 1]]'
    second.write_text(f'{{"imgHeight": 32, "objects": [{{"polygon": {polygons}}}, {{"label": "car"}}]}}')
    write_polygons(third, [[1, 1]], height=64, width=128)
    Image.new("L", (9, 9), 7).save(third.with_name("ulm_3_gtFine_labelIds.png"))
    pair = "Write each vertex as two numbers [x, y]."
    found = faults(root)
    assert found[0].startswith(f"{first} is not valid JSON (EOF while parsing")
    assert found[0].endswith(". Replace it.")
    assert found[1:7] == [
        f"{second}: imgWidth is missing. Use the format of Cityscapes.",
        f"{second}: objects[0].polygon[1][0] = '3' is not a number or a pair. {pair}",
        f"{second}: objects[0].polygon[2][1] is missing. {pair}",
        f"{second}: objects[0].polygon[3] = [1, 2, 3] is not a number or a pair. {pair}",
        f"{second}: objects[0].polygon[4] = 7 is not a number or a pair. {pair}",
        f"{second} has 4 more faults of this kind. Write the file again.",
    ]
    image = image_path(root, "ulm_3", "val")
    assert found[7:] == [
        f"{third.with_name('ulm_3_gtFine_labelIds.png')} (9x9) and {image} (64x32) differ in size. "
        "Use files of the same width and height.",
        f"{third} is for an image of 128x64, but {image} is 64x32. Use the polygons of this image.",
    ]
    with pytest.raises(SystemExit) as stopped, exit_codes():
        app(["prepare", "cityscapes", "--root", str(root), "-o", str(root.parent / "x.h5")])
    assert stopped.value.code == 2
    assert "is not valid JSON" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "is not valid JSON (EOF while parsing"),
        ("[1]", "the file = [1]: "),
        ('{"imgHeight": 8, "imgWidth": 9.5, "objects": []}', "imgWidth = 9.5: input should be a valid integer. Use"),
        ('{"imgHeight": 8, "imgWidth": 9, "objects": {}}', "objects = {}: input should be a valid array. Use"),
        (
            '{"imgHeight": 8, "imgWidth": 9, "objects": [{"polygon": [[1e999, 0]]}]}',
            "polygon[0][0] = inf is not a number",
        ),
        ("\xff", "is not valid JSON ("),
    ],
)
def test_files_of_another_form(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput) as caught:
        read_polygons(path)
    (fault,) = caught.value.faults
    assert says in fault
    assert fault.endswith((". Replace it.", ". Use the format of Cityscapes.", "[x, y]."))


def test_a_polygon_file_that_vanishes_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cannot be read \(No such file or directory\)\. Replace it"):
        read_polygons(tmp_path / "gone.json")


@pytest.mark.parametrize("outlined", [True, False])
def test_precise_answers_cost_the_vertices_of_the_polygon_files(root: Path, outlined: bool) -> None:
    if outlined:
        for id in TRAIN:
            write_polygons(polygon_path(root, id), [[x, y] for y in range(0, HEIGHT, 4) for x in range(0, WIDTH, 4)])
    dataset = prepared(root, scale=0.5)
    folder = root.parent
    regions = write_superpixels(folder, dataset)
    ledger = Annotations(region_round(folder, dataset, 0, regions, select_settings=PRECISE))
    origin = "polygon files" if outlined else "estimated from masks"
    assert ledger.header.counts["last_round"]["vertices"] == origin
    queries = Queries(folder / "queries0.h5")
    assert len(ledger.answers.clicks) == len(queries) == 8
    with Dataset(dataset) as data, Superpixels(regions) as cut:
        for number, image in enumerate(queries.image):
            id = queries.ids[image]
            mask, labels = data.mask(id), cut.labels(id)
            grid = np.stack(np.meshgrid(range(0, 16, 2), range(0, 32, 2), indexing="ij"), -1).reshape(-1, 2)
            cost = polygon_clicks(mask, labels, labels.max() + 1, grid if outlined else mask_vertices(mask))
            assert ledger.answers.clicks[number] == cost[queries.region[number] - cut.rows[id].start]
    if outlined:  # of 16 vertices in 8x8 pixels, those in the inner 6x6 count
        assert (ledger.answers.clicks >= 9).all()


def test_answers_by_class_say_nothing_of_vertices(root: Path) -> None:
    dataset = prepared(root)
    ledger = Annotations(region_round(root, dataset, 0, write_superpixels(root, dataset)))
    assert "vertices" not in ledger.header.counts["last_round"]
