"""Queries of every kind with their simulated answers."""

from pathlib import Path

import numpy as np
import pytest
from worlds import write_dataset

from stages.artifacts.annotations import Annotations
from stages.commands import annotate_simulate, extract_superpixels, score, select
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.extract_superpixels import ExtractSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings

pytest.register_assert_rewrite("exchange_support")

CLASSES = 4
SIZES = {"a/one": (40, 56), "a/two": (40, 56), "b/one": (37, 53), "three": (40, 56)}
PIXELS, TOP = {"rule": "uniform", "budget": 9}, {"rule": "top", "budget": 40}
# Name -> unit, scale of the grid, and what is selected
KINDS = {
    "pixel": ("pixel", 1, PIXELS),
    "pixel-coarse": ("pixel", 0.4, PIXELS),
    "dominant": ("region", 1, TOP),
    "dominant-coarse": ("region", 0.4, TOP | {"budget": 21}),
    "class-set": ("region", 1, TOP | {"answer": "class-set"}),
    "precise": ("region", 1, TOP | {"answer": "precise"}),
    "mask": ("image", 1, {"rule": "top", "budget": 3}),
    "image-class": ("image", 1, {"rule": "top", "budget": 3, "image_answer": "class"}),
    "image-classes": ("image", 1, {"rule": "top", "budget": 3, "image_answer": "classes"}),
}


def blocks(size: tuple[int, int], seed: int) -> np.ndarray:
    """A mask of squares of 6 pixels with random classes and void, so that regions of 8 hold several of them."""
    height, width = (side // 6 + 1 for side in size)
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, CLASSES, (height, width)).astype(np.uint8)
    coarse[generator.random(coarse.shape) < 0.2] = 255
    return np.kron(coarse, np.ones((6, 6), np.uint8))[: size[0], : size[1]]


class Asked:
    """Queries of one kind, and the answers of the simulation."""

    def __init__(self, name: str, folder: Path, dataset: Path):
        unit, scale, chosen = KINDS[name]
        folder.mkdir()
        self.dataset, self.regions = dataset, None
        grid = {} if scale == 1 else {"grid_scale": scale}
        if unit == "region":
            cut = ExtractSettings(method="grid", region_pixels=64, workers=1, **grid)
            self.regions = extract_superpixels.run(dataset, folder / "regions.h5", cut)
            grid = {}
        random = ScoreSettings(measure="random", unit=unit, **grid)
        scores = score.run(dataset, folder / "s.h5", random, superpixels=self.regions)
        settings = SelectSettings(**chosen)
        self.queries = select.run(dataset, scores, folder / "q.h5", settings, superpixels=self.regions)
        self.ledger = self.simulated(folder / "simulated.h5")

    def simulated(self, output: Path, **settings: object) -> Path:
        made = AnnotateSettings(**settings)
        return annotate_simulate.run(self.dataset, self.queries, output, made, superpixels=self.regions)


@pytest.fixture(scope="session")
def asked(tmp_path_factory) -> dict[str, Asked]:
    """Name of a kind -> its queries; never changed by a test."""
    folder = tmp_path_factory.mktemp("asked")
    masks = {name: blocks(size, seed) for seed, (name, size) in enumerate(SIZES.items())}
    dataset = write_dataset(folder / "d.h5", masks, CLASSES)
    return {name: Asked(name, folder / name, dataset) for name in KINDS}


@pytest.fixture
def same():
    return assert_same


def assert_same(found: Path, expected: Path, *, but: tuple[str, ...] = ()) -> None:
    """The ledgers have the same answers, ``but`` for some columns, and label the same pixels."""
    one, two = Annotations(found), Annotations(expected)
    assert one.ids == two.ids
    assert one.sizes == two.sizes
    columns = ("image", "y", "x", "region", "round", "label", "state", "clicks", "seconds", "image_level", "class_sets")
    for column in set(columns) - set(but):
        assert np.array_equal(getattr(one.answers, column), getattr(two.answers, column)), column
    assert np.array_equal(one.answers.areas.offsets, two.answers.areas.offsets)
    assert np.array_equal(one.answers.areas.start, two.answers.areas.start)
    assert one.mask_ids == two.mask_ids
    for image in one.ids:
        assert np.array_equal(one.label_map(image, 9), two.label_map(image, 9)), image
