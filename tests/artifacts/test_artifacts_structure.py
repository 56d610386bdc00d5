"""Files whose checksums fit but that do not hold what their kind holds are refused on opening, or when they are read.

Each fault is put into the artifact of its kind that an older version wrote (tests/data/before). tests/data/later has
one of a kind that was added since: `alseg prepare tiny.toml --file-gb 1e-7 --evaluation-scale 1`.
"""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from forged import forge, forge_header

from stages.artifacts.annotations import Annotations
from stages.artifacts.attributes import to_stored
from stages.artifacts.hdf5 import Artifact
from stages.artifacts.model import Model
from stages.artifacts.opening import KINDS, open_any
from stages.artifacts.structure import Array
from stages.artifacts.superpixels import Superpixels
from stages.artifacts.verify import verify_one
from stages.runtime import free_memory
from stages.runtime.errors import BadInput, StageFailed

BEFORE = Path(__file__).parents[1] / "data" / "before"
FILES = {
    "dataset": "dataset.h5",
    "superpixels": "superpixels.h5",
    "clusters": "clusters.h5",
    "scores": "scores-1.h5",
    "score maps": "scores-pixels.h5",
    "queries": "queries-1.h5",
    "pixel queries": "queries-pixels.h5",
    "annotations": "annotations-1.h5",
    "pseudo_labels": "pseudo_labels.h5",
    "evaluation": "evaluation.h5",
    "images": "../later/images.h5",
}


def put(path, *values, at=0):
    """Writes ``values`` into the array at ``path``, from its entry ``at`` on."""

    def change(attributes, arrays):
        arrays[path].reshape(-1)[at : at + len(values)] = values

    return change


def becomes(path, make):
    """Replaces the array at ``path`` (``*``: of the first image) by ``make(array)``."""

    def change(attributes, arrays):
        name = path if path in arrays else next(each for each in arrays if each.startswith(path.removesuffix("*")))
        arrays[name] = make(arrays[name])

    return change


def without(path):
    return lambda attributes, arrays: arrays.pop(path)


def has(path, like, value):
    """Adds an array of small integers ``value``, as long as the array ``like``."""
    return lambda attributes, arrays: arrays.update({path: np.full(len(arrays[like]), value, np.uint8)})


def says(name, value):
    return lambda attributes, arrays: attributes.update({name: value})


def first(value):
    """The array with another first value."""

    def make(values):
        values = values.copy()
        values.reshape(-1)[0] = value
        return values

    return make


def shorter(values):
    return values[:-1]


def all_equal(values):
    return np.full_like(values, values.reshape(-1)[0])


def reals(values):
    return values.astype(np.float64)


FAULTS = {
    "dataset": {
        "an image twice": becomes("index/id", all_equal),
        "a path as id": becomes("index/id", first(b"../up")),
        "no height": put("index/height", 0),
        "an image of 10^12 pixels": becomes("index/height", lambda values: np.full_like(values, 2**30)),
        "fewer splits": becomes("index/split", shorter),
        "a label beyond": put("index/label", 9),
        "a negative label": put("index/label", -2),
        "no table": without("index/width"),
        "heights that are no integers": becomes("index/height", reals),
        "no classes": says("classes", []),
        "a class that is no text": says("classes", [1, 2]),
        "300 classes": says("classes", [str(number) for number in range(300)]),
        "a colour too few": says("palette", [[0, 0, 0]]),
        "a colour beyond 255": says("palette", [[0, 0, 256]] * 9),
        "no deviation": says("std", [0.1, 0.0, 0.1]),
        "image of another size": becomes("images/*", shorter),
        "image without colours": becomes("images/*", lambda values: values[..., 0]),
        "image of reals": becomes("images/*", reals),
        "mask of another size": becomes("masks/*", shorter),
        "mask with a class beyond": becomes("masks/*", first(9)),
    },
    "superpixels": {
        "a region before the first": becomes("labels/*", first(-2)),
        "a region beyond": becomes("labels/*", first(48)),
        "labels of another size": becomes("labels/*", shorter),
        "regions counted wrongly": put("images/first_region", 1),
        "more regions in an image": put("images/num_regions", 49),
        "fewer rows": becomes("regions/size", shorter),
        "no pixels": put("regions/size", 0),
        "a box beyond the image": put("regions/y1", 1000),
        "a box before the image": put("regions/x0", -1),
        "an image beyond": put("regions/image", 4),
        "a neighbour beyond": put("adjacency/neighbours", 192),
        "a negative neighbour": put("adjacency/neighbours", -1),
        "neighbours in another image": put("adjacency/neighbours", 100),
        "falling offsets": put("adjacency/offsets", 50, at=1),
        "offsets beyond the neighbours": put("adjacency/offsets", 10**9, at=192),
    },
    "clusters": {
        "a cluster beyond": put("regions/cluster", 3),
        "a negative number of clusters": says("clusters", -3),
        "clusters as text": says("clusters", "3"),
        "two dimensions": becomes("regions/cluster", lambda values: values[:, None]),
    },
    "scores": {
        "NaN": put("regions/score", np.nan),
        "NaN uncertainty": put("regions/uncertainty", np.nan),
        "a class beyond": put("regions/predicted", 9),
        "a class beyond in the histogram": put("histogram/class", 9),
        "negative pixels": put("histogram/pixels", -1),
        "falling offsets": put("histogram/offsets", 5, at=1),
        "fewer sizes": becomes("regions/size", shorter),
        "a negative share": put("classes/share", -0.5),
        "another unit": says("unit", "galaxy"),
        "no unit": says("unit", ""),
        "no scores": without("regions/score"),
        "clusters of which nothing is said": lambda attributes, arrays: arrays.update(
            {"regions/cluster": np.zeros(192, np.uint8)}
        ),
    },
    "score maps": {
        "NaN": becomes("scores/*", first(np.nan)),
        "a map of another size": becomes("scores/*", shorter),
        "a map of integers": becomes("scores/*", lambda values: values.astype(np.int32)),
        "NaN of an image": put("images/score", np.nan),
    },
    "queries": {
        "a purpose beyond": has("queries/purpose", "queries/score", 4),
        "a region twice": becomes("queries/region", all_equal),
        "no region": put("queries/region", -1),
        "a region before the first": put("queries/region", -2),
        "an image beyond": put("queries/image", 4),
        "a negative image": put("queries/image", -1),
        "a score that is NaN": put("queries/score", np.nan),
        "fewer scores": becomes("queries/score", shorter),
        "an unknown answer": says("answer", "opinion"),
        "a negative round": says("round", -1),
        "a round that is text": says("round", "1"),
        "an image twice in the table": becomes("images/id", all_equal),
    },
    "pixel queries": {
        "a negative y": put("queries/y", -1),
        "a very negative y": put("queries/y", -5),
        "y beyond the image": put("queries/y", 10**6),
        "x beyond the image": put("queries/x", 10**6),
        "a pixel twice": lambda attributes, arrays: [
            put(f"queries/{name}", arrays[f"queries/{name}"][0], at=1)(attributes, arrays)
            for name in ("image", "y", "x")
        ],
        "y as reals": becomes("queries/y", reals),
    },
    "annotations": {
        "an image beyond": put("answers/image", 4),
        "a negative image": put("answers/image", -1),
        "y without x": put("answers/y", 1),
        "a pixel beyond": lambda attributes, arrays: [
            put(f"answers/{name}", 10**6)(attributes, arrays) for name in ("y", "x")
        ],
        "a class beyond": put("answers/class", 9),
        "a state beyond": put("answers/state", 4),
        "an annotator beyond": put("answers/annotator", 2),
        "negative clicks": put("answers/clicks", -1),
        "clicks that are NaN": put("answers/clicks", np.nan),
        "infinite seconds": put("answers/seconds", np.inf),
        "a region file beyond": put("answers/superpixels", 1),
        "a negative round": put("answers/round", -1),
        "neither image nor pixel": put("answers/image_level", 2),
        "fewer rows": becomes("answers/round", shorter),
        "falling offsets of areas": put("areas/offsets", 50, at=1),
        "an area beyond the image": put("areas/length", 10**6),
        "an area before the image": put("areas/start", -1),
        "fewer lengths": becomes("areas/length", shorter),
        "negative votes": put("votes", -1),
        "a purpose beyond": has("answers/purpose", "answers/round", 4),
        "fewer purposes": has("answers/purpose", "images/height", 1),
        "votes for fewer classes": becomes("votes", lambda values: values[:, :-1]),
        "no height": put("images/height", 0),
    },
    "pseudo_labels": {
        "a class beyond": becomes("labels/*", first(10)),
        "labels of another size": becomes("labels/*", shorter),
        "labels as reals": becomes("labels/*", reals),
        "negative pixels": put("images/labelled_pixels", -1),
        "a negative answer": put("regions/answer", -1),
        "fewer thresholds": becomes("regions/threshold", shorter),
        "no classes": says("classes", []),
    },
    "evaluation": {
        "negative pixels": put("confusion", -1),
        "pixels as reals": becomes("confusion", reals),
        "a class fewer": becomes("confusion", lambda values: values[:, :-1]),
        "an IoU beyond 1": put("iou", 7.0),
        "a model fewer": becomes("miou", shorter),
        "a negative cost": put("cost/clicks", -1.0),
        "measured at nothing known": says("measured_at", "guesses"),
        "a sample of nobody": says("sample", "best"),
        "an answered image without queries": has("answered/queries", "miou", 0),
    },
    "images": {
        "an image twice": becomes("index/id", lambda values: values[[0] * len(values)]),
        "an image of no height": put("index/height", 0),
        "another size than the table": put("index/width", 7),
        "an image fewer": becomes("index/id", shorter),
        "a height to evaluate at without a width": put("index/evaluation_height", 0),
        "pixels as reals": becomes("images/*", reals),
        "an image without bands": becomes("images/*", lambda values: values[..., 0]),
    },
}
CASES = [(kind, name) for kind, faults in FAULTS.items() for name in faults]


def read_all(path):
    """Opens the artifact and reads everything in it, as the stages do together."""
    with open_any(path) as artifact:
        for name, _ in artifact.arrays():
            artifact.read(name)
        if isinstance(artifact, Superpixels):
            for image in artifact.ids:
                artifact.adjacency(image)


@pytest.mark.parametrize("kind", FILES)
def test_an_unchanged_copy_is_read(kind, tmp_path):
    copy = forge(BEFORE / FILES[kind], tmp_path / "x.h5", lambda attributes, arrays: None)
    read_all(copy)
    assert open_any(copy).digest == open_any(BEFORE / FILES[kind]).digest


@pytest.mark.parametrize("kind, fault", CASES, ids=[f"{kind}, {fault}" for kind, fault in CASES])
def test_is_refused_in_a_sentence(kind, fault, tmp_path):
    path = forge(BEFORE / FILES[kind], tmp_path / "x.h5", FAULTS[kind][fault])
    with pytest.raises(BadInput) as refusal:
        read_all(path)
    (sentence,) = refusal.value.faults
    assert sentence.startswith(str(path))
    assert sentence.endswith(".")


def test_every_kind_says_what_it_holds():
    kinds = {open_any(BEFORE / name).kind for name in FILES.values()}
    assert kinds == set(KINDS)
    for kind in KINDS.values():
        assert any(isinstance(held, Array) for held in kind.holds)


@pytest.mark.parametrize("kind", FILES)
def test_tables_are_refused_before_anything_else_is_read(kind, tmp_path):
    """A missing table is named on opening, with the stage to run."""
    artifact = open_any(BEFORE / FILES[kind])
    needed = [held for held in artifact.holds if isinstance(held, Array)]
    table = next(held.path for held in needed if not held.optional and not held.path.endswith("*"))
    path = forge(BEFORE / FILES[kind], tmp_path / "x.h5", without(table))
    with pytest.raises(BadInput, match=table):
        open_any(path)


class TestModels:
    @pytest.mark.parametrize(
        "name, value",
        [("classes", []), ("classes", "road"), ("best_epoch", "x"), ("mean", [0.5]), ("std", [1, 0, 1]), ("network", 3),
         ("outputs", 1), ("outputs", "9")],
    )  # fmt: skip
    def test_a_wrong_attribute(self, name, value, tmp_path):
        path = tmp_path / "m.safetensors"
        path.write_bytes((BEFORE / "model.safetensors").read_bytes())
        header = Model(path).header
        forge_header(path, attributes=header.attributes | {name: value})
        with pytest.raises(BadInput, match=f"{name} "):
            Model(path)


class TestLinks:
    """Links and files elsewhere are refused, also in the middle of a path."""

    @pytest.fixture
    def path(self, tmp_path):
        (tmp_path / "secret.h5").write_bytes((BEFORE / "queries-0.h5").read_bytes())
        (tmp_path / "q.h5").write_bytes((BEFORE / "queries-1.h5").read_bytes())
        return tmp_path / "q.h5"

    @pytest.mark.parametrize("place", ["queries", "queries/y"])
    @pytest.mark.parametrize(
        "link", [h5py.SoftLink("/queries/x"), h5py.ExternalLink("secret.h5", "/queries")], ids=["soft", "external"]
    )
    def test_a_link(self, path, place, link):
        with h5py.File(path, "r+") as file:
            del file[place]
            file[place] = link
        with pytest.raises(BadInput, match=f"has a link at {place} instead of data"):
            open_any(path)
        with Artifact(path) as artifact:
            for use in (lambda: artifact.read("queries/y"), artifact.arrays, lambda: "queries/y" in artifact):
                with pytest.raises(BadInput, match=f"has a link at {place} instead of data"):
                    use()

    def test_bytes_in_another_file(self, path):
        with h5py.File(path, "r+") as file:
            count = len(file["queries/y"])
            del file["queries/y"]
            file["queries"].create_dataset("y", (count,), np.int32, external=[("/etc/hostname", 0, 4 * count)])
        with pytest.raises(BadInput, match="queries/y is stored in other files"):
            open_any(path)

    def test_a_virtual_array(self, path):
        with h5py.File(path, "r+") as file:
            count = len(file["queries/y"])
            del file["queries/y"]
            layout = h5py.VirtualLayout((count,), np.int32)
            layout[:] = h5py.VirtualSource("secret.h5", "queries/y", (count,))
            file.create_virtual_dataset("queries/y", layout)
        with pytest.raises(BadInput, match="queries/y is stored in other files"):
            open_any(path)

    def test_a_folder_that_contains_itself(self, path):
        with h5py.File(path, "r+") as file:
            file["queries/again"] = file["queries"]
        with pytest.raises(BadInput, match="has one folder twice"):
            open_any(path).arrays()

    def test_text_of_any_length(self, path):
        with h5py.File(path, "r+") as file:
            names = [name.decode() for name in file["images/id"]]
            del file["images/id"]
            file["images/id"] = names
        with pytest.raises(BadInput, match="images/id has values of variable length"):
            open_any(path)


class TestSize:
    def test_an_array_that_declares_3_tb(self, tmp_path):
        path = tmp_path / "a.h5"
        path.write_bytes((BEFORE / "annotations-1.h5").read_bytes())
        with h5py.File(path, "r+") as file:
            del file["votes"]
            file.create_dataset("votes", (3 * 10**11, 10), np.uint8, chunks=(10**6, 10))
        with pytest.raises(BadInput, match=r"votes declares 3000\.0 GB but stores 0\.0 GB"):
            Annotations(path)

    def test_more_than_the_free_memory(self, tmp_path, monkeypatch):
        monkeypatch.setattr(free_memory, "SMALL_BYTES", 0)
        meminfo = tmp_path / "meminfo"
        meminfo.write_text("MemTotal:   9 kB\nMemAvailable:          0 kB\n")
        monkeypatch.setattr(free_memory, "MEMINFO", meminfo)
        with pytest.raises(StageFailed, match=r"queries-1.h5 needs .* of memory, but only 0\.0 GB are free"):
            open_any(BEFORE / "queries-1.h5")


def test_a_region_that_the_superpixels_do_not_have(tmp_path):
    from stages.artifacts.dataset import Dataset
    from stages.artifacts.queries import Queries
    from stages.artifacts.superpixels import regions_of

    queries = Queries(forge(BEFORE / "queries-1.h5", tmp_path / "q.h5", put("queries/region", 192)))
    with Dataset(BEFORE / "dataset.h5") as data, pytest.raises(BadInput, match="has index 192"):
        regions_of(BEFORE / "superpixels.h5", data, queries)


def test_text_in_attributes_has_a_fixed_length(tmp_path):
    """In new files; lists of text, empty and long text, and text of several bytes a letter come back as they were."""
    texts = {"short": "a", "empty": "", "long": "x" * 200_000, "wide": "Straße 街道", "list": ["a", "", "街道"]}
    copy = forge(BEFORE / "queries-1.h5", tmp_path / "q.h5", lambda attributes, arrays: attributes.update(texts))
    with h5py.File(copy) as file:
        kinds = [h5py.h5a.open(item.id, index=number).get_type()
                 for item in (file, file["queries/y"]) for number in range(len(item.attrs))]  # fmt: skip
    assert not any(isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str() for kind in kinds)
    assert json.loads(json.dumps(texts)) == {name: Artifact(copy).attributes[name] for name in texts}
    assert to_stored(3) == 3
    assert verify_one(copy)[0] == []
