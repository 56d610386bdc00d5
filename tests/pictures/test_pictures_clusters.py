"""The contact sheet of clusters: every cluster has its row of its own patches, of all images or of one."""

import io

import numpy as np
import pytest
from PIL import Image
from worlds import random_masks, write_clusters, write_dataset, write_superpixels

from stages.artifacts.clusters import Clusters
from stages.reporting.inspection import describe
from stages.reporting.inspection import run as inspect
from stages.reporting.pictures.clusters import LABEL_WIDTH, PATCHES_PER_ROW, SIDE, SPACE, TITLE_HEIGHT
from stages.reporting.pictures.overlay import draw
from stages.runtime.errors import BadInput

NAMES = ["i0", "i1", "i2"]
COLOURS = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250]], dtype=np.uint8)


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    """Each image of one colour, whose 20 regions k-means puts into a cluster of their own."""
    folder = tmp_path_factory.mktemp("world")
    images = {name: np.broadcast_to(COLOURS[row], (32, 40, 3)).copy() for row, name in enumerate(NAMES)}
    dataset = write_dataset(folder / "d.h5", random_masks(NAMES, (32, 40), 3), 3, images=images)
    return Clusters(write_clusters(folder, dataset, write_superpixels(folder, dataset)))


def sheet_of(png: bytes) -> np.ndarray:
    """The tiles of a sheet as colours of their middle: (K,PATCHES_PER_ROW,3) u8."""
    picture = np.array(Image.open(io.BytesIO(png)).convert("RGB"))
    rows = (picture.shape[0] - TITLE_HEIGHT) // (SIDE + SPACE)
    assert picture.shape[1] == LABEL_WIDTH + PATCHES_PER_ROW * (SIDE + SPACE)
    middle = np.arange(max(rows, PATCHES_PER_ROW)) * (SIDE + SPACE) + SIDE // 2
    return picture[TITLE_HEIGHT + middle[:rows, None], LABEL_WIDTH + middle[None, :PATCHES_PER_ROW]]


def test_every_row_has_patches_of_its_cluster_alone(clusters):
    assert clusters.header.counts["regions_per_cluster"] == [20, 20, 20]
    tiles = sheet_of(draw(clusters, None, None))
    assert tiles.shape == (3, PATCHES_PER_ROW, 3)
    for number in range(3):
        of_image = clusters.of_regions.tolist().index(number) // 20
        assert (tiles[number] == COLOURS[of_image]).all()


def test_of_one_image_only_its_own_regions_are_shown(clusters):
    tiles = sheet_of(draw(clusters, None, "i1"))
    number = clusters.of_regions[20]
    assert (tiles[number] == COLOURS[1]).all()
    assert (np.delete(tiles, number, 0) == 255).all()
    with pytest.raises(BadInput, match="No data for image 'nonsense'"):
        draw(clusters, None, "nonsense")


@pytest.mark.parametrize("own", [{"patch": 2}, {"patch": 48}, {"patch": 64}, {"method": "random"}], ids=str)
def test_patches_of_any_side_and_random_clusters_are_shown(clusters, own, tmp_path):
    dataset, regions = (clusters.path.parent / clusters.header.inputs[role].file for role in ("dataset", "superpixels"))
    found = write_clusters(tmp_path, dataset, regions, **own, clusters=20)
    png = draw(Clusters(found), None, None)
    assert png == draw(Clusters(found), None, None)
    tiles = sheet_of(png)
    assert tiles.shape == (20, PATCHES_PER_ROW, 3)
    shown = (tiles != 255).any(-1).sum(1)
    np.testing.assert_array_equal(
        shown, np.bincount(Clusters(found).of_regions, minlength=20).clip(max=PATCHES_PER_ROW)
    )


def test_inspect_tells_and_draws(clusters, tmp_path, capsys):
    table = describe(clusters)["clusters"]
    assert [row["regions"] for row in table] == [20, 20, 20]
    assert sum(row["share_of_pixels"] for row in table) == pytest.approx(1)
    inspect(clusters.path, False, None, None, None)
    told = capsys.readouterr().out
    assert "share of regions" in told
    assert "33.33 %" in told
    inspect(clusters.path, False, None, None, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
