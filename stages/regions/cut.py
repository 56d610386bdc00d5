"""Cuts one image into regions and computes what the artifact records of them; runs in worker processes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.regions.components import compact, connected_components
from stages.regions.graph import adjacency, contract, contract_table, region_table
from stages.regions.merging import merge, visiting_order
from stages.runtime.errors import BadInput
from stages.runtime.parts import CUTTERS
from stages.runtime.randomness import stream
from stages.settings.base import PartSettings
from stages.settings.extract_superpixels import MergeSettings


@dataclass(frozen=True)
class RegionGraph:
    """The K regions of an image: columns of their table (K,), and which regions touch as CSR (see graph.py)."""

    table: dict[str, np.ndarray]
    offsets: np.ndarray
    neighbours: np.ndarray

    @property
    def count(self) -> int:
        return len(self.offsets) - 1


def cut(
    pixels: np.ndarray, method: str, split_parts: bool = False, without_data: np.ndarray | None = None, **own: Any
) -> np.ndarray:
    """(H,W) i32 region ids of an image, 0..K-1 without gaps, -1 = no region.

    pixels: the image (H,W,3) u8 RGB, or the mask (H,W) u8 if the cutter ``method`` reads masks. ``own`` are the
    cutter's settings. ``split_parts`` makes each 4-connected part its own region. Pixels ``without_data`` (H,W) bool
    are in no region. BadInput for unknown names, for images that the cutter cannot cut, and for a cutter that does not
    return labels.
    """
    part = CUTTERS[method]
    settings = (part.settings or PartSettings).load(own, f"method {method}")
    labels = part(pixels, settings if part.settings else None)
    if not isinstance(labels, np.ndarray) or labels.shape != pixels.shape[:2] or labels.dtype.kind not in "iu":
        given = f"{labels.dtype} {labels.shape}" if isinstance(labels, np.ndarray) else type(labels).__name__
        raise BadInput(
            f"Cutter {method!r} returned {given} for an image of shape {pixels.shape[:2]}. Return an integer array of "
            "that shape."
        )
    if without_data is not None:
        labels = np.where(without_data, labels.dtype.type(-1), labels)
    return connected_components(labels, 4) if split_parts else compact(labels)


@dataclass(frozen=True)
class CutTask:
    """The name of an image and the arguments of `cut` for it."""

    image: str
    pixels: np.ndarray
    method: str
    split_parts: bool
    own: Mapping[str, Any]
    without_data: np.ndarray | None = None


def cut_image(task: CutTask) -> tuple[np.ndarray, RegionGraph]:
    """(H,W) i32 region ids of an image, and their graph; BadInput names the image."""
    try:
        labels = cut(task.pixels, task.method, task.split_parts, task.without_data, **task.own)
    except BadInput as error:
        raise BadInput([f"{task.image}: {fault}" for fault in error.faults]) from error
    return labels, graph_of(labels)


def graph_of(labels: np.ndarray) -> RegionGraph:
    """The graph of the regions 0..K-1 in labels (H,W) i32."""
    count = int(labels.max(initial=-1)) + 1
    return RegionGraph(region_table(labels, count), *adjacency(labels, count))


@dataclass(frozen=True)
class MergeTask:
    """Input for merging the base regions of one image: mean class probabilities (K,C), mean uncertainty (K,)."""

    image: str
    probabilities: np.ndarray
    uncertainty: np.ndarray
    base: RegionGraph
    settings: MergeSettings
    seed: int


def merge_image(task: MergeTask) -> tuple[np.ndarray, np.ndarray, RegionGraph]:
    """The merged region of each base region (K,) i32, the base region each merged one grew from, and their graph."""
    settings, base = task.settings, task.base
    rank = visiting_order(task.uncertainty, settings.order, stream(task.seed, "merging", task.image))
    roots = merge(
        task.probabilities,
        base.offsets,
        base.neighbours,
        settings.epsilon,
        rank,
        base.table["size"],
        settings.max_region_pixels,
        settings.max_fraction,
    )
    grown, group = np.unique(roots, return_inverse=True)
    group = group.astype(np.int32)
    table = contract_table(base.table, group, len(grown))
    return (
        group,
        grown.astype(np.int32),
        RegionGraph(table, *contract(base.offsets, base.neighbours, group, len(grown))),
    )
