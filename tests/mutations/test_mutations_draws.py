"""Guards the random draws of `select`: each image, each round and each seed has draws of its own.

A random stream without the image id gives images of one size the same pixels; one without the round draws in every
round what it drew before. Scores are constant, or the same in all compared calls, so that only the draws differ.
"""

import itertools
from pathlib import Path

import numpy as np
import pytest
from worlds import AnnotateSettings, ScoreSettings, SelectSettings, random_masks, write_dataset, write_superpixels

from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer, build_in_memory
from stages.artifacts.header import Header, now, recorded_versions
from stages.artifacts.images_table import write_images
from stages.artifacts.publish import publish_bytes
from stages.artifacts.queries import Queries
from stages.artifacts.request import refer
from stages.commands import annotate_simulate, score, select

IMAGES = [f"image{number}" for number in range(8)]
SIZE = (40, 40)
BUDGET = 8

CASES = {
    "pixels, uniform": ("pixel", {"rule": "uniform"}),
    "pixels, pool": ("pixel", {"rule": "pool"}),
    "pixels, reverse pool": ("pixel", {"rule": "reverse-pool"}),
    "pixels of some images": ("pixel", {"rule": "top", "image_share": 0.5}),
    "pixels of the dataset, uniform": ("pixel", {"rule": "uniform", "scope": "dataset"}),
    "pixels of the dataset, pool": ("pixel", {"rule": "pool", "scope": "dataset"}),
    "regions, uniform": ("region", {"rule": "uniform"}),
    "regions, pool": ("region", {"rule": "pool", "fraction": 0.5}),
    "images, uniform": ("image", {"rule": "uniform", "budget": 3}),
    "images, pool": ("image", {"rule": "pool", "fraction": 0.8, "budget": 3}),
}


def write_constant_scores(path: Path, dataset: Path) -> Path:
    """Scores of pixels, all of them 0.5."""
    with Dataset(dataset) as data:

        def fill(writer: Writer) -> Header:
            write_images(writer, IMAGES, data.sizes)
            for image in IMAGES:
                writer.array(f"scores/{image}", np.full(data.sizes[image], 0.5, np.float32))
            attributes, inputs = {"unit": "pixel", "measure": "random"}, refer(path, {"dataset": data})
            versions = recorded_versions()
            return Header("scores", "score", {}, inputs, 0, attributes=attributes, versions=versions, created=now())

        publish_bytes(path, build_in_memory(fill))
    return path


class World:
    """A dataset with images of one size, its regions, scores, and a ledger after which round 1 follows.

    The ledger holds the class of one image and nothing about its pixels, regions or mask, so round 1 chooses among the
    same candidates as round 0.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.dataset = write_dataset(folder / "d.h5", random_masks(IMAGES, SIZE, 4), 4)
        self.superpixels = write_superpixels(folder, self.dataset)
        self.scores = {"pixel": write_constant_scores(folder / "pixel.h5", self.dataset)}
        for unit, regions in (("region", self.superpixels), ("image", None)):
            settings = ScoreSettings(measure="random", unit=unit)
            self.scores[unit] = score.run(self.dataset, folder / f"{unit}.h5", settings, superpixels=regions)
        asked = SelectSettings(rule="top", budget=1, image_answer="class")
        queries = select.run(self.dataset, self.scores["image"], folder / "class.h5", asked)
        self.ledger = annotate_simulate.run(self.dataset, queries, folder / "ledger.h5", AnnotateSettings())
        self.numbers = itertools.count()

    def select(self, unit: str, round_number: int = 0, **values: object) -> dict[str, list[int]]:
        """The chosen pixels (flat index), regions or image numbers by image, sorted."""
        settings = SelectSettings(**{"budget": BUDGET} | values)
        ledger = self.ledger if round_number else None
        regions = self.superpixels if unit == "region" else None
        output = self.folder / f"queries{next(self.numbers)}.h5"
        with Queries(select.run(self.dataset, self.scores[unit], output, settings, ledger, regions)) as queries:
            assert queries.round == round_number
            assert queries.unit == unit
            chosen = {"pixel": queries.y * SIZE[1] + queries.x, "region": queries.region, "image": queries.image}[unit]
            return {
                queries.ids[number]: sorted(chosen[queries.image == number].tolist())
                for number in np.unique(queries.image)
            }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("draws"))


@pytest.mark.parametrize("rule", ["uniform", "pool", "reverse-pool"])
@pytest.mark.parametrize("round_number", [0, 1])
def test_images_of_one_size_and_equal_scores_get_different_pixels(world: World, rule: str, round_number: int) -> None:
    chosen = world.select("pixel", round_number, rule=rule)
    assert list(chosen) == IMAGES
    assert all(len(set(pixels)) == BUDGET for pixels in chosen.values())
    assert len({tuple(pixels) for pixels in chosen.values()}) == len(IMAGES)


@pytest.mark.parametrize("case", CASES)
def test_rounds_and_seeds_have_their_own_draws(world: World, case: str) -> None:
    unit, values = CASES[case]
    first = world.select(unit, 0, **values)
    assert world.select(unit, 0, **values) == first
    assert world.select(unit, 1, **values) != first
    assert world.select(unit, 0, **values, seed=1) != first


@pytest.mark.parametrize("rule", ["uniform", "pool", "reverse-pool"])
def test_every_image_is_drawn_anew_in_the_next_round(world: World, rule: str) -> None:
    first, second = (world.select("pixel", number, rule=rule) for number in (0, 1))
    assert all(first[image] != second[image] for image in IMAGES)
