"""What all methods of `pseudo-label` write."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.hdf5 import Writer
from stages.artifacts.images_table import write_images
from stages.artifacts.shards import Parts
from stages.pixels.void import VOID

REGION_COLUMNS = ("answer", "pixels", "kept", "threshold")
PROTOTYPE_COLUMNS = ("prototypes/answer", "prototypes/class", "prototypes/y", "prototypes/x")


def finish_labels(
    writer: Writer, parts: Parts, ids: Sequence[str], ledger: Annotations, with_prototypes: bool
) -> dict[str, Any]:
    """Writes the tables that `record` collected, and returns the counts of the header."""
    labelled = parts.merged("labelled")
    write_images(writer, ids, ledger.sizes)
    writer.array("images/labelled_pixels", np.array([labelled[image] for image in ids], dtype=np.int64))
    rows, pixels, kept = parts.column("answer"), parts.column("pixels"), parts.column("kept")
    order = np.argsort(rows)
    for name, values in {"answer": rows, "pixels": pixels, "kept": kept}.items():
        writer.array(f"regions/{name}", values[order].astype(np.int32))
    writer.array("regions/threshold", parts.column("threshold")[order].astype(np.float32))
    if with_prototypes:
        for name in PROTOTYPE_COLUMNS:
            writer.array(name, parts.column(name))
    return {
        "images": ledger.header.counts["images"],
        "regions": len(rows),
        "sieved_regions": int((kept < pixels).sum()),
        "region_pixels": int(pixels.sum()),
        "kept_pixels": int(kept.sum()),
        "labelled_pixels": int(sum(labelled.values())),
    }


def record(writer: Writer, image: str, labels: np.ndarray, columns: Sequence[np.ndarray]) -> int:
    """Writes the labels (H,W) u8 of ``image`` and the rows of its region answers; returns the labelled pixels.

    columns: answer (row of the ledger), pixels, kept pixels and threshold, each (A,).
    """
    writer.array(f"labels/{image}", labels)
    for name, values in zip(REGION_COLUMNS, columns, strict=True):
        writer.rows(name, values)
    return int((labels != VOID).sum())
