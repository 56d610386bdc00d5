"""Datasets of tiles: the pixels of the original, splits that share none, and the way back to the original."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiles_support import EAST, MAP, NORTH, SIDE, chequered, description, noise, write_tiff
from worlds import write_network

from stages.artifacts.dataset import Dataset
from stages.artifacts.queries import Queries
from stages.artifacts.scores import Scores
from stages.artifacts.superpixels import Superpixels
from stages.commands import export_queries, extract_superpixels, prepare, score, select
from stages.reporting.inspection import describe
from stages.runtime.errors import BadInput
from stages.settings.extract_superpixels import ExtractSettings
from stages.settings.prepare import PrepareSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings

SIZE = (300, 400)
BLOCKS = '[division]\nsplit = "all"\nshares = { train = 0.6, val = 0.2, test = 0.2 }'


def prepared(toml: Path, name: str = "d.h5", **settings: object) -> Path:
    return prepare.run(str(toml), toml.parent, toml.parent / name, PrepareSettings.load(settings))


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Black, without data, in the first 150 columns of the first 100 rows."""
    found = noise(SIZE)
    found[:100, :150] = 0
    return found


@pytest.fixture(scope="module")
def folder(image: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiles")
    write_tiff(root / "images" / "ortho.tif", image, **MAP)
    write_tiff(root / "masks" / "ortho.tif", chequered(SIZE)[..., None])
    description(root / "blocks.toml", "size = 64\noverlap = 8\nblock = 2", more=BLOCKS)
    return root


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Path:
    return prepared(folder / "blocks.toml")


def test_tiles_are_parts_of_the_original_and_their_splits_share_no_pixel(dataset: Path, image: np.ndarray) -> None:
    truth = chequered(SIZE)
    truth[:100, :150] = 255  # void where the image has no data
    owner = np.zeros(SIZE, dtype=np.uint8)
    with Dataset(dataset) as data:
        tiling = data.tiling
        assert tiling is not None
        assert (tiling.ids, tiling.files, tiling.sizes) == (["ortho"], ["ortho.tif"], [SIZE])
        assert set(data.splits.values()) == {"train", "val", "test"}
        for place, tile in enumerate(data.all_ids):
            box = tiling.box(place)
            assert tile == f"ortho_y{box.y:05d}_x{box.x:05d}"
            assert (data.image(tile) == image[box.rows, box.columns]).all()
            assert (data.mask(tile) == truth[box.rows, box.columns]).all()
            number = ["train", "val", "test"].index(data.splits[tile]) + 1
            assert set(np.unique(owner[box.rows, box.columns])) <= {0, number}
            owner[box.rows, box.columns] = number
            nothing = truth[box.rows, box.columns] == 255
            found = data.without_data(tile)
            assert (found == nothing).all() if nothing.any() else found is None
        # 42 tiles less those with less than half of their pixels: in the corner of 100 x 150, tiles begin at 0, 56, 112
        missing = {f"ortho_y{y:05d}_x{x:05d}" for y in (0, 56) for x in (0, 56)} | {"ortho_y00000_x00112"}
        assert not missing & {*data.all_ids}
        assert len(data.all_ids) == 42 - 5


def test_pixels_without_data_are_neither_queried_nor_in_regions(folder: Path, tmp_path: Path) -> None:
    pool = prepared(description(folder / "pool.toml", "size = 64", masks=False), "pool.h5")
    scored = score.run(pool, tmp_path / "s.h5", ScoreSettings.load({"measure": "random"}))
    queries = select.run(pool, scored, tmp_path / "q.h5", SelectSettings.load({"rule": "uniform", "budget": 50}))
    settings = ExtractSettings.load({"method": "grid", "count": 16, "workers": 1})
    cut = extract_superpixels.run(pool, tmp_path / "sp.h5", settings)
    with Dataset(pool) as data, Superpixels(cut) as regions, Queries(queries) as queried:
        partly = [tile for tile in data.all_ids if data.without_data(tile) is not None]
        assert partly == ["ortho_y00000_x00128", "ortho_y00064_x00128"]  # others have data on less than half
        for tile in partly:
            nothing = data.without_data(tile)
            assert nothing is not None
            assert ((regions.labels(tile) < 0) == nothing).all()
            rows = queried.image == queried.ids.index(tile)
            assert rows.sum() == 50
            assert not nothing[queried.y[rows], queried.x[rows]].any()


def test_some_images_are_scored_and_others_for_another_model(dataset: Path, tmp_path: Path) -> None:
    def ids(name: str, model: Path | None, **settings: object) -> list[str]:
        found = score.run(dataset, tmp_path / name, ScoreSettings.load({"most_images": 5} | settings), model)
        with Scores(found) as scores:
            return scores.ids

    first = ids("a.h5", None, measure="random")
    assert len(first) == 5
    assert first == ids("b.h5", None, measure="random")
    models = [write_network(tmp_path / f"{width}.safetensors", dataset, head_width=width) for width in (8, 16)]
    later = [ids(f"{model.stem}.h5", model, device="cpu") for model in models]
    assert later[0] != later[1]


def test_without_blocks_the_tiles_of_an_image_stay_together(image: np.ndarray, tmp_path: Path) -> None:
    for name in "abc":
        write_tiff(tmp_path / "images" / f"{name}.tif", image[100:200, :200])
    toml = description(tmp_path / "d.toml", "size = 64\nkeep = 0.1", masks=False, more=BLOCKS)
    with Dataset(prepared(toml)) as data:
        by_source = {(image.split("_")[0], split) for image, split in data.splits.items()}
    assert len(by_source) == 3
    assert {split for _, split in by_source} == {"train", "val", "test"}


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_other_formats_and_a_table_of_files(image: np.ndarray, tmp_path: Path, ending: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    Image.fromarray(image).save(tmp_path / "images" / f"a.{ending}")
    Image.fromarray(chequered(SIZE)).save(tmp_path / "masks" / f"a.{ending}")
    toml = description(tmp_path / "d.toml", "size = [64, 100]")
    text = toml.read_text()
    start = text.index("[splits"), text.index("[tiles]")
    toml.write_text('files = "files.csv"\n' + text[: start[0]] + text[start[1] :])
    (tmp_path / "files.csv").write_text(f"id,split,image,mask\nfield,test,images/a.{ending},masks/a.{ending}\n")
    with Dataset(prepared(toml)) as data:
        assert data.all_ids[-1] == "field_y00236_x00300"
        assert (data.image(data.all_ids[-1]) == image[236:, 300:]).all()
        assert (data.mask(data.all_ids[-1]) == chequered(SIZE)[236:, 300:]).all()
        assert set(data.splits.values()) == {"test"}
        assert data.tiling is not None
        assert data.tiling.map_grids == [None]


def test_queries_in_coordinates_of_the_original_and_back(dataset: Path, folder: Path, tmp_path: Path) -> None:
    scored = score.run(dataset, tmp_path / "s.h5", ScoreSettings.load({"measure": "random"}))
    queries = select.run(dataset, scored, tmp_path / "q.h5", SelectSettings.load({"rule": "uniform", "budget": 3}))
    for ending in ("csv", "json"):
        export_queries.run(dataset, queries, tmp_path / f"q.{ending}")
    with (tmp_path / "q.csv").open() as file:
        rows = list(csv.DictReader(file))
    listed = json.loads((tmp_path / "q.json").read_text())["queries"]
    assert [str(each["source_row"]) for each in listed] == [row["source_row"] for row in rows]
    assert len(rows) > 30
    for row in rows:
        top, left = int(row["image"].split("_y")[1][:5]), int(row["image"].split("_x")[1])
        assert (row["source"], int(row["source_row"])) == ("ortho", top + int(row["y"]))
        assert int(row["source_column"]) == left + int(row["x"])
        assert float(row["map_x"]) == EAST + SIDE * (int(row["source_column"]) + 0.5)
        assert float(row["map_y"]) == NORTH - SIDE * (int(row["source_row"]) + 0.5)
    with Dataset(dataset) as data, Queries(queries) as queried:
        assert describe(queried, data)["places"][0]["source"] == "ortho"
        (source,) = describe(data)["sources"]
        assert (source["height"], source["width"], source["tiles"]) == (*SIZE, len(data.all_ids))
        assert data.tiling is not None
        sizes = np.array([data.sizes[tile] for tile in data.all_ids])
        row, column = (np.array([int(each[f"source_{name}"]) for each in rows]) for name in ("row", "column"))
        tile, y, x = data.tiling.in_tiles(np.zeros(len(rows), dtype=np.int64), row, column, sizes)
        # a pixel of several tiles is given to the one that it is deepest in, where it is the same pixel
        assert (data.tiling.in_source(tile, y, x, sizes[tile]) == np.stack([row, column], 1)).all()
        splits = [data.splits[data.all_ids[each]] for each in tile.tolist()]
        assert set(splits) == {"train"}
        nowhere = data.tiling.in_tiles(np.zeros(1, dtype=np.int64), np.array([10]), np.array([10]), sizes)
        assert [each.tolist() for each in nowhere] == [[-1], [-1], [-1]]


def test_tiles_made_smaller_know_their_place(folder: Path) -> None:
    """At half the size, pixel (0, 1) of a tile is the pixels 2 and 3 of the original: 3 is under its centre."""
    toml = description(folder / "half.toml", "size = 64", masks=False)
    with Dataset(prepared(toml, "half.h5", scale=0.5)) as data:
        assert data.sizes[data.all_ids[0]] == (32, 32)
        assert data.tiling is not None
        sizes = np.array([data.sizes[tile] for tile in data.all_ids])
        place = data.all_ids.index("ortho_y00128_x00064")
        one = np.array([place])
        assert data.tiling.in_source(one, np.array([0]), np.array([1]), sizes[one]).tolist() == [[129, 67]]
        found = data.tiling.in_tiles(np.array([0]), np.array([129]), np.array([67]), sizes)
        assert [each.tolist() for each in found] == [[place], [0], [1]]


def test_a_second_run_keeps_the_dataset_and_other_tiles_do_not(
    folder: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared(folder / "blocks.toml")
    assert "is up to date" in capsys.readouterr().out


@pytest.mark.parametrize(
    "tiles, more, words",
    [
        ("size = 64\nblock = 2", "", "Add \\[division\\], or remove block"),
        ("size = 64\noverlap = 40", "", "more than half of a tile"),
        ("size = 64\nside = 2", "", "tiles.side is an unknown key"),
        ("size = 64", "[masks]\nresize_images = true", "tiles: masks must have the size of their image"),
    ],
)
def test_wrong_descriptions(tmp_path: Path, tiles: str, more: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        prepared(description(tmp_path / "d.toml", tiles, more=more))


def test_wrong_files_and_settings(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="which --scale resizes"):
        prepared(folder / "blocks.toml", "other.h5", long_side=32)
    write_tiff(tmp_path / "images" / "a.tif", noise((100, 100)))
    write_tiff(tmp_path / "masks" / "a.tif", chequered((100, 90))[..., None])
    with pytest.raises(BadInput, match="differ in size"):
        prepared(description(tmp_path / "d.toml", "size = 64"))
    write_tiff(tmp_path / "masks" / "a.tif", chequered((100, 100))[..., None] + 3)
    with pytest.raises(BadInput, match="value 3, which is not in the class table"):
        prepared(description(tmp_path / "d.toml", "size = 64"))
    write_tiff(tmp_path / "images" / "a.tif", np.full((100, 100, 3), 9, np.uint8))
    with pytest.raises(BadInput, match=r"None of 4 tiles has data"):
        prepared(description(tmp_path / "d.toml", "size = 64", masks=False))
    assert not (tmp_path / "d.h5").exists()
