"""From tensors of other code to a network of ours: renaming, changing values, filling, and telling what fitted."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stages.networks.foreign.tables import Source, ValueRule
from stages.networks.weights import first_named, plain_tensor_name
from stages.runtime.errors import BadInput

Renamed = tuple[dict[str, Tensor], dict[str, str], dict[str, int]]
"""Tensors under their names here, their names in the file, and ignored ones by reason."""

SUPPORT = "support."
"""Prefix of the tensors of support heads."""


@dataclass(frozen=True)
class Fit:
    """Which tensors fit a network: names here, or for ``unexpected`` and ``ignored`` in the file.

    BatchNorm's ``num_batches_tracked`` is not counted. ``reshaped`` are of another shape, told with both shapes.
    """

    matched: list[str]
    missing: list[str]
    unexpected: list[str]
    reshaped: list[str]
    ignored: dict[str, int]

    def sentences(self) -> list[str]:
        """What did not fit, a line each, with the first names."""
        found = [
            f"{len(names)} {what}: {first_named(names)}"
            for what, names in (
                ("missing", self.missing),
                ("of another shape", self.reshaped),
                ("unexpected", self.unexpected),
            )
            if names
        ]
        return found + [f"{count} not used: {why}" for why, count in self.ignored.items()]


def unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without the prefix that parallel training adds to their names."""
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def converted(tensors: Mapping[str, Tensor], source: Source) -> Renamed:
    """Tensors renamed and changed by a table; BadInput if two of them become one with different values."""
    found: dict[str, Tensor] = {}
    origins: dict[str, str] = {}
    ignored: dict[str, int] = {}
    for name, tensor in tensors.items():
        if (why := source.why_ignored(name)) is not None:
            ignored[why] = ignored.get(why, 0) + 1
            continue
        new = source.renamed(name)
        for rule in source.values:
            if re.fullmatch(rule.names, new):
                tensor = changed(tensor, rule)
        if new in found and not torch.equal(found[new], tensor):
            raise BadInput(f"{origins[new]} and {name} are the same tensor with different values. Keep one of them.")
        found[new], origins[new] = tensor, name
    return found, origins, ignored


def changed(tensor: Tensor, rule: ValueRule) -> Tensor:
    """The values of a tensor after one rule."""
    if rule.permute is not None:
        return tensor.permute(rule.permute) if tensor.dim() == len(rule.permute) else tensor
    if rule.rotate is not None:
        dimension, first = rule.rotate
        return tensor.roll(-first, dimension)
    assert rule.add is not None
    return tensor + rule.add


def fill(network: nn.Module, tensors: Mapping[str, Tensor], origins: Mapping[str, str], ignored: dict[str, int]) -> Fit:
    """Copy the ``tensors`` that fit into ``network``; ``origins`` are their names in the file.

    Names match without wrapper prefixes, and whether timm nests or flattens its modules. Values are converted to the
    dtype of the network.

    Raises:
        BadInput: two tensors have the same name without prefixes.
    """
    by_name: dict[str, str] = {}
    for name in tensors:
        if (other := by_name.setdefault(plain_tensor_name(name), name)) != name:
            raise BadInput(f"{origins[other]} and {origins[name]} are the same tensor. Keep one of them.")
    matched, missing, reshaped, used = [], [], [], set()
    for name, target in network.state_dict().items():
        plain = plain_tensor_name(name)
        tensor = tensors[by_name[plain]] if plain in by_name else None
        used.add(plain)
        counted = not name.endswith("num_batches_tracked")
        if tensor is None:
            missing += [name] if counted else []
        elif tensor.shape != target.shape:
            reshaped.append(f"{name} {tuple(tensor.shape)} instead of {tuple(target.shape)}")
        else:
            with torch.no_grad():
                target.copy_(tensor)
            matched += [name] if counted else []
    unexpected = [origins[name] for plain, name in by_name.items() if plain not in used]
    return Fit(matched, missing, [name for name in unexpected if "num_batches" not in name], reshaped, ignored)


def identity(tensors: Mapping[str, Tensor]) -> Renamed:
    """Tensors under their own names."""
    return dict(tensors), {name: name for name in tensors}, {}


def without(renamed: Renamed, names: list[str], why: str) -> Renamed:
    """The same without the tensors ``names``, which are ignored."""
    tensors, origins, ignored = renamed
    kept = {name: tensor for name, tensor in tensors.items() if name not in names}
    return kept, origins, ignored | {why: len(names)}
