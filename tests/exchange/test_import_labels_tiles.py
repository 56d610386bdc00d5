"""Labels of large files become labels of the tiles that a dataset was cut from."""

import json

import numpy as np
import pytest
from PIL import Image
from tiles_support import description, noise

from stages.artifacts.annotations import Annotations
from stages.commands import import_labels, prepare
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput
from stages.settings.import_labels import ImportLabelsSettings
from stages.settings.prepare import PrepareSettings

LEFT, RIGHT = "field_y00000_x00000", "field_y00000_x00048"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two tiles of 40 x 48 pixels, side by side."""
    folder = tmp_path_factory.mktemp("tiles")
    (folder / "images").mkdir()
    Image.fromarray(noise((40, 96))).save(folder / "images" / "field.png")
    text = description(folder / "d.toml", "size = [40, 48]", masks=False, ending="png")
    return prepare.run(str(text), folder, folder / "d.h5", PrepareSettings())


def taken(dataset, tmp_path, *files, **settings):
    return Annotations(import_labels.run(dataset, files, tmp_path / "l.h5", ImportLabelsSettings(**settings)))


def test_points(dataset, tmp_path):
    (tmp_path / "p.csv").write_text("image,row,column,label\nfield.tif,3,47,a\nfield.tif,39,48,b\n")
    found = taken(dataset, tmp_path, tmp_path / "p.csv")
    assert found.ids == [LEFT, RIGHT]
    rows = np.stack([found.answers.image, found.answers.y, found.answers.x, found.answers.label], 1)
    assert rows.tolist() == [[0, 3, 47, 0], [1, 39, 0, 1]]
    (tmp_path / "p.csv").write_text("image,row,column,label\nfield.tif,3,96,a\n")
    with pytest.raises(BadInput, match=r"row 3, column 96 is outside of image field \(96x40\)"):
        taken(dataset, tmp_path, tmp_path / "p.csv")


def test_a_shape_across_the_border_is_cut(dataset, tmp_path):
    """Columns 44 to 51: 4 of them are in either tile."""
    shape = {"label": "c", "shape_type": "rectangle", "points": [[44, 10], [52, 13]]}
    about = {"imagePath": "field.png", "imageHeight": 40, "imageWidth": 96}
    (tmp_path / "field.json").write_text(json.dumps(about | {"shapes": [shape]}))
    found = taken(dataset, tmp_path, tmp_path / "field.json")
    assert np.argwhere(found.label_map(LEFT) == 2)[[0, -1]].tolist() == [[10, 44], [12, 47]]
    assert np.argwhere(found.label_map(RIGHT) == 2)[[0, -1]].tolist() == [[10, 0], [12, 3]]
    assert found.answers.areas.sizes().tolist() == [12, 12]
    (tmp_path / "field.json").write_text(json.dumps(about | {"shapes": [shape], "imageHeight": 41}))
    with pytest.raises(BadInput, match=r"has a size of 96x41, but field has 96x40"):
        taken(dataset, tmp_path, tmp_path / "field.json")


def test_a_mask_is_cut(dataset, tmp_path):
    """The left tile is labelled in part, the right one everywhere."""
    mask = np.full((40, 96), 2, np.uint8)
    mask[:, :40] = 9
    Image.fromarray(mask).save(tmp_path / "field.png")
    found = taken(dataset, tmp_path, tmp_path / "field.png", unlabelled="9")
    assert found.mask_ids == {RIGHT}
    assert (found.label_map(LEFT) != VOID).sum() == 40 * 8
    assert (found.label_map(RIGHT) == 2).all()
