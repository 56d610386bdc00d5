"""The table of images in scores, queries and annotations: ids and the grid that coordinates refer to."""

from collections.abc import Mapping, Sequence

import numpy as np

from stages.artifacts.hdf5 import Artifact, Writer
from stages.pixels.grids import Size
from stages.runtime.errors import BadInput


def write_images(writer: Writer, ids: Sequence[str], sizes: Mapping[str, Size]) -> None:
    """`/images/{id,height,width}` for ``ids``, in their order; other tables refer to rows of it."""
    writer.strings("images/id", ids)
    writer.array("images/height", np.array([sizes[image][0] for image in ids], dtype=np.int32))
    writer.array("images/width", np.array([sizes[image][1] for image in ids], dtype=np.int32))


def read_images(artifact: Artifact) -> tuple[list[str], dict[str, Size]]:
    """Ids in table order, and (height, width) per id."""
    ids = artifact.strings("images/id")
    heights, widths = artifact.read("images/height"), artifact.read("images/width")
    return ids, {image: (int(h), int(w)) for image, h, w in zip(ids, heights, widths, strict=True)}


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
