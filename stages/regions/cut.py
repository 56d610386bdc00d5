"""One image cut into regions, with all that the artifact says about them; this runs in worker processes."""

from dataclasses import dataclass

import numpy as np

from stages.regions.graph import adjacency, contract, contract_table, region_table
from stages.regions.merging import merge, visiting_order
from stages.regions.segmentation import oracle, segment
from stages.runtime.randomness import stream
from stages.settings.extract_superpixels import ExtractSettings


@dataclass(frozen=True)
class Graph:
    """The K regions of an image: columns of their table (K,), and who touches whom as CSR."""

    table: dict[str, np.ndarray]
    offsets: np.ndarray
    neighbours: np.ndarray

    @property
    def count(self) -> int:
        return len(self.offsets) - 1


def cut(task: tuple[np.ndarray, ExtractSettings]) -> tuple[np.ndarray, Graph]:
    """(H,W) i32 region ids of an image (H,W,3) u8, or for method oracle of its mask (H,W) u8, and their graph."""
    pixels, settings = task
    labels = oracle(pixels) if settings.method == "oracle" else segment(pixels, settings)
    count = int(labels.max(initial=-1)) + 1
    return labels, Graph(region_table(labels, count), *adjacency(labels, count))


@dataclass(frozen=True)
class MergeTask:
    """What merging the base regions of one image takes: mean class probabilities (K,C), mean uncertainty (K,)."""

    image: str
    probabilities: np.ndarray
    uncertainty: np.ndarray
    base: Graph
    settings: ExtractSettings


def merge_image(task: MergeTask) -> tuple[np.ndarray, np.ndarray, Graph]:
    """The merged region of each base region (K,) i32, the base region each merged one grew from, and their graph."""
    settings, base = task.settings, task.base
    rank = visiting_order(task.uncertainty, settings.order, stream(settings.seed, "merging", task.image))
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
    return group, grown.astype(np.int32), Graph(table, *contract(base.offsets, base.neighbours, group, len(grown)))
