"""Conversion tables: how the tensors of other code are called here, and which network they belong to.

A table is a TOML file in ``data/sources``. Its keys:

- ``title``, ``source``: what wrote the files, and where.
- ``has``: tensors that only these files have; the table with the most of them applies.
- ``base``: another table, whose rules follow the own ones.
- ``names``: pairs of a regular expression and its replacement, applied to each name in turn; then ``<A-B>`` and
  ``<A+B>`` are replaced by their values.
- ``ignored``: a regular expression for names of tensors that the network does not use, and why.
- ``values``: what happens to the values of tensors (`ValueRule`), by their new name.
- ``network``: settings of the network.
- ``inputs``: what the network expects of images (`Inputs`), by the name of the dataset; ``any`` for all others.
"""

import re
from collections.abc import Iterable
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from stages.datasets.fields import Table
from stages.runtime.errors import BadInput
from stages.runtime.resources import data_folder, find_toml
from stages.settings.base import settings_faults
from stages.settings.toml_files import read_toml

Triple = tuple[float, float, float]

SUM = re.compile(r"<(\d+)([+-])(\d+)>")


def summed(found: re.Match[str]) -> str:
    """The value of ``<A-B>`` or ``<A+B>``."""
    left, sign, right = found.groups()
    return str(int(left) + int(sign + right))


class Inputs(Table):
    """Mean and standard deviation of the input as published, red first; of images in 0..1."""

    mean: Triple
    std: Triple
    channels: str = Field("rgb", pattern="^(rgb|bgr)$")


class Ignored(Table):
    names: str
    why: str


class ValueRule(Table):
    """One change of the values of tensors whose new name matches ``names`` as a whole.

    permute: the old axes in their new order. rotate: a dimension and how many of its first entries move to the end.
    add: a number added to all values.
    """

    names: str
    permute: tuple[int, ...] | None = None
    rotate: tuple[int, int] | None = None
    add: float | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.permute, self.rotate, self.add)) != 1:
            raise ValueError("a rule of values has exactly one of permute, rotate and add")
        return self


class Source(Table):
    """One table; see the module."""

    name: str = ""
    title: str
    source: str
    has: tuple[str, ...] = Field(min_length=1)
    base: str | None = None
    names: tuple[tuple[str, str], ...] = ()
    ignored: tuple[Ignored, ...] = ()
    values: tuple[ValueRule, ...] = ()
    network: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[str, Inputs] = Field(default_factory=dict)

    def renamed(self, name: str) -> str:
        """The name here of a tensor called ``name`` there."""
        for pattern, replacement in self.names:
            name = SUM.sub(summed, re.sub(pattern, replacement, name))
        return name

    def why_ignored(self, name: str) -> str | None:
        """Why the network does not use the tensor ``name`` of the file; None if it should."""
        return next((each.why for each in self.ignored if re.match(each.names, name)), None)

    def inputs_for(self, dataset: str) -> Inputs | None:
        """What the network expects of the images of ``dataset``; None: the statistics of the dataset."""
        return self.inputs.get(dataset, self.inputs.get("any"))


def load_source(name_or_path: str) -> Source:
    """A shipped table by name, or any other by the path of a TOML file; BadInput lists all faults."""
    path = find_toml("sources", name_or_path)
    try:
        found = Source.model_validate({"name": path.stem} | read_toml(path))
    except ValidationError as error:
        raise BadInput(settings_faults(Source, error, str(path))) from None
    if found.base is None:
        return found
    base = load_source(found.base)
    return found.model_copy(
        update={
            "names": (*found.names, *base.names),
            "ignored": (*found.ignored, *base.ignored),
            "values": (*found.values, *base.values),
            "network": base.network | found.network,
            "inputs": base.inputs | found.inputs,
        }
    )


def source_names() -> list[str]:
    """The shipped tables."""
    return sorted(path.stem for path in data_folder("sources").glob("*.toml"))


def recognised(names: Iterable[str]) -> Source | None:
    """The shipped table for a file with tensors called ``names``; None if no table fits."""
    present = set(names)
    fitting = [each for each in map(load_source, source_names()) if present.issuperset(each.has)]
    return max(fitting, key=lambda each: len(each.has), default=None)
