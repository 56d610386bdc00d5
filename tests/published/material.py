"""Generated datasets as they are distributed, at their own size, for the command that prepares them."""

import shlex
from itertools import cycle
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from stages.datasets.description import DatasetDescription, load_description, mask_values
from stages.datasets.patterns import field_names, fill
from stages.recipes.tables import PublishedTable

COUNTS = {"train": 4, "val": 2, "test": 2}  # 8 images
FEWER = {"cityscapes": {"train": 2, "val": 1, "test": 1}}  # of 2 megapixels
DIVIDED = 16  # images of a dataset that is divided when it is prepared
BLOCKS = 8  # classes change at an 8th of each side
SIZES = {  # height, width; taken in turns
    "camvid": [(360, 480)],
    "cityscapes": [(1024, 2048)],
    "voc2012": [(375, 500), (500, 375), (333, 500)],
    "voc2012-aug": [(375, 500), (500, 375), (333, 500)],
    "ucm-dlrsd": [(256, 256)],
    "deepglobe": [(2448, 2448)],
}


def write_root(name: str, root: Path) -> Path:
    """The files of the shipped dataset ``name`` below ``root``: 8 images with masks.

    Of Cityscapes 4, and 16 of a dataset that is divided.
    """
    dataset = load_description(name)
    for split, files in dataset.splits.items():
        assert files.masks is not None
        masks = (files.masks,) if isinstance(files.masks, str) else files.masks  # places in turns
        count = FEWER.get(name, COUNTS)[split] if dataset.division is None else DIVIDED
        listed: dict[str, list[str]] = {place: [] for place in files.lists}
        for number, size in zip(range(count), cycle(SIZES[name])):
            scene = dataset.image_classes[number % 4] if "scene" in field_names(files.images) else "aachen"
            id = f"{scene}{number // 4:02d}" if scene != "aachen" else f"aachen_{split}_{number:06d}"
            image, mask = draw(dataset, size, number)
            turn = number % max(len(masks), len(listed))
            for pattern, values in ((files.images, image), (masks[min(turn, len(masks) - 1)], mask)):
                write_pixels(root / fill(pattern, {"id": id, "city": scene, "scene": scene}), values)
            if listed:
                list(listed.values())[min(turn, len(listed) - 1)].append(id)
        for place, ids in listed.items():
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).write_text("".join(f"{id}\n" for id in ids))
    return root


def write_pixels(path: Path, values: np.ndarray) -> None:
    """An image or a mask in the format of its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mat":
        savemat(path, {"GTcls": {"Segmentation": values}}, do_compression=True)
    else:
        Image.fromarray(values).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))


def draw(dataset: DatasetDescription, size: tuple[int, int], number: int) -> tuple[np.ndarray, np.ndarray]:
    """(H,W,3) u8 noise around the colours of classes, and the mask file's values: squares, the first one of void."""
    generator = np.random.default_rng(number)
    blocks = generator.integers(0, len(dataset.classes), (BLOCKS, BLOCKS))
    rows, columns = (np.arange(side) * BLOCKS // side for side in size)
    classes = blocks[rows][:, columns]
    image = dataset.palette[classes].astype(np.int16) + generator.integers(-30, 31, (*size, 3), dtype=np.int16)
    listed = enumerate(dataset.classes)
    values = np.array([mask_values(index, item, dataset.masks.encoding)[0] for index, item in listed], np.uint8)
    mask = values[classes]
    ignore = dataset.masks.ignore
    if ignore != "others" and ignore:
        mask[: size[0] // BLOCKS, : size[1] // BLOCKS] = ignore[0]
    return image.clip(0, 255).astype(np.uint8), mask


def prepare_words(table: PublishedTable, root: Path, output: Path) -> list[str]:
    """The command that prepares the dataset of ``table``, without the name of the program."""
    program, *words = shlex.split(table.prepare)
    assert program == "alseg"
    place = words.index("-o") + 1
    return [
        str(output) if index == place else str(root) if word == "FOLDER" else word for index, word in enumerate(words)
    ]
