"""The pages of the documentation, their blocks of code and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language, without the indentation of a list."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", text, re.S | re.M)
    return [re.sub(rf"^{indent}", "", block, flags=re.M) for indent, block in found]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each simple command in the shell blocks of a page."""
    for block in blocks(page.read_text(encoding="utf-8"), "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words: list[str] = []
            reader = shlex.shlex(line, posix=True, punctuation_chars=";&|")
            reader.whitespace_split = True
            for word in [*reader, ";"]:
                if set(word) <= {*";&|"}:
                    if words:
                        yield words
                    words = []
                elif words or word != "do":
                    words.append(word)


def alseg_commands(page: Path) -> list[list[str]]:
    """The words after ``alseg`` of each call of the program, also those behind torchrun."""
    found = []
    for words in commands(page):
        if words[0] == "alseg":
            found.append(words[1:])
        elif words[0] == "torchrun":
            found.append(words[words.index("alseg_cli") + 1 :])
    return found


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(text: str) -> list[tuple[str, str]]:
    """(file, anchor) of each link and image that is not to the web; "" for the page itself."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.S | re.M)
    targets = re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose)
    return [(file, anchor) for file, _, anchor in (target.partition("#") for target in targets)]
