"""Names of timm models and of the encoders of segmentation-models-pytorch, checked before anything is built."""

from collections.abc import Iterable
from difflib import get_close_matches

import timm

from stages.runtime.errors import BadInput

TIMM_PREFIX = "tu-"
"""Prefix of timm names in segmentation-models-pytorch."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> BadInput:
    """The error for a ``name`` that is not among the ``known`` ones, with the closest of them as the remedy."""
    close = get_close_matches(name.lower(), list(known), n=5, cutoff=0.5)
    remedy = f"Did you mean {', '.join(close)}?" if close else "Pass a name that timm or smp lists."
    return BadInput(f"Unknown {kind} {name!r}. {remedy}")


def is_timm_name(name: str) -> bool:
    """Whether timm has the architecture ``name`` (without ``tu-``); a ``.tag`` at its end is ignored."""
    return bool(timm.is_model(name))


def timm_name(name: str) -> str:
    """``name`` without a leading ``tu-``, after checking that timm has it, including its pretrained tag.

    Raises:
        BadInput: timm has no such model, or the model has no such tag; the message names close matches.
    """
    bare = name.removeprefix(TIMM_PREFIX)
    if not is_timm_name(bare):
        raise unknown_name("timm backbone", bare, timm.list_models())
    architecture, _, tag = bare.partition(".")
    if tag and not timm.models.is_model_pretrained(bare):
        raise unknown_name("weights tag of a timm backbone", bare, timm.list_pretrained(f"{architecture}.*"))
    return bare
