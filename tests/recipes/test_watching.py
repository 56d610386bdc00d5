"""`status` of planned runs: what is done, running, failed, or waits, by files that processes leave."""

import json
import os
import socket
from pathlib import Path

import pytest
from programs import Preloaded
from typer.testing import CliRunner
from worlds import random_masks, write_dataset

from alseg_cli.app import app
from alseg_cli.exits import exit_codes
from stages.artifacts.failures import last_failure, note_failure
from stages.artifacts.locks import holder_of, is_locked, lock_path, output_lock, share_lock
from stages.artifacts.publish import error_path
from stages.recipes.experiment import Wanted, plan_runs, write_made
from stages.recipes.targets import planned_runs
from stages.recipes.watching import watched
from stages.runtime.console import Progress
from stages.runtime.errors import BadInput, NothingLeft, StageFailed, Stopped
from stages.runtime.shares import Share

RUNS = [Path("runs", f"{recipe}-{seed}") for recipe in ("pixelpick", "random-pixels") for seed in (0, 1)]
SETTINGS = ["train.crop=32,32", "train.batch=2", "train.device=cpu", "select.budget=2", "train.epochs=1"]


@pytest.fixture(params=["make", "snakemake"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a plan of four runs, none of which was begun."""
    monkeypatch.chdir(tmp_path)
    names = [f"i{number}" for number in range(6)]
    write_dataset(Path("d.h5"), random_masks(names, (32, 40), 3), 3, {"i4": "val", "i5": "test"})
    wanted = Wanted(["pixelpick", "random-pixels"], Path("d.h5"), rounds=2, overrides=SETTINGS, seeds=[0, 1])
    made = plan_runs(wanted if request.param == "make" else Wanted(**vars(wanted) | {"format": "snakemake"}))
    write_made(made, Path("e.mk" if request.param == "make" else "Snakefile"))
    for run in RUNS:
        (run / "round-0").mkdir(parents=True)
    return tmp_path


def status(*words: object) -> str:
    done = CliRunner().invoke(app, ["status", *(str(word) for word in words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def states(*folders: object) -> dict[str, dict[str, dict[str, object]]]:
    found = json.loads(status(*folders, "--json"))
    return {each["run"]: {target["target"]: target for target in each["targets"]} for each in found}


def test_all_runs_of_a_plan_or_one_of_them(place: Path) -> None:
    every = states("runs")
    assert list(every) == [str(run) for run in RUNS]
    assert {len(targets) for targets in every.values()} == {10}
    own = states(RUNS[0])[str(RUNS[0])]
    assert own == every[str(RUNS[0])]
    assert [own[file]["state"] for file in ("round-0/scores.h5", "round-0/queries.h5")] == ["ready", "waiting"]
    assert own["round-0/model.safetensors"]["stage"] == "train"
    assert every[str(RUNS[2])]["round-0/scores.h5"]["stage"] == "link"
    assert status("runs").splitlines()[0] == f"{RUNS[0]}: ready, 0 of 10 targets done"
    (RUNS[0] / "round-0" / "scores.h5").write_text("made")
    assert states(RUNS[0])[str(RUNS[0])]["round-0/scores.h5"]["state"] == "done"
    assert states(RUNS[0])[str(RUNS[0])]["round-0/queries.h5"]["state"] == "ready"
    needs = {target.path: target.needs for target in planned_runs([RUNS[0]])[0].targets}
    before = [RUNS[0] / "round-0" / name for name in ("annotations.h5", "model.safetensors")]
    assert set(needs[RUNS[0] / "round-1" / "queries.h5"]) == {Path("d.h5"), RUNS[0] / "round-1/scores.h5", before[0]}
    assert before[1] in needs[RUNS[0] / "round-1" / "scores.h5"]


def test_who_works_on_what_and_how_far_it_is(place: Path) -> None:
    output = RUNS[1] / "round-0" / "scores.h5"
    with output_lock(output), Progress("scoring", 367) as bar:
        bar.advance(120)
        found = states(RUNS[1])[str(RUNS[1])]["round-0/scores.h5"]
        line = status(RUNS[1])
    assert (found["state"], found["pid"], found["host"]) == ("running", os.getpid(), socket.gethostname())
    assert found["progress"].startswith("scoring: 120/367, ")
    assert f"running round-0/scores.h5 on {socket.gethostname()} (process {os.getpid()}) since {found['since']}" in line
    assert line.startswith(f"{RUNS[1]}: running, 0 of 10 targets done; ")
    assert states(RUNS[1])[str(RUNS[1])]["round-0/scores.h5"]["state"] == "ready"
    with share_lock(output, Share(2, 3)):
        assert states(RUNS[1])[str(RUNS[1])]["round-0/scores.h5"]["state"] == "running"
    assert states(RUNS[1])[str(RUNS[1])]["round-0/scores.h5"]["state"] == "ready"


def test_a_dead_process_is_told_as_such(place: Path) -> None:
    output = RUNS[0] / "round-0" / "scores.h5"
    lock_path(output).write_text(
        "process 4194303 on elsewhere since 2026-01-01T00:00:00+00:00\nscoring: 7/9, 3 s left\n"
    )
    found = states(RUNS[0])[str(RUNS[0])]["round-0/scores.h5"]
    assert (found["state"], found["pid"], found["host"]) == ("died", 4194303, "elsewhere")
    assert "died round-0/scores.h5 on elsewhere (process 4194303), which began 2026-01-01T00:00:00+00:00" in status(
        "runs"
    )
    assert "scoring: 7/9, 3 s left; killed, or out of memory" in status("runs")
    assert not is_locked(output)
    with (
        output_lock(output),
        pytest.raises(StageFailed, match=rf"written by process {os.getpid()} on \S+ since \S+\. W"),
        output_lock(output),
    ):
        pass
    assert holder_of(output) is None


@pytest.mark.parametrize(
    ("error", "code", "state"),
    [
        (BadInput(["one fault.", "the last."]), 2, "failed"),
        (StageFailed("the disk is full."), 1, "failed"),
        (Stopped("stopped after 3 of 9 images."), 75, "stopped"),
        (NothingLeft("Nothing left to query."), 3, "ended"),
        (KeyboardInterrupt(), 130, "failed"),
        (ZeroDivisionError("division by zero"), None, "failed"),
    ],
)
def test_a_failure_stays_until_the_next_start(
    error: BaseException, code: int | None, state: str, tmp_path: Path
) -> None:
    output = tmp_path / "round-0" / "scores.h5"
    output.parent.mkdir()
    with pytest.raises((SystemExit, ZeroDivisionError)), exit_codes(["score", "d.h5", "-o", str(output)]):
        raise error
    found = last_failure(output)
    assert found is not None
    assert found.exit == code
    assert found.error == {2: "the last.", 130: "interrupted", None: "ZeroDivisionError: division by zero"}.get(
        code, str(error)
    )
    from stages.recipes.targets import PlannedRun, Target

    target = Target(output, (), "score", tmp_path, 0)
    run = PlannedRun(tmp_path, tmp_path, [target], [])
    assert watched(run, target).state == state
    with output_lock(output):
        assert not error_path(output).exists()
        note_failure(output, 1, "another process is at it")
        assert watched(run, target).state == "running"
    assert last_failure(output) is None


def test_no_file_is_left_beside_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(SystemExit), exit_codes(["score", "d.h5", "-o", str(tmp_path / "s.h5")]):
        raise BadInput("wrong.")
    with pytest.raises(SystemExit), exit_codes(["inspect", "-o", str(tmp_path / "s.h5")]):
        raise BadInput("wrong.")
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_that_fails_and_is_gone_on_with(preloaded: Preloaded, tmp_path: Path) -> None:
    """Of real processes: `next` fails and leaves why; with other settings it goes on, and that is gone."""
    run = tmp_path / "run"
    run.mkdir()
    write_dataset(run / "dataset.h5", random_masks([*"abcd"], (32, 40), 3), 3, {"c": "val", "d": "test"})
    text = 'recipe = "random-pixels"\nanswers = "simulated"\nrounds = 1\nsettings.select.budget = 2\n'
    (run / "run.toml").write_text(text + 'settings.train.weights = "none.pth"\nsettings.train.crop = [32, 32]\n')
    preloaded.run("next", "run", cwd=tmp_path).expect(2)
    words = ["status", "run", "--targets"]
    told = preloaded.run(*words, cwd=tmp_path).expect(0).out
    first = told.splitlines()[0]
    assert first.startswith("run: failed, 3 of 5 targets done; failed round-0/model.safetensors at 20")
    assert " (exit 2): Weights 'none.pth' cannot be read" in first
    assert [line.split()[:3] for line in told.splitlines()[1:3]] == [
        ["target", "stage", "state"],
        ["round-0/scores.h5", "score", "done"],
    ]
    model = run / "round-0" / "model.safetensors"
    (run / "run.toml").write_text(text + 'settings.train.weights = "none"\nsettings.train.crop = [32, 32]\n')
    (run / "run.toml").write_text(
        (run / "run.toml").read_text() + "settings.train.epochs = 1\nsettings.train.batch = 2\n"
    )
    preloaded.run("next", "run", cwd=tmp_path).expect(0, "finished")
    assert not error_path(model).exists()
    assert status(run, "--targets").splitlines()[0] == f"{run}: finished, 5 of 5 targets done"
