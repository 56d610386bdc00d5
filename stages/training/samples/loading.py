"""Batches of samples, loaded in this process or ahead in others."""

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol

from torch import Tensor

from stages.runtime.processes import map_here, map_in_workers


class Samples(Protocol):
    """What batches are made of, in this process or in others."""

    def keep_images(self, processes: int) -> None:
        """Keeps images in memory once read, if there is room for all of them in each of ``processes``."""

    def batch(self, keys: list[Any]) -> Any:
        """The batch of the samples ``keys``."""


def load_batches(samples: Samples, keys: Iterable[list[Any]], workers: int, pin: bool) -> Iterator[Any]:
    """Loads the batches that ``keys`` name, in order; ``pin``: into memory that a GPU reads while it computes.

    The loader processes last as long as the iterator. StageFailed when one of them dies.
    """
    samples.keep_images(max(1, workers))
    batches = map_in_workers(samples.batch, keys, workers) if workers else map_here(samples.batch, keys)
    try:
        for batch in batches:
            yield pinned(batch) if pin else batch
    finally:
        batches.close()  # type: ignore[attr-defined]


def pinned(value: Any) -> Any:
    """``value`` with every tensor of a batch in page-locked memory."""
    if isinstance(value, Tensor):
        return value.pin_memory()
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: pinned(getattr(value, field.name)) for field in fields(value)})
    return value
