import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from stages.datasets.decode import LoadedSample, load_sample
from stages.datasets.description import DatasetDescription, load_description
from stages.datasets.files import Sample, find_samples
from stages.datasets.mask_files import class_lookup, decode_mask, read_mask
from stages.images.reading import read_image
from stages.runtime.errors import BadInput

SHARED = Path(__file__).parents[2].parent / "shared"

CITYSCAPES_IDS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]  # specification §4


def describe(classes: list[dict[str, object]], **masks: object) -> DatasetDescription:
    table = [{"name": str(index), "color": [index, 0, 0], **item} for index, item in enumerate(classes)]
    splits = {"train": {"images": "{id}.png"}}
    return DatasetDescription.model_validate({"name": "own", "classes": table, "masks": masks, "splits": splits})


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def grey_png(path: Path, depth: int, rows: bytes, width: int) -> Path:
    """A one-row grey PNG of any bit depth, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, 1, depth, 0, 0, 0, 0)
    data = zlib.compress(b"\0" + rows)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


RGB = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
INDEX = np.random.default_rng(1).integers(0, 4, (12, 20), np.uint8)


def test_images_of_every_mode_become_rgb(tmp_path: Path) -> None:
    grey = RGB[..., 0]
    rgba = np.dstack([RGB, grey])
    assert (read_image(save(tmp_path / "rgb.png", RGB)) == RGB).all()
    assert (read_image(save(tmp_path / "rgba.png", rgba)) == RGB).all()
    assert (read_image(save(tmp_path / "grey.png", grey)) == grey[..., None]).all()
    Image.fromarray(RGB).quantize(256).save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png").shape == RGB.shape
    assert read_image(save(tmp_path / "photo.jpg", RGB)).dtype == np.uint8


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    assert (read_image(save(tmp_path / "turned.png", RGB, exif=exif)) == np.rot90(RGB, -1)).all()


def test_deep_images_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "deep.png", np.arange(6, dtype=np.uint16).reshape(2, 3))
    told = (
        r"has more than 8 bits per channel \(uint16\)\. Set percentiles = \[1, 99\], or levels = \[LOW, HIGH\], under"
    )
    with pytest.raises(BadInput, match=told):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.95])
def test_truncated_files_are_found(tmp_path: Path, suffix: str, kept: float) -> None:
    path = save(tmp_path / f"cut.{suffix}", np.tile(RGB, (5, 5, 1)))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(BadInput, match=r"cannot be decoded \(.*\): it is damaged\. Replace it\.$"):
        read_image(path)


def test_palette_masks_give_indices_not_colours(tmp_path: Path) -> None:
    mask = Image.fromarray(INDEX, "P")
    mask.putpalette(load_description("voc2012").palette.tobytes())
    mask.save(tmp_path / "palette.png")
    assert (read_mask(tmp_path / "palette.png", "index") == INDEX).all()
    assert (read_mask(tmp_path / "palette.png", "color") == load_description("voc2012").palette[INDEX]).all()


def test_grey_masks_of_every_depth_give_their_values(tmp_path: Path) -> None:
    assert (read_mask(save(tmp_path / "8.png", INDEX), "index") == INDEX).all()
    wide = read_mask(save(tmp_path / "16.png", INDEX.astype(np.uint16) * 300), "index")
    assert wide.dtype == np.uint16
    assert (wide == INDEX.astype(np.uint16) * 300).all()
    assert read_mask(grey_png(tmp_path / "4.png", 4, b"\x01\x9f", 4), "index").tolist() == [[0, 1, 9, 15]]
    assert read_mask(grey_png(tmp_path / "2.png", 2, b"\x1b", 4), "index").tolist() == [[0, 1, 2, 3]]
    assert read_mask(grey_png(tmp_path / "1.png", 1, b"\x50", 4), "index").tolist() == [[0, 1, 0, 1]]


def test_an_index_mask_stored_as_rgb_needs_equal_channels(tmp_path: Path) -> None:
    assert (read_mask(save(tmp_path / "same.png", np.dstack([INDEX] * 3)), "index") == INDEX).all()
    path = save(tmp_path / "colours.png", RGB)
    told = r'colours\.png contains colours, not class values\. Set masks\.encoding = "color", or use index files\.$'
    with pytest.raises(BadInput, match=told):
        read_mask(path, "index")


def test_masks_that_hold_no_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"is a JPEG, whose compression changes class values\. Store masks as PNG, or set"
    ):
        read_mask(save(tmp_path / "lossy.jpg", INDEX), "index")
    with pytest.raises(BadInput, match="contains fractions, which are no class values"):
        read_mask(save(tmp_path / "real.tif", INDEX.astype(np.float32) + 0.5), "index")
    with pytest.raises(BadInput, match="contains values below 0 or above 65535"):
        read_mask(save(tmp_path / "low.tif", INDEX.astype(np.int32) - 1), "index")


@st.composite
def tables_and_masks(draw: st.DrawFn, most: int, dtype: type) -> tuple[list[list[int]], list[int] | str, np.ndarray]:
    values = draw(st.lists(st.integers(0, most), min_size=2, max_size=30, unique=True))
    cuts = sorted(draw(st.sets(st.integers(1, len(values) - 1), min_size=1)))
    *classes, ignore = [values[a:b] for a, b in zip([0, *cuts], [*cuts, len(values)], strict=True)]
    raw = draw(arrays(dtype, draw(st.tuples(st.integers(1, 6), st.integers(1, 6))), elements=st.sampled_from(values)))
    return classes, draw(st.sampled_from([ignore, "others"])), raw


@given(st.one_of(tables_and_masks(255, np.uint8), tables_and_masks(65535, np.uint16)))
def test_decoding_equals_a_dictionary(case: tuple[list[list[int]], list[int] | str, np.ndarray]) -> None:
    classes, ignore, raw = case
    naive = {value: index for index, values in enumerate(classes) for value in values}
    expected = [[naive.get(value, 255) for value in row] for row in raw.tolist()]
    decoded = decode_mask(raw, class_lookup(describe([{"values": values} for values in classes], ignore=ignore)))
    assert decoded.dtype == np.uint8
    assert decoded.tolist() == expected


@given(arrays(np.uint8, (4, 3), elements=st.integers(0, 4)))
def test_decoding_colours_equals_a_dictionary(choice: np.ndarray) -> None:
    colors = np.array([[0, 0, 0], [0, 0, 255], [255, 0, 0], [1, 2, 3], [3, 2, 1]])
    classes = [{"colors": [[0, 0, 0], [0, 0, 255]]}, {"color": [255, 0, 0]}]
    lookup = class_lookup(describe(classes, encoding="color", ignore=colors[3:].tolist()))
    decoded = decode_mask(colors.astype(np.uint8)[choice], lookup)
    assert decoded.tolist() == np.array([0, 0, 1, 255, 255])[choice].tolist()


def test_255_classes_and_no_ignore() -> None:
    raw = np.arange(255, dtype=np.uint8)[None]
    assert (decode_mask(raw, class_lookup(describe([{}] * 255))) == raw).all()


def test_unknown_values_are_counted() -> None:
    lookup = class_lookup(describe([{}, {}], ignore=[2]))
    raw = np.array([[0, 1, 2, 3, 3, 9, 3]], np.uint8)
    with pytest.raises(BadInput) as caught:
        decode_mask(raw, lookup, "annot/x.png")
    assert caught.value.faults == [
        "annot/x.png contains 3 pixels of value 3, which is not in the class table. Add it to a class or to ignore.",
        "annot/x.png contains 1 pixels of value 9, which is not in the class table. Add it to a class or to ignore.",
    ]
    colours = class_lookup(describe([{}], encoding="color"))
    with pytest.raises(BadInput) as caught:
        decode_mask(np.array([[[0, 0, 0]] * 2 + [[0, 1, i] for i in range(9)]], np.uint8), colours)
    assert len(caught.value.faults) == 6
    assert caught.value.faults[0].startswith("The mask contains 1 pixels of colour [0, 1, 0], which")
    assert caught.value.faults[5] == "The mask contains 4 more values that are not in the class table."


def test_cityscapes_table_is_the_specified_list_and_fast() -> None:
    lookup = class_lookup(load_description("cityscapes"))
    expected = np.full(256, 255)
    expected[CITYSCAPES_IDS] = np.arange(19)
    assert decode_mask(np.arange(256, dtype=np.uint8)[None], lookup).tolist() == [expected.tolist()]
    raw = np.random.default_rng(0).integers(0, 34, (256, 512), np.uint8)
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        decode_mask(raw, lookup)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1e-3


def test_a_sample_is_loaded_or_all_its_faults_are_told(tmp_path: Path) -> None:
    lookup = class_lookup(describe([{}, {}, {}, {}]))
    image, mask = save(tmp_path / "i.png", RGB), save(tmp_path / "m.png", INDEX)
    loaded = load_sample(Sample("1", "train", image, mask), lookup)
    assert isinstance(loaded, LoadedSample)
    assert (loaded.image == RGB).all()
    assert loaded.mask is not None
    assert (loaded.mask == INDEX).all()
    unlabelled = load_sample(Sample("1", "train", image, None), lookup)
    assert isinstance(unlabelled, LoadedSample)
    assert unlabelled.mask is None
    small = save(tmp_path / "s.png", np.full((12, 19), 7, np.uint8))
    assert load_sample(Sample("1", "train", image, small), lookup) == [
        f"{small} (19x12) and {image} (20x12) differ in size. Use files of the same width and height.",
        f"{small} contains 228 pixels of value 7, which is not in the class table. Add it to a class or to ignore.",
    ]
    image.write_bytes(image.read_bytes()[:60])
    faults = load_sample(Sample("1", "train", image, tmp_path / "gone.png"), lookup)
    assert isinstance(faults, list)
    assert [str(image) in faults[0], faults[1]] == [
        True,
        f"{tmp_path}/gone.png does not exist. Check --root and the description.",
    ]


@pytest.mark.shared
def test_camvid_shares_are_the_specified_ones() -> None:
    description = load_description("camvid")
    lookup = class_lookup(description)
    samples, _ = find_samples(description, SHARED / "camvid")
    counts = np.zeros(256)
    for sample in samples:
        if sample.split == "train" and sample.mask is not None:
            mask = decode_mask(read_mask(sample.mask, "index"), lookup, str(sample.mask))
            counts += np.bincount(mask.ravel(), minlength=256)
    shares = 100 * counts / counts.sum()
    expected = [16.9, 23.3, 0.98, 31.7, 4.5, 9.7, 1.2, 1.1, 5.9, 0.64, 0.29]
    assert np.allclose(shares[:11], expected, rtol=0, atol=0.1)
    assert shares[255] == pytest.approx(3.95, abs=0.1)
