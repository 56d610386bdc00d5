"""Reading TOML that others wrote: descriptions of datasets, recipes, profiles and runs."""

import re
import tomllib
from pathlib import Path
from typing import Any

from stages.runtime.errors import BadInput
from stages.runtime.limited import read_limited

RUN_FILE = "run.toml"
"""What a run folder that `alseg next` goes on with has."""
MOST_BYTES = 1 << 20
MOST_DEPTH = 32  # of tables and lists in one another
LONGEST_KEY = 200  # characters
# The parser's time grows with the square of the parts of a dotted key: 100 kB of them take minutes
PART = r"""(?:(?<![\w-])[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
MANY_PARTS = re.compile(rf"(?:{PART}[ \t]*+\.[ \t]*+){{{MOST_DEPTH}}}", re.ASCII)


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; BadInput if it is not one, or larger or deeper than any honest one."""
    content = read_limited(path, MOST_BYTES)
    try:
        text = content.decode()
        if MANY_PARTS.search(text):
            raise BadInput(too_deep(path))
        values = tomllib.loads(text)
    except RecursionError:
        raise BadInput(too_deep(path)) from None
    except ValueError as error:  # bad syntax, bad UTF-8, numbers of thousands of digits
        raise BadInput(f"{path} is not valid TOML: {error}.") from error
    require_plain(path, values, "")
    return values


def too_deep(path: Path) -> str:
    return f"{path} nests tables or lists more than {MOST_DEPTH} deep. Write fewer levels."


def require_plain(path: Path, value: Any, key: str, depth: int = 0) -> None:
    """BadInput for absurdly long keys, for absurd depth, and for the character NUL, which no file name can contain."""
    if depth > MOST_DEPTH:
        raise BadInput(too_deep(path))
    if isinstance(value, str) and "\0" in value:
        raise BadInput(f"{path}: {key} contains the character NUL. Remove it.")
    if isinstance(value, dict):
        for name, inner in value.items():
            if len(name) > LONGEST_KEY or "\0" in name:
                raise BadInput(
                    f"{path}: the key {name[:20]!r}... is longer than {LONGEST_KEY} characters or contains the "
                    "character NUL. Shorten it."
                )
            require_plain(path, inner, f"{key}.{name}".lstrip("."), depth + 1)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            require_plain(path, inner, f"{key}.{place}", depth + 1)
