"""OpenCV for the cutters: imported when an image is cut, run on one thread, its errors converted to ours.

OpenCV hardly checks the input of its superpixels: sizes that it cannot cut end the process (a division by zero, a stray
write, an endless loop) instead of raising. So each cutter first computes what OpenCV derives from the image size, and
refuses sizes that would fail.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import sqrt
from typing import Any

from stages.runtime.errors import BadInput, StageFailed

SMALLEST_SIDE = 2  # of a region in slic and lsc, in pixels
SMALLEST_SHARE = 4  # slic, lsc: parts below a quarter of the mean size join a neighbour, which is OpenCV's own default


def require_ximgproc() -> Any:
    """The module cv2; BadInput if it is missing or lacks the superpixels."""
    remedy = (
        "Install opencv-contrib-python-headless and uninstall all other opencv packages: they overwrite each other."
    )
    try:
        import cv2
    except ImportError as error:
        raise BadInput(f"Cannot import OpenCV, which cuts superpixels: {error}. {remedy}") from None
    if not hasattr(getattr(cv2, "ximgproc", None), "createSuperpixelSEEDS"):
        version = getattr(cv2, "__version__", "of unknown version")
        raise BadInput(f"The installed OpenCV {version} has no superpixels (cv2.ximgproc). {remedy}")
    return cv2


@contextmanager
def opencv() -> Iterator[Any]:
    """The module cv2 on one thread; StageFailed for its errors.

    One thread, because its SLIC adds floats in the order in which threads end, and images are cut in parallel anyway.
    """
    cv2 = require_ximgproc()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield cv2
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(error.err) from None
        raise StageFailed(f"OpenCV failed in {error.func}: {error.err}") from None
    finally:
        cv2.setNumThreads(threads)


def region_side(height: int, width: int, count: int, name: str) -> int:
    """Side of ``count`` squares that cover the image, for OpenCV's SLIC and LSC; at most the image's short side.

    BadInput for images narrower than the smallest region; ``name`` is that of the cutter.
    """
    if min(height, width) < SMALLEST_SIDE:
        raise BadInput(
            f"{name} cannot cut an image of {height} x {width} pixels: each side must have at least {SMALLEST_SIDE} "
            "pixels. Use --method grid."
        )
    return max(SMALLEST_SIDE, min(round(sqrt(height * width / count)), height, width))
