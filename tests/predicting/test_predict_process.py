"""`alseg predict` as a process: stopped or killed between images, it goes on with the next one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from predict_support import World

ROOT = Path(__file__).parents[2]
NUMBER = 60


def test_a_stopped_and_a_killed_run_go_on(world: World, tmp_path: Path) -> None:
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    photos.mkdir()
    image = np.tile(world.images["image0"], (8, 8, 1))
    for number in range(NUMBER):
        Image.fromarray(np.roll(image, number, 0)).save(photos / f"{number:02}.png")
    command = [sys.executable, "-m", "alseg_cli", "predict", str(world.model), str(photos), "-o", str(masks)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def stopped(number: int, after: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, env=environment, stdout=-1, stderr=subprocess.STDOUT, text=True)
        end = time.monotonic() + 200
        while len(list(masks.glob("*.png"))) < after and time.monotonic() < end:
            time.sleep(0.005)
        process.send_signal(number)
        process.wait(100)
        return process

    killed = stopped(signal.SIGKILL, 1)
    assert killed.returncode == -signal.SIGKILL
    done = {path.name: path.stat().st_mtime_ns for path in masks.glob("*.png")}
    assert 1 <= len(done) < NUMBER
    asked = stopped(signal.SIGTERM, len(done) + 1)
    assert asked.stdout is not None
    text = asked.stdout.read()
    assert asked.returncode == 75, text
    assert f"of {NUMBER} images; run the same command to continue" in text
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert finished.returncode == 0, finished.stderr
    assert f"wrote {masks}" in finished.stdout
    assert sorted(path.name for path in masks.iterdir()) == [f"{number:02}.png" for number in range(NUMBER)]
    assert all((masks / name).stat().st_mtime_ns == when for name, when in done.items())
    for path in masks.iterdir():
        with Image.open(path) as mask:
            mask.load()
