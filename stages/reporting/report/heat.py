"""Table cells coloured by their number: one hue from pale to dark, with readable text."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.reporting.colours import Colour

HEAT_LEVELS = 11
# One hue, so that brightness alone carries the number: the same with any colour vision and in grey print
LIGHT_ANCHORS: tuple[Colour, ...] = ((245, 249, 253), (205, 224, 242), (133, 188, 222), (24, 100, 170), (8, 40, 95))
DARK_ANCHORS: tuple[Colour, ...] = ((27, 37, 48), (20, 60, 96), (31, 106, 165), (107, 174, 214), (214, 235, 255))
INKS: tuple[Colour, ...] = ((17, 17, 17), (255, 255, 255))


@dataclass(frozen=True)
class HeatCell:
    """Text of a cell, its colour level (0 to 10, None: no colour), and its tooltip."""

    text: str
    level: int | None = None
    hint: str = ""
    best: bool = False


def heat_cell(
    value: float | None, most: float = 100.0, digits: int = 1, hint: str = "", best: bool = False
) -> HeatCell:
    if value is None:
        return HeatCell("–", None, hint or "not in this split")
    share = min(max(value / most, 0), 1) if most > 0 else 0
    return HeatCell(f"{value:.{digits}f}", round(share * (HEAT_LEVELS - 1)), hint, best)


def ramp(anchors: Sequence[Colour]) -> list[Colour]:
    """LEVELS colours from the first of ``anchors`` to the last, in equal steps between each two."""
    found = []
    for level in range(HEAT_LEVELS):
        place = level / (HEAT_LEVELS - 1) * (len(anchors) - 1)
        first = min(int(place), len(anchors) - 2)
        part = place - first
        low, high = anchors[first], anchors[first + 1]
        red, green, blue = (round(a + (b - a) * part) for a, b in zip(low, high, strict=True))
        found.append((red, green, blue))
    return found


def luminance(colour: Colour) -> float:
    """Relative luminance as WCAG defines it."""
    parts = [value / 255 for value in colour]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Colour, other: Colour) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def ink(background: Colour) -> Colour:
    """Black or white, whichever has more contrast on ``background``."""
    return max(INKS, key=lambda colour: contrast(colour, background))


def rules(anchors: Sequence[Colour]) -> str:
    """The style sheet's rules for the classes h0 to h10."""
    return "\n".join(
        f".h{level} {{ background: rgb{colour}; color: rgb{ink(colour)}; }}"
        for level, colour in enumerate(ramp(anchors))
    )
