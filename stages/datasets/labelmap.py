"""`labelmap.txt`, in which CVAT lists classes with their colours."""

import re
from pathlib import Path

from stages.runtime.errors import BadInput

LABELMAP_HEADING = "# label:color_rgb:parts:actions"
COLOURED = re.compile(r"(.*?):(\d{1,3}),(\d{1,3}),(\d{1,3})(?::[^,]*)?")  # a name may contain colons


def read_labelmap(file: Path) -> dict[int, str]:
    """Packed colour (r << 16 | g << 8 | b) -> name; BadInput for other lines, and for a colour with two names."""
    colours: dict[int, str] = {}
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line == LABELMAP_HEADING or line.startswith("# "):
            continue
        parts = COLOURED.fullmatch(line)
        if parts is None:
            raise BadInput(f"{file}, line {number}: {line!r} does not have the form name:red,green,blue::. Correct it.")
        name, colour = parts[1], int.from_bytes(bytes(min(int(part), 255) for part in parts.groups()[1:]))
        if colours.setdefault(colour, name) != name:
            raise BadInput(f"{file}, line {number}: {name!r} has the colour of another name. Choose another colour.")
    return colours
