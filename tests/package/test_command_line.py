"""What the command line derives from the table of stages and the settings: options, help, where values come from."""

import inspect
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import stages
from alseg_cli.app import app
from stages import library
from stages.artifacts.opening import KINDS
from stages.registry import STAGES
from stages.settings.base import fields_of
from stages.settings.text import option_name

WIDE = {"COLUMNS": "300", "TERM": "dumb"}


def output(*words, code=0):
    result = CliRunner().invoke(app, list(words), env=WIDE)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split()) if "--help" in " ".join(words) else result.output


@pytest.mark.parametrize("name", STAGES)
class TestEveryStage:
    def test_help_all_shows_every_setting_and_input(self, name):
        stage = STAGES[name]
        words = ["--help"] if stage.settings is None else ["--help-all"]
        text = output(name, *words)
        assert stage.about in text
        for role in stage.optional:
            assert f"--{role}" in text
        for setting in fields_of(stage.settings) if stage.settings else ():
            assert option_name(setting) in text

    def test_the_library_has_a_function_with_the_same_inputs(self, name):
        function = getattr(stages, name.replace("-", "_"))
        assert function is getattr(library, name.replace("-", "_"))
        assert inspect.getdoc(function)
        parameters = inspect.signature(function).parameters
        assert [each.role for each in STAGES[name].inputs if each.role not in parameters] == []
        assert "output" in parameters

    def test_inputs_and_output_are_kinds_that_exist(self, name):
        stage = STAGES[name]
        others = {"description", "folder", "answers", "file", "images"}
        for kind in [*(part for each in stage.inputs for part in each.kind.split("|")), stage.writes]:
            assert kind in {*KINDS, "model"} | others


def test_help_shows_the_settings_of_what_is_chosen():
    sieve, prototypes = output("pseudo-label", "--help"), output("pseudo-label", "--method", "prototypes", "--help")
    assert "--min-delta" in sieve
    assert "--expansion" not in sieve
    assert "--min-delta" not in prototypes
    assert "--expansion" in prototypes
    assert "(method prototypes)" in output("pseudo-label", "--help-all")


def test_help_follows_the_recipe_too():
    assert "--class-balance" in output("score", "--recipe", "classbal", "--help")
    assert "--class-balance" not in output("score", "--recipe", "pixelpick", "--help")


def test_print_settings_tells_where_values_come_from(tmp_path):
    words = ["train", "d.h5", "a.h5", "-o", "m.safetensors", "--recipe", "pixelpick", "--profile", "camvid-cpu"]
    text = output(*words, "--epochs", "3", "--print-settings")
    rows = {line.split()[0]: line for line in text.splitlines()[1:]}
    assert rows["epochs"].split()[1:] == ["3", "option"]
    assert rows["backbone"].split()[1:] == ["tf_efficientnet_lite0.in1k", "profile", "camvid-cpu"]
    assert rows["weights"].split()[1:] == ["imagenet", "recipe", "pixelpick"]
    assert rows["patience"].split()[1:] == ["0", "default"]
    assert "poly-power" not in rows  # the profile's schedule is one-cycle


def test_what_does_not_apply_is_an_error_that_says_what_it_belongs_to():
    result = CliRunner().invoke(app, ["pseudo-label", "d.h5", "a.h5", "--model", "m", "-o", "p.h5", "--gate", "0.5"])
    assert result.exit_code != 0
    assert str(result.exception) == "pseudo-label: gate does not apply to method sieve; it is for method gated."


@pytest.mark.parametrize("what, known", [("recipes", "pixelpick"), ("profiles", "camvid-cpu"), ("datasets", "voc2012")])
def test_what_is_shipped_is_listed_with_a_sentence(what, known):
    text = output(what)
    (row,) = [line for line in text.splitlines() if line.split()[:1] == [known]]
    assert len(row.split()) > 3


@pytest.mark.parametrize("words", [["--help"], ["select", "--help"], ["recipes"]])
def test_what_needs_no_network_imports_no_torch_and_no_cv2(words):
    program = (
        "import sys\nfrom alseg_cli.app import app\n"
        f"try:\n    app({words!r})\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'cv2', 'h5py', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        f"assert not heavy - ({{'h5py'}} if {words!r} != ['--help'] else set()), heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
