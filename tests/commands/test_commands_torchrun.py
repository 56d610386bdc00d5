"""Under torchrun: one, two and three processes on the CPU, joined by gloo.

`trained` and a kill are real launches by torchrun. The others are forks with the variables that torchrun sets.
"""

import csv
import os
import shutil
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torchrun_driver
from commands_support import NETWORK, assert_same, without_speed
from programs import at_work, finish, run, start, wait_until

from stages.artifacts.evaluation import Evaluation

TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "alseg_cli"]
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
    done = run(*TRAIN, cwd=folder, program=TWO)
    done.expect(0)
    return folder, done


def test_two_processes_train_one_model(trained, preloaded):
    folder, done = trained
    assert told(done) == ["wrote t.safetensors"]
    with (folder / "t.history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == [str(epoch) for epoch in range(1, 9)]
    assert all(row["val_miou"] for row in rows)
    assert float(rows[-1]["loss"]) < 0.8 * float(rows[0]["loss"]), "the labels were learned"
    preloaded.run("verify", "t.safetensors", cwd=folder).expect(0, out="undamaged and up to date")
    assert not [path for path in folder.iterdir() if path.name.startswith(".") or path.is_dir()]


AGENT = "torch/distributed/elastic/agent/"  # torchrun's own log names its file at the start of each line


def ours(done):
    """A launch without what torchrun logs itself: it may tell with a traceback that another node left first."""
    return replace(done, err="".join(line for line in done.err.splitlines(True) if AGENT not in line))


def test_two_nodes_train_the_same_model(place, trained):
    """A launch of torchrun per node, with one process each; the first process of node 0 publishes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = [*TWO[:3], "--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", port]
    nodes = [[*launch, "--node-rank", node, "-m", "alseg_cli"] for node in ("0", "1")]
    first, second = [ours(finish(process)) for process in [start(*TRAIN, cwd=place, program=node) for node in nodes]]
    assert told(first.expect(0)) == ["wrote t.safetensors"]
    assert second.expect(0).out == ""
    assert_same(place / "t.safetensors", trained[0] / "t.safetensors")


ENDED = "failed: Another process of this launch ended. Run the same command to continue."
PROMISED = 60  # seconds; it takes one or two


def checkpoints(place):
    return set((place / "t.safetensors.work").glob("step*.pt"))


def test_a_training_whose_processes_are_killed_ends_with_a_sentence_and_goes_on(place, trained, preloaded):
    """First the other process is killed, then the main one in a launch that goes on from there."""
    words = [*TRAIN, "--checkpoint-seconds", "0"]
    process = start(*words, cwd=place, program=TWO)
    wait_until(lambda: checkpoints(place), "a checkpoint")
    main = int((place / ".t.safetensors.lock").read_text().split()[1])
    lines = at_work(place).items()
    (other,) = {number for number, line in lines if "alseg_cli train" in line and "distributed" not in line} - {main}
    os.kill(other, signal.SIGKILL)
    began = time.monotonic()
    done = finish(process)
    assert time.monotonic() - began < PROMISED
    assert done.code != 0
    assert [line for line in done.err.splitlines() if line.startswith("failed: ")] == [ENDED]
    assert not (place / "t.safetensors").exists()

    saved = checkpoints(place)
    process = start(*words, cwd=place, program=TWO)
    wait_until(lambda: checkpoints(place) - saved, "a later checkpoint")
    os.kill(int((place / ".t.safetensors.lock").read_text().split()[1]), signal.SIGKILL)
    began = time.monotonic()
    assert finish(process).code != 0
    assert time.monotonic() - began < PROMISED
    assert not (place / "t.safetensors").exists()

    done = [each.finish() for each in preloaded.launch(2, *words, cwd=place)]
    done[0].expect(0, out="wrote")
    done[1].expect(0)
    assert done[1].out == "", "only the main process speaks"
    assert_same(place / "t.safetensors", trained[0] / "t.safetensors")


# All stages, by one, two and three processes


@pytest.fixture(scope="module")
def launches(tmp_path_factory, preloaded):
    """The folders with what one, two and three processes made of the same inputs."""
    inputs = tmp_path_factory.mktemp("inputs")
    torchrun_driver.make_inputs(inputs)
    folders = {}
    for size in (1, 2, 3):
        folders[size] = tmp_path_factory.mktemp(f"of-{size}")
        program = Path(torchrun_driver.__file__)
        started = preloaded.launch(size, inputs, folders[size], cwd=folders[size], program=program)
        main, *others = [process.finish().expect(0) for process in started]
        assert not any(each.out for each in others), "only the main process speaks"
        lines = [line for line in main.out.splitlines() if not line.startswith("Oracle privilege: ")]
        outputs = [line.split(": ")[0].rpartition("/")[2] for line in lines]
        written = [path.name for path in folders[size].iterdir() if path.suffix in (".h5", ".safetensors")]
        again = f"{torchrun_driver.OBJECTIVES[size][0]}.safetensors is up to date"
        assert sorted(outputs) == sorted([*written, again]), main.out
    return folders


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", ["pixels", "regions", "sieved", "neighbours", "prototypes", "evaluation"])
def test_any_number_of_processes_makes_the_same_artifacts(launches, size, name):
    assert_same(launches[size] / f"{name}.h5", launches[1] / f"{name}.h5")


@pytest.mark.parametrize("size, name", [(size, name) for size in (2, 3) for name in torchrun_driver.OBJECTIVES[size]])
def test_any_number_of_processes_learns_alike(launches, size, name):
    """Each loss of each of 20 steps, within 1e-4."""
    alone, together = (without_speed(launches[each] / f"{name}.history.csv") for each in (1, size))
    assert len(alone) == len(together) == torchrun_driver.STEPS
    for mine, theirs in zip(together, alone, strict=True):
        assert mine.keys() == theirs.keys()
        for column, value in theirs.items():
            if value and not column.startswith("val_"):
                assert float(mine[column]) == pytest.approx(float(value), rel=1e-4, abs=1e-4), (column, mine["step"])


@pytest.mark.parametrize("size, name", [(2, "statistics"), (3, "both")])
def test_checkpoints_change_nothing_and_the_last_validation_is_of_the_saved_model(launches, size, name):
    folder = launches[size]
    assert without_speed(folder / f"{name}-0.history.csv") == without_speed(folder / f"{name}-1000.history.csv")
    assert_same(folder / f"{name}-0.safetensors", folder / f"{name}-1000.safetensors")
    logged = float(without_speed(folder / f"{name}-1000.history.csv")[-1]["val_miou"])
    with Evaluation(folder / f"{name}.h5") as evaluation:
        assert evaluation.read("miou")[0] == logged
