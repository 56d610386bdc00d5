"""The recipe run once for all checks of MADBAL; no test changes what others read."""

import pytest

pytest.register_assert_rewrite("madbal_support")

from madbal_support import MAIN, ROUNDS, chain, patchworks, settings_of  # noqa: E402
from worlds import changed  # noqa: E402

from stages.artifacts.scores import Scores  # noqa: E402
from stages.commands import score  # noqa: E402


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Four images of 64x96 and a validation split; three rounds on a grid of half of them."""
    folder = tmp_path_factory.mktemp("world")
    dataset = patchworks(folder / "dataset.h5", MAIN)
    return {"folder": folder, "dataset": dataset} | chain(folder, dataset)


@pytest.fixture(scope="session")
def pixel_scores(world):
    """Maps of the scores of rounds 1 and 2: the same models, asked for pixels."""
    found = {}
    for number in range(1, ROUNDS):
        of_pixels = changed(settings_of("scores", number), {"unit": "pixel", "grid_scale": 0.5})
        output, model = world["folder"] / f"pixels{number}.h5", world[f"support{number - 1}"]
        found[number] = Scores(score.run(world["dataset"], output, of_pixels, model))
    return found
