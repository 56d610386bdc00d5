"""Two selections compared query by query."""

from typing import Any

from stages.artifacts.hdf5 import Artifact
from stages.artifacts.model import Model
from stages.artifacts.queries import Queries
from stages.runtime.errors import BadInput


def compared(ours: Artifact | Model, theirs: Artifact | Model) -> dict[str, Any]:
    """Of how many queries of two files both name the same pixel, region or image, and where they differ.

    ``shared_in_first_half``: of the better half of each file. BadInput unless both are queries of the same unit, and
    of the same regions.
    """
    if not isinstance(ours, Queries) or not isinstance(theirs, Queries):
        raise BadInput(f"--against compares queries. Pass two files of queries, not {ours.path} and {theirs.path}.")
    if ours.unit != theirs.unit:
        raise BadInput(f"{ours.path} contains {ours.unit}s and {theirs.path} {theirs.unit}s. Pass queries of one unit.")
    regions = [each.header.inputs.get("superpixels") for each in (ours, theirs)]
    if ours.unit == "region" and len({each.digest for each in regions if each is not None}) > 1:
        raise BadInput(f"{ours.path} and {theirs.path} name regions of different files. Pass queries of one file.")
    left, right = units(ours), units(theirs)
    shared = set(left) & set(right)
    halves = [set(each[: len(each) // 2]) for each in (left, right)]
    images = {image for image, *_ in set(left) ^ set(right)}
    return {
        "against": {
            "file": str(theirs.path),
            "queries": [len(left), len(right)],
            "shared": len(shared),
            "share": len(shared) / len(left) if left else 0.0,
            "same_place_in_order": sum(one == other for one, other in zip(left, right, strict=False)),
            "shared_in_first_half": len(halves[0] & halves[1]),
            "images_that_differ": len(images),
        }
    }


def units(queries: Queries) -> list[tuple[str, int, int, int]]:
    """What each query is about, in rank order."""
    ids = [queries.ids[image] for image in queries.image.tolist()]
    region = queries.region.tolist() if queries.unit == "region" else [-1] * len(ids)
    return list(zip(ids, queries.y.tolist(), queries.x.tolist(), region, strict=True))
