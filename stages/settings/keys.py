"""The keys of the page, for classes by position and for commands; each key has one meaning."""

from collections import Counter
from collections.abc import Mapping, Sequence

from stages.runtime.errors import BadInput

IN_ORDER = (*"1234567890", *"qwertyuiopasdfghjklzxcvbnm", *"QWERTYUIOPASDFGHJKLZXCVBNM")
# Keys with a fixed meaning on the page, by their browser names
FIXED = {
    "Enter": "confirm", " ": "hide the marks", "+": "zoom in", "=": "zoom in", "-": "zoom out", "Home": "centre",
    "ArrowLeft": "move left", "ArrowRight": "move right", "ArrowUp": "move up", "ArrowDown": "move down",
    "Tab": "move between buttons", "Escape": "close a dialog",
}  # fmt: skip
NAMED = {"Backspace", "Delete", "Insert", "End", "PageUp", "PageDown", *(f"F{number}" for number in range(1, 13))}


def command_faults(keys: Sequence[str], commands: Mapping[str, str]) -> list[str]:
    """What is wrong with the ``keys`` of classes and those of ``commands`` (name -> key), one phrase per fault."""
    faults = [
        f"{key!r} is not a key; use one character or one of {', '.join(sorted(NAMED))}"
        for key in [*keys, *commands.values()]
        if not is_key(key)
    ]
    uses = [(key, f"class {number}") for number, key in enumerate(keys, start=1)]
    uses += [(key, command) for command, key in commands.items()]
    for key, count in Counter(key for key, _ in uses).items():
        meanings = [what for used, what in uses if used == key] + ([FIXED[key]] if key in FIXED else [])
        if count > 1 or key in FIXED:
            faults.append(f"key {key!r} means {' and '.join(meanings)}; choose different keys")
    return faults


def is_key(key: str) -> bool:
    return key in NAMED or key in FIXED or (len(key) == 1 and key.isprintable())


def class_keys(keys: Sequence[str] | None, commands: Mapping[str, str], classes: Sequence[str]) -> list[str | None]:
    """The key of each class, None if keys run out: such a class is found by its name on the page.

    BadInput if the number of ``keys`` differs from that of the classes.
    """
    if keys is not None:
        if len(keys) != len(classes):
            raise BadInput(
                f"--keys names {len(keys)} keys for {len(classes)} classes ({', '.join(classes)}). Name one for each."
            )
        return list(keys)
    free = [key for key in IN_ORDER if key not in commands.values()]
    return [*free, *[None] * len(classes)][: len(classes)]
