"""`alseg predict` as a process: stopped or killed between images, it goes on with the next one."""

import signal
from pathlib import Path

import numpy as np
from PIL import Image
from predict_support import World
from programs import Done, Preloaded, wait_until

NUMBER = 60


def test_a_stopped_and_a_killed_run_go_on(world: World, tmp_path: Path, preloaded: Preloaded) -> None:
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    photos.mkdir()
    image = np.tile(world.images["image0"], (8, 8, 1))
    for number in range(NUMBER):
        Image.fromarray(np.roll(image, number, 0)).save(photos / f"{number:02}.png")
    words = ("predict", world.model, photos, "-o", masks)

    def stopped(number: int, after: int) -> Done:
        process = preloaded.start(*words, cwd=tmp_path)
        wait_until(lambda: len(list(masks.glob("*.png"))) >= after, "masks")
        process.send(number)
        return process.finish()

    assert stopped(signal.SIGKILL, 1).code == -signal.SIGKILL
    done = {path.name: path.stat().st_mtime_ns for path in masks.glob("*.png")}
    assert 1 <= len(done) < NUMBER
    asked = stopped(signal.SIGTERM, len(done) + 1)
    asked.expect(75, err=f"of {NUMBER} images; run the same command to continue")
    preloaded.run(*words, cwd=tmp_path).expect(0, out=f"wrote {masks}")
    assert sorted(path.name for path in masks.iterdir()) == [f"{number:02}.png" for number in range(NUMBER)]
    assert all((masks / name).stat().st_mtime_ns == when for name, when in done.items())
    for path in masks.iterdir():
        with Image.open(path) as mask:
            mask.load()
