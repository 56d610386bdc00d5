"""Opening image files that others made: a fixed list of formats, a limit on their size, one sentence for the rest.

All of the project opens images here. Left to choose, Pillow takes any format that the bytes claim, whatever the name
says: an EPS starts Ghostscript, and rare formats have decoders that few people ever tested.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile, UnidentifiedImageError

from stages.runtime.errors import BadInput

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")  # Pillow's names; PPM: also PGM and PBM
LOSSY_FORMATS = ("JPEG", "MPO")  # MPO: what Pillow calls a JPEG with several pictures
MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # where Pillow refuses; it only warns from half of that on

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


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
        raise BadInput(f"{path} has more than {MOST_PIXELS / 1e6:.0f} million pixels. Cut it into tiles.") from error
    except UnidentifiedImageError as error:
        raise BadInput(
            f"{path} cannot be decoded as {', '.join(formats)}: it is damaged or of another format. Replace it, or "
            "convert it to PNG."
        ) from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error, ...
        raise BadInput(f"{path} cannot be decoded ({error}): it is damaged. Replace it.") from error
