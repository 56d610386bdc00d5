"""Opening image files that others made: a fixed list of formats, a limit on their size, one sentence for the rest.

All of the project opens images here. Left to choose, Pillow takes any format that the bytes claim, whatever the name
says: an EPS starts Ghostscript, and rare formats have decoders that few people ever tested. What Pillow would read with
a loss is read by other libraries: PNGs of 16-bit colours by OpenCV, other TIFFs by GDAL (rasterio), arrays by NumPy.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from stages.pixels.grids import Size
from stages.runtime.errors import BadInput

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")  # Pillow's names; PPM: also PGM and PBM
ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm")
"""What files of images are called, by which they are found in folders."""
ARRAY = ".npy"
"""Also read, but found in a folder only if it has no other images: arrays can be anything."""
LOSSY_FORMATS = ("JPEG", "MPO")  # MPO: what Pillow calls a JPEG with several pictures
MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # where Pillow refuses; it only warns from half of that on
LIKELY_BANDS = 32  # an array with so few rows and many more columns of bands has its bands first
CACHE_BYTES = 128 << 20  # of decoded blocks that GDAL keeps

BIG = 43  # "+"
TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF
SUBFILE, BITS, SAMPLES, SAMPLE_FORMAT, NODATA = 254, 258, 277, 339, 42113  # tags of a TIFF
REDUCED, TRANSPARENCY = 1, 4  # flags of tag SUBFILE: another size of a picture, its mask
DEEP_MODES = {"I": np.dtype(np.int32), "F": np.dtype(np.float32)}
PLAIN_MODES = ("L", "LA", "RGB", "RGBA", "RGBX", "CMYK")  # modes whose channels are bands

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class UnknownImage(BadInput):
    """The file is of no format that Pillow is allowed to open."""


class TooLargeImage(BadInput):
    """The file has more pixels than are decoded at once."""


@dataclass(frozen=True)
class Contents:
    """What an image file contains.

    form: Pillow's name of its format, or NPY. size: (height, width), upright. pages: how many pictures, not counting
    smaller versions of the first. nodata: the value of pixels without data, if the file has one.
    """

    form: str
    size: Size
    bands: int
    dtype: np.dtype[Any]
    pages: int = 1
    nodata: float | None = None

    @property
    def is_deep(self) -> bool:
        return self.dtype != np.uint8


@contextmanager
def image_file(path: Path | BinaryIO, formats: tuple[str, ...] = FORMATS) -> Iterator[ImageFile.ImageFile]:
    """The image in ``path``, open but not decoded yet; BadInput for whatever goes wrong until it is closed."""
    try:
        file = path.open("rb") if isinstance(path, Path) else path
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}). Check the file.") from error
    try:
        with file, Image.open(file, formats=formats) as image:
            yield image
    except (BadInput, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise too_large(path) from error
    except UnidentifiedImageError as error:
        raise UnknownImage(
            f"{path} cannot be decoded as {', '.join(formats)}: it is damaged or of another format. Replace it, or "
            "convert it to PNG."
        ) from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error, ...
        raise damaged(path, error) from error


def too_large(path: Any) -> TooLargeImage:
    return TooLargeImage(
        f"{path} has more than {MOST_PIXELS / 1e6:.0f} million pixels. Cut it into tiles: [tiles] in the description, "
        "or `alseg init --tile`."
    )


def damaged(path: Any, error: Exception) -> BadInput:
    return BadInput(f"{path} cannot be decoded ({error}): it is damaged. Replace it.")


def image_paths(files: Sequence[Path]) -> list[Path]:
    """Those of ``files`` that are images by their endings; arrays only if there is nothing else."""
    images = [file for file in files if file.suffix.lower() in ENDINGS]
    return images or [file for file in files if file.suffix.lower() == ARRAY]


def contents(path: Path) -> Contents:
    """What the image file ``path`` contains, without decoding its pixels. BadInput if it is none."""
    if path.suffix.lower() == ARRAY:
        return contents_of_array(path, opened_array(path))
    try:
        with image_file(path) as image:
            return contents_of(image, len(pictures(image)))
    except (UnknownImage, TooLargeImage):
        if not is_tiff(path):
            raise
    with geo_file(path) as (file, pages):
        return contents_of_tiff(file, pages)


def stored_pixels(path: Path, page: int | None = None, rgb: bool = False) -> tuple[np.ndarray, Contents]:
    """The pixels in the file as stored (H,W,B), upright by the EXIF orientation, and what the file contains.

    ``page``: the picture to read, from 1; needed if there are several. ``rgb``: files of at most four bands with 8 bits
    are converted to RGB (H,W,3) u8, as viewers show them. BadInput for a file that is unreadable or damaged, for one
    with several pictures, and for a TIFF that needs a library which is not installed.
    """
    if path.suffix.lower() == ARRAY:
        chosen_page(path, 1, page)
        return array_pixels(path)
    try:
        with image_file(path) as image:
            frames = pictures(image)
            image.seek(frames[chosen_page(path, len(frames), page)])
            lossy = is_lossy_in_pillow(image)
            found = contents_of(image, len(frames))
            if not lossy:
                upright = ImageOps.exif_transpose(image)
                return converted(upright, rgb), found
            if found.form == "PNG":
                return deep_png_pixels(path, image.mode), found
    except UnknownImage:
        if not is_tiff(path):
            raise
    return tiff_pixels(path, page)


def chosen_page(path: Path, pages: int, page: int | None) -> int:
    """The number of the picture to read, from 0."""
    if page is None and pages > 1:
        raise BadInput(
            f"{path} contains {pages} pictures, and only one can be read. Set page (1 to {pages}) under [images] in "
            "the description, or save the picture you want as a file of its own."
        )
    if page is not None and page > pages:
        raise BadInput(f"{path} contains {pages} pictures, but page = {page} is to be read. Correct images.page.")
    return (page or 1) - 1


def pictures(image: ImageFile.ImageFile) -> list[int]:
    """The frames of an open file that are pictures of their own.

    Previews and masks of a TIFF say that they are; in a JPEG they are those of another size than the first picture.
    """
    count = getattr(image, "n_frames", 1)
    if count == 1:
        return [0]
    found, size = [], image.size
    for frame in range(count):
        image.seek(frame)
        kind = getattr(image, "tag_v2", {}).get(SUBFILE, 0)
        if frame == 0 or not (kind & (REDUCED | TRANSPARENCY) or (image.format == "MPO" and image.size != size)):
            found.append(frame)
    image.seek(0)
    return found


def contents_of(image: ImageFile.ImageFile, pages: int) -> Contents:
    """The contents of a file that is open at the picture to read."""
    tags, dtype = getattr(image, "tag_v2", {}), stored_dtype(image)  # before a PNG is decoded for its EXIF data
    height, width = image.size[::-1]
    if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):  # turned by a quarter
        height, width = width, height
    bands = tags.get(SAMPLES, len(image.getbands())) if image.mode in PLAIN_MODES else len(image.getbands())
    if image.mode not in PLAIN_MODES and image.mode[0] not in "IF1":
        bands = 3  # palettes and colour spaces are read as RGB
    nodata = None
    if NODATA in tags:
        try:
            nodata = float(str(tags[NODATA]).strip("\0 "))
        except ValueError:
            nodata = None
    return Contents(image.format or "", (height, width), bands, dtype, pages, nodata)


def stored_dtype(image: ImageFile.ImageFile) -> np.dtype[Any]:
    """The type of the values in an open file, which Pillow may decode to another one."""
    tags = getattr(image, "tag_v2", {})
    if tags:
        kind = {1: "u", 2: "i", 3: "f"}.get(tags.get(SAMPLE_FORMAT, (1,))[0], "u")
        bits = max(8, *tags.get(BITS, (1,)))
        return np.dtype(f"{kind}{bits // 8}") if bits in (8, 16, 32, 64) else np.dtype(np.uint16)
    if image.mode.startswith("I;16") or ";16" in raw_mode(image):
        return np.dtype(np.uint16)
    return DEEP_MODES.get(image.mode, np.dtype(np.uint8))


def raw_mode(image: ImageFile.ImageFile) -> str:
    """Pillow's name of the pixel format in an open file, which decoding forgets."""
    return str(image.tile[0].args) if image.tile else ""


def is_lossy_in_pillow(image: ImageFile.ImageFile) -> bool:
    """Whether Pillow would drop bits or bands of an open file."""
    tags = getattr(image, "tag_v2", {})
    if tags:
        samples, bits = tags.get(SAMPLES, 1), max(tags.get(BITS, (1,)))
        return samples > 4 or (samples > 1 and bits > 8)
    return ";16" in raw_mode(image) and image.mode[0] not in "IF"


def converted(image: Image.Image, rgb: bool) -> np.ndarray:
    """The pixels (H,W,B) of a decoded image; ``rgb``: three bands, if they have 8 bits."""
    deep = image.mode[0] in "IF"
    if not deep and (rgb or image.mode not in (*PLAIN_MODES, "1")):
        image = image.convert("RGB")
    if image.mode == "1":
        image = image.convert("L")
    values = np.array(image)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return values[..., None] if values.ndim == 2 else values


def deep_png_pixels(path: Path, mode: str) -> np.ndarray:
    """(H,W,B) u16 of a PNG with 16-bit colours, or grey and alpha, in the order of its bands."""
    import cv2

    found = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None:
        raise BadInput(f"{path} cannot be decoded: it is damaged. Replace it.")
    order = {"RGB": [2, 1, 0], "RGBA": [2, 1, 0, 3], "LA": [0, 3]}[mode]
    return found[..., order]


def is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in TIFF_HEADS


def tiff_tags(path: Path) -> dict[int, Any]:
    """The tags of the first picture of a TIFF by number, of any bands and bits; empty for other files."""
    if not is_tiff(path):
        return {}
    try:
        with path.open("rb") as file:
            head = file.read(8)
            head += file.read(8) if head[2] == BIG or head[3] == BIG else b""
            directory = ImageFileDirectory_v2(head)
            file.seek(directory.next)
            directory.load(file)
            return dict(directory)
    except Exception as error:  # as for `image_file`
        raise damaged(path, error) from error


@contextmanager
def gdal() -> Iterator[None]:
    """GDAL with a small cache and without files of its own beside images; BadInput if it is not installed."""
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning
    except ImportError as error:
        raise BadInput(
            f"Large images, and TIFFs of more bands or bits than photographs have, need rasterio ({error}). Run: pip "
            "install 'alseg[geo]'"
        ) from error
    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_PAM_ENABLED=False):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextmanager
def geo_file(path: Path, page: int = 1) -> Iterator[tuple[Any, int]]:
    """A TIFF open in GDAL at one of its pictures, and how many it contains; BadInput for whatever goes wrong."""
    try:
        with gdal():
            import rasterio

            with rasterio.open(path, driver="GTiff") as file:
                pages = max(1, len(file.subdatasets))
                if page == 1:
                    yield file, pages
            if page > 1:
                with rasterio.open(f"GTIFF_DIR:{page}:{path}", driver="GTiff") as file:
                    yield file, pages
    except (BadInput, MemoryError):
        raise
    except Exception as error:  # GDAL's own errors, and those of NumPy
        raise damaged(path, error) from error


def contents_of_tiff(file: Any, pages: int) -> Contents:
    """The contents of a TIFF that is open in GDAL."""
    return Contents("TIFF", (file.height, file.width), file.count, np.dtype(file.dtypes[0]), pages, file.nodata)


def tiff_pixels(path: Path, page: int | None) -> tuple[np.ndarray, Contents]:
    """See `stored_pixels`; all bands of a TIFF."""
    with geo_file(path) as (file, pages):
        number = chosen_page(path, pages, page) + 1
    with geo_file(path, number) as (file, _):
        if file.width * file.height > MOST_PIXELS:
            raise too_large(path)
        return np.moveaxis(file.read(), 0, 2), contents_of_tiff(file, pages)


def opened_array(path: Path) -> np.ndarray:
    """The array in a .npy file, on disk until it is read; BadInput if it is no image."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"{path} cannot be read as a NumPy array ({error}). Replace it.") from error
    if array.ndim not in (2, 3) or array.dtype.kind not in "buif" or not array.size:
        raise BadInput(
            f"{path} is an array of shape {array.shape} and type {array.dtype}. Write numbers as (height, width) or "
            "(height, width, bands)."
        )
    if array.ndim == 3 and array.shape[2] > 4 * array.shape[0] and array.shape[0] <= LIKELY_BANDS:
        raise BadInput(f"{path} has the shape {array.shape}, with bands first. Write (height, width, bands).")
    if array.shape[0] * array.shape[1] > MOST_PIXELS:
        raise too_large(path)
    return array


def contents_of_array(path: Path, array: np.ndarray) -> Contents:
    dtype = np.dtype(np.uint8) if array.dtype == bool else array.dtype
    return Contents("NPY", (array.shape[0], array.shape[1]), array.shape[2] if array.ndim == 3 else 1, dtype)


def array_pixels(path: Path) -> tuple[np.ndarray, Contents]:
    """See `stored_pixels`; of a .npy file."""
    array = opened_array(path)
    found = contents_of_array(path, array)
    return np.array(array, found.dtype).reshape(*found.size, found.bands), found
