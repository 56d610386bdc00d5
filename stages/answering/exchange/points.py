"""Tables of labelled points: CSV with image, row, column and label under any of the usual headings."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.runtime.errors import BadInput
from stages.runtime.limited import read_limited

MOST_BYTES = 1 << 29
# Column -> its headings in lower case without spaces, dots, dashes and underscores; the first that occurs counts
HEADINGS = {
    "image": ("image", "imagename", "imagefile", "imagefilename", "filename", "file", "name", "photo", "photoname",
              "picture", "imagepath", "path", "imageid"),
    "y": ("row", "rows", "y", "ycoord", "ycoordinate", "ypixel", "ypx", "pixely", "pointy", "ypos", "yposition"),
    "x": ("column", "col", "columns", "x", "xcoord", "xcoordinate", "xpixel", "xpx", "pixelx", "pointx", "xpos",
          "xposition"),
    "label": ("label", "labelname", "class", "classname", "category", "categoryname", "species", "taxon", "labelcode",
              "code", "annotation"),
    "annotator": ("annotator", "annotatedby", "observer", "user", "username"),
    "height": ("imageheight", "height"),
    "width": ("imagewidth", "width"),
}  # fmt: skip
NEEDED = ("image", "y", "x", "label")
SAID = {"image": "image", "y": "row (or y)", "x": "column (or x)", "label": "label"}
SPACING = re.compile(r"[\s._\-]+")


@dataclass(frozen=True)
class PointTable:
    """P points: ``image``, ``label`` and ``annotator`` (P,) i64 index the lists of names; "" means none.

    y and x (P,) f64 in pixels of the image, from its upper left corner; line (P,) i64; sizes (P,2) f64 height and width
    of the image, nan if the table does not say.
    """

    path: Path
    images: list[str]
    labels: list[str]
    annotators: list[str]
    image: np.ndarray
    label: np.ndarray
    annotator: np.ndarray
    y: np.ndarray
    x: np.ndarray
    line: np.ndarray
    sizes: np.ndarray

    def at(self, row: int) -> str:
        """Where the point ``row`` is in the file, in words."""
        return f"{self.path}, line {self.line[row]}"


def read_points(path: Path) -> PointTable:
    """The labelled points in a table; rows without a label are left out.

    BadInput for missing columns and for coordinates that are not pixels, the first of each kind.
    """
    try:
        text = read_limited(path, MOST_BYTES).decode("utf-8-sig")
        separator, places = columns_of(path, text.partition("\n")[0])
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} is not a CSV table in UTF-8 ({error}). Export it again.") from error
    last = max(places.values())
    lines = [number for number, row in enumerate(rows[1:], start=2) if any(cell.strip() for cell in row)]
    short = next((number for number in lines if len(rows[number - 1]) <= last), None)
    if short is not None:
        raise BadInput(f"{path}, line {short} has fewer columns than the heading. Correct it.")
    lines = [number for number in lines if rows[number - 1][places["label"]].strip()]
    if not lines:
        raise BadInput(f"{path} contains no labelled points. Check that it is the right file.")
    columns = {name: [rows[number - 1][place].strip() for number in lines] for name, place in places.items()} | {
        name: [""] * len(lines) for name in HEADINGS.keys() - places.keys()
    }
    numbers = {name: numbers_in(path, lines, columns[name], rows[0][places[name]]) for name in ("y", "x")}
    inside = all(((values >= 0) & (values <= 1)).all() for values in numbers.values())
    if inside and any((values % 1).any() for values in numbers.values()):
        raise BadInput(f"{path} has coordinates from 0 to 1, not in pixels. Multiply them by height and width.")
    sizes = [
        numbers_in(path, lines, columns[name], name) if any(columns[name]) else np.full(len(lines), np.nan)
        for name in ("height", "width")
    ]
    named = {name: np.unique(columns[name], return_inverse=True) for name in ("image", "label", "annotator")}
    images, labels, annotators = (found.tolist() for found, _ in named.values())
    image, label, annotator = (place for _, place in named.values())
    line = np.array(lines, dtype=np.int64)
    return PointTable(
        path, images, labels, annotators, image, label, annotator, numbers["y"], numbers["x"], line, np.stack(sizes, 1)
    )


def columns_of(path: Path, heading: str) -> tuple[str, dict[str, int]]:
    """The separator of a table, and the place of each column; BadInput if one that is needed is missing."""
    best: dict[str, int] = {}
    for separator in (",", ";", "\t"):
        names = [SPACING.sub("", name).lower() for name in next(csv.reader([heading], delimiter=separator), [])]
        places = {
            column: names.index(next(name for name in known if name in names))
            for column, known in HEADINGS.items()
            if not names_missing(known, names)
        }
        if all(column in places for column in NEEDED):
            return separator, places
        best = max(best, places, key=len)
    missing = [SAID[column] for column in NEEDED if column not in best]
    raise BadInput(
        f"{path} lacks a column for {', '.join(missing)}. Name the columns image, row, column and label in its first "
        "line."
    )


def names_missing(known: Sequence[str], names: Sequence[str]) -> bool:
    return not any(name in names for name in known)


def numbers_in(path: Path, lines: Sequence[int], cells: Sequence[str], heading: str) -> np.ndarray:
    """(P,) f64; BadInput for the first cell that is not a finite number."""
    try:
        values = np.array(cells, dtype=np.float64)
    except ValueError:
        values = np.array([number_or_nan(cell) for cell in cells])
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        first = int(wrong[0])
        raise BadInput(f"{path}, line {lines[first]}: {heading} is {cells[first][:40]!r}, not a number. Correct it.")
    return values


def number_or_nan(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan
