"""Descriptions and files of a dataset that cannot be right: exit 2, a sentence that says so, nothing written."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

PNG = """
name = "mine"
classes = [{ name = "ground", color = [0, 0, 0] }, { name = "thing", color = [255, 255, 255] }]
[splits.train]
images = "{id}.png"
masks = "masks/{id}.png"
"""


@pytest.fixture
def png(place) -> Path:
    """A dataset of files: four images with masks of two classes, described by mine.toml."""
    draw = np.random.default_rng(0)
    root = place / "png"
    (root / "masks").mkdir(parents=True)
    for number in range(4):
        Image.fromarray(draw.integers(0, 256, (32, 48, 3), dtype=np.uint8)).save(root / f"{number}.png")
        Image.fromarray(draw.integers(0, 2, (32, 48), dtype=np.uint8)).save(root / "masks" / f"{number}.png")
    (place / "mine.toml").write_text(PNG)
    return root


PREPARE = ("prepare", "mine.toml", "--root", "png", "-o", "x.h5")


def test_the_dataset_of_files_is_right_as_it_is(png, place, preloaded):
    preloaded.run(*PREPARE, cwd=place).expect(0, out="wrote")


def test_all_faults_of_a_dataset_at_once(png, refused):
    mask = np.array(Image.open(png / "masks" / "0.png"))
    mask[:2] = 7
    Image.fromarray(mask).save(png / "masks" / "0.png")
    Image.fromarray(mask[:-1] % 2).save(png / "masks" / "1.png")
    (png / "masks" / "2.png").unlink()
    (png / "3.png").write_bytes((png / "3.png").read_bytes()[:200])
    done = refused(*PREPARE)
    wrong = "contains 96 pixels of value 7, which is not in the class table. Add it to a class or to ignore."
    assert f"0.png {wrong}" in done.err
    sizes = "png/masks/1.png (48x31) and png/1.png (48x32) differ in size"
    assert f"{sizes}. Use files of the same width and height." in done.err
    assert "The image png/2.png has no mask png/masks/2.png. Add the mask or remove the image." in done.err
    assert "png/3.png cannot be decoded" in done.err
    assert "it is damaged. Replace it." in done.err
    assert len(done.err.splitlines()) == 4


def test_an_empty_split(png, place, refused):
    (place / "mine.toml").write_text(PNG + '[splits.test]\nimages = "test/{id}.png"\n')
    refused(*PREPARE, says="Split test: nothing matches test/*.png under png. Check --root and splits.test.images.")


@pytest.mark.parametrize(
    "words, says",
    [
        (["mine.toml"], "mine is read from files. Pass the folder that contains them with --root."),
        (["mine.toml", "--root", "nowhere"], "--root nowhere is not a folder. Pass the folder with the files of mine."),
        (
            ["mine.toml", "--root", "mine.toml"],
            "--root mine.toml is not a folder. Pass the folder with the files of mine.",
        ),
        (["nothing.toml"], "There is no file nothing.toml. Pass the path of a TOML file or a shipped name."),
        (["nothing"], "Unknown dataset 'nothing'. Choose one of camvid, "),
        (["d.h5"], "Unknown dataset 'd.h5'. Choose one of camvid, "),
        (["png"], "Unknown dataset 'png'. Choose one of camvid, "),
    ],
)
def test_a_description_or_root_that_is_none(words, says, png, refused):
    refused("prepare", *words, "-o", "x.h5", says=says)


DEEP = np.full((32, 48), 700, np.uint16)


def test_a_file_that_can_be_read_in_two_ways(png, place, refused, preloaded):
    """Each is refused with the key that decides, and prepared with it."""
    Image.fromarray(DEEP).save(png / "0.png")
    refused(*PREPARE, says="0.png has more than 8 bits per channel (uint16). Set percentiles = [1, 99], or levels")
    (place / "mine.toml").write_text(PNG + "[images]\nlevels = [0, 1000]\n")
    preloaded.run(*PREPARE, cwd=place).expect(0, out="wrote")
    first = Image.fromarray(DEEP.astype(np.uint8))
    first.save(png / "1.png", save_all=True, append_images=[Image.fromarray(DEEP.astype(np.uint8) + 1)])
    refused(*PREPARE, says="1.png contains 2 pictures, and only one can be read. Set page (1 to 2)")
