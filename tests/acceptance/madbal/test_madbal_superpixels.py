"""Acceptance checks 1 and 2 of MADBAL: superpixels by SEEDS in the published colours."""

import numpy as np
import pytest
from madbal_support import patchwork
from PIL import Image

from stages.artifacts.superpixels import Superpixels
from stages.commands import extract_superpixels, prepare
from stages.recipes.resolve import resolve
from stages.regions.cut import cut
from stages.regions.cutters import seeds
from stages.regions.cutters.seeds import equalised
from stages.settings.prepare import PrepareSettings

PHOTOS = {"wide": (1024, 2048), "photo": (375, 500), "strip": (281, 500)}
DESCRIPTION = """
name = "photos"
classes = [{{ name = "thing", color = [255, 0, 0] }}]
[splits.train]
images = "{folder}/{{id}}.png"
"""


def prepared(folder, names, **how):
    """A dataset of photos, from files."""
    for name in names:
        (folder / name).mkdir()
        Image.fromarray(patchwork(len(name), PHOTOS[name])[0]).save(folder / name / "i.png")
        description = folder / f"{name}.toml"
        description.write_text(DESCRIPTION.format(folder=name))
        yield prepare.run(str(description), folder, folder / f"{name}.h5", PrepareSettings(**how))


def cut_by_recipe(dataset, output, **own):
    """The regions of the only image, cut as the recipe says."""
    chosen = resolve("extract-superpixels", {"workers": 1} | own, "madbal").settings
    regions = Superpixels(extract_superpixels.run(dataset, output, chosen))
    (image,) = regions.ids
    return regions.labels(image)


@pytest.mark.parametrize(
    "name, prepare_settings, grid_scale, size, count",
    [
        ("wide", {}, 0.25, (256, 512), 512),
        ("photo", {"long_side": 400}, 1.0, (300, 400), 108),
        ("photo", {"long_side": 800}, 0.5, (300, 400), 108),
        ("strip", {"long_side": 400}, 1.0, (224, 400), 350),
        ("strip", {"long_side": 800}, 0.5, (224, 400), 350),
    ],
)
def test_check_1_superpixels_have_the_published_grid_and_count(
    tmp_path, name, prepare_settings, grid_scale, size, count
):
    (dataset,) = prepared(tmp_path, [name], **prepare_settings)
    labels = cut_by_recipe(dataset, tmp_path / "first.h5", grid_scale=grid_scale)
    assert labels.shape == size
    assert (np.unique(labels) == np.arange(count)).all()
    if grid_scale < 1:
        assert (cut_by_recipe(dataset, tmp_path / "second.h5", grid_scale=grid_scale, workers=2) == labels).all()


@pytest.mark.parametrize("colour, ignored", [("equalised-hsv", True), ("equalised-unit-hsv", False)])
def test_check_1_hue_beyond_the_first_degree_is_ignored_as_published_only(monkeypatch, colour, ignored):
    image, original, seen = patchwork(0, (128, 192))[0], seeds.seeds_colours, []
    chosen = {"region_pixels": 256, "colour": colour, "levels": 5, "bins": 10}
    labels = cut(image, "seeds", **chosen)
    assert (cut(image.copy(), "seeds", **chosen) == labels).all()

    def replaced(*arguments):
        hsv = original(*arguments)
        degrees = hsv[..., 0] if ignored else 360 * hsv[..., 0]
        seen.append((degrees >= 0.9).mean())
        hsv[..., 0] = np.where(degrees >= 0.9, 180 if ignored else 0.5, hsv[..., 0])
        return hsv

    monkeypatch.setattr(seeds, "seeds_colours", replaced)
    assert (cut(image, "seeds", **chosen) == labels).all() == ignored
    assert seen[0] > 0.5


def test_check_2_equalisation_pools_the_channels():
    values = np.array([[[0, 10, 10], [20, 20, 20]]], dtype=np.uint8)
    assert equalised(values).ravel().tolist() == pytest.approx([1 / 6, 0.5, 0.5, 1, 1, 1], abs=1e-12)
