"""`prune` removes bytes and makes nothing stale; `du` says how many there are."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from programs import Preloaded
from typer.testing import CliRunner
from worlds import TINY, random_masks, random_round, region_round, write_dataset, write_superpixels

from alseg_cli.app import app
from stages.artifacts.locks import output_lock
from stages.artifacts.model import Model, write_model
from stages.artifacts.opening import open_any, read_any_header
from stages.artifacts.pruned import prune_file
from stages.artifacts.verify import verify_one
from stages.commands import select
from stages.recipes.experiment import Wanted, plan_runs
from stages.recipes.pruning import prunings
from stages.recipes.targets import planned_runs
from stages.runtime.errors import BadInput
from stages.settings.select import SelectSettings

pytestmark = pytest.mark.slow

RECIPE = "pixelpick-neighbours"
RUN = f"""
recipe = "{RECIPE}"
answers = "simulated"
rounds = 2

[settings.select]
budget = 4

[settings.pseudo-label]
encoder = "{TINY["backbone"]}"
weights = "none"
neighbours = 3
margin = 0
device = "cpu"

[settings.train]
epochs = 1
crop = [32, 32]
"""
SCORES = [f"round-{number}/scores.h5" for number in (0, 1)]
LABELS = [f"round-{number}/pseudo-labels.h5" for number in (0, 1)]
MODELS = [f"round-{number}/model.safetensors" for number in (0, 1)]


@pytest.fixture(scope="module")
def made(preloaded: Preloaded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two rounds, with a Makefile of the same run beside it."""
    place = tmp_path_factory.mktemp("made")
    run = place / "runs" / RECIPE
    run.mkdir(parents=True)
    names = [f"i{number}" for number in range(5)]
    splits = dict(zip(names, ["train"] * 3 + ["val", "test"], strict=True))
    write_dataset(run / "dataset.h5", random_masks(names, (48, 64), 3), 3, splits)
    tiny = "".join(f"{name} = {json.dumps(value)}\n" for name, value in TINY.items())
    (run / "run.toml").write_text(RUN + tiny)
    preloaded.run("next", run, cwd=place).expect(0, "finished")
    overrides = ["select.budget=4", "train.epochs=1", "train.crop=32,32", "pseudo-label.weights=none"]
    overrides += [
        f"pseudo-label.encoder={TINY['backbone']}",
        "pseudo-label.device=cpu",
        "pseudo-label.neighbours=3",
        "pseudo-label.margin=0",
    ]
    overrides += [f"train.{name}={value}" for name, value in TINY.items()]
    planned = plan_runs(Wanted([RECIPE], run / "dataset.h5", Path("runs", RECIPE), rounds=2, overrides=overrides))
    (place / "run.mk").write_text(planned.text)
    return place


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("runs", RECIPE)


def alseg(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if code == 2:
        assert isinstance(done.exception, BadInput), done.output
        return str(done.exception)
    assert done.exit_code == code, done.output
    return done.output


def state(run: Path) -> dict[str, tuple[int, str]]:
    """Time and digest of each artifact."""
    files = [*run.rglob("*.h5"), *run.rglob("*.safetensors")]
    return {str(path.relative_to(run)): (path.stat().st_mtime_ns, read_any_header(path).digest) for path in files}


def pruned(run: Path) -> list[str]:
    return sorted(file for file in state(run) if read_any_header(run / file).pruned)


@pytest.mark.parametrize(
    ("keep", "gone"),
    [("models", [*LABELS, *SCORES]), ("last", [*LABELS, *SCORES, MODELS[0]]), ("best", None)],
)
def test_nothing_is_stale_or_made_again(keep: str, gone: list[str] | None, run: Path, preloaded: Preloaded) -> None:
    before, bytes_before = state(run), sum(path.stat().st_size for path in run.rglob("*.*") if path.is_file())
    told = json.loads(alseg("du", run, "--json"))
    assert told["bytes"] == bytes_before
    shown = alseg("prune", run, "--keep", keep, "--dry-run")
    assert pruned(run) == []
    said = alseg("prune", run, "--keep", keep)
    assert said == shown.replace("would prune", "pruned").replace("would free", "freed")
    if gone is None:
        values = [Model(run / file).header.counts["best_val_miou"] for file in MODELS]
        gone = [*LABELS, *SCORES, MODELS[0 if values[0] < values[1] else 1 if values[1] < values[0] else 0]]
    assert pruned(run) == sorted(gone)
    assert state(run) == before
    left = sum(path.stat().st_size for path in run.rglob("*.*") if path.is_file())
    assert told["freed"][keep] == bytes_before - left > 0
    assert json.loads(alseg("du", run, "--json"))["bytes"] == left
    out = preloaded.run("next", run, cwd=Path.cwd()).expect(0).out
    assert out == f"finished: {run} has all its rounds. For more, raise rounds in run.toml.\n"
    assert state(run) == before
    for file in gone:
        assert verify_one(run / file) == ([], ["pruned: only its header is left"])
    assert alseg("prune", run, "--keep", keep) == "freed 0 bytes of 0 files\n"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_has_nothing_to_do(run: Path) -> None:
    (run / "run.toml").unlink()
    make = ["make", "-q", "-f", "run.mk"]
    assert subprocess.run(make, check=False).returncode == 0
    [planned] = planned_runs([run])
    assert (planned.folder, planned.plan.name, len(planned.targets)) == (run, "run.mk", 12)
    assert {target.path.exists() for target in planned.targets} == {True}
    alseg("prune", "runs", "--keep", "last")
    assert pruned(run) == sorted([*LABELS, *SCORES, MODELS[0]])
    assert subprocess.run(make, check=False).returncode == 0


def test_what_reads_removed_content_is_told_how_to_get_it_back(run: Path, preloaded: Preloaded) -> None:
    alseg("prune", run, "--keep", "last")
    words = ["select", run / "dataset.h5", run / SCORES[1], "--annotations", run / "round-0/annotations.h5"]
    fault = alseg(*words, "--budget", 3, "-o", "other.h5", code=2)
    assert fault.startswith(f"{run / SCORES[1]} was pruned: its content was removed to free space, and only")
    assert "Run `alseg score` to it again with --force" in fault
    with pytest.raises(BadInput, match=r"was pruned.*`alseg train`"):
        Model(run / MODELS[0]).weights("last")
    with pytest.raises(BadInput, match=r"was pruned.*`alseg pseudo-label`"):
        open_any(run / LABELS[0]).label_map("i0")
    for file in (SCORES[0], MODELS[0], LABELS[0]):
        assert "Its content was pruned" in alseg("inspect", run / file)
        assert "was pruned" in alseg("inspect", run / file, "--png", "x.png", code=2)
    alseg("report", run, "-o", "report.html", "--images", 1)
    assert "No predictions of round 0: its model was pruned." in Path("report.html").read_text()
    before = read_any_header(run / SCORES[0]).digest
    (run / SCORES[0]).unlink()
    preloaded.run("next", run, cwd=Path.cwd()).expect(0, f"wrote {run / SCORES[0]}")
    again = read_any_header(run / SCORES[0])
    assert (again.digest, again.pruned) == (before, [])


def test_an_unfinished_round_is_kept_and_the_run_goes_on(run: Path, preloaded: Preloaded) -> None:
    """Of a run that gets a round more, the models and scores that it reads are still there."""
    text = (run / "run.toml").read_text()
    (run / "run.toml").write_text(text.replace("rounds = 2", "rounds = 3"))
    (run / "round-1" / "evaluation.h5").unlink()
    said = alseg("prune", run, "--keep", "last")
    assert pruned(run) == sorted([LABELS[0], SCORES[0], MODELS[0]])
    assert f"note: {run / SCORES[1]} is kept: round 1 is not finished" in said
    with output_lock(run / "round-2" / "scores.h5"):
        assert alseg("prune", run, "--keep", "last").endswith("freed 0 bytes of 0 files\n")
    preloaded.run("next", run, cwd=Path.cwd()).expect(0, "finished")
    assert pruned(run) == sorted([LABELS[0], SCORES[0], MODELS[0]])


def test_what_another_process_writes_or_reads_is_kept(run: Path) -> None:
    with output_lock(run / "round-0" / "queries.h5"):
        alseg("prune", run, "--keep", "models")
    assert pruned(run) == [LABELS[1], SCORES[1]]


def test_a_file_whose_reader_is_older_than_it_is_kept(run: Path) -> None:
    shutil.copy(run / SCORES[0], run / SCORES[1])
    [found] = prunings(planned_runs([run]), "models")
    assert found.notes == [
        f"{run / SCORES[1]} is kept: {run}/round-1/queries.h5 was made from another one and is made again"
    ]
    assert str(run / SCORES[1]) not in [str(each.path) for each in found.removals]


def test_without_validation_no_model_is_the_best(run: Path) -> None:
    text = (run / "run.toml").read_text()
    (run / "run.toml").write_text(text.replace("rounds = 2", "rounds = 1"))
    model = Model(run / MODELS[0])
    header = model.header
    header.counts["best_val_miou"] = None
    write_model(run / MODELS[0], header, model.weights("last"), None)
    assert "no model records a validation mIoU, so none is the best" in alseg("prune", run, "--keep", "best", code=2)
    assert pruned(run) == []
    assert "no model records" in alseg("du", run)
    assert json.loads(alseg("du", run, "--json"))["freed"]["best"] is None


def test_killed_at_any_moment_each_file_is_whole_or_pruned(run: Path, preloaded: Preloaded) -> None:
    before, number = state(run), 0
    while number < 60:
        number += 3
        done = preloaded.run("prune", run, "--keep", "models", cwd=Path.cwd(), signal_at=(number, signal.SIGKILL))
        assert state(run) == before
        assert all(verify_one(run / file)[0] == [] for file in (*SCORES, *LABELS))
        if done.code == 0:
            break
    alseg("prune", run, "--keep", "models")
    assert pruned(run) == sorted([*SCORES, *LABELS])
    assert number > 3
    assert not list(run.rglob("*.partial"))


def test_hard_links_free_their_bytes_with_the_last_one(run: Path) -> None:
    other = run.parent / "other"
    shutil.copytree(run, other)
    (other / SCORES[0]).unlink()
    os.link(run / SCORES[0], other / SCORES[0])
    size = (run / SCORES[0]).stat().st_size
    alone = [json.loads(alseg("du", each, "--json")) for each in (run, other)]
    both = json.loads(alseg("du", run, other, "--json"))
    assert both["bytes"] == sum(each["bytes"] for each in alone) - size
    assert alone[0]["freed"]["models"] < alone[1]["freed"]["models"] + size
    said = alseg("prune", run, "--keep", "models")
    assert (
        f"pruned {run / SCORES[0]}: scores, 0 bytes; other hard links keep the bytes until they are pruned too" in said
    )
    assert "scores, 0 bytes" not in alseg("prune", other, "--keep", "models")
    assert pruned(run) == pruned(other)


def test_resume_files_of_finished_outputs_go_and_journals_stay(run: Path) -> None:
    work = run / "round-0" / "model.safetensors.work"
    work.mkdir()
    (work / f"step-000000001-{'a' * 16}.pt").write_bytes(b"x" * 5000)
    (work / "journal-0.jsonl").write_text("{}\n")
    kept = run / "features"
    (kept / ("b" * 32)).mkdir(parents=True)
    (kept / ("b" * 32) / f"{'c' * 32}.safetensors").write_bytes(b"x" * 3000)
    (kept / "mine.txt").write_text("mine")
    said = alseg("prune", run, "--keep", "models")
    assert f"pruned {work}: resume files, 5.0 kB" in said
    assert f"pruned {kept}: kept features, 3.0 kB" in said
    assert [path.name for path in work.iterdir()] == ["journal-0.jsonl"]
    assert [path.name for path in kept.iterdir()] == ["mine.txt"]


def test_scores_of_regions(tmp_path: Path) -> None:
    names = [f"i{number}" for number in range(3)]
    dataset = write_dataset(tmp_path / "d.h5", random_masks(names, (32, 40), 3), 3)
    regions = write_superpixels(tmp_path, dataset)
    region_round(tmp_path, dataset, 0, regions)
    scores, queries = tmp_path / "scores0.h5", tmp_path / "queries0.h5"
    before = queries.stat()
    assert prune_file(scores) > 0
    settings = SelectSettings(rule="top", budget=4)
    assert select.run(dataset, scores, queries, settings, superpixels=regions).stat() == before
    with pytest.raises(BadInput, match="was pruned"):
        select.run(dataset, scores, queries, SelectSettings(rule="top", budget=5), superpixels=regions)
    assert verify_one(queries) == ([], [])
    assert prune_file(scores) == 0


def test_what_has_nothing_to_remove_is_left_alone(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d.h5", random_masks(["a", "b"], (32, 40), 3), 3)
    ledger = random_round(tmp_path, dataset, 0)
    before = [path.read_bytes() for path in (dataset, ledger)]
    assert [prune_file(path) for path in (dataset, ledger)] == [0, 0]
    assert [path.read_bytes() for path in (dataset, ledger)] == before


def test_folders_without_a_plan_are_refused(tmp_path: Path) -> None:
    assert "is not planned: neither run.toml in it" in alseg("du", tmp_path, code=2)
    assert "There is no folder" in alseg("prune", tmp_path / "none", "--keep", "last", code=2)
