"""Makefiles of runs in which people answer, and labels that exist in a plan."""

import csv
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from programs import ENVIRONMENT
from worlds import random_masks, write_dataset

from alseg_cli.following import run_next
from stages.artifacts.annotations import Annotations
from stages.recipes.experiment import Wanted, plan_runs, write_plan
from stages.recipes.following import follow
from stages.recipes.people import Way
from stages.recipes.plan import build_rules, read_plan
from stages.recipes.standing import next_command, next_step
from stages.runtime.errors import BadInput

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

# Writes its output, the last word, and finds nothing left to query in the round named ENDS
PROGRAM = """#!/bin/sh
for output; do :; done
echo "$1 $output" >> log
case "$1 $output" in "select run/round-$ENDS/"*) echo "Nothing left to query." >&2; exit 3;; esac
mkdir -p "$(dirname "$output")"
echo "$1" > "$output"
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images to ask about; the masks of the pool are there, those of the test split are not needed."""
    names = ["a", "b", "c", "d"]
    masks = random_masks(names, (32, 32), 3)
    path = tmp_path_factory.mktemp("data") / "d.h5"
    return write_dataset(path, masks, 3, dict(zip(names, ["train"] * 3 + ["test"], strict=True)))


@pytest.fixture
def planned(dataset: Path, tmp_path: Path):
    """``planned(way)``: a folder with the Makefile of two rounds and a program that writes what it is asked for."""

    def write(way: Way, **options: object) -> Path:
        shutil.copy(dataset, tmp_path / "d.h5")
        made = plan_runs(Wanted(["pixelpick"], tmp_path / "d.h5", Path("run"), rounds=2, people=way, **options))  # type: ignore[arg-type]
        (tmp_path / "run.mk").write_text(made.text.replace(str(tmp_path / "d.h5"), "d.h5"))
        (tmp_path / "program").write_text(PROGRAM)
        (tmp_path / "program").chmod(0o755)
        return tmp_path

    return write


def make(folder: Path, *words: str, ends: str = "none", terminal: int | None = None) -> tuple[int, str]:
    words = ("make", "-f", "run.mk", "ALSEG=./program", "LAUNCH=env", *words)
    variables = {"PATH": "/usr/bin:/bin", "ENDS": ends}
    done = subprocess.run(
        words,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if terminal is None else terminal,
        text=True,
        timeout=60,
        env=variables,
    )
    return done.returncode, done.stdout


def ran(folder: Path) -> list[str]:
    """What the program was asked for since this was called last."""
    lines = (folder / "log").read_text().splitlines() if (folder / "log").exists() else []
    (folder / "log").unlink(missing_ok=True)
    return [line.replace("run/", "") for line in lines]


class TestFiles:
    def test_make_waits_for_each_file_and_goes_on(self, planned) -> None:
        folder = planned("files")
        code, said = make(folder)
        assert code == 2
        told = (
            "Fill in the column class of run/round-0/to-answer.csv and save it as run/round-0/answers.csv, then run "
            "make again."
        )
        assert [line for line in said.splitlines() if line.startswith("Fill in")] == [told]
        first = ["score round-0/scores.h5", "select round-0/queries.h5", "export-queries round-0/to-answer.csv"]
        assert ran(folder) == first
        assert make(folder)[0] == 2
        assert ran(folder) == []
        (folder / "run/round-0/answers.csv").touch()
        code, said = make(folder)
        assert "run/round-1/answers.csv, then run make again." in said
        assert ran(folder)[0] == "import-answers round-0/annotations.h5"
        (folder / "run/round-1/answers.csv").touch()
        assert make(folder)[0] == 0
        assert ran(folder)[-1] == "evaluate round-1/evaluation.h5"

    def test_what_people_did_is_never_made_again(self, planned) -> None:
        folder = planned("files")
        for number in range(2):
            make(folder)
            (folder / f"run/round-{number}/answers.csv").touch()
        make(folder)
        ledgers = [folder / f"run/round-{number}/annotations.h5" for number in range(2)]
        for ledger in ledgers:
            ledger.write_text("by people")
        later = ledgers[0].stat().st_mtime_ns + 10**10
        for name in ("queries.h5", "to-answer.csv", "answers.csv", "scores.h5"):
            os.utime(folder / "run/round-0" / name, ns=(later, later))
        ran(folder)
        for words in ([], ["-B"]):
            assert make(folder, *words)[0] == 0
            assert not [line for line in ran(folder) if line.startswith(("import-", "export-"))]
            assert all(ledger.read_text() == "by people" for ledger in ledgers)

    def test_a_run_that_ends_asks_nobody(self, planned) -> None:
        folder = planned("files")
        make(folder)
        (folder / "run/round-0/answers.csv").touch()
        code, said = make(folder, ends="1")
        assert code == 0, said
        assert "The run ends here." in said
        assert "Fill in" not in said
        assert not (folder / "run/round-1/to-answer.csv").exists()

    def test_what_is_left_is_shown(self, planned) -> None:
        folder = planned("files")
        shown = [line for line in make(folder, "-n")[1].replace("\\\n", "").splitlines() if "./program" in line]
        assert len(shown) == 2 * 6
        assert not [line for line in shown if "import-answers" in line and line.startswith("env")]  # no LAUNCH

    @pytest.mark.parametrize(
        ("recipe", "names"),
        [
            ("pixelpick", ["round-0/answers.csv"]),
            ("classbal", ["round-0/answers.csv"]),
            ("als4gan", ["round-0/answers.csv", "answers"]),  # the class of each image, and masks at the end
            ("full", ["round-0/answers"]),
        ],
    )
    def test_what_has_to_be_painted_is_a_folder(self, recipe: str, names: list[str]) -> None:
        rules = build_rules(read_plan(recipe, people="files"), 1, [])
        assert [rule.awaits for rule in rules if rule.awaits] == [f"$(RUN)/{name}" for name in names]

    def test_real_commands(self, dataset: Path, tmp_path: Path) -> None:
        """From the plan to the ledger, with a table filled in by hand."""
        write_plan(
            Wanted(["pixelpick"], dataset, rounds=1, overrides=["select.budget=2"], people="files"), tmp_path / "r.mk"
        )
        words = ["make", "-f", "r.mk", f"ALSEG={sys.executable} -m alseg_cli", "RUN=r", "r/round-0/annotations.h5"]
        waits = subprocess.run(words, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
        assert waits.returncode == 2
        assert "save it as r/round-0/answers.csv" in waits.stdout
        assert len(list((tmp_path / "r/images").glob("*.png"))) == 3
        rows = list(csv.DictReader((tmp_path / "r/round-0/to-answer.csv").open()))
        with (tmp_path / "r/round-0/answers.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(row | {"class": f"class{number % 3}"} for number, row in enumerate(rows))
        subprocess.run(words, cwd=tmp_path, env=ENVIRONMENT, check=True, timeout=300)
        with Annotations(tmp_path / "r/round-0/annotations.h5") as ledger:
            assert sorted(ledger.answers.label.tolist()) == [0, 0, 1, 1, 2, 2]


class TestPage:
    def test_without_a_terminal_make_says_so(self, planned) -> None:
        folder = planned("page")
        code, said = make(folder)
        assert code == 2
        assert "run/round-0/annotations.h5 needs answers on a page, and nobody is at a terminal." in said
        assert ran(folder) == ["score round-0/scores.h5", "select round-0/queries.h5"]

    def test_on_a_terminal_it_serves_the_page(self, planned) -> None:
        folder = planned("page")
        ours, theirs = pty.openpty()
        try:
            assert make(folder, terminal=theirs)[0] == 0
        finally:
            os.close(ours)
            os.close(theirs)
        assert [line for line in ran(folder) if line.startswith("annotate")] == [
            "annotate round-0/annotations.h5",
            "annotate round-1/annotations.h5",
        ]
        (folder / "run/round-0/annotations.h5").write_text("by people")
        assert make(folder, "-B")[0] == 0  # nobody is asked again, so no terminal is needed
        assert (folder / "run/round-0/annotations.h5").read_text() == "by people"

    def test_settings_of_the_page(self, dataset: Path) -> None:
        made = plan_runs(Wanted(["pixelpick"], dataset, rounds=1, overrides=["annotate.port=8123"], people="page"))
        assert "--port 8123" in made.text
        with pytest.raises(BadInput, match=r"--set annotate-simulate\.error-rate"):
            plan_runs(
                Wanted(["pixelpick"], dataset, rounds=1, overrides=["annotate-simulate.error-rate=0.1"], people="page")
            )


def test_labels_replace_the_answers_of_round_0(dataset: Path, planned) -> None:
    folder = planned("files", labels=Path("old.h5"))
    (folder / "old.h5").touch()
    make(folder)
    assert ran(folder) == [
        "train round-0/model.safetensors",
        "evaluate round-0/evaluation.h5",
        "score round-1/scores.h5",
        "select round-1/queries.h5",
        "export-queries round-1/to-answer.csv",
    ]
    text = (folder / "run.mk").read_text()
    assert "--annotations old.h5" in text
    assert "round-0/queries.h5" not in text


def test_without_masks_models_are_evaluated_on_answers(dataset: Path, tmp_path: Path) -> None:
    names = ["a", "b"]
    path = write_dataset(tmp_path / "d.h5", random_masks(names, (8, 8), 3), 3)
    made = plan_runs(Wanted(["pixelpick"], path, rounds=2, people="page"))
    assert made.notes == ["split 'test' has no masks: each model is evaluated on the answers of the next round"]
    needs = "$(DATASET) $(RUN)/round-0/model.safetensors $(RUN)/round-1/annotations.h5"
    assert f"$(RUN)/round-1/agreement.h5: {needs}\n" in made.text
    assert "all: $(RUN)/round-1/agreement.h5 \\\n  $(RUN)/round-1/model.safetensors\n" in made.text
    made = plan_runs(Wanted(["random-pixels"], path, rounds=1, people="page"))
    assert "all: $(RUN)/round-0/model.safetensors\n" in made.text
    with pytest.raises(BadInput, match="has no split 'test'"):
        plan_runs(Wanted(["pixelpick"], path, rounds=1))


def test_next_and_status_wait_for_files(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(dataset, tmp_path / "dataset.h5")
    (tmp_path / "run.toml").write_text('recipe = "pixelpick"\nanswers = "files"\nrounds = 1\n')
    done: list[str] = []

    def write(words: list[str]) -> None:
        done.append(words[0])
        output = Path(words[words.index("-o") + 1])
        output.parent.mkdir(exist_ok=True)
        output.write_text("made")

    run_next(tmp_path, False, 0, write)
    brought = tmp_path / "round-0" / "answers.csv"
    exported = tmp_path / "round-0" / "to-answer.csv"
    assert capsys.readouterr().out == (
        f"Round 0 needs answers. Fill in the column class of {exported} and save it as {brought}, then run:\n"
        f"  alseg next {tmp_path}\n"
    )
    following = follow(tmp_path)
    told = next_step(following, next_command(following))
    assert told == (
        f"next: fill in the column class of {exported} and save it as {brought}, then run: alseg next {tmp_path}"
    )
    brought.write_text("filled in")
    exported.write_text("changed by a person")
    run_next(tmp_path, False, 0, write)
    assert done == ["score", "select", "export-queries", "score", "select", "import-answers", "train", "evaluate"]
    assert exported.read_text() == "changed by a person"
