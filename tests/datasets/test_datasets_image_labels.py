"""Image-level classes: by name, by JSON file, by majority; their faults; what of them a prepared dataset holds."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from stages.artifacts.dataset import Dataset
from stages.artifacts.header import digest_of
from stages.commands import prepare
from stages.datasets.description import load_description
from stages.datasets.image_labels import labels_by_name, labels_from_json, majority_label
from stages.runtime.errors import BadInput
from stages.settings.prepare import PrepareSettings

HEAD = """
name = "own"
classes = [
    { name = "sky", color = [0, 0, 9] },
    { name = "road", color = [9, 0, 0] },
    { name = "car", color = [0, 9, 0] },
]
masks = { ignore = [255] }
"""
FILES = """
splits.train = { images = "train/{id}.png", masks = "annot/{id}.png" }
splits.pool = { images = "pool/{id}.png" }
"""
SCENES = load_description("ucm-dlrsd").image_classes


def describe(folder: Path, labels: str, head: str = HEAD, files: str = FILES) -> str:
    path = folder / "own.toml"
    path.write_text(f"{head}{files}\n[image_labels]\n{labels}")
    return str(path)


def write_image(root: Path, id: str, mask: list[list[int]] | None = None, split: str = "train") -> None:
    """An image of 4x5 pixels and its mask: ``mask`` enlarged to that size, the last row and column repeated."""
    for folder, array in ((split, np.full((4, 5, 3), 99, np.uint8)), ("annot", mask)):
        if array is None:
            continue
        values = np.array(array, np.uint8)
        if folder == "annot":
            values = np.pad(values, ((0, 4 - values.shape[0]), (0, 5 - values.shape[1])), mode="edge")
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(root / folder / f"{id}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three training images with masks and one of a pool without."""
    root = tmp_path / "files"
    write_image(root, "sky1", [[2]])
    write_image(root, "car2", [[0], [0], [1]])
    write_image(root, "road3", [[255, 255, 255, 255, 1]])
    write_image(root, "car4", split="pool")
    return root


def prepared(description: str, root: Path, **settings: object) -> Path:
    return prepare.run(description, root, root.parent / "d.h5", PrepareSettings(**{"workers": 1} | settings))


def faults(description: str, root: Path) -> list[str]:
    with pytest.raises(BadInput) as caught:
        prepared(description, root)
    assert not (root.parent / "d.h5").exists()
    return [fault.replace(f"{description}: ", "") for fault in caught.value.faults]


def test_the_letters_of_the_name_are_looked_up() -> None:
    ids = ["tenniscourt07", "agricultural00", "storagetanks99"]
    assert labels_by_name(ids, SCENES) == ({"tenniscourt07": 20, "agricultural00": 0, "storagetanks99": 19}, [])
    labels, wrong = labels_by_name(["beach1", "07", *(f"lake{n}" for n in range(7)), "Beach2"], SCENES)
    assert labels == {"beach1": 3}
    remedy = "which is not in image_labels.classes. Add it there or rename the files."
    assert wrong == [
        f"image 07 begins with '', {remedy}",
        f"each of 7 images (lake0, lake1, lake2, lake3, lake4, ...) begins with 'lake', {remedy}",
        f"image Beach2 begins with 'Beach', {remedy}",
    ]


def test_the_scenes_are_in_alphabetical_order() -> None:
    assert sorted(SCENES) == SCENES
    assert (len(SCENES), SCENES.index("mobilehomepark"), SCENES.index("runway")) == (21, 13, 17)


def test_a_json_file_names_the_class_of_every_image(tmp_path: Path) -> None:
    path = tmp_path / "class_map.json"
    path.write_text(json.dumps({"119": "water", "6399": "rangeland", "elsewhere": "nonsense"}))
    assert labels_from_json(path, ["6399", "119"], ["rangeland", "water"]) == ({"6399": 0, "119": 1}, [])


def test_all_faults_of_a_json_file_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "class_map.json"
    path.write_text(json.dumps({"1": "water", "2": "watr", "3": 7, "4": "watr", "5": ["water"], "6": "water"}))
    labels, wrong = labels_from_json(path, [*"1234567", "8"], ["water"])
    remedy = "which is not in image_labels.classes. Add it or rename it."
    assert labels == {"1": 0, "6": 0}
    assert wrong == [
        f"{path} gives each of 2 images (2, 4) the class 'watr', {remedy}",
        f"{path} gives image 3 the class 7, {remedy}",
        f"{path} gives image 5 the class ['water'], {remedy}",
        f"{path} has no class for each of 2 images (7, 8). Add it.",
    ]


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe{}", b"[" * 100_000, b""])
def test_what_is_no_mapping_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "class_map.json"
    path.write_bytes(content)
    for place in (path, tmp_path / "gone.json", tmp_path):
        labels, wrong = labels_from_json(place, ["1"], ["water"])
        assert labels == {}
        assert len(wrong) == 1
        assert str(place) in wrong[0]


def test_majority_of_a_mask() -> None:
    water, forest = 4, 3
    mask = np.full((10, 10), water, np.uint8)
    mask[:4] = forest
    assert majority_label(mask, 6) == water
    assert majority_label(np.array([[5, 2, 2, 5, 255, 255, 255]], np.uint8), 6) == 2
    assert majority_label(np.full((3, 3), 255, np.uint8), 6) == -1


@given(arrays(np.uint8, (3, 4), elements=st.sampled_from([0, 1, 2, 3, 255])))
def test_majority_equals_counting(mask: np.ndarray) -> None:
    counts = [int((mask == index).sum()) for index in range(4)]
    assert majority_label(mask, 4) == (counts.index(max(counts)) if max(counts) else -1)


def test_labels_by_name_are_stored(root: Path, tmp_path: Path) -> None:
    own = describe(tmp_path, 'source = "name"\nclasses = ["road", "car", "sky"]')
    with Dataset(prepared(own, root)) as data:
        assert data.image_classes == ["road", "car", "sky"]
        assert data.labels == {"car2": 1, "road3": 0, "sky1": 2, "car4": 1}
        assert data.read("index/label").dtype == np.int32


def test_labels_of_the_majority_are_stored_and_a_pool_has_none(root: Path, tmp_path: Path) -> None:
    with Dataset(prepared(describe(tmp_path, 'source = "majority"'), root)) as data:
        assert data.image_classes == ["sky", "road", "car"]
        assert data.labels == {"sky1": 2, "car2": 0, "road3": 1}
        assert dict(zip(data.all_ids, data.read("index/label").tolist(), strict=True))["car4"] == -1


def test_the_majority_is_that_of_the_mask_as_stored(root: Path, tmp_path: Path) -> None:
    write_image(root, "thin1", [[0, 1, 0, 1, 0]])  # 12 pixels of sky, 8 of road
    write_image(root, "road3", [[1]])
    own = describe(tmp_path, 'source = "majority"')
    for scale in (1.0, 0.4):  # which leaves columns 1 and 3
        with Dataset(prepared(own, root, scale=scale)) as data:
            assert data.labels["thin1"] == (0 if scale == 1 else 1)
            assert data.labels["thin1"] == majority_label(data.mask("thin1"), 3)


def test_a_mask_without_classes_is_rejected_by_name(root: Path, tmp_path: Path) -> None:
    write_image(root, "void5", [[255]])
    write_image(root, "void6", [[255]])
    write_image(root, "odd7", [[7]])
    assert faults(describe(tmp_path, 'source = "majority"'), root) == [
        f"{root}/annot/odd7.png contains 20 pixels of value 7, which is not in the class table. "
        "Add it to a class or to ignore.",
        *(
            f"{root}/annot/{id}.png: no pixel has a class at the stored size, so it gives no label. "
            "Correct it or remove the image."
            for id in ("void5", "void6")
        ),
    ]


def test_faults_of_labels_come_with_those_of_the_files(root: Path, tmp_path: Path) -> None:
    own = describe(tmp_path, 'source = "json"\nfile = "map.json"\nclasses = ["a", "b"]')
    (root / "map.json").write_text(json.dumps({"sky1": "a", "car2": "c"}))
    (root / "annot/odd.png").touch()
    (root / "pool/car4.png").write_bytes(b"torn")
    found = faults(own, root)
    assert [word in fault for word, fault in zip(("odd.png", "'c'", "(road3, car4)", "car4"), found, strict=True)] == [
        True
    ] * 4


def test_a_changed_json_file_makes_the_dataset_anew(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    own = describe(tmp_path, 'source = "json"\nfile = "map.json"\nclasses = ["a", "b"]')
    for name in ("a", "a", "b"):
        (root / "map.json").write_text(json.dumps(dict.fromkeys(("sky1", "car2", "road3", "car4"), name)))
        with Dataset(prepared(own, root)) as data:
            assert set(data.labels.values()) == {"ab".index(name)}
    said = capsys.readouterr()
    assert (said.out + said.err).count("is up to date") == 1
    assert (said.out + said.err).count("input source changed") == 1


@pytest.mark.parametrize(
    "labels, said",
    [
        ('source = "majority"\nclasses = ["a"]', ["the classes are those of the pixels. Remove the key classes"]),
        ('source = "majority"\nfile = "a.json"', ['source = "majority" reads no file. Remove the key file']),
        ('source = "name"', ['source = "name" needs the key classes']),
        ('source = "name"\nfile = "a.json"', ["needs the key classes", "reads no file"]),
        ('source = "json"\nclasses = ["a", "a"]', ["classes lists a name twice", "needs the key file"]),
        ('source = "json"\nfile = "../a.json"\nclasses = []', ["is not a path below the root", "classes is empty"]),
        ('source = "guess"', ["'name', 'json' or 'majority'"]),
        ("", ["image_labels.source is missing"]),
    ],
)
def test_faulty_tables(tmp_path: Path, labels: str, said: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        load_description(describe(tmp_path, labels))
    assert all(words in str(caught.value) for words in said)


def test_generated_scenes_have_the_class_of_their_majority(tmp_path: Path) -> None:
    labelled = load_description("scenes-labelled")
    plain = load_description("scenes")
    assert labelled.generator == plain.generator
    assert labelled.classes == plain.classes
    own = tmp_path / "few.toml"
    generator = '[generator]\nname = "scenes"\nheight = 48\nwidth = 64\nimages = { train = 6, test = 2 }'
    table = ", ".join(f'{{ name = "{item.name}", color = {list(item.color)} }}' for item in plain.classes)
    head = f'name = "few"\nclasses = [{table}]\n'
    own.write_text(f'{head}{generator}\n[image_labels]\nsource = "majority"')
    with Dataset(prepare.run(str(own), None, tmp_path / "few.h5", PrepareSettings(workers=1))) as data:
        assert data.image_classes == plain.class_names
        assert data.labels == {image: majority_label(data.mask(image), 9) for image in data.all_ids}
    own.write_text(f'{head}{generator}\n[image_labels]\nsource = "name"\nclasses = ["train"]')
    with pytest.raises(BadInput, match=r'have labels only in their masks\. Set source = "majority"'):
        load_description(str(own))


def test_a_dataset_without_image_labels_is_what_it_was(root: Path, tmp_path: Path) -> None:
    own = tmp_path / "plain.toml"
    own.write_text(HEAD + FILES)
    with Dataset(prepared(str(own), root)) as data:
        assert (data.image_classes, data.labels) == ([], {})
        assert "image_classes" not in data.attributes
        assert data.read("index/label").tolist() == [-1] * 4
    # as recorded in the files that were made before descriptions could have image labels and divisions
    known = {"scenes": "6942c7144129030cc4e811ff2c625a958c90fad945eddca853c65c8a39fb1886"}
    assert {name: digest_of(load_description(name).meaning()) for name in known} == known
