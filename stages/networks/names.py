"""Names of timm models and of the encoders of segmentation-models-pytorch, checked before anything is built."""

from collections.abc import Iterable

import timm

from stages.runtime.errors import BadInput
from stages.runtime.spelling import did_you_mean

TIMM_PREFIX = "tu-"
"""Prefix of timm names in segmentation-models-pytorch."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> BadInput:
    """The error for a ``name`` that is not among the ``known`` ones, with the closest of them as the remedy."""
    remedy = did_you_mean(name, known) or "Pass a name that timm or smp lists."
    return BadInput(f"Unknown {kind} {name!r}. {remedy}")


def is_timm_name(name: str) -> bool:
    """Whether timm has the architecture ``name`` (without ``tu-``); a ``.tag`` at its end is ignored."""
    return bool(timm.is_model(name))


def timm_name(name: str) -> str:
    """``name`` without a leading ``tu-``, after checking that timm has it.

    A name may end in the tag of its pretrained weights, such as ``resnet50.tv_in1k``. The tag chooses the weights that
    ``imagenet`` stands for and the input that they expect, not the network.

    Raises:
        BadInput: timm has no such model (the message names close ones), or no such weights of it (it names all).
    """
    bare = name.removeprefix(TIMM_PREFIX)
    if not is_timm_name(bare):
        raise unknown_name("timm backbone", bare, timm.list_models())
    architecture, dot, tag = bare.partition(".")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")] if dot else [tag]
    if tag not in tags:
        remedy = f"Choose one of {', '.join(tags)}." if tags else f"Pass {architecture}, which timm has no weights for."
        raise BadInput(f"timm has no weights {tag!r} of {architecture}. {remedy}")
    return bare
