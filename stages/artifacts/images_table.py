"""The table of images in scores, queries and annotations: ids and the grid that coordinates refer to."""

from collections.abc import Mapping, Sequence

import numpy as np

from stages.artifacts.hdf5 import Artifact, Writer
from stages.artifacts.structure import Array
from stages.pixels.grids import Size
from stages.runtime.errors import BadInput

MOST_PIXELS = 2**31  # runs and flat indices of an image have 32 bits
IMAGES = (
    Array("images/id", ("S",), ("N",), unique=True),
    Array("images/height", ("i",), ("N",), low=1),
    Array("images/width", ("i",), ("N",), low=1),
)


def write_images(writer: Writer, ids: Sequence[str], sizes: Mapping[str, Size]) -> None:
    """`/images/{id,height,width}` for ``ids``, in their order; other tables refer to rows of it."""
    writer.strings("images/id", ids)
    writer.array("images/height", np.array([sizes[image][0] for image in ids], dtype=np.int32))
    writer.array("images/width", np.array([sizes[image][1] for image in ids], dtype=np.int32))


def read_images(artifact: Artifact) -> tuple[list[str], dict[str, Size]]:
    """Ids in table order, and (height, width) per id."""
    ids = artifact.strings("images/id")
    heights, widths = artifact.read("images/height"), artifact.read("images/width")
    require_sides(artifact, "images", heights, widths)
    return ids, {image: (int(h), int(w)) for image, h, w in zip(ids, heights, widths, strict=True)}


def require_sides(artifact: Artifact, table: str, heights: np.ndarray, widths: np.ndarray) -> None:
    """BadInput for an image of more pixels than fit; the longest sides become the extents ``H`` and ``W``."""
    if (heights.astype(np.int64) * widths >= MOST_PIXELS).any():
        raise artifact.invalid(f"{table}/height", f"and {table}/width name an image of {MOST_PIXELS} pixels or more")
    artifact.extents |= {"H": int(heights.max(initial=0)), "W": int(widths.max(initial=0))}


def require_inside(artifact: Artifact, table: str, image: np.ndarray, y: np.ndarray, x: np.ndarray) -> None:
    """BadInput unless each (y, x) is in its image or is (-1, -1); ``image`` indexes the table of images."""
    sides = np.array(list(artifact.sizes.values()), dtype=np.int64).reshape(-1, 2)[image]
    wrong = (y >= sides[:, 0]) | (x >= sides[:, 1]) | ((y < 0) != (x < 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise artifact.invalid(f"{table}/y", f"and {table}/x are outside the image in row {row} ({y[row]}, {x[row]})")


def require_same_grid(artifact: Artifact, before: Mapping[str, Size], sizes: Mapping[str, Size]) -> None:
    """BadInput if ``artifact``, a ledger with grids ``before``, has an image on another grid than ``sizes``."""
    for image in before.keys() & sizes.keys():
        if before[image] != sizes[image]:
            old, new = (f"{height} x {width}" for height, width in (before[image], sizes[image]))
            raise BadInput(
                f"{artifact.path} queried image {image} on a grid of {old} pixels, but these scores have "
                f"{new}. Score on the same grid in all rounds (--grid-scale, --superpixels)."
            )


def rows_by_image(image_column: np.ndarray, ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Row numbers of each image's rows, in row order; images without rows are left out.

    ``image_column`` (Q,) int indexes ``ids``.
    """
    order = np.argsort(image_column, kind="stable")
    present, starts = np.unique(image_column[order], return_index=True)
    return {ids[index]: rows for index, rows in zip(present, np.split(order, starts[1:]), strict=True)}
