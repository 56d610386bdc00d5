"""`alseg init`: splits, profile and files for images that nobody described."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiles_support import chequered, noise, write_tiff

from stages.artifacts.dataset import Dataset
from stages.recipes.following import follow
from stages.recipes.run_file import read_run_file
from stages.recipes.start import Wishes, batch_for, drawn_splits, parse_shares, start
from stages.runtime.errors import BadInput


def photographs(root: Path, count: int = 12, size: tuple[int, int] = (60, 80), masks: int = 0) -> Path:
    """``count`` JPEGs of three sites, the first ``masks`` of them with a mask of classes 0 to 2 and void."""
    generator = np.random.default_rng(0)
    for place in ("images", "labels"):
        (root / place).mkdir(parents=True)
    for number in range(count):
        name = f"site{number % 3}_{number:03}"
        pixels = generator.integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{name}.JPG", "JPEG")
        if number < masks:
            mask = generator.integers(0, 3, size).astype(np.uint8)
            mask[:4] = 255
            Image.fromarray(mask).save(root / "labels" / f"{name}.png")
    return root


def test_photographs_without_masks_become_a_run_that_asks_people(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    photos, run = photographs(tmp_path / "my photos"), tmp_path / "run"
    start(photos, run, Wishes(classes="road,tree", budget=7), "cpu")
    told = capsys.readouterr().out
    assert "12 images: 12 JPEG, 80x60, 3 bands of 8 bits" in told
    assert "no masks: people answer" in told
    assert "all images are the pool; without masks nothing is held out" in told
    assert f"wrote {run}. Go on with `alseg next" in told
    with Dataset(run / "dataset.h5") as data:
        assert data.classes == ["road", "tree"]
        assert Counter(data.splits.values()) == {"train": 12}
        assert data.sizes["site0_000"] == (60, 80)
        assert not data.has_masks("train")
    following = follow(run)
    stages = [command.stage for command in following.commands]
    assert stages[:6] == ["extract-superpixels", "score", "select", "annotate", "train", "score"]
    assert following.notes == ["split 'test' has no masks: each model is evaluated on the answers of the next round"]
    (select,) = [command for command in following.commands if command.output == run / "round-0" / "queries.h5"]
    assert select.words[select.words.index("--budget") + 1] == "7"


def test_photographs_with_masks_become_a_simulated_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    photos, run = photographs(tmp_path / "photos", masks=12), tmp_path / "run"
    start(photos, run, Wishes(classes="a,b,c", recipe="random-pixels"), "cpu")
    told = capsys.readouterr().out
    assert "splits drawn at random by 3 groups of names" in told
    with (run / "files.csv").open() as file:
        rows = list(csv.DictReader(file))
    of_site = {row["id"].split("_")[0]: row["split"] for row in rows}
    assert all(row["split"] == of_site[row["id"].split("_")[0]] for row in rows)
    assert read_run_file(run).answers == "simulated"
    with Dataset(run / "dataset.h5") as data:
        assert set(np.unique(data.mask("site0_000"))) == {0, 1, 2, 255}
        assert all(data.has_masks(split) for split in set(data.splits.values()))


def test_few_masks_are_for_evaluation_and_the_other_images_are_the_pool(tmp_path: Path) -> None:
    photos, run = photographs(tmp_path / "photos", masks=4), tmp_path / "run"
    start(photos, run, Wishes(classes="a,b,c"), "cpu")
    with Dataset(run / "dataset.h5") as data:
        assert Counter(data.splits.values()) == {"train": 8, "val": 3, "test": 1}  # two images of a site stay together
        assert data.has_masks("test")
        assert not data.has_masks("train")
    assert read_run_file(run).answers == "people"
    assert not follow(run).notes


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    start(photographs(tmp_path / "photos"), tmp_path / "run", Wishes(classes="a,b"), "cpu", dry=True)
    assert "nothing was written (--dry-run)" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_large_photographs_are_reduced_and_the_profile_says_how(tmp_path: Path) -> None:
    photos, run = photographs(tmp_path / "photos", 3, (300, 640)), tmp_path / "run"
    start(photos, run, Wishes(classes="a,b", weights="none"), "cpu")
    with Dataset(run / "dataset.h5") as data:
        assert set(data.sizes.values()) == {(150, 320)}
    train = next(command for command in follow(run).commands if command.stage == "train")
    from stages.recipes.resolve import resolve

    recipe, profile = train.words[train.words.index("--recipe") + 1], train.words[train.words.index("--profile") + 1]
    settings = resolve("train", {}, recipe, profile).settings.flat()
    assert tuple(settings["crop"]) == (128, 320)
    assert (settings["batch"], settings["weights"]) == (3, "none")


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    photos, run = photographs(tmp_path / "photos"), tmp_path / "run"
    start(photos, run, Wishes(classes="a,b"), "cpu")
    with pytest.raises(BadInput, match="is a run already"):
        start(photos, run, Wishes(classes="a,b"), "cpu")


def test_groups_stay_together_and_shares_are_kept() -> None:
    images = [f"{site}_{number}" for site in range(50) for number in range(4)]
    groups = {image: image.split("_")[0] for image in images}
    found = drawn_splits(images, groups, (0.7, 0.1, 0.2), 0)
    assert all(len({found[f"{site}_{number}"] for number in range(4)}) == 1 for site in range(50))
    assert Counter(found.values()) == {"train": 140, "val": 20, "test": 40}
    assert found != drawn_splits(images, groups, (0.7, 0.1, 0.2), 1)
    assert found == drawn_splits(images[::-1], groups, (0.7, 0.1, 0.2), 0)


@pytest.mark.parametrize("text", ["0.7,0.3", "a,b,c", "0.5,0.5,0.5", "-0.1,0.1,1"])
def test_wrong_shares(text: str) -> None:
    with pytest.raises(BadInput, match=f"--shares {text}: write"):
        parse_shares(text)


def test_batches_fit_into_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """2/3 of 10 GB over 512 x 512 x 6000 bytes per crop are 4 crops."""
    from stages.recipes import start as module

    monkeypatch.setattr(module, "free_device_memory", lambda: 10_000_000_000)
    assert batch_for([512, 512], "cuda", 8, 100) == 4
    assert batch_for([64, 64], "cuda", 8, 100) == 16
    assert batch_for([2048, 2048], "cuda", 8, 100) == 2
    assert batch_for([512, 512], "cpu", 8, 100) == 8
    assert batch_for([512, 512], "cpu", 8, 3) == 3


@pytest.mark.parametrize(
    ("masks", "wishes", "sentence"),
    [
        (0, {}, "has no table of classes"),
        (0, {"classes": "a,b", "shares": (0.7, 0.1, 0.2)}, "--shares divides images that have masks"),
        (4, {"classes": "a,b,c", "shares": (0.7, 0.1, 0.2)}, "Some images have no mask. Pass --shares 0,VAL,TEST"),
        (4, {"classes": "a,b"}, "but the classes have 0, 1"),
        (0, {"classes": "a,b", "recipe": "pixelpik"}, "Unknown recipe 'pixelpik'. Did you mean pixelpick"),
    ],
)
def test_refused(masks: int, wishes: dict, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        start(photographs(tmp_path / "photos", masks=masks), tmp_path / "run", Wishes(**wishes), "cpu")
    assert sentence in str(error.value)
    assert not (tmp_path / "run").exists()


def orthomosaic(root: Path, masks: bool = True) -> Path:
    """A TIFF of 1000 x 1300 pixels with its mask of classes 0 to 2."""
    write_tiff(root / "images" / "ortho.tif", noise((1000, 1300)))
    if masks:
        write_tiff(root / "labels" / "ortho.tif", chequered((1000, 1300))[..., None])
    return root


def test_an_image_that_is_too_large_is_cut_into_tiles(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles of 320 begin at 0, 320, 640, 680 and 0, 320, 640, 960, 980: 4 x 5, drawn one by one."""
    monkeypatch.setattr("stages.recipes.tiled_start.MOST_AT_ONCE", 1_000_000)
    start(orthomosaic(tmp_path / "field"), tmp_path / "run", Wishes(classes="a,b,c"), "cpu")
    told = capsys.readouterr().out
    assert "images are cut into tiles of 320 pixels, because images/ortho.tif is too large to be read whole" in told
    assert "splits drawn at random by blocks of 1 x 1 tiles: 0.7 train, 0.1 val, 0.2 test" in told
    assert "crops of 320x320" in told
    assert "answers: simulated" in told
    with Dataset(tmp_path / "run" / "dataset.h5") as data:
        assert {*data.splits.values()} == {"train", "val", "test"}
        assert data.sizes["ortho_y00000_x00000"] == (320, 320)
        assert data.has_masks("test")
        assert data.tiling is not None
    # without masks all tiles are the pool; the size of tiles is an option
    start(orthomosaic(tmp_path / "bare", masks=False), tmp_path / "own", Wishes(classes="a,b", tile=640), "cpu")
    with Dataset(tmp_path / "own" / "dataset.h5") as data:
        assert Counter(data.splits.values()) == {"train": 6}
    with pytest.raises(BadInput, match="Pass one of them"):
        start(tmp_path / "bare", tmp_path / "both", Wishes(classes="a", tile=64, long_side=64), "cpu")


def test_images_that_become_much_smaller_are_no_silent_choice(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(noise((30, 3200))).save(tmp_path / "photos" / "a.png")
    start(tmp_path / "photos", tmp_path / "run", Wishes(classes="a,b"), "cpu", dry=True)
    told = capsys.readouterr().out
    assert "a longer side of 320 pixels, 10 times smaller (--tile 320 cuts them into tiles of full size" in told


def test_people_are_not_asked_about_hundreds_of_tiles_at_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Tiles of 96: 11 x 14. The limit is one of scores, so each round draws other tiles."""
    write_tiff(tmp_path / "field" / "ortho.tif", noise((1000, 1300)))
    start(tmp_path / "field", tmp_path / "run", Wishes(classes="a,b", tile=96, recipe="pixelpick"), "cpu")
    assert "each round asks about 40 images drawn at random" in capsys.readouterr().out
    score = next(command for command in follow(tmp_path / "run").commands if command.stage == "score")
    assert score.words[score.words.index("--most-images") + 1] == "40"
    start(tmp_path / "field", tmp_path / "of-regions", Wishes(classes="a,b", tile=96, recipe="classbal"), "cpu")
    assert "most_images" not in (tmp_path / "of-regions" / "run.toml").read_text()
    start(tmp_path / "field", tmp_path / "usual", Wishes(classes="a,b", tile=96), "cpu")
    assert "each round asks about 400 regions in all images together" in capsys.readouterr().out
    select = next(command for command in follow(tmp_path / "usual").commands if command.stage == "select")
    assert select.words[select.words.index("--budget") + 1] == "400"
    assert "--no-per-image" in select.words
