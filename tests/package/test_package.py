"""The wheel and the command line: what a user installs, from any working directory."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = [
    "prepare", "extract-superpixels", "cluster-regions", "train", "import-model", "score", "select",
    "annotate-simulate", "annotate", "export-queries", "import-answers", "import-queries", "evaluate", "predict",
    "inspect", "verify", "init", "next", "status", "plan", "compare", "report",
]  # fmt: skip


def run(*words, cwd, **environment):
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_the_wheel_works_from_any_folder_and_ships_its_data(tmp_path):
    built = run("-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path), cwd=ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    installed, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    zipfile.ZipFile(wheel).extractall(installed)
    where = run("-c", "import stages; print(stages.__file__)", cwd=elsewhere, PYTHONPATH=str(installed))
    assert where.stdout.startswith(str(installed))
    prepared = run(
        "-m",
        "alseg_cli",
        "prepare",
        "scenes",
        "--scale",
        "0.25",
        "-o",
        "d.h5",
        cwd=elsewhere,
        PYTHONPATH=str(installed),
    )
    assert prepared.returncode == 0, prepared.stderr
    made = run(
        "-m", "alseg_cli", "plan", "pixelpick", "d.h5", "--profile", "scenes", cwd=elsewhere, PYTHONPATH=str(installed)
    )
    assert made.returncode == 0, made.stderr
    assert ".PRECIOUS:" in made.stdout
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {f"stages/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "data").rglob("*.toml")}
    files = [path for room in ("stages", "alseg_cli") for path in (ROOT / room).rglob("*") if path.is_file()]
    shipped |= {path.relative_to(ROOT).as_posix() for path in files if path.suffix != ".pyc"}
    assert {"stages/py.typed", "stages/data/profiles/scenes.toml"} <= shipped
    assert any(name.endswith(".html") for name in shipped)
    assert shipped <= names
    assert not any(name.startswith("tests") for name in names)


def test_help_imports_neither_torch_nor_cv2(tmp_path):
    code = (
        "import sys\nsys.argv = ['alseg', '--help']\nfrom alseg_cli.app import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('LOADED', [name for name in ('torch', 'cv2', 'timm', 'matplotlib', 'h5py') if name in sys.modules])"
    )
    result = run("-c", code, cwd=tmp_path)
    assert "LOADED []" in result.stdout
    assert all(command in result.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    from typer.testing import CliRunner

    from alseg_cli.app import app

    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "300"})
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 5


def test_the_complete_help_of_a_stage_lists_every_setting_with_its_default():
    from typer.testing import CliRunner

    from alseg_cli.app import app
    from stages.settings.base import fields_of
    from stages.settings.text import option_name, shown
    from stages.settings.train import TrainSettings

    output = CliRunner().invoke(app, ["train", "--help-all"], env={"COLUMNS": "400"}).output
    output = "".join(output.split())  # whatever the lines break
    for name, uses in fields_of(TrainSettings).items():
        assert option_name(name) in output
        defaults = " or ".join(dict.fromkeys(shown(field.default) for _, field in uses))
        assert f"(default:{defaults})".replace(" ", "") in output


def test_version_and_shell_completion():
    from importlib.metadata import version

    told = run("-m", "alseg_cli", "--version", cwd=ROOT)
    assert (told.returncode, told.stdout) == (0, f"alseg {version('alseg')}\n")
    shown = run(
        "-m", "alseg_cli", "--show-completion", "bash", cwd=ROOT, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert "complete" in shown.stdout
