"""`alseg init` asks on a terminal what the files leave open; without a terminal it names the option and ends."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from programs import ENVIRONMENT, run

from alseg_cli import asking
from stages.recipes.run_file import read_run_file
from stages.recipes.start import Wishes, start
from stages.runtime.errors import BadInput

pytestmark = pytest.mark.slow


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six photographs; two of them have a mask of classes 0 and 1."""
    (tmp_path / "photos").mkdir()
    generator = np.random.default_rng(0)
    for number in range(6):
        pixels = generator.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"p{number}.jpg")
    return tmp_path / "photos"


def add_masks(photos: Path, count: int) -> None:
    for number in range(count):
        mask = np.zeros((24, 32), np.uint8)
        mask[:, 16:] = 1
        Image.fromarray(mask).save(photos / f"p{number}_mask.png")


def typed_on_a_terminal(words: list[str], folder: Path, answers: list[str]) -> tuple[int, str]:
    """Exit code and output of the command on a pseudo-terminal where each question is answered."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "alseg_cli", *words]
    process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said, left, until = "", list(answers), time.monotonic() + 120
    while time.monotonic() < until:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                chunk = os.read(ours, 4096).decode()
            except OSError:  # the command closed the terminal
                break
            said += chunk
            if left and said.endswith(": "):
                os.write(ours, f"{left.pop(0)}\n".encode())
        elif process.poll() is not None:
            break
    os.close(ours)
    return process.wait(30), said.replace("\r\n", "\n")


def test_a_person_is_asked_for_the_classes(photos: Path) -> None:
    code, said = typed_on_a_terminal(["init", "photos", "--device", "cpu"], photos.parent, ["road=x", "road, tree"])
    assert code == 0, said
    assert "photos has no table of classes (labelmap.txt, classes.txt). Name them with --classes road,car,..." in said
    assert "'x' is neither a value nor a colour #RRGGBB" in said  # a wrong answer is asked for again
    assert "2 classes from --classes: road, tree" in said
    assert read_run_file(photos.parent / "run").answers == "people"


def test_without_a_terminal_the_option_is_named(photos: Path) -> None:
    run("init", "photos", cwd=photos.parent).expect(2, err="error: photos has no table of classes")
    assert not (photos.parent / "run").exists()


class TestAsking:
    """The same without processes."""

    @pytest.fixture
    def typed(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What a person types, one line after the other."""
        lines: list[str] = []
        monkeypatch.setattr(asking, "at_terminal", lambda: True)
        monkeypatch.setattr(asking.typer, "prompt", lambda question, err: lines.pop(0))
        return lines

    def begin(self, photos: Path, wishes: Wishes) -> None:
        run_folder = photos.parent / "run"
        asking.asked_until_decided(wishes, lambda decided: start(photos, run_folder, decided, "cpu", dry=True))

    def test_shares(self, photos: Path, typed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        """Masks of two images, and a wish to train on some of those; first a share that cannot be read."""
        add_masks(photos, 2)
        typed += ["much", "0,0.5,0.5"]
        self.begin(photos, Wishes(classes="a,b", shares=(0.7, 0.1, 0.2)))
        told = capsys.readouterr()
        assert "Some images have no mask. Pass --shares 0,VAL,TEST" in told.err
        assert "--shares much: write three numbers" in told.err
        assert "1 val" in told.out
        assert not typed

    def test_the_folder_of_the_masks(self, photos: Path, typed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        add_masks(photos, 2)
        (photos / "masks").mkdir()
        for number in range(6):
            Image.fromarray(np.full((24, 32), number % 2, np.uint8)).save(photos / "masks" / f"p{number}.png")
        typed += ["nowhere", "masks"]
        self.begin(photos, Wishes(classes="a,b"))
        told = capsys.readouterr()
        assert "Masks are found beside images" in told.err
        assert "--masks nowhere is not a folder below" in told.err
        assert "6 of 6 images have masks, in masks" in told.out

    def test_images_outside_the_splits(self, photos: Path, typed: list[str], capsys: pytest.CaptureFixture) -> None:
        add_masks(photos, 6)
        (photos / "val").mkdir()
        for name in ("p0.jpg", "p0_mask.png"):
            (photos / name).rename(photos / "val" / name)
        typed.append("0.5,0.25,0.25")
        self.begin(photos, Wishes(classes="a,b"))
        told = capsys.readouterr()
        assert "5 images, such as p1.jpg, are in no folder of a split" in told.err
        assert "splits drawn" in told.out

    def test_other_faults_end_it(self, photos: Path, typed: list[str]) -> None:
        typed.append("a,b")
        with pytest.raises(BadInput, match="Unknown profile 'none'"):
            self.begin(photos, Wishes(profile="none"))
        assert not typed
