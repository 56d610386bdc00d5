"""A plan as make and the shell read it: any text reaches the command unchanged, and nothing else is run."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stages.recipes.makefile import make_path, render
from stages.recipes.plan import Run, build_rules, quoted, read_plan
from stages.recipes.profile import profile_names
from stages.recipes.recipe import recipe_names
from stages.runtime.errors import BadInput

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

ATTACKS = [
    "$(shell touch canary)", "$$(touch canary)", "`touch canary`", "'; touch canary; '", '"; touch canary; "', "\\",
    "$(error x)", "$@", "$$", "%", "#", ":", ";", "=", "|", "&", "*", "~", "!", "{a,b}", "(", ")", "<", ">", "\t", "\r",
    " ", "é", "\\\\", "-", "@", "+", "'", '"', "\x7f", "\u2028", "\x85",
]  # fmt: skip
TEXT = st.one_of(
    st.lists(st.sampled_from(ATTACKS), max_size=6).map("".join),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\0"), max_size=20),
)
TITLE = st.one_of(
    TEXT, st.lists(st.sampled_from([*ATTACKS, "\n", "\n\ttouch canary\n", "\0"]), max_size=6).map("".join)
)
PROBE = '#!/bin/sh\nprintf "%s\\0" "$@" END >> argv\n'
MANY = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def commands_of(text: str, *words: str) -> list[list[str]]:
    """What the commands of a Makefile get as words, run by make with a program that writes them down."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "run.mk").write_bytes(os.fsencode(text))
        (folder / "d.h5").touch()
        (folder / "probe").write_text(PROBE)
        (folder / "probe").chmod(0o755)
        done = subprocess.run(
            ["make", "-f", "run.mk", "ALSEG=./probe", *words], cwd=folder, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert {path.name for path in folder.iterdir()} == {"run.mk", "d.h5", "probe", "argv"}
        found = os.fsdecode((folder / "argv").read_bytes()).split("\0")[:-1]
    commands: list[list[str]] = [[]]
    for word in found:
        if word == "END":
            commands.append([])
        else:
            commands[-1].append(word)
    assert commands.pop() == []
    return commands


def plan_of(recipe: str, setting: str, title: str, run: str = "run") -> str:
    """The Makefile of the recipe `full` with a setting, a title and the path of a recipe of one's own."""
    plan = read_plan("full")
    plan = replace(
        plan, recipe=plan.recipe.model_copy(update={"title": title}), overrides={"train": {"weights": setting}}
    )
    return render([Run("", plan, 1, build_rules(plan, 1, [["--recipe", recipe]]))], Path("d.h5"), Path(run))


@MANY
@given(TEXT, TEXT.filter(bool), TITLE)
@example("a b's.toml", "$(shell touch canary)", "x\nall:\n\ttouch canary\n#")
@example("--", "-1", "\\")
def test_any_text_reaches_the_command_and_nothing_else_is_run(recipe, setting, title):
    commands = commands_of(plan_of(recipe, setting, title))
    assert [words[0] for words in commands] == [rule.words[0] for rule in build_rules(read_plan("full"), 1, [])]
    for words in commands:
        assert words[words.index("--recipe") + 1] == recipe
        assert words[-2] == "-o"
    (training,) = (words for words in commands if words[0] == "train")
    assert training[training.index("--weights") + 1] == setting


@MANY
@given(st.one_of(TEXT, st.from_regex(r"[\w./,+@-]+", fullmatch=True)).filter(bool))
@example("it's")
@example("run(1)")
@example("lr=0.01")
@example(".0")
def test_a_path_is_refused_or_is_what_make_takes_it_for(path):
    try:
        make_path(Path(path))
    except BadInput:
        return
    folder = os.path.normpath(path)
    if not folder.startswith(("/", "..")):
        for words in commands_of(plan_of("full", "none", "title", path)):
            assert os.path.normpath(words[-1]).startswith("" if folder == "." else folder)


@pytest.mark.parametrize("text", ["a\nb", "a\0b"])
def test_what_a_makefile_cannot_hold_is_refused(text):
    with pytest.raises(BadInput, match=r"which a Makefile cannot pass on. Remove it"):
        quoted(text)


@pytest.mark.parametrize("character", list(" $#:%;=|&*?[]()<>'\"`\\~!{}^\n\t"))
def test_a_path_with_what_make_or_the_shell_would_read_otherwise_is_refused(character):
    with pytest.raises(BadInput, match=r"make does not allow"):
        make_path(Path(f"a{character}b"))


@pytest.mark.parametrize("given", ["RUN=my run", "DATASET=a b.h5", "RUN="])
def test_a_folder_that_make_would_split_is_refused_by_the_plan_itself(given, tmp_path):
    (tmp_path / "run.mk").write_text(plan_of("full", "none", "title"))
    done = subprocess.run(["make", "-f", "run.mk", given], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "DATASET and RUN must each be a path without spaces" in done.stderr


@pytest.mark.parametrize("name", recipe_names())
def test_a_line_never_ends_between_an_option_and_its_value(name):
    broken = 0
    for profile in (None, *profile_names()):
        plan = read_plan(name, profile)
        if not plan.recipe.steps or plan.recipe.rounds == "budget":
            continue
        rules = build_rules(plan, 2, [["--recipe", name], ["--profile", str(profile)]])
        text = render([Run("", plan, 2, rules)], Path("d.h5"), Path("run"))
        continued = [line for line in text.splitlines() if line.startswith("\t  ")]
        assert all(line.lstrip().startswith("-") for line in continued)
        assert max(len(line) for line in text.splitlines() if line.startswith("\t")) <= 120
        broken += len(continued)
    recipe = read_plan(name).recipe
    assert broken or not recipe.steps or recipe.rounds == "budget" or name.startswith("full")
