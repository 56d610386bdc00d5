"""The guidelines of a project: a text, and the pictures beside it that it names."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.datasets.encode import jpeg_bytes
from stages.images.image_files import image_file
from stages.runtime.errors import BadInput

MOST_BYTES = 1 << 20
MOST_PICTURES = 200
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")
LONGEST_SIDE = 1600  # of a picture as it is sent


@dataclass(frozen=True)
class Guide:
    """The text in Markdown, and the pictures that it shows: path in the text -> file."""

    text: str
    pictures: dict[str, Path]

    def shown(self) -> dict[str, object]:
        """The text, and the address of each picture, for the page."""
        return {"text": self.text, "pictures": {name: f"guide/{place}" for place, name in enumerate(self.pictures)}}

    def picture(self, place: int) -> bytes | None:
        """A picture as JPEG, by its place in the text; None if there is none, or it cannot be read."""
        paths = list(self.pictures.values())
        if not 0 <= place < len(paths):
            return None
        try:
            with image_file(paths[place]) as image:
                image.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
                small = image.convert("RGB")
                small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
                return jpeg_bytes(np.asarray(small))
        except BadInput:
            return None


def read_guide(path: Path) -> Guide:
    """The guidelines in a Markdown file; BadInput if it cannot be read or is too long.

    Pictures are files in the folder of the text or below; others are not shown.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BadInput(f"Cannot read {path}: {reason}. Pass a Markdown file with --guide.") from error
    if len(content) > MOST_BYTES:
        raise BadInput(f"{path} has more than {MOST_BYTES >> 20} MiB. Pass a shorter text with --guide.")
    folder = path.parent.resolve()
    named = list(dict.fromkeys(PICTURE.findall(text)))[:MOST_PICTURES]
    pictures = {name: found for name in named if (found := inside(folder, name)) is not None}
    return Guide(text, pictures)


def inside(folder: Path, name: str) -> Path | None:
    """The file ``name`` if it is in ``folder`` or below, without leaving it through links."""
    try:
        path = (folder / name).resolve()
        return path if path.is_relative_to(folder) and path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # such as a name that is too long
        return None
