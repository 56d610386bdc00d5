"""Under torchrun: two processes on the CPU, joined by gloo."""

import csv
import os
import shutil
import signal
import sys

import pytest
from commands_support import (
    ALSEG,
    CHAIN,
    NETWORK,
    REGION_CHAIN,
    assert_same,
    assert_undisturbed,
    finish,
    remove,
    run,
    start,
    wait_until,
)

TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TRAIN = (
    "train",
    "d.h5",
    "a1.h5",
    *NETWORK,
    "--epochs",
    "8",
    "--batch",
    "4",
    "--head-lr",
    "0.01",
    "-o",
    "t.safetensors",
)

pytestmark = pytest.mark.slow


def told(done):
    """What each line on standard output begins with."""
    return [line.split(":")[0] for line in done.out.splitlines()]


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """A copy of the world with a model that two processes trained undisturbed, and what they said."""
    folder = tmp_path_factory.mktemp("torchrun") / "place"
    shutil.copytree(world, folder)
    done = run(*TRAIN, cwd=folder, program=[*TWO, "-m", "alseg_cli"])
    done.expect(0)
    return folder, done


def test_two_processes_train_one_model(trained):
    folder, done = trained
    assert told(done) == ["wrote t.safetensors"]
    with (folder / "t.history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == [str(epoch) for epoch in range(1, 9)]
    assert all(row["val_miou"] for row in rows)
    assert float(rows[-1]["loss"]) < 0.8 * float(rows[0]["loss"]), "the labels were learned"
    run("verify", "t.safetensors", cwd=folder).expect(0, out="undamaged and up to date")
    assert not [path for path in folder.iterdir() if path.name.startswith(".") or path.is_dir()]


def test_two_processes_find_a_model_up_to_date(trained):
    folder, _ = trained
    before = (folder / "t.safetensors").stat().st_mtime_ns
    done = run(*TRAIN, cwd=folder, program=[*TWO, "-m", "alseg_cli"])
    done.expect(0)
    assert told(done) == ["t.safetensors is up to date"]
    assert (folder / "t.safetensors").stat().st_mtime_ns == before


def test_a_training_whose_main_process_is_killed_goes_on_and_ends_the_same(place, trained):
    words, program = [*TRAIN, "--checkpoint-seconds", "0"], [*TWO, "-m", "alseg_cli"]
    process = start(*words, cwd=place, program=program)
    wait_until(lambda: any((place / "t.safetensors.work").glob("step*.pt")), "a checkpoint")
    main = int((place / ".t.safetensors.lock").read_text().split()[1])
    os.kill(main, signal.SIGKILL)  # the launcher then ends the other process, and itself
    assert finish(process).code != 0
    assert not (place / "t.safetensors").exists()
    run(*words, cwd=place, program=program).expect(0, out="wrote")
    assert_same(place / "t.safetensors", trained[0] / "t.safetensors")


def test_two_processes_score_the_same_as_one(place, world):
    step = CHAIN["score"]
    remove(place, step)
    done = run(*step.words, cwd=place, program=[*TWO, "--no-python", *ALSEG])
    done.expect(0)
    assert told(done) == ["wrote s1.h5"]
    assert_same(place / step.output, world / step.output)
    assert {path.name for path in place.iterdir()} == {path.name for path in world.iterdir()}


@pytest.mark.parametrize("stage", ["score", "pseudo-label"])
def test_two_processes_give_the_same_about_regions_as_one(stage, region_place, region_world):
    step = REGION_CHAIN[stage]
    remove(region_place, step)
    done = run(*step.words, cwd=region_place, program=[*TWO, "--no-python", *ALSEG])
    done.expect(0)
    assert told(done) == [f"wrote {step.output}"]
    assert_undisturbed(region_place, region_world, step)
