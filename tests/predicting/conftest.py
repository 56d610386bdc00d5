"""A dataset of six images of 24x32 and a model of it with random weights."""

import numpy as np
import pytest
from predict_support import World
from worlds import random_masks, write_dataset, write_network

NAMES = [f"image{number}" for number in range(6)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("predicting")
    masks = random_masks(NAMES, (24, 32), 3)
    generator = np.random.default_rng(0)
    images = {name: generator.integers(0, 256, (24, 32, 3), dtype=np.uint8) for name in NAMES}
    dataset = write_dataset(folder / "d.h5", masks, 3, dict.fromkeys(NAMES[4:], "test"), images)
    return World(dataset, write_network(folder / "m.safetensors", dataset), images, masks)
