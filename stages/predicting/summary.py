"""What is written about all masks together: the share of each class per image, and a COCO document."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from stages.answering.exchange.outlines import Outlines
from stages.pixels.grids import Size
from stages.pixels.void import VOID
from stages.predicting.sources import Source


def shares_table(
    masks: Iterable[tuple[Source, np.ndarray, Size, float | None]], classes: Sequence[str], void_is_no_data: bool
) -> bytes:
    """CSV with a row per image: its size, the share of each class, and areas in square metres if they are known.

    ``masks``: images, how many pixels of their mask have each value (256,), sizes, and the side of a pixel in metres or
    None. `unsure_share` is the rest. Shares are of the pixels with data.
    """
    rows = []
    for source, counts, (height, width), side in masks:
        pixels = counts[: len(classes)]
        with_data = max(1, height * width - (int(counts[VOID]) if void_is_no_data else 0))
        shares = (pixels / with_data).tolist()
        unsure = max(0.0, 1 - pixels.sum() / with_data) if height * width > counts[VOID] else 0.0
        areas = [] if side is None else (pixels * side**2).tolist()
        rows.append((source.file_name, width, height, [*shares, unsure], areas))
    with_areas = any(areas for *_, areas in rows)
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    headings = [f"{name}_share" for name in (*classes, "unsure")]
    table.writerow(["image", "width", "height", *headings, *(f"{name}_m2" for name in classes if with_areas)])
    for name, width, height, shares, areas in rows:
        area_columns = [f"{area:.6g}" for area in areas] or [""] * (len(classes) if with_areas else 0)
        table.writerow([name, width, height, *(f"{share:.6f}" for share in shares), *area_columns])
    return text.getvalue().encode()


def class_outlines(masks: Iterable[tuple[Source, np.ndarray]], number: int) -> Iterator[tuple[Source, Outlines]]:
    """Per image one shape for each of the ``number`` classes in its mask (H,W) u8."""
    for source, mask in masks:
        present = np.unique(mask)
        present = present[present < number]
        shape = np.full(256, -1, dtype=np.int32)
        shape[present] = np.arange(len(present))
        yield source, Outlines(shape[mask], [[value] for value in present.tolist()])
