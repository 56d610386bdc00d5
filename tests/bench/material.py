"""What the benchmarks work on: real CamVid where it lies beside the repository, street scenes elsewhere."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from stages.commands import annotate_simulate, prepare, score, select
from stages.datasets.description import load_description
from stages.datasets.scenes import generate_scene
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.prepare import PrepareSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from tests.bench.measure import ROOT, SEED

CAMVID = ROOT.parent / "shared" / "camvid"
DISTINCT = 16  # scenes among many files


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the lines and the progress of stages."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def street_files(folder: Path, count: int, height: int, width: int) -> Path:
    """Scenes as PNG files below ``folder`` and their description, whose path is returned; CamVid's 11 classes."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        for name, values in zip(("images", "masks"), generate_scene(SEED, "train", index, height, width), strict=True):
            Image.fromarray(values).save(folder / name / f"{index:05d}.png")
    classes = ",\n".join(
        f'{{ name = "{item.name}", color = {list(item.color)} }}' for item in load_description("camvid").classes
    )
    description = folder / "street.toml"
    description.write_text(
        f'name = "street"\nclasses = [\n{classes}\n]\n[masks]\nignore = [255]\n'
        '[splits.train]\nimages = "images/{id}.png"\nmasks = "masks/{id}.png"\n'
    )
    return description


def street_dataset(folder: Path, count: int, height: int, width: int) -> Path:
    """A prepared dataset of ``count`` scenes, all in the split train."""
    files = folder / f"street-{count}-{height}x{width}"
    output = files / "dataset.h5"
    if not output.exists():
        description = street_files(files, count, height, width)
        with quiet():
            prepare.run(str(description), files, output, PrepareSettings.load({"seed": SEED}))
    return output


def first_labels(dataset: Path) -> Path:
    """The ledger of a first round beside ``dataset``: 10 random pixels per image."""
    scores, queries, ledger = (dataset.with_name(f"{name}.h5") for name in ("scores", "queries", "annotations"))
    with quiet():
        score.run(dataset, scores, ScoreSettings.load({"seed": SEED, "measure": "random"}))
        select.run(dataset, scores, queries, SelectSettings.load({"seed": SEED, "rule": "uniform"}))
        annotate_simulate.run(dataset, queries, ledger, AnnotateSettings.load({"seed": SEED}))
    return ledger


def many_files(folder: Path, count: int, height: int, width: int, classes: int = 11, splits: str = "train") -> Path:
    """``count`` JPEG images and PNG masks below ``folder``, hard links to a few scenes, and their description.

    ``splits`` are names of splits separated by commas; each has all images. The path of the description is returned.
    """
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    endings = {"images": "jpg", "masks": "png"}
    for index in range(count):
        for name, ending in endings.items():
            path, first = (folder / name / f"{number:06d}.{ending}" for number in (index, index % DISTINCT))
            if index >= DISTINCT:
                path.hardlink_to(first)
        if index < DISTINCT:
            image, mask = generate_scene(SEED, "train", index, height, width)
            Image.fromarray(image).save(folder / "images" / f"{index:06d}.jpg", quality=90)
            Image.fromarray(mask).save(folder / "masks" / f"{index:06d}.png")
    names = ",\n".join(f'{{ name = "class{index}", color = [{index}, 0, 0] }}' for index in range(classes))
    tables = "".join(
        f'[splits.{split}]\nimages = "images/{{id}}.jpg"\nmasks = "masks/{{id}}.png"\n' for split in splits.split(",")
    )
    description = folder / "many.toml"
    description.write_text(f'name = "many"\nclasses = [\n{names}\n]\n[masks]\nignore = [255]\n{tables}')
    return description
