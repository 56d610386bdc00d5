"""What the tests of the commands share: the commands of their worlds, and comparing what they made."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from safetensors.numpy import load_file

from stages.artifacts.hdf5 import walk
from stages.artifacts.opening import read_any_header

SCENES = """
name = "{name}"
classes = [
    {{ name = "sky", color = [70, 130, 180] }},
    {{ name = "building", color = [70, 70, 70] }},
    {{ name = "road", color = [128, 64, 128] }},
    {{ name = "pavement", color = [244, 35, 232] }},
    {{ name = "grass", color = [152, 251, 152] }},
    {{ name = "tree", color = [107, 142, 35] }},
    {{ name = "car", color = [0, 0, 142] }},
    {{ name = "pole", color = [153, 153, 153] }},
    {{ name = "person", color = [220, 20, 60] }},
]
[generator]
name = "scenes"
height = 48
width = 64
images = {{ train = 6, val = 2, test = 2 }}
"""


def write_scenes(path: Path, name: str = "tiny") -> Path:
    path.write_text(SCENES.format(name=name))
    return path


@dataclass(frozen=True)
class Step:
    """One command of the world: its words, its output, and what it writes beside the output."""

    words: tuple[str, ...]
    output: str
    beside: tuple[str, ...] = ()

    def to(self, output: Path) -> list[str]:
        """The words of the command with another output."""
        return [*self.words, "-o", str(output)]


NETWORK = ("--weights", "none", "--backbone", "mobilenetv3_small_050", "--head-width", "16", "--low-level-width", "8")
TRAIN = ("train", "d.h5", "a0.h5", *NETWORK, "--epochs", "3", "--batch", "2", "--checkpoint-seconds", "0")
CHAIN = {
    "prepare": Step(("prepare", "tiny.toml", "-o", "d.h5"), "d.h5"),
    "score first": Step(("score", "d.h5", "--measure", "random", "-o", "s0.h5"), "s0.h5"),
    "select first": Step(("select", "d.h5", "s0.h5", "--rule", "uniform", "--budget", "3", "-o", "q0.h5"), "q0.h5"),
    "annotate first": Step(("annotate-simulate", "d.h5", "q0.h5", "-o", "a0.h5"), "a0.h5"),
    "train": Step((*TRAIN, "-o", "m.safetensors"), "m.safetensors", ("m.history.csv", "m.curve.png")),
    "score": Step(("score", "d.h5", "--model", "m.safetensors", "-o", "s1.h5"), "s1.h5"),
    "select": Step(("select", "d.h5", "s1.h5", "--annotations", "a0.h5", "--budget", "3", "-o", "q1.h5"), "q1.h5"),
    "annotate-simulate": Step(("annotate-simulate", "d.h5", "q1.h5", "--annotations", "a0.h5", "-o", "a1.h5"), "a1.h5"),
    "evaluate": Step(("evaluate", "d.h5", "m.safetensors", "-o", "e.h5"), "e.h5", ("e.json",)),
}
STAGES = ("prepare", "train", "score", "select", "annotate-simulate", "evaluate")

OF_REGIONS = ("score", "d.h5", "--unit", "region")
# Two rounds on regions, on top of the CHAIN, whose model they take
REGION_CHAIN = {
    "extract-superpixels": Step(
        ("extract-superpixels", "d.h5", "--count", "24", "--workers", "1", "-o", "r.h5"), "r.h5"
    ),
    "score first": Step((*OF_REGIONS, "--measure", "random", "--superpixels", "r.h5", "-o", "rs0.h5"), "rs0.h5"),
    "select first": Step(
        ("select", "d.h5", "rs0.h5", "--superpixels", "r.h5", "--rule", "top", "--budget", "24", "-o", "rq0.h5"),
        "rq0.h5",
    ),
    "annotate first": Step(("annotate-simulate", "d.h5", "rq0.h5", "--superpixels", "r.h5", "-o", "ra0.h5"), "ra0.h5"),
    "adaptive": Step(
        ("extract-superpixels", "d.h5", "--method", "adaptive", "--superpixels", "r.h5", "--model", "m.safetensors",
         "--epsilon", "0.01", "--workers", "1", "-o", "g.h5"),
        "g.h5",
    ),
    "score": Step(
        (*OF_REGIONS, "--measure", "bvsb", "--class-balance", "pixels", "--model", "m.safetensors",
         "--superpixels", "g.h5", "-o", "rs1.h5"),
        "rs1.h5",
    ),
    "select": Step(
        ("select", "d.h5", "rs1.h5", "--superpixels", "g.h5", "--annotations", "ra0.h5", "--rule", "top",
         "--budget", "8", "-o", "rq1.h5"),
        "rq1.h5",
    ),
    "annotate-simulate": Step(
        ("annotate-simulate", "d.h5", "rq1.h5", "--superpixels", "g.h5", "--annotations", "ra0.h5", "-o", "ra1.h5"),
        "ra1.h5",
    ),
    "pseudo-label": Step(
        ("pseudo-label", "d.h5", "ra1.h5", "--model", "m.safetensors", "--min-pixels", "10", "-o", "p.h5"), "p.h5"
    ),
    "neighbours": Step(
        ("pseudo-label", "d.h5", "ra1.h5", "--method", "neighbours", "--encoder", "mobilenetv3_small_050",
         "--weights", "none", "--superpixels", "r.h5", "-o", "n.h5"),
        "n.h5",
    ),
}  # fmt: skip
LONG_REGION_STAGES = ("extract-superpixels", "adaptive", "score", "pseudo-label")  # those that work in shards

CLASS_SETS = ("select", "d.h5", "--superpixels", "r.h5", "--answer", "class-set", "--rule", "top")
COSINE = (*NETWORK, "--classifier", "cosine", "--learn-void", "--batch", "2", "--checkpoint-seconds", "0")
# Two rounds of answers that name classes together, on top of the CHAIN's dataset; the networks learn void too
SETS_CHAIN = {
    "extract-superpixels": REGION_CHAIN["extract-superpixels"],
    "score first": REGION_CHAIN["score first"],
    "select first": Step((*CLASS_SETS, "rs0.h5", "--budget", "48", "-o", "cq0.h5"), "cq0.h5"),
    "annotate first": Step(
        ("annotate-simulate", "d.h5", "cq0.h5", "--superpixels", "r.h5", "--click-budget", "60", "-o", "ca0.h5"),
        "ca0.h5",
    ),
    "train": Step(
        ("train", "d.h5", "ca0.h5", *COSINE, "--objective", "class-sets", "--epochs", "3", "-o", "c.safetensors"),
        "c.safetensors",
        ("c.history.csv", "c.curve.png"),
    ),
    "score": Step(
        (*OF_REGIONS, "--measure", "bvsb", "--class-balance", "probability", "--void-output", "ban",
         "--model", "c.safetensors", "--superpixels", "r.h5", "-o", "cs1.h5"),
        "cs1.h5",
    ),
    "select": Step((*CLASS_SETS, "cs1.h5", "--annotations", "ca0.h5", "--budget", "24", "-o", "cq1.h5"), "cq1.h5"),
    "annotate-simulate": Step(
        ("annotate-simulate", "d.h5", "cq1.h5", "--superpixels", "r.h5", "--annotations", "ca0.h5",
         "--click-budget", "30", "-o", "ca1.h5"),
        "ca1.h5",
    ),
    "pseudo-label": Step(
        ("pseudo-label", "d.h5", "ca1.h5", "--method", "prototypes", "--superpixels", "r.h5",
         "--model", "c.safetensors", "-o", "cp.h5"),
        "cp.h5",
    ),
    "train second": Step(
        ("train", "d.h5", "cp.h5", *COSINE, "--epochs", "2", "-o", "c2.safetensors"),
        "c2.safetensors",
        ("c2.history.csv", "c2.curve.png"),
    ),
}  # fmt: skip


def remove(folder: Path, step: Step) -> None:
    """Takes the results of ``step`` away."""
    for name in (step.output, *step.beside):
        (folder / name).unlink(missing_ok=True)


def listing(folder: Path) -> dict[str, tuple[int, str]]:
    """Everything below ``folder``: path -> modification time and SHA-256, so that any change shows."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns if path.is_file() else 0,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder",
        )
        for path in sorted(folder.rglob("*"))
    }


def arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of an artifact by name."""
    if path.suffix == ".safetensors":
        return load_file(path)
    with h5py.File(path, "r") as file:
        return {name: dataset[()] for name, dataset in walk(file)}


def rewrite(path: Path, names: list[str], order: np.ndarray) -> None:
    """Puts the rows of the tables ``names`` of an artifact into another order; its header stays."""
    with h5py.File(path, "r+") as file:
        for name in names:
            values = file[name][()]
            attributes = dict(file[name].attrs)
            del file[name]
            file[name] = values[order]
            file[name].attrs.update(attributes)


def digest(path: Path) -> str:
    return read_any_header(path).digest


def assert_same(path: Path, other: Path) -> None:
    """The same digest, and the same arrays under it."""
    assert digest(path) == digest(other)
    mine, theirs = arrays(path), arrays(other)
    assert mine.keys() == theirs.keys()
    for name, values in mine.items():
        assert values.dtype == theirs[name].dtype, name
        assert np.array_equal(values, theirs[name], equal_nan=values.dtype.kind == "f"), name


def assert_undisturbed(place: Path, world: Path, step: Step) -> None:
    """``step`` gave in ``place`` what it gave in ``world``, and nothing else lies around there."""
    assert {path.name for path in place.iterdir()} == {path.name for path in world.iterdir()}
    assert_same(place / step.output, world / step.output)
    for name in step.beside:
        if name.endswith(".json"):
            assert (place / name).read_bytes() == (world / name).read_bytes()
        if name.endswith(".csv"):
            assert without_speed(place / name) == without_speed(world / name)


def without_speed(history: Path) -> list[dict[str, str]]:
    """The rows of a history, less the one column that a clock decides."""
    import csv

    with history.open() as file:
        return [
            {name: value for name, value in row.items() if name != "images_per_second"} for row in csv.DictReader(file)
        ]
