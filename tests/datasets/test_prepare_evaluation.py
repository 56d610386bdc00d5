"""What `prepare` keeps at another size to evaluate at, and the filters that resize images."""

import numpy as np
import pytest
from forged import forge
from PIL import Image

from stages.artifacts.dataset import Dataset
from stages.artifacts.verify import content_faults
from stages.commands import prepare
from stages.pixels.resize import resize_image
from stages.reporting import inspection
from stages.runtime.errors import BadInput
from stages.settings.prepare import PrepareSettings

DESCRIPTION = """
name = "own"
classes = [{ name = "a", color = [0, 0, 0] }, { name = "b", color = [9, 9, 9] }, { name = "c", color = [1, 9, 9] }]
[masks]
encoding = "index"
[splits.train]
images = "train/{id}.png"
masks = "train_masks/{id}.png"
[splits.val]
images = "val/{id}.png"
masks = "val_masks/{id}.png"
"""
MASK = np.add.outer(np.arange(8), np.arange(12)) % 3


def test_each_second_image_of_the_pool_alone(tmp_path):
    """By name, from the first on; other splits stay whole."""
    (tmp_path / "own.toml").write_text(DESCRIPTION)
    for split, names in (("train", "cabed"), ("val", "vw")):
        for kind in (split, f"{split}_masks"):
            (tmp_path / kind).mkdir()
            for name in names:
                channels = (3,) if kind == split else ()
                Image.fromarray(np.zeros((8, 12, *channels), np.uint8)).save(tmp_path / kind / f"{name}.png")
    found = prepare.run(str(tmp_path / "own.toml"), tmp_path, tmp_path / "d.h5", PrepareSettings(every=2))
    with Dataset(found) as data:
        assert (data.ids("train"), data.ids("val")) == (["a", "c", "e"], ["v", "w"])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.toml").write_text(DESCRIPTION)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    for split, name in (("train", "t"), ("val", "v")):
        for kind, content in ((split, pixels), (f"{split}_masks", MASK.astype(np.uint8))):
            (folder / kind).mkdir()
            Image.fromarray(content).save(folder / kind / f"{name}.png")
    return folder


def prepared(place, path, **settings):
    return prepare.run(str(place / "own.toml"), place, path, PrepareSettings(workers=1, **settings))


def test_splits_outside_the_pool_are_kept_at_the_size_to_evaluate_at(place, tmp_path):
    """At half size a mask has the pixels 2i + 1, at a quarter 4i + 2: those under the centres."""
    path = prepared(place, tmp_path / "d.h5", scale=0.25, evaluation_scale=0.5)
    with Dataset(path) as data:
        assert data.sizes == {"t": (2, 3), "v": (2, 3)}
        assert data.mask("v").tolist() == MASK[[2, 6]][:, [2, 6, 10]].tolist()
        assert data.evaluation_sizes == {"v": (4, 6)}
        assert data.evaluation_mask("v").tolist() == MASK[1::2, 1::2].tolist()
        file = np.asarray(Image.open(place / "val/v.png"))
        assert (data.evaluation_image("v") == resize_image(file, 4, 6)).all()
        assert [name for name, _ in data.arrays("evaluation_masks")] == ["v"]  # no mask of the pool
        assert data.is_resized
        assert inspection.describe(data)["arrays"]["evaluation_masks/<id>"]["shape"] == [4, 6]
        assert content_faults(data) == []


def test_a_scale_of_one_keeps_the_files_as_they_are(place, tmp_path):
    with Dataset(prepared(place, tmp_path / "d.h5", long_side=9, evaluation_scale=1)) as data:
        assert data.sizes["v"] == (6, 9)
        assert (data.evaluation_mask("v") == MASK).all()
        assert (data.evaluation_image("v") == np.asarray(Image.open(place / "val/v.png"))).all()


def test_nothing_is_kept_apart_by_default(place, tmp_path, capsys):
    path = prepared(place, tmp_path / "d.h5", scale=0.5)
    with Dataset(path) as data:
        assert data.evaluation_sizes == {}
        assert "index/evaluation_height" not in data
    capsys.readouterr()
    prepared(place, path, scale=0.5, evaluation_scale=None, filter="bilinear")
    assert "up to date" in capsys.readouterr().out


def test_a_dataset_that_is_divided_later_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"^deepglobe is divided into splits .*\. Remove --evaluation-scale\.$"):
        prepare.run("deepglobe", tmp_path, tmp_path / "d.h5", PrepareSettings(evaluation_scale=1))


def read_all(path):
    with Dataset(path) as data:
        return data.evaluation_image("v"), data.evaluation_mask("v")


def stretched(attributes, arrays):
    arrays["index/evaluation_height"][1] += 1


def half_missing(attributes, arrays):
    arrays["index/evaluation_width"][1] = 0


def unknown_class(attributes, arrays):
    arrays["evaluation_masks/v"][0, 0] = 3


@pytest.mark.parametrize(
    "change, says",
    [
        (stretched, r"evaluation_images/v has 4 entries instead of 5\. Run prepare again"),
        (half_missing, r"index/evaluation_height and index/evaluation_width do not name the same images\. Run prepare"),
        (unknown_class, r"evaluation_masks/v contains 3, where all values are below 3\. Run prepare again"),
    ],
)
def test_files_that_do_not_hold_it_are_refused(place, tmp_path, change, says):
    path = forge(prepared(place, tmp_path / "d.h5", scale=0.25, evaluation_scale=0.5), tmp_path / "forged.h5", change)
    with pytest.raises(BadInput, match=says):
        read_all(path)


def grey(row):
    """(1, n, 3) u8 of a row of levels."""
    return np.repeat(np.array(row, np.uint8)[None, :, None], 3, axis=2)


def test_the_aliased_filter_reads_four_pixels_however_much_it_shrinks():
    """By hand: at 4:1 a new pixel lies between the second and third of four, so a = -0.75 weighs them -3/32, 19/32."""
    small = resize_image(grey([40, 200, 80, 0, 100, 100, 100, 100]), 1, 2, "bicubic-aliased")
    assert small[0, :, 0].tolist() == [163, 100]  # 5200 / 32 = 162.5
    wide = [0] * 8 + [255] * 2 + [0] * 6  # at 8:1 the new pixels read 2..5 and 10..13: nothing of the bright ones
    assert resize_image(grey(wide), 1, 2, "bicubic-aliased")[0, :, 0].tolist() == [0, 0]
    assert (resize_image(grey(wide), 1, 2, "bicubic")[0, :, 0] > 0).all()


def cubic(x, a=-0.5):
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


@pytest.mark.parametrize("kind, kernel, reach", [("bilinear", lambda x: max(0, 1 - abs(x)), 1), ("bicubic", cubic, 2)])
def test_the_other_filters_average_over_what_they_shrink(kind, kernel, reach):
    """An independent program: the kernel is as wide as a new pixel, its weights sum to 1 inside the image."""
    row = np.random.default_rng(1).integers(0, 256, 24)
    expected = []
    for new in range(6):
        centre = (new + 0.5) * 4
        weights = {old: kernel((old + 0.5 - centre) / 4) for old in range(24) if abs(old + 0.5 - centre) < 4 * reach}
        expected.append(sum(weights[old] * row[old] for old in weights) / sum(weights.values()))
    found = resize_image(grey(row), 1, 6, kind)[0, :, 0]
    assert np.abs(found - np.clip(expected, 0, 255)).max() <= 1


def test_the_filter_of_prepare_is_that_of_its_images(place, tmp_path):
    file = np.asarray(Image.open(place / "val/v.png"))
    seen = {}
    for kind in ("bilinear", "bicubic", "bicubic-aliased"):
        path = prepared(place, tmp_path / f"{kind}.h5", scale=0.5, evaluation_scale=0.25, filter=kind)
        with Dataset(path) as data:
            assert (data.image("t") == resize_image(file, 4, 6, kind)).all()
            assert (data.evaluation_image("v") == resize_image(file, 2, 3, kind)).all()
            seen[kind] = data.image("t").tobytes()
    assert len(set(seen.values())) == 3
