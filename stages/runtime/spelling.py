"""Names that a person may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def close_names(name: str, known: Iterable[str]) -> list[str]:
    """Up to three names spelled most like ``name``, the closest first; case does not count."""
    lower = {each.lower(): each for each in known}
    return [lower[each] for each in get_close_matches(name.lower(), lower, n=3)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The question after an unknown ``name``; empty if no known name is close."""
    close = close_names(name, known)
    return f"Did you mean {' or '.join(close)}?" if close else ""
