"""Settings as text: names of options, and values as they are typed."""

from typing import Any


def option_name(setting: str, on: bool = True) -> str:
    """Option name such as ``--head-lr``; if ``on`` is False, the option that turns a flag off."""
    return ("--" if on else "--no-") + setting.replace("_", "-")


def shown(value: Any) -> str:
    """A value as typed on the command line."""
    if isinstance(value, tuple | list):
        return ",".join(shown(part) for part in value)
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
