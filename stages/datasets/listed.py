"""A table of the files of a dataset, for layouts that no pattern describes; `alseg init` writes it.

CSV with a heading: `image` and `mask` are paths relative to --root (mask empty: none), `id` names the image in all
artifacts (empty or absent: the path of the image without its ending), `split` is its split (absent: train).
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stages.runtime.errors import BadInput

COLUMNS = ("id", "split", "image", "mask")
MOST_BYTES = 1 << 28
FIRST_FAULTS = 20


@dataclass(frozen=True)
class ListedFile:
    """A row of the table."""

    id: str
    split: str
    image: str
    mask: str


@dataclass(frozen=True)
class FileTable:
    """The rows of the table ``path``."""

    path: Path
    rows: tuple[ListedFile, ...]

    @property
    def splits(self) -> list[str]:
        """The splits in the order of their first row."""
        return list(dict.fromkeys(row.split for row in self.rows))


def read_file_table(path: Path) -> FileTable:
    """The table in ``path``; BadInput with its first faults, one sentence each."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({error}). Check the key files of the description.") from error
    table = csv.DictReader(io.StringIO(text, newline=""), restval="")
    headings = table.fieldnames or []
    unknown = [name for name in headings if name not in COLUMNS]
    if "image" not in headings or unknown:
        raise BadInput(f"{path} has the columns {', '.join(headings)}. Use image and any of id, split, mask.")
    rows = tuple(
        ListedFile(row.get("id") or named(row["image"]), row.get("split") or "train", row["image"], row.get("mask", ""))
        for row in table
    )
    if faults := table_faults(path, rows):
        raise BadInput(faults[:FIRST_FAULTS])
    return FileTable(path, rows)


def named(image: str) -> str:
    return PurePosixPath(image).with_suffix("").as_posix() if PurePosixPath(image).name else ""


def table_faults(path: Path, rows: Iterable[ListedFile]) -> list[str]:
    faults = [] if rows else [f"{path} lists no images. Add a row for each image."]
    for number, row in enumerate(rows, start=2):
        for column, value in (("image", row.image), ("mask", row.mask)):
            parts = PurePosixPath(value).parts
            if (column == "image" and not parts) or (parts and (parts[0] == "/" or ".." in parts)):
                faults.append(f"{path}, line {number}: {column} = {value!r} is no path below --root. Correct it.")
        parts = PurePosixPath(row.id).parts
        if not parts or parts[0] == "/" or {"..", "."} & {*row.id.split("/")}:
            faults.append(f"{path}, line {number}: id = {row.id!r} is no name of an image. Correct it.")
    twice = [id for id, count in Counter(row.id for row in rows).items() if count > 1]
    return faults + [f"{path} has the id {id!r} more than once. Write unique ids into the column id." for id in twice]


def file_table(rows: Iterable[ListedFile]) -> bytes:
    """The table as CSV."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows((row.id, row.split, row.image, row.mask) for row in rows)
    return text.getvalue().encode()
