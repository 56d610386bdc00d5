"""Image files of others: which formats are opened at all, how large they may be, and that one place opens them."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from stages.answering.exchange.indexed_png import mode_and_size, values_in
from stages.datasets.mask_files import read_mask
from stages.images.image_files import FORMATS, MOST_PIXELS, image_file
from stages.images.reading import read_image
from stages.runtime.errors import BadInput

STAGES = Path(__file__).parents[2] / "stages"
PALETTE = np.zeros((2, 3), dtype=np.uint8)
READERS = {
    "image": read_image,
    "mask": lambda path: read_mask(path, "index"),
    "coloured mask": lambda path: read_mask(path, "color"),
    "answers": lambda path: values_in(path, ["a", "b"], PALETTE, (), None),
    "size of answers": mode_and_size,
}


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_an_eps_called_png_starts_no_ghostscript(read, pixels, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **named: started.append(args))
    path = tmp_path / "innocent.png"
    Image.fromarray(pixels).save(path, "EPS")
    with pytest.raises(BadInput, match=r"innocent\.png cannot be decoded as PNG.*damaged or of another format"):
        read(path)
    assert not started


@pytest.mark.parametrize("name", ["TGA", "PCX", "ICO", "SGI", "DDS", "PDF"])
def test_formats_that_are_not_listed_are_not_opened(name, pixels, tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(pixels).save(path, name)
    with pytest.raises(BadInput, match="convert it to PNG"):
        read_image(path)


@pytest.mark.parametrize("name", FORMATS)
def test_formats_that_are_listed_are_read_whatever_the_file_is_called(name, pixels, tmp_path):
    path = tmp_path / "image.bin"
    Image.fromarray(pixels).save(path, name)
    assert read_image(path).shape == pixels.shape


def test_a_mask_in_a_jpeg_of_several_pictures_is_refused_as_any_jpeg(tmp_path):
    mask = Image.fromarray(np.zeros((16, 16), np.uint8))
    mask.save(tmp_path / "m.png", "MPO", save_all=True, append_images=[mask])
    with pytest.raises(BadInput, match="is a JPEG, whose compression changes class values"):
        read_mask(tmp_path / "m.png", "index")


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_decompression_bomb_is_a_sentence(read, tmp_path):
    """The head of a PNG with more pixels than are ever decoded, in a file of a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    side = int(MOST_PIXELS**0.5) + 1
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    with pytest.raises(BadInput, match=r"bomb\.png has more than 179 million pixels\. Cut it into tiles"):
        read(path)


def test_lack_of_memory_is_not_called_damage(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "x.png")
    with pytest.raises(MemoryError), image_file(tmp_path / "x.png"):
        raise MemoryError


def test_one_place_opens_images():
    ways = ("Image.open(", ".imread(", "ImageFile.Parser")
    users = [path.relative_to(STAGES) for path in STAGES.rglob("*.py") if any(way in path.read_text() for way in ways)]
    assert users == [Path("images/image_files.py")]
