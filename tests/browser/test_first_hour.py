"""The first hour: from 40 photographs without masks to a mask of each, with a browser and three commands."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from annotate_support import Browser
from PIL import Image
from programs import ENVIRONMENT, PATIENCE, ROOT

from stages.artifacts.annotations import Annotations
from stages.datasets.scenes import generate_scene

pytestmark = pytest.mark.slow
PHOTOGRAPHS, SIZE, CLASSES = 40, (48, 64), 3
PROFILE = """
title = "A training of seconds"
[settings.train]
backbone = "mobilenetv3_small_050"
weights = "none"
head_width = 16
low_level_width = 8
epochs = 1
batch = 8
"""


def alseg(*words: object, cwd: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "alseg_cli", *map(str, words)]
    return subprocess.Popen(command, cwd=cwd, env=ENVIRONMENT, stdout=-1, stderr=subprocess.STDOUT, text=True)


def finished(*words: object, cwd: Path) -> str:
    process = alseg(*words, cwd=cwd)
    told, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, told
    return told


def answer_page(browser: Browser, address: str, answers: int) -> None:
    """Answers everything on the page, each time with the next class."""
    browser.open(address)
    for number in range(answers):
        browser.press(str(1 + number % CLASSES))
    browser.wait_for("ended")


def commands_of_the_page() -> list[list[str]]:
    """The commands of docs/tutorial/first-hour.md, without `alseg`."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/tutorial/first-hour.md").read_text(), re.S)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines()]


def test_three_commands_lead_from_photographs_to_masks(tmp_path: Path, browser: Browser) -> None:
    browser.faults()
    (tmp_path / "photos").mkdir()
    for number in range(PHOTOGRAPHS):
        pixels, _ = generate_scene(0, "train", number, *SIZE)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"IMG_{number:04}.JPG", "JPEG", quality=95)
    (tmp_path / "short.toml").write_text(PROFILE)

    first, second, third = commands_of_the_page()
    told = finished(*first, "--profile", "short.toml", "--budget", 1, "--rounds", 2, cwd=tmp_path)
    assert f"{PHOTOGRAPHS} images: {PHOTOGRAPHS} JPEG, 64x48, 3 bands of 8 bits" in told
    assert "Go on with `alseg next run`" in told

    process = alseg(*second, cwd=tmp_path)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.fullmatch(r"answer at (http://\S+)\n", line):
            answer_page(browser, found[1], PHOTOGRAPHS)
    assert process.wait(PATIENCE) == 0, "".join(lines)
    assert lines[-1] == "finished: run has all its rounds. For more, raise rounds in run.toml.\n"
    with Annotations(tmp_path / "run" / "round-1" / "annotations.h5") as ledger:
        assert len(ledger.answers) == 2 * PHOTOGRAPHS
        assert (ledger.answers.seconds > 0).all()

    finished(*third, cwd=tmp_path)
    masks = sorted((tmp_path / "masks").glob("*.png"))
    assert [path.stem for path in masks] == [f"IMG_{number:04}" for number in range(PHOTOGRAPHS)]
    for path in masks:
        with Image.open(path) as mask:
            values = np.array(mask)
        assert values.shape == SIZE
        assert values.max() < CLASSES
    assert not browser.faults()

    told = finished("status", cwd=tmp_path)
    cost = rf"{PHOTOGRAPHS} +{PHOTOGRAPHS} +{2 * PHOTOGRAPHS} +\d+\.\d"
    assert re.search(rf"^1 +{cost} +\d+\.\d +\d+\.\d \(\d+ to \d+\) *$", told, re.M), told
    assert "split 'test' has no masks: each model is evaluated on the answers of the next round" in told


def test_next_stops_where_people_have_to_answer(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        pixels, _ = generate_scene(0, "train", number, *SIZE)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "short.toml").write_text(PROFILE)
    finished("init", "photos", "--classes", "a,b", "--profile", "short.toml", "-o", "mine", cwd=tmp_path)
    told = finished("next", "mine", cwd=tmp_path)
    assert "Round 0 needs answers. Answer them on its page:\n  alseg next mine --page\n" in told
    assert "To serve the page alone: alseg annotate mine/dataset.h5 mine/round-0/queries.h5 --" in told
    assert not (tmp_path / "mine" / "round-0" / "model.safetensors").exists()
    assert "next: answer the queries of round 0: alseg next mine --page" in finished("status", "mine", cwd=tmp_path)
