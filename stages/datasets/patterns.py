"""Path patterns such as ``leftImg8bit/train/{city}/{id}_leftImg8bit.png``.

``{field}`` stands for a part of one path component and has the same text wherever it occurs; ``*`` stands for any such
part and is not kept. The ending of a name, from its last dot on, matches in upper and lower case.
"""

import glob
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_FIELD = re.compile(r"\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True)
class Match:
    """A file and the text of its pattern's fields in its path."""

    path: Path
    fields: dict[str, str]


def field_names(pattern: str) -> list[str]:
    """The names of the fields of ``pattern``, each once, in order of appearance."""
    return list(dict.fromkeys(_FIELD.findall(pattern)))


def fill(pattern: str, fields: Mapping[str, str]) -> str:
    """``pattern`` with its fields filled in, and ``*`` for those that ``fields`` does not name."""
    return _FIELD.sub(lambda field: fields.get(field[1], "*"), pattern)


def find_matches(root: Path, pattern: str) -> list[Match]:
    """The files below ``root`` that match ``pattern``, sorted by path; a leading field matches no hidden file."""
    rest, ending = _ending_apart(pattern)
    literals = re.split(r"\{[A-Za-z_]\w*\}|\*", rest)
    wildcard = "*".join(glob.escape(literal) for literal in literals) + "".join(map(_either_case, ending))
    expression = re.compile(f"{_expression(rest)}(?i:{re.escape(ending)})")
    found = sorted(path for path in glob.glob(wildcard, root_dir=root) if (root / path).is_file())
    return [Match(root / path, match.groupdict()) for path in found if (match := expression.fullmatch(path))]


def literal_length(pattern: str) -> int:
    """How many characters of ``pattern`` are given: of two patterns that match a file, the longer one means it."""
    return len(_FIELD.sub("", pattern).replace("*", ""))


def _ending_apart(pattern: str) -> tuple[str, str]:
    """``pattern`` without the ending of the file's name, such as ``.png``, and the ending, empty if it is not given."""
    found = re.search(r"\.[A-Za-z0-9]+$", pattern)
    return (pattern, "") if found is None else (pattern[: found.start()], found[0])


def _either_case(letter: str) -> str:
    return f"[{letter.lower()}{letter.upper()}]" if letter.isalpha() else glob.escape(letter)


def _expression(pattern: str) -> str:
    seen: set[str] = set()
    text = ""
    for part in re.split(r"(\{[A-Za-z_]\w*\}|\*)", pattern):
        if part == "*":
            text += "[^/]*"
        elif field := _FIELD.fullmatch(part):
            text += f"(?P={field[1]})" if field[1] in seen else f"(?P<{field[1]}>[^/]+)"
            seen.add(field[1])
        else:
            text += re.escape(part)
    return text
