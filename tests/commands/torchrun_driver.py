"""The program of a launch: every stage that several processes may run, one after the other.

Arguments: the folder of the inputs, which `make_inputs` writes, and the folder of the outputs.
"""

import sys
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from worlds import (  # noqa: E402
    TINY,
    random_masks,
    random_round,
    region_round,
    write_dataset,
    write_network,
    write_superpixels,
)

from stages.commands import evaluate, pseudo_label, score, train  # noqa: E402
from stages.networks import discriminator  # noqa: E402
from stages.runtime.ranks import joined_ranks  # noqa: E402
from stages.settings.evaluate import EvaluateSettings  # noqa: E402
from stages.settings.pseudo_label import PseudoLabelSettings  # noqa: E402
from stages.settings.score import ScoreSettings  # noqa: E402
from stages.settings.train import TrainSettings  # noqa: E402
from stages.training.learners.support import SupportLearner  # noqa: E402

STEPS, BATCH = 20, 6
# One row of the history per step. Dropout and batch normalisation depend on which images a process has.
COMPARED = TINY | {
    "batch": BATCH,
    "epochs": STEPS,
    "steps_per_epoch": 1,
    "validate_every": STEPS,
    "aspp_dropout": 0,
    "decoder_dropouts": (0, 0),
    "freeze_norm": True,
    "backbone_lr": 2e-3,
    "head_lr": 2e-2,
}
ADVERSARIAL = {"objective": "adversarial", "discriminator_width": 4, "self_training_from": 2, "gate": 0.5}
# Boxes come from the images of a process, and a pixel at the threshold of one would be below that of another
TEACHER = {"objective": "teacher", "cutmix": 0.0, "confidence": 0.0}
TRAININGS = {
    "labels": ("pixels", {"class_weights": "inverse"}),
    "class-sets": ("sets", {"objective": "class-sets"}),
    "support": ("pixels", {"objective": "support", "head_lr": 5e-4}),
    "adversarial": ("masks", ADVERSARIAL),
    "teacher": ("masks", TEACHER),
}
# The objectives that each number of processes trains, and the one with checkpoints at every step and with none at all
OBJECTIVES = {1: tuple(TRAININGS), 2: ("labels", "support", "teacher"), 3: ("class-sets", "adversarial")}
CHECKPOINTED = {1: {}, 2: {"statistics": "labels"}, 3: {"both": "adversarial"}}
LEARNING_STATISTICS = TINY | {"batch": BATCH, "epochs": 2, "steps_per_epoch": 3, "crop": (24, 24), "head_lr": 0.01}
NAMES = [f"i{number:02}" for number in range(16)]


def make_inputs(folder: Path) -> None:
    generator = np.random.default_rng(0)
    splits = {name: "val" if number % 3 == 2 else "train" for number, name in enumerate(NAMES)}
    masks = {name: mask.repeat(4, 0).repeat(4, 1) for name, mask in random_masks(NAMES, (8, 8), 3).items()}
    noise = generator.integers(0, 60, (len(NAMES), 32, 32, 3))
    images = {
        name: (90 * (mask[..., None] % 3) + own).astype(np.uint8)
        for (name, mask), own in zip(masks.items(), noise, strict=True)
    }
    dataset = write_dataset(folder / "d.h5", masks, 3, splits, images)
    random_round(folder, dataset, 0, select_settings={"budget": 20}).rename(folder / "pixels.h5")
    asked = {"rule": "top", "budget": 6, "image_answer": "mask"}
    masked = random_round(folder, dataset, 1, select_settings=asked, score_settings={"unit": "image"})
    masked.rename(folder / "masks.h5")
    superpixels = write_superpixels(folder, dataset).rename(folder / "regions.h5")
    asked = {"answer": "class-set", "budget": 60}
    sets = region_round(folder, dataset, 2, superpixels, select_settings=asked, annotate_settings={"trim": 0})
    sets.rename(folder / "sets.h5")
    region_round(folder, dataset, 3, superpixels, select_settings={"budget": 40}).rename(folder / "dominant.h5")
    write_network(folder / "m.safetensors", dataset)
    settings = TrainSettings(**TINY, epochs=1)
    train.run(dataset, folder / "pixels.h5", folder / "trained.safetensors", settings)
    write_network(folder / "cosine.safetensors", dataset, classifier="cosine")


def run_all(inputs: Path, outputs: Path, size: int) -> None:
    """All that is compared between launches of one, two and three processes, by one of ``size``."""
    dataset, model, superpixels = inputs / "d.h5", inputs / "m.safetensors", inputs / "regions.h5"
    for name in (*OBJECTIVES[size], OBJECTIVES[size][0]):  # the first again, which is up to date
        ledger, own = TRAININGS[name]
        settings = TrainSettings.load(own, offered=COMPARED)
        start = model if name == "support" else None
        train.run(dataset, inputs / f"{ledger}.h5", outputs / f"{name}.safetensors", settings, start)
    use = {"device": "cpu"}
    score.run(dataset, outputs / "pixels.h5", ScoreSettings.load({"measure": "margin"}, offered=use), model)
    asked = {"measure": "bvsb", "unit": "region", "class_balance": "probability"}
    score.run(dataset, outputs / "regions.h5", ScoreSettings.load(asked, offered=use), model, superpixels)
    sieved = PseudoLabelSettings.load({"min_pixels": 10}, offered=use)
    pseudo_label.run(dataset, inputs / "dominant.h5", model, outputs / "sieved.h5", sieved)
    named = PseudoLabelSettings.load({"method": "prototypes"}, offered=use)
    spread = {"method": "neighbours", "encoder": TINY["backbone"], "weights": "none", "cap": 50}
    neighbours = PseudoLabelSettings.load(spread, offered=use)
    pseudo_label.run(dataset, inputs / "dominant.h5", None, outputs / "neighbours.h5", neighbours)
    cosine = inputs / "cosine.safetensors"
    pseudo_label.run(dataset, inputs / "sets.h5", cosine, outputs / "prototypes.h5", named, superpixels)
    trained = inputs / "trained.safetensors"
    evaluate.run(dataset, [trained], outputs / "evaluation.h5", EvaluateSettings.load({"split": "val"}, offered=use))
    for name, objective in CHECKPOINTED[size].items():  # with statistics of batch normalisation that are learned
        ledger, own = TRAININGS[objective]
        for seconds in (0, 1000):
            settings = TrainSettings.load({**own, "checkpoint_seconds": seconds}, offered=LEARNING_STATISTICS)
            output = outputs / f"{name}-{seconds}.safetensors"
            train.run(dataset, inputs / f"{ledger}.h5", output, settings)
        evaluate.run(dataset, [output], outputs / f"{name}.h5", EvaluateSettings.load({"split": "val"}, offered=use))


if __name__ == "__main__":
    for stage in (score, pseudo_label):
        stage.SHARD_IMAGES = 2
    discriminator.DROPOUT = 0.0
    SupportLearner.train = lambda self: self.network.eval()
    with joined_ranks("cpu") as ranks:
        run_all(Path(sys.argv[1]), Path(sys.argv[2]), ranks.size)
