"""What each registered cutter promises, whoever wrote it, and a cutter outside the project."""

import hashlib
import textwrap

import numpy as np
import pytest
from plugins import forget
from worlds import random_masks, write_dataset

from stages.artifacts.superpixels import Superpixels
from stages.commands import extract_superpixels
from stages.regions import cutters
from stages.regions.components import connected_components
from stages.regions.cut import cut
from stages.runtime.errors import BadInput
from stages.runtime.parts import CUTTERS, PLUGINS, load_plugin
from stages.settings.base import PartSettings
from stages.settings.extract_superpixels import ExtractSettings

SHIPPED = ["grid", "lsc", "oracle", "seeds", "slic"]
SIZES = [(1, 1), (1, 9), (9, 1), (2, 2), (3, 5), (17, 23), (64, 48)]
EXAMPLE = textwrap.dedent(cutters.__doc__.partition("::\n")[2].partition("\nA cutter runs")[0])

BY_LEVELS = """
import numpy as np
from stages.regions.cutters import cutter

@cutter("levels", reads="mask")
def levels(pixels, settings):
    \"\"\"The classes of the mask, with gaps between the ids.\"\"\"
    return np.where(pixels == 255, -3, pixels.astype(np.int64) * 1000)
"""
BROKEN = """
from stages.regions.cutters import cutter

@cutter("broken")
def broken(pixels, settings):
    \"\"\"Something that is no map of labels.\"\"\"
    return pixels / 255
"""


def pixels_for(name: str, size: tuple[int, int]) -> np.ndarray:
    """What the cutter reads: an image (H,W,3) u8 of soft patches, or a mask (H,W) u8 with void."""
    draw = np.random.default_rng(size)
    if CUTTERS[name].facts["reads"] == "mask":
        return draw.choice(np.array([0, 1, 2, 255], np.uint8), size)
    coarse = draw.integers(0, 256, (size[0] // 8 + 1, size[1] // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)
    return coarse[: size[0], : size[1]].astype(np.uint8)


def small(name: str) -> dict[str, int]:
    """A number of regions that small images have room for."""
    settings = CUTTERS[name].settings
    return {"count": 12} if settings is not None and "count" in settings.model_fields else {}


def cut_or_refusal(pixels: np.ndarray, name: str) -> tuple[np.ndarray | None, str]:
    try:
        return cut(pixels, name, **small(name)), ""
    except BadInput as error:
        return None, str(error)


def test_the_shipped_cutters_are_registered():
    assert CUTTERS.names() == SHIPPED
    assert [name for name in SHIPPED if CUTTERS[name].facts["reads"] == "mask"] == ["oracle"]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_cutter_describes_itself_and_its_settings(name):
    part = CUTTERS[name]
    assert part.about.endswith(".")
    assert part.settings is None or issubclass(part.settings, PartSettings)
    for setting, field in part.settings.own_fields().items() if part.settings else ():
        assert field.description.endswith("."), setting
        assert setting not in ExtractSettings.own_fields()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SHIPPED)
def test_labels_have_the_shape_of_the_image_and_are_the_same_again(name, size):
    pixels = pixels_for(name, size)
    before = pixels.copy()
    labels, refusal = cut_or_refusal(pixels, name)
    if labels is None:
        assert min(size) < 9, "only tiny images are refused"
        assert "--method grid" in refusal
        return
    assert labels.shape == size
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(np.unique(labels[labels >= 0]), np.arange(labels.max() + 1))
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(cut(pixels, name, **small(name)), labels)
    if CUTTERS[name].facts["reads"] == "image":
        assert labels.min() == 0, "each pixel of an image lies in a region"


@pytest.mark.parametrize("name", SHIPPED)
def test_split_parts_makes_each_4_connected_part_a_region(name):
    pixels = pixels_for(name, (64, 48))
    whole = cut(pixels, name, **small(name))
    np.testing.assert_array_equal(cut(pixels, name, True, **small(name)), connected_components(whole, 4))


# A cutter outside the project.


@pytest.fixture
def plugged(tmp_path):
    """``plugged(source)`` writes stripes.py (again) and loads it; afterwards no cutter of it is left."""
    file = tmp_path / "stripes.py"

    def clean() -> None:
        if file.resolve() in PLUGINS:
            forget(file)

    def write(source: str):
        clean()
        file.write_text(source)
        load_plugin(file)
        return file

    yield write
    clean()


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "d.h5", random_masks(["a", "b", "c"], (20, 30), 3), 3)


def run(dataset, **values) -> Superpixels:
    return Superpixels(extract_superpixels.run(dataset, dataset.parent / "r.h5", ExtractSettings(**values)))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_documented_example_cuts_in_every_process_and_is_recorded(plugged, dataset, workers):
    file = plugged(EXAMPLE)
    regions = run(dataset, method="stripes", stripe_width=7, workers=workers)
    expected = np.broadcast_to(np.arange(30) // 7, (20, 30))
    for image in ("a", "b", "c"):
        np.testing.assert_array_equal(regions.labels(image), expected)
    assert regions.attributes == {"method": "stripes", "split": "train", "oracle_privilege": "none"}
    assert regions.header.settings["stripe_width"] == 7
    recorded = regions.header.inputs["plugin stripes"]
    assert (recorded.file, recorded.digest) == ("stripes.py", hashlib.sha256(file.read_bytes()).hexdigest())
    assert regions.header.versions["plugin stripes"] == "file"
    assert CUTTERS["stripes"].about == "Vertical stripes."


def test_a_changed_plugin_makes_the_regions_stale(plugged, dataset, capsys):
    plugged(EXAMPLE)
    run(dataset, method="stripes", workers=1)
    run(dataset, method="stripes", workers=2)
    assert "is up to date" in capsys.readouterr().out
    plugged(EXAMPLE.replace("np.arange(width)", "np.arange(1, width + 1)"))
    regions = run(dataset, method="stripes", workers=2)
    assert "rebuilding" in (told := capsys.readouterr().out)
    assert "input plugin stripes changed (stripes.py)" in told
    assert (regions.labels("a")[0] == np.arange(1, 31) // 16).all()


def test_a_plugin_that_reads_masks_is_an_oracle_and_needs_them(plugged, dataset):
    plugged(BY_LEVELS)
    regions = run(dataset, method="levels", workers=1)
    assert regions.attributes["oracle_privilege"] == "oracle regions"
    assert regions.labels("a").max() == 2  # without gaps
    with pytest.raises(BadInput, match=r"d\.h5 has no images in split 'test'; its splits are train\.$"):
        run(dataset, method="levels", split="test")


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_no_map_of_labels_is_refused(plugged, dataset, workers):
    plugged(BROKEN)
    told = (
        r"^a: Cutter 'broken' returned float64 \(20, 30, 3\) for an image of shape \(20, 30\)\. Return an integer "
        r"array of that shape\.$"
    )
    with pytest.raises(BadInput, match=told):
        run(dataset, method="broken", workers=workers)


# Settings that do not apply.


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"method": "grid", "ruler": 3.0}, "ruler does not apply to method grid; it is for method slic."),
        ({"method": "slic", "ratio": 0.1}, "ratio does not apply to method slic; it is for method lsc."),
        ({"method": "oracle", "count": 9}, "count does not apply to method oracle; it is for method grid, lsc, seeds"),
        ({"method": "seeds", "epsilon": 0.2}, "epsilon does not apply to method seeds; it is for method adaptive."),
        ({"method": "voronoi"}, "Unknown cutter 'voronoi'"),
        ({"method": "lsc", "ratios": 0.1}, "unknown setting 'ratios'; did you mean ratio"),
    ],
)
def test_what_does_not_apply_is_refused_with_what_it_is_for(values, says):
    with pytest.raises(BadInput) as refused:
        ExtractSettings.load(values)
    assert says in str(refused.value)


def test_a_setting_of_a_plugin_belongs_to_its_method(plugged):
    plugged(EXAMPLE)
    with pytest.raises(BadInput, match="stripe-width does not apply to method grid; it is for method stripes"):
        ExtractSettings.load({"method": "grid", "stripe_width": 3})


@pytest.mark.parametrize("method", ["oracle", "levels"])
def test_cutters_that_read_masks_need_them(plugged, dataset, monkeypatch, method):
    plugged(BY_LEVELS)
    monkeypatch.setattr("stages.artifacts.dataset.Dataset.has_masks", lambda *_: False)
    told = rf"has no masks in split 'train', but method {method} cuts them\. Choose another --method or --split\.$"
    with pytest.raises(BadInput, match=told):
        run(dataset, method=method)


def test_base_regions_and_a_model_are_for_merging(dataset, tmp_path):
    with pytest.raises(BadInput, match=r"^Method grid uses neither --superpixels nor --model\. Omit them\.$"):
        extract_superpixels.run(dataset, tmp_path / "x.h5", ExtractSettings(method="grid"), dataset, None)
