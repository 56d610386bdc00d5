"""The Makefile that `plan` writes, run by make itself."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from programs import ENVIRONMENT, PATIENCE, ROOT, Done, finish, start, wait_until

from stages.artifacts.opening import read_any_header

TINY = {
    "weights": "none",
    "backbone": "mobilenetv3_small_050",
    "head_width": "16",
    "low_level_width": "8",
    "epochs": "1",
}
OVERRIDES = [word for name, value in TINY.items() for word in ("--set", f"train.{name}={value}")]
PLAN = ("plan", "pixelpick", "d.h5", "--run", "run", "--rounds", "2", *OVERRIDES, "--set", "select.budget=3")
ROUNDS = [
    f"run/round-{number}/{name}"
    for number in range(2)
    for name in ("scores.h5", "queries.h5", "annotations.h5", "model.safetensors", "evaluation.h5")
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed"),
]


def make(*words: str, cwd: Path, program: str = f"{sys.executable} -m alseg_cli") -> Done:
    done = subprocess.run(
        ["make", "-f", "run.mk", f"ALSEG={program}", *words],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def told(done: Done, how: str) -> list[str]:
    """The files that commands said they wrote, or that are up to date."""
    if how == "wrote":
        return [line.split()[1].rstrip(":") for line in done.out.splitlines() if line.startswith("wrote ")]
    return [line.split()[0] for line in done.out.splitlines() if line.endswith(" is up to date")]


def digests(folder: Path, names: list[str] = ROUNDS) -> dict[str, str]:
    return {name: read_any_header(folder / name).digest for name in names}


@pytest.fixture
def planned(world, tmp_path, preloaded) -> Path:
    """A folder with a dataset and the Makefile of two rounds on it."""
    shutil.copy(world / "d.h5", tmp_path)
    preloaded.run(*PLAN, "-o", "run.mk", cwd=tmp_path).expect(0, out="wrote run.mk: 10 rules, 2 rounds")
    return tmp_path


def test_make_runs_goes_on_after_a_failure_and_knows_when_nothing_is_left(planned, program):
    failed = make("TRAIN=false", cwd=planned, program=program)
    assert failed.code != 0
    assert told(failed, "wrote") == ROUNDS[:3]
    assert not (planned / ROUNDS[3]).exists()

    done = make(cwd=planned, program=program)
    done.expect(0)
    assert told(done, "wrote") == ROUNDS[3:]
    first = digests(planned)
    make("-n", cwd=planned, program=program).expect(0, out="Nothing to be done")
    nothing = make(cwd=planned, program=program)
    nothing.expect(0, out="Nothing to be done")
    assert told(nothing, "wrote") == told(nothing, "up to date") == []

    (planned / "run/round-1/queries.h5").unlink()
    done = make(cwd=planned, program=program)
    done.expect(0)
    assert told(done, "wrote") == ["run/round-1/queries.h5"]
    assert set(told(done, "up to date")) <= set(ROUNDS[7:]), "only what depends on it was asked again"
    assert digests(planned) == first
    make("-n", cwd=planned, program=program).expect(0, out="Nothing to be done")


def test_prefixes_stand_before_the_commands(planned):
    shown = make("-n", "LAUNCH=srun --gpus=1", "TRAIN=torchrun -m alseg_cli", cwd=planned, program="alseg")
    shown.expect(0)
    commands = [line for line in shown.out.replace("\\\n", "").splitlines() if line.startswith("srun")]
    assert len(commands) == 10
    for command in commands:
        words = command.split()
        assert words[:2] == ["srun", "--gpus=1"]
        if words[-1].endswith("model.safetensors"):
            assert words[2:6] == ["torchrun", "-m", "alseg_cli", "train"]
        else:
            assert words[2] == "alseg"


def test_overrides_reach_the_commands(planned):
    text = (planned / "run.mk").read_text().replace("\\\n\t  ", "")
    trainings = [line for line in text.splitlines() if line.startswith("\t") and " train " in line]
    assert len(trainings) == 2
    for line in trainings:
        assert "--weights none --backbone mobilenetv3_small_050" in line
    assert text.count("--budget 3") == 2


PUBLISHES = """#!/bin/sh
for last; do :; done
mkdir -p "$(dirname "$last")"
echo whole > "$last"
%s
"""


def fake(folder: Path, then: str) -> str:
    """A program that publishes the last of its arguments, and fails after that."""
    program = folder / "fake"
    program.write_text(PUBLISHES % then)
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("target", [[], ROUNDS[:1]], ids=["all", "file"])
@pytest.mark.parametrize("then", ["exit 1", "kill -9 $$", "kill -INT $$"])
def test_make_never_deletes_what_a_command_published_before_it_failed(then, target, planned):
    """Two makes at once are such a case: the second is told that the first writes the file, and fails."""
    assert make(*target, cwd=planned, program=fake(planned, then)).code != 0
    assert (planned / ROUNDS[0]).read_text() == "whole\n"


@pytest.mark.parametrize("target", [[], ROUNDS[:1]], ids=["all", "file"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_make_never_deletes_a_published_file_when_it_is_interrupted(number, target, planned):
    program = fake(planned, "touch ready; exec sleep 60")
    process = start("-f", "run.mk", f"ALSEG={program}", *target, cwd=planned, program=["make"])
    wait_until((planned / "ready").exists, "the command to publish its file")
    os.killpg(process.pid, number)
    assert finish(process).code != 0
    assert (planned / ROUNDS[0]).read_text() == "whole\n"


def test_the_makefile_of_the_project_does_not_delete_the_dataset_either(tmp_path):
    for name in ("pyproject.toml", "constraints.txt", "ready"):
        (tmp_path / name).touch()
    os.rename(fake(tmp_path, "kill -9 $$"), tmp_path / "alseg")
    words = ["-f", ROOT / "Makefile", "BIN=.", "READY=ready", "DEMO=demo", "demo/scenes.h5"]
    assert finish(start(*words, cwd=tmp_path, program=["make"])).code != 0
    assert (tmp_path / "demo/scenes.h5").read_text() == "whole\n"


def test_two_makes_at_once_lose_nothing(planned):
    words = ["-f", "run.mk", f"ALSEG={sys.executable} -m alseg_cli", ROUNDS[2]]
    done = [finish(process) for process in [start(*words, cwd=planned, program=["make"]) for _ in range(2)]]
    wrote = [name for one in done for name in told(one, "wrote")]
    assert wrote
    for name in wrote:
        read_any_header(planned / name)
    for one in done:
        assert one.code == 0 or "is being written by process" in one.err, one
    make(ROUNDS[2], cwd=planned).expect(0)
    digests(planned, ROUNDS[:3])


@pytest.mark.parametrize(
    "words, says",
    [
        (["plan", "no-such-recipe", "d.h5"], "Unknown recipe 'no-such-recipe'. Choose one of "),
        (
            ["plan", "pixelpick", "d.h5", "--profile", "no-such-profile"],
            "Unknown profile 'no-such-profile'. Choose one of ",
        ),
        (["plan", "pixelpick", "d.h5", "--rounds", "0"], "--rounds"),
        (["plan", "pixelpick", "d.h5", "--shards", "0"], "--shards must be a number from 1 to 1000, STAGE=NUMBER"),
        (["plan", "pixelpick", "d.h5", "--shards", "select=2"], "--shards: 'select' cannot be divided. Name any of "),
        (["plan", "pixelpick", "d.h5", "--set", "train.no_such=1"], "--set train.no_such=1"),
        (["plan", "pixelpick", "d.h5", "--set", "train.epochs"], "--set train.epochs"),
        (["plan", "pixelpick", "d.h5", "--set", "train.epochs=0"], "epochs"),
        (["plan", "pixelpick", "d.h5", "--set", "seed=none"], "seed"),
        (
            ["plan", "pixelpick", "d.h5", "--run", "my run"],
            "has a character that make does not allow in a file name. Use letters, digits and",
        ),
        (["plan", "pixelpick", "d.h5", "-o", "d.h5/run.mk"], "d.h5"),
    ],
)
def test_a_plan_that_cannot_be(words, says, place, preloaded):
    before = os.listdir(place)
    preloaded.run(*words, cwd=place).expect(2, err=says)
    assert os.listdir(place) == before
