"""The README is true: its shell commands exist with their options, its TOML works, its links lead somewhere."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alseg_cli.app import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def alseg_lines():
    return [line.split("  #")[0] for block in blocks("sh") for line in block.splitlines() if line.startswith("alseg ")]


def test_every_option_of_every_command_in_the_readme_exists():
    assert len(alseg_lines()) > 10
    for line in alseg_lines():
        _, command, *words = shlex.split(line)
        help_text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "400"}).output
        for word in words:
            if word.startswith("-"):
                assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", help_text), f"{command} {word}"


def test_make_targets_in_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make (\w+)", README):
        if target != "pixelpick":
            assert re.search(rf"^{target}:", makefile, re.M), target


def test_links_and_pictures_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).is_file(), target


def test_the_dataset_of_the_readme_is_valid(tmp_path):
    from stages.datasets.description import load_description

    (text,) = blocks("toml")
    tomllib.loads(text)
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert load_description(str(path)).class_names == ["road", "car"]


@pytest.mark.slow
def test_the_round_by_hand_runs_as_written(tmp_path):
    """The first shell block that calls alseg, with the training cut short."""
    block = next(block for block in blocks("sh") if "alseg score" in block)
    for line in block.splitlines():
        if line.startswith("alseg "):
            words = shlex.split(line)[1:]
            if words[0] == "train":
                words += ["--epochs", "2"]
            result = subprocess.run(
                [sys.executable, "-m", "alseg_cli", *words], cwd=tmp_path, capture_output=True, text=True, timeout=300
            )
            assert result.returncode == 0, f"{line}\n{result.stderr}"
    assert (tmp_path / "asked.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "evaluation.json").is_file()
