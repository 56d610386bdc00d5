"""A planned run ends without an error if a round finds nothing left to query."""

import shutil
import subprocess
from pathlib import Path

import pytest

from stages.recipes.makefile import render
from stages.recipes.plan import Run, build_rules, read_plan

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

# A program that writes its output, the last word, and finds nothing left to query in the round named ENDS
PROGRAM = """#!/bin/sh
for output; do :; done
echo "$1 $output" >> log
case "$1 $output" in "select run/round-$ENDS/"*) echo "Nothing left to query." >&2; exit "${CODE:-3}";; esac
mkdir -p "$(dirname "$output")"
touch "$output"
"""


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """``planned(recipe, rounds)``: a folder with the Makefile, and a function that runs it: exit code and output."""

    def write(recipe, rounds):
        plan = read_plan(recipe)
        (tmp_path / "run.mk").write_text(
            render([Run("", plan, rounds, build_rules(plan, rounds, []))], Path("d.h5"), Path("run"))
        )
        (tmp_path / "d.h5").touch()
        (tmp_path / "program").write_text(PROGRAM)
        (tmp_path / "program").chmod(0o755)
        return tmp_path

    return write


def make(folder, *words, **environment):
    words = ["make", "-f", "run.mk", "ALSEG=./program", *words]
    variables = {"PATH": "/usr/bin:/bin", **environment}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60, env=variables)
    return done.returncode, done.stdout + done.stderr


def made(folder):
    return {str(path.relative_to(folder / "run")) for path in (folder / "run").glob("**/*") if path.is_file()}


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("recipe", ["oracle-superpixel", "multi-class-query", "pixelpick"])
def test_the_rounds_before_are_finished_and_later_ones_do_not_begin(recipe, jobs, planned):
    folder = planned(recipe, 4)
    code, said = make(folder, f"-j{jobs}", ENDS="2")
    assert code == 0, said
    assert said.count("Nothing left to query.") == said.count("The run ends here.\n") == 1
    files = made(folder)
    assert {"round-0/evaluation.h5", "round-1/evaluation.h5", "round-2/scores.h5"} <= files
    assert {name for name in files if name.startswith(("round-2", "round-3"))} == {"round-2/scores.h5"}
    (folder / "log").unlink()
    code, said = make(folder, ENDS="2")  # again: asks once more, and does nothing else
    assert code == 0, said
    assert (folder / "log").read_text() == "select run/round-2/queries.h5\n"
    code, _ = make(folder, ENDS="none")  # a larger pool: the run goes on
    assert code == 0
    assert "round-3/evaluation.h5" in made(folder)


@pytest.mark.parametrize("code", ["1", "2"])
def test_other_errors_of_the_same_step_stop_it(code, planned):
    folder = planned("pixelpick", 3)
    assert make(folder, ENDS="1", CODE=code)[0] == 2
    assert "round-1/annotations.h5" not in made(folder)


def test_what_is_left_to_do_is_shown_before_the_first_step(planned):
    folder = planned("pixelpick", 3)
    code, said = make(folder, "-n")
    shown = [line for line in said.replace("\\\n", "").splitlines() if line.startswith("./program ")]
    assert code == 0
    assert len(shown) == 5 * 3


@pytest.mark.parametrize("recipe, rounds", [("als4gan", 3), ("full", 1)])
def test_a_run_whose_last_steps_need_its_last_round_has_no_other_end(recipe, rounds):
    plan = read_plan(recipe)
    text = render([Run("", plan, rounds, build_rules(plan, rounds, []))], Path("d.h5"), Path("run"))
    assert "OR_END" not in text
    assert "UNLESS_ENDED" not in text
