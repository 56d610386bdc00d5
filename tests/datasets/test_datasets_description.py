from pathlib import Path

import pytest

from stages.datasets.description import DatasetDescription, load_description
from stages.runtime.errors import BadInput


def write(folder: Path, text: str) -> str:
    path = folder / "own.toml"
    path.write_text(text)
    return str(path)


def faults(folder: Path, text: str) -> list[str]:
    path = write(folder, text)
    with pytest.raises(BadInput) as caught:
        load_description(path)
    assert all(fault.startswith(f"{path}: ") for fault in caught.value.faults)
    return [fault.removeprefix(f"{path}: ") for fault in caught.value.faults]


GOOD = """
name = "own"
classes = [{ name = "a", color = [1, 2, 3] }, { name = "b", color = [4, 5, 6], values = [1, 7] }]
[splits.train]
images = "images/{id}.jpg"
masks = "masks/{id}.png"
"""


def test_a_short_description_gets_its_defaults(tmp_path: Path) -> None:
    description = load_description(write(tmp_path, GOOD))
    assert description.class_names == ["a", "b"]
    assert description.palette.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert (description.masks.encoding, description.masks.ignore) == ("index", ())
    assert description.mean is None
    assert description.splits["train"].lists == ()


@pytest.mark.parametrize(
    "name, classes, splits",
    [
        ("camvid", 11, ["train", "val", "test"]),
        ("cityscapes", 19, ["train", "val"]),
        ("voc2012", 21, ["train", "val"]),
        ("scenes", 9, []),
        ("scenes-labelled", 9, []),
        ("ucm-dlrsd", 17, ["all"]),
        ("deepglobe", 6, ["all"]),
    ],
)
def test_the_shipped_descriptions_load(name: str, classes: int, splits: list[str]) -> None:
    description = load_description(name)
    assert description.name == name
    assert len(description.classes) == classes
    assert list(description.splits) == splits
    assert len({item.color for item in description.classes}) == classes
    assert description.licence


def test_palettes_of_the_shipped_descriptions() -> None:
    assert load_description("camvid").palette[[0, 4, 10]].tolist() == [[128, 128, 128], [60, 40, 222], [0, 128, 192]]
    assert load_description("cityscapes").palette[[0, 18]].tolist() == [[128, 64, 128], [119, 11, 32]]
    # VOC's palette spreads the bits of the index over the channels, highest bits first.
    spread = [
        [sum((index >> 3 * bit + channel & 1) << 7 - bit for bit in range(3)) for channel in range(3)]
        for index in range(21)
    ]
    assert load_description("voc2012").palette.tolist() == spread


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    assert faults(
        tmp_path,
        """
        name = "Own Name"
        titel = "misspelt"
        mean = [0.1, 0.2, 3.0]
        classes = [
            { name = "a", color = [0, 0, 256] },
            { name = "b", color = [0, 0, 1], values = [3] },
            { name = "b", color = [0, 0, 2], values = [3, 4] },
            { color = [0, 0, 3] },
            { name = "c", color = [0, 0, true], values = [] },
            7,
        ]
        [masks]
        ignore = [4, "x"]
        [splits.train]
        images = "train/{name}.png"
        masks = "../annot/{id}.png"
        [splits.val]
        images = "val/{id}.png"
        masks = "{city}/{id}.png"
        [splits.test]
        images = "test/{id.png"
        list = "/ids.txt"
        """,
    ) == [
        "name = 'Own Name': string should match pattern '^[a-z0-9][a-z0-9_-]*$'.",
        "classes.0.color.2 = 256: input should be less than or equal to 255.",
        "classes.3.name is missing. Add it.",
        "classes.4.color.2 = True: input should be a valid integer.",
        "classes.4.values is empty. List at least one item.",
        "classes.5 = 7: must be a table.",
        'masks.ignore must be the word "others", or a list of integers 0 to 65535, of [r, g, b] colours or of labels.',
        "mean.2 = 3.0: input should be less than or equal to 1.",
        "splits.train.images: 'train/{name}.png' has no {id} field. "
        "Write {id} for the part of the path that differs between images.",
        "splits.train.masks: '../annot/{id}.png' is not a path below the root. "
        "Write it relative to --root and without '..'.",
        "splits.val: the masks pattern uses {city}, which the images pattern does not define. Add it there.",
        "splits.test.images: 'test/{id.png' has a brace outside of a field. Write fields as {name}.",
        "splits.test.list: '/ids.txt' is not a path below the root. Write it relative to --root and without '..'.",
        "titel is an unknown key. Remove it or correct its spelling.",
        "classes.2.name: 'b' is also the name of classes.1. Choose another name.",
        "classes.2 (b): mask value 3 also means classes.1 (b). Remove it from one of them.",
        "masks.ignore: 4 also means classes.2 (b). Remove it from one of them.",
        "mean and std belong together. Set both, or neither to compute them.",
    ]


def test_colour_tables_are_checked_for_double_meanings(tmp_path: Path) -> None:
    assert faults(
        tmp_path,
        """
        name = "own"
        classes = [
            { name = "a", color = [0, 0, 1] },
            { name = "b", color = [0, 0, 1] },
            { name = "c", color = [0, 0, 1], colors = [[9, 9, 9], [8, 8, 8]] },
        ]
        masks = { encoding = "color", ignore = [[8, 8, 8]] }
        splits.train.images = "{id}.png"
        """,
    ) == [
        "classes.1 (b): mask value (0, 0, 1) also means classes.0 (a). Remove it from one of them.",
        "masks.ignore: [8, 8, 8] also means classes.2 (c). Remove it from one of them.",
    ]


@pytest.mark.parametrize(
    "text, fault",
    [
        ("name = ", "is not valid TOML"),
        (GOOD.replace("{id}.png", "{id}.png.{id"), "a brace outside of a field"),
        (GOOD + '[masks]\nencoding = "color"\nignore = [3]', "must list [r, g, b] colours"),
        (
            GOOD + '[generator]\nname = "scenes"\nimages = { train = 3 }',
            "Write [splits.<name>] tables, a [generator]",
        ),
        (GOOD.partition("[splits")[0], "Write [splits.<name>] tables, a [generator]"),
        (GOOD.partition("[splits")[0] + '[generator]\nname = "scenes"\nimages = {}', "generator draws sky, building"),
    ],
)
def test_other_faults(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_description(write(tmp_path, text))
    assert fault in str(caught.value)


def test_more_than_255_classes_do_not_fit_a_byte(tmp_path: Path) -> None:
    table = ", ".join(f'{{ name = "c{i}", color = [{i // 256}, {i % 256}, 0] }}' for i in range(256))
    assert faults(tmp_path, f'name = "own"\nclasses = [{table}]\nsplits.train.images = "{{id}}.png"') == [
        "classes lists 256 items; at most 255 are allowed."
    ]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(BadInput, match="Did you mean camvid"):
        load_description("camvd")


def test_a_description_is_frozen(tmp_path: Path) -> None:
    description = load_description(write(tmp_path, GOOD))
    assert isinstance(description, DatasetDescription)
    with pytest.raises(ValueError, match="frozen"):
        description.name = "other"  # type: ignore[misc]
