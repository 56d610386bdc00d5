"""Which key means what: the classes by position, the commands, and no key for two things."""

from collections import Counter
from collections.abc import Mapping, Sequence

from stages.runtime.errors import BadInput

IN_ORDER = (*"1234567890", *"qwertyuiopasdfghjklzxcvbnm", *"QWERTYUIOPASDFGHJKLZXCVBNM")
# What the page uses by itself, named as browsers name keys
FIXED = {
    "Enter": "confirm", " ": "hide the marks", "+": "zoom in", "=": "zoom in", "-": "zoom out", "Home": "centre",
    "ArrowLeft": "look left", "ArrowRight": "look right", "ArrowUp": "look up", "ArrowDown": "look down",
    "Tab": "move between buttons", "Escape": "close a dialog",
}  # fmt: skip
NAMED = {"Backspace", "Delete", "Insert", "End", "PageUp", "PageDown", *(f"F{number}" for number in range(1, 13))}


def command_faults(keys: Sequence[str], commands: Mapping[str, str]) -> list[str]:
    """What is wrong with the ``keys`` of classes beside those of ``commands`` (name -> key), a phrase per fault."""
    faults = [
        f"{key!r} is no key; give one character or one of {', '.join(sorted(NAMED))}"
        for key in [*keys, *commands.values()]
        if not is_key(key)
    ]
    uses = [(key, f"class {number}") for number, key in enumerate(keys, start=1)]
    uses += [(key, command) for command, key in commands.items()]
    for key, count in Counter(key for key, _ in uses).items():
        meanings = [what for used, what in uses if used == key] + ([FIXED[key]] if key in FIXED else [])
        if count > 1 or key in FIXED:
            faults.append(f"key {key!r} means {' and '.join(meanings)}; give each its own")
    return faults


def is_key(key: str) -> bool:
    return key in NAMED or key in FIXED or (len(key) == 1 and key.isprintable())


def class_keys(keys: Sequence[str] | None, commands: Mapping[str, str], classes: Sequence[str]) -> list[str]:
    """The key of each of ``classes``; BadInput when ``keys`` are not as many, or None and there are too few to take."""
    if keys is not None:
        if len(keys) != len(classes):
            raise BadInput(f"--keys names {len(keys)} keys for {len(classes)} classes ({', '.join(classes)}).")
        return list(keys)
    free = [key for key in IN_ORDER if key not in commands.values()]
    if len(classes) > len(free):
        raise BadInput(
            f"The dataset has {len(classes)} classes and a keyboard {len(free)} plain keys; give one for each with "
            "--keys (any characters), or let people answer a table (export-queries, import-answers)."
        )
    return free[: len(classes)]
