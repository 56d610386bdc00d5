"""Pieces of Markdown."""

import re
from collections.abc import Iterable, Sequence


def page(blocks: Iterable[str]) -> str:
    """Blocks with an empty line between them; empty ones are left out."""
    return "\n\n".join(block.strip("\n") for block in blocks if block.strip("\n")) + "\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; "" without rows. Columns that are empty in every row are left out."""
    cells = [[cell(each) for each in row] for row in rows]
    if not cells:
        return ""
    kept = [place for place in range(len(columns)) if any(row[place] for row in cells)]
    lines = [line(columns[place] for place in kept), "|" + "---|" * len(kept)]
    return "\n".join([*lines, *(line(row[place] for place in kept) for row in cells)])


def line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def cell(text: str) -> str:
    """One line in which bars and, outside code, angle brackets are no markup."""
    parts = " ".join(text.split()).replace("|", "\\|").split("`")
    return "`".join(part if place % 2 else part.replace("<", "&lt;") for place, part in enumerate(parts))


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def codes(texts: Iterable[str]) -> str:
    return ", ".join(map(code, texts))


def points(texts: Iterable[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def sentences(text: str) -> list[str]:
    """The sentences of a text; each begins with a capital, a bracket or code."""
    flat = " ".join(text.split()).replace("``", "`")
    return [each for each in re.split(r"(?<=[.!?]) (?=[A-Z`(])", flat) if each]


def first_sentence(text: str) -> str:
    return next(iter(sentences(text)), "")
