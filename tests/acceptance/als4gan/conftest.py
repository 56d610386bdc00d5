"""The recipe run once for all checks of ALS4GAN; no test changes what others read."""

import json

import numpy as np
import pytest
from als4gan_support import CLASSES, ROUNDS, SCENES, answered, chain, changed, made_of, patchwork, settings_of
from PIL import Image

from stages.commands import annotate_simulate, prepare, select, train
from stages.pixels.void import VOID
from stages.settings.prepare import PrepareSettings


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """20 training images, a seed set of 3, and 4 rounds for the 7 that get masks; then adversarial training on them."""
    folder = tmp_path_factory.mktemp("world")
    ids = [*(f"t{number:02}" for number in range(20)), "v0", "v1", "x0", "x1"]
    dataset = made_of(folder / "d.h5", {name: patchwork(number) for number, name in enumerate(ids)}, CLASSES)
    made = {"folder": folder, "dataset": dataset} | chain(folder, dataset)
    last = made[f"scores{ROUNDS - 1}"], made[f"ledger{ROUNDS - 1}"]
    made["chosen"] = select.run(dataset, last[0], folder / "chosen.h5", settings_of("chosen"), last[1])
    answers = settings_of("masks")
    made["masks"] = annotate_simulate.run(dataset, made["chosen"], folder / "masks.h5", answers, last[1])
    made["model"] = train.run(dataset, made["masks"], folder / "model.safetensors", settings_of("model"))
    return made


@pytest.fixture(scope="session")
def blind(world):
    """The dataset without any mask of a training image, and with labels of images that are none."""

    def change(file):
        for name in list(file["masks"]):
            if name.startswith("t"):
                del file[f"masks/{name}"]
        file["index/label"][:] = 0

    return changed(world["dataset"], world["folder"] / "blind.h5", change)


DESCRIPTION = """
name = "scenes"
classes = [{ name = "sand", color = [0, 0, 9] }, { name = "grass", color = [9, 0, 0] }]
masks = { ignore = [255] }
[splits.train]
images = "images/{id}.png"
masks = "masks/{id}.png"
[image_labels]
source = "name"
"""


@pytest.fixture(scope="session")
def named(tmp_path_factory):
    """Four images that say in their names what they show; their class is another thing than those of pixels."""
    folder = tmp_path_factory.mktemp("named")
    for name in ("tenniscourt07", "agricultural00", "beach03", "river01"):
        image, mask = patchwork(len(name))
        for kind, array in (("images", image), ("masks", np.where(mask == VOID, VOID, mask % 2).astype(np.uint8))):
            (folder / kind).mkdir(exist_ok=True)
            Image.fromarray(array).save(folder / kind / f"{name}.png")
    (folder / "scenes.toml").write_text(DESCRIPTION + f"classes = {json.dumps(SCENES)}\n")
    dataset = prepare.run(str(folder / "scenes.toml"), folder, folder / "d.h5", PrepareSettings(workers=1))
    return folder, dataset, answered(folder, dataset, "ledger", image_answer="class")
