"""The file of a leaderboard: rounds by recipe as JSON, and the pixel counts per image beside it."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError

from stages.artifacts.request import publish_extra
from stages.datasets.fields import Table
from stages.evaluating.counts import ImageCounts
from stages.runtime.errors import BadInput
from stages.runtime.limited import read_limited
from stages.settings.base import settings_faults
from stages.settings.common import Undefined

MOST_BYTES = 1 << 26
COUNTS = ("hits", "predicted")


class Round(Table):
    """One evaluated model; mIoU in %, None on val if it was not validated."""

    seed: int
    round: int
    clicks: float
    seconds: float
    miou_val: float | None
    miou_test: float


class Results(Table):
    """The runs of a recipe; ``random`` is the recipe that differs from it by chance alone."""

    seeds: list[int]
    random: str | None = None
    rounds: list[Round]


class Measurement(Table):
    """What all numbers of a leaderboard have in common; those of another one cannot be added."""

    dataset: str
    split: str
    checkpoint: str
    undefined: Undefined = "skip"


class Written(Table):
    """The JSON file."""

    measured: Measurement
    recipes: dict[str, Results] = Field(default_factory=dict)


Key = tuple[str, int, int]
"""Recipe, seed and round."""


@dataclass(frozen=True)
class Board:
    """The JSON file, and the pixel counts per image that intervals are resampled from."""

    written: Written
    counts: Mapping[Key, ImageCounts]


def counts_path(output: Path) -> Path:
    """The file with the pixel counts of the leaderboard ``output``."""
    return output.with_suffix(".npz")


def write_board(board: Board, path: Path) -> None:
    """Writes the JSON file, and before it the counts beside it."""
    publish_extra(counts_path(path), counts_bytes(board.counts))
    publish_extra(path, (json.dumps(board.written.model_dump(), indent=1) + "\n").encode())


def read_board(path: Path) -> Board:
    """The leaderboard in a JSON file with its counts; BadInput if they are damaged or do not belong together."""
    text = read_limited(path, MOST_BYTES)
    try:
        written = Written.model_validate_json(text)
    except ValidationError as error:
        raise BadInput(settings_faults(Written, error, str(path))) from None
    counts = read_counts(counts_path(path), written.measured.undefined)
    keys = {(name, row.seed, row.round) for name, each in written.recipes.items() for row in each.rounds}
    if keys != counts.keys():
        raise BadInput(f"{counts_path(path)} does not belong to {path}. Remove both and add all runs again.")
    return Board(written, counts)


def counts_bytes(counts: Mapping[Key, ImageCounts]) -> bytes:
    """The counts as a compressed archive of NumPy: keys (E,), images (I,), truth (I,C), hits and predicted (E,I,C)."""
    keys = sorted(counts)
    first = counts[keys[0]]
    hits, predicted = (np.array([getattr(counts[key], name) for key in keys], dtype=np.int32) for name in COUNTS)
    file = io.BytesIO()
    np.savez_compressed(
        file,
        keys=np.array([" ".join(map(str, key)) for key in keys]),
        images=np.array(first.images),
        truth=first.truth.astype(np.int32),
        hits=hits,
        predicted=predicted,
    )
    return file.getvalue()


def read_counts(path: Path, undefined: Undefined) -> dict[Key, ImageCounts]:
    """What `counts_bytes` wrote; BadInput if the file is missing or damaged."""
    content = read_limited(path, MOST_BYTES)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("keys", "images", "truth", *COUNTS)}
        shape = (len(arrays["keys"]), *arrays["truth"].shape)
        if any(arrays[name].shape != shape for name in COUNTS) or len(arrays["images"]) != shape[1]:
            raise ValueError("shapes differ")
        keys = [
            (name, int(seed), int(number)) for name, seed, number in (str(key).rsplit(" ", 2) for key in arrays["keys"])
        ]
    except (OSError, KeyError, ValueError, EOFError, IndexError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} is damaged. Remove it and the .json beside it, and add all runs again.") from error
    images, truth = tuple(map(str, arrays["images"])), arrays["truth"].astype(np.int64)
    return {
        key: ImageCounts(images, arrays["hits"][row], truth, arrays["predicted"][row], undefined)
        for row, key in enumerate(keys)
    }


def complete_seeds(rows: Sequence[Round]) -> list[int]:
    """The seeds that have reached the last round that any has."""
    last = max((row.round for row in rows), default=0)
    return sorted({row.seed for row in rows if row.round == last})
