"""Misspelled names of commands, options, settings and parts are answered with the right ones."""

import pytest
from typer.testing import CliRunner

from alseg_cli.app import app
from stages.recipes.plan import read_plan
from stages.runtime.errors import BadInput
from stages.runtime.resources import find_toml
from stages.runtime.spelling import close_names, did_you_mean


def test_close_names() -> None:
    assert close_names("PixelPik", ["madbal", "pixelpick"]) == ["pixelpick"]
    assert close_names("nothing", ["madbal", "pixelpick"]) == []
    assert did_you_mean("entropi", ["entropy", "margin"]) == "Did you mean entropy?"
    assert did_you_mean("x", ["entropy"]) == ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["comparre"], "compare"),
        (["compare", "a", "--evaluaton", "x"], "--evaluation"),
        (["score", "x.h5", "--mesure", "entropy", "-o", "y.h5"], "--measure"),
    ],
)
def test_commands_and_options(words: list[str], told: str) -> None:
    result = CliRunner().invoke(app, words, env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 2
    assert told in result.output


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [
        ("recipes", "pixelpik", "Did you mean pixelpick or pixelpick-fpn or pixelpick-warm? `alseg recipes` lists"),
        ("profiles", "camvd", "Did you mean camvid or camvid-cpu? `alseg profiles` lists all."),
        ("datasets", "cityscape", "Did you mean cityscapes? `alseg datasets` lists all."),
        ("recipes", "0", "Choose one of adaptive-superpixel, "),
    ],
)
def test_shipped_files(kind: str, name: str, told: str) -> None:
    with pytest.raises(BadInput) as error:
        find_toml(kind, name)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("train.epoch=3", "Did you mean train.epochs?"),
        ("trai.epochs=3", "Did you mean train.epochs?"),
        ("train.no_such=3", "write STAGE.NAME=VALUE"),
        ("cluster-regions.seed=3", "recipe pixelpick has no stage or step cluster-regions; it has annotate-simulate, "),
        ("train.epochs", "write STAGE.NAME=VALUE"),
    ],
)
def test_overrides(override: str, told: str) -> None:
    with pytest.raises(BadInput) as error:
        read_plan("pixelpick", None, [override])
    assert f"--set {override}: {told}" in str(error.value)
