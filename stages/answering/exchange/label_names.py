"""What the labels of other programs mean: classes of the dataset by name, a table of other names, void, or nothing."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from stages.pixels.void import VOID
from stages.runtime.errors import BadInput
from stages.runtime.limited import read_limited

OMITTED = -1
"""The value of what is not labelled."""
UNKNOWN = -2
MOST_BYTES = 1 << 24
MOST_LISTED = 12
Others = Literal["refuse", "void", "omit"]


class LabelNames:
    """The value of a label: a class, `VOID`, or `OMITTED`; what is unknown is counted to be refused at the end.

    Names are compared without upper and lower case, unless two classes differ in nothing else.
    """

    def __init__(self, classes: Sequence[str], table: Mapping[str, str], others: Others):
        self.classes = classes
        self.rest = {"refuse": UNKNOWN, "void": VOID, "omit": OMITTED}[others]
        self.unknown: Counter[str] = Counter()
        self.by_name = {"void": VOID} | {name.casefold(): number for number, name in enumerate(classes)}
        self.by_name |= {name: number for number, name in enumerate(classes)}
        targets = {"omit": OMITTED} | self.by_name
        wrong = [name for name in table.values() if self._found(name, targets) is None]
        if wrong:
            raise BadInput(
                f"{wrong[0]!r} in the names of labels is not a class. Use {', '.join(classes)}, void or omit."
            )
        named = {name.strip(): self._found(target, targets) for name, target in table.items()}
        self.table = {name.casefold(): value for name, value in named.items()} | named

    @staticmethod
    def _found(name: str, values: Mapping[str, int | None]) -> int | None:
        return values.get(name.strip(), values.get(name.strip().casefold()))

    def value(self, name: str, count: int = 1) -> int:
        """The value of a label of which there are ``count``."""
        for known in (self.table, self.by_name):
            found = self._found(name, known)
            if found is not None:
                return found
        return self._other(name, count)

    def mask_value(self, value: int, ignored: Sequence[int], count: int) -> int:
        """The value of a number in masks: that of the table, or the class with this number."""
        found = self._found(str(value), self.table)
        if found is not None:
            return found
        if value < len(self.classes):
            return value
        return VOID if value == VOID or value in ignored else self._other(str(value), count)

    def _other(self, name: str, count: int) -> int:
        if self.rest == UNKNOWN:
            self.unknown[name] += count
        return self.rest

    def faults(self, unit: str) -> list[str]:
        """A sentence about the labels that nobody knows, if there are any; ``unit`` is what was counted."""
        if not self.unknown:
            return []
        listed = [f"{name} ({count})" for name, count in self.unknown.most_common(MOST_LISTED)]
        more = len(self.unknown) - len(listed)
        return [
            f"Labels that are no class of the dataset, with their number of {unit}: "
            f"{', '.join(listed)}{f' and {more} more' if more > 0 else ''}. Name their classes with --map LABEL=CLASS,"
            f"... or --names, or pass --others void or --others omit. The classes are {', '.join(self.classes)}."
        ]


def parse_map(text: str | None) -> dict[str, str]:
    """Label -> class of --map; BadInput for other texts."""
    found: dict[str, str] = {}
    for part in (text or "").split(","):
        name, equals, target = part.rpartition("=")
        if not part.strip():
            continue
        if not equals or not name.strip() or not target.strip():
            raise BadInput(f"--map {part.strip()}: write LABEL=CLASS, separated by commas.")
        if found.setdefault(name.strip(), target) != target:
            raise BadInput(f"--map names a class for {name.strip()!r} twice. Keep one of them.")
    return found


def read_names(path: Path) -> dict[str, str]:
    """Label -> class of a CSV with two columns, the first line of which may be a heading; BadInput for others."""
    try:
        rows = list(csv.reader(io.StringIO(read_limited(path, MOST_BYTES).decode("utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} is not a CSV table in UTF-8 ({error}). Write label,class in each line.") from error
    found: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        if not any(cell.strip() for cell in row) or (number == 1 and row[-1].strip().casefold() == "class"):
            continue
        if len(row) != 2 or not all(cell.strip() for cell in row):
            raise BadInput(f"{path}, line {number}: {','.join(row)!r} has not two columns. Write label,class.")
        if found.setdefault(row[0].strip(), row[1]) != row[1]:
            raise BadInput(f"{path}, line {number}: {row[0].strip()!r} has another class above. Keep one of them.")
    return found
