"""Settings as text: names of options, and values as they are typed."""

from typing import Any


def option_name(setting: str, on: bool = True) -> str:
    """``--head-lr``; with ``on`` False the option that switches a flag off."""
    return ("--" if on else "--no-") + setting.replace("_", "-")


def shown(value: Any) -> str:
    """A value as it would be typed on the command line."""
    if isinstance(value, tuple | list):
        return ",".join(shown(part) for part in value)
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
