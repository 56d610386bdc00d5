"""Publishes the regions of the images of a split, shard by shard: label maps, the table of regions, the graph."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stages.artifacts.hdf5 import Writer
from stages.artifacts.header import Header
from stages.artifacts.images_table import write_images
from stages.artifacts.request import Request
from stages.artifacts.shards import Parts, build_shards, join_shards
from stages.artifacts.superpixels import TABLE
from stages.pixels.grids import Size
from stages.regions.cut import RegionGraph

Found = dict[str, Any]


def publish_regions(
    request: Request,
    ids: list[str],
    grids: Mapping[str, Size],
    work: Callable[[Sequence[str]], Iterator[Found]],
    shard_images: int,
    said: str,
    attributes: Mapping[str, Any],
    further: Callable[[Writer, Parts, np.ndarray, np.ndarray], None] | None = None,
    warn: Callable[[Mapping[str, Any]], None] | None = None,
) -> str:
    """Publishes what ``work`` finds in the images that it is given; returns a one-line summary.

    ``work`` yields for each image its `labels` (H,W) i32 on ``grids``, its `graph` (`RegionGraph`) and further columns
    of a row per region. ``further(writer, parts, first, numbers)`` writes these: first (N,) i64 is the index of the
    first region of each image, numbers (N,) i64 how many it has. ``warn`` is called with the counts of the header.
    """

    def fill(writer: Writer, part: Iterable[tuple[str, Found]]) -> dict[str, Any]:
        """Writes label maps; the tables over all images are assembled when the shards are joined."""
        numbers: dict[str, int] = {}
        for image, found in part:
            writer.array(f"labels/{image}", found.pop("labels"))
            graph: RegionGraph = found.pop("graph")
            columns = graph.table | {"degree": np.diff(graph.offsets), "neighbours": graph.neighbours} | found
            for name, values in columns.items():
                writer.rows(name, values)
            numbers[image] = graph.count
        return {"regions": numbers}

    shards = build_shards(request, ids, shard_images, fill, said, work=work)
    if request.share is not None:
        return shards.told_share()

    def finish(writer: Writer, parts: Parts) -> Header:
        regions = parts.merged("regions")
        numbers = np.array([regions[image] for image in ids], dtype=np.int64)
        first = np.concatenate([[0], np.cumsum(numbers)[:-1]]).astype(np.int64)
        write_images(writer, ids, grids)
        writer.array("images/first_region", first)
        writer.array("images/num_regions", numbers.astype(np.int32))
        writer.array("regions/image", np.repeat(np.arange(len(ids), dtype=np.int32), numbers))
        writer.array("regions/label", (np.arange(numbers.sum()) - np.repeat(first, numbers)).astype(np.int32))
        for name in TABLE:
            writer.array(f"regions/{name}", parts.column(name).astype(np.int32))
        degree = parts.column("degree")
        writer.array("adjacency/offsets", np.concatenate([[0], np.cumsum(degree)]).astype(np.int64))
        neighbours = parts.column("neighbours")  # in place and in 32 bits to save memory: Cityscapes has 140 million
        neighbours += np.repeat(np.repeat(first.astype(np.int32), numbers), degree)
        writer.array("adjacency/neighbours", neighbours)
        if further is not None:
            further(writer, parts, first, numbers)
        return request.header(dict(attributes), region_counts(numbers, parts.column("size")))

    counts = join_shards(shards, finish).counts
    if warn is not None:
        warn(counts)
    return region_summary(counts, len(ids))


def region_counts(numbers: np.ndarray, sizes: np.ndarray) -> dict[str, Any]:
    """Statistics of the result: regions per image and region sizes."""
    percentiles = (0, 1, 5, 25, 50, 75, 95, 99, 100)
    found = np.percentile(sizes, percentiles) if len(sizes) else np.zeros(len(percentiles))
    return {
        "regions": int(numbers.sum()),
        "per_image": {"mean": float(numbers.mean()), "minimum": int(numbers.min()), "maximum": int(numbers.max())},
        "mean_size": float(sizes.mean()) if len(sizes) else 0.0,
        "size_percentiles": {str(name): float(value) for name, value in zip(percentiles, found, strict=True)},
    }


def region_summary(counts: Mapping[str, Any], images: int) -> str:
    """The counts in words."""
    return (
        f"{counts['regions']} regions in {images} images ({counts['per_image']['mean']:.1f} per image), "
        f"median {counts['size_percentiles']['50']:.0f} pixels"
    )
