"""Feature maps from inside a timm backbone, by the names of its modules."""

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stages.networks.timm_backbone import weightless_backbone
from stages.runtime.errors import BadInput

COUNT = 3
"""Number of side heads."""

FINEST = 4
"""Finest stride of the default taps."""

PROBED = 256
"""Side in pixels of the image that strides are measured on, a multiple of all of them."""

CONTAINERS = ("body.", "model.")
"""Prefixes that timm adds to a module's name if it wraps the model to get its feature maps."""

TAPS_REMEDY = "Pass three modules of the backbone with --side-taps"


class SideTaps(NamedTuple):
    """Three modules of a backbone, from fine to coarse; strides are input size over size of their output."""

    modules: tuple[str, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]


def run_with_taps(
    backbone: nn.Module, images: Tensor, modules: Iterable[str], shallow: str | None = None
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """The feature maps that ``backbone`` returns, and the outputs of the named ``modules`` within it in their order.

    The output of the module ``shallow`` replaces the first map. The hooks are removed after the call: nothing keeps a
    tensor, and copies of the network have no hooks. A layer that changes a module's output in place changes it here
    too, except that of ``shallow``. Do not use on one network in several threads at once.
    """
    found: dict[str, Tensor] = {}
    first: dict[str, Tensor] = {}
    handles = []
    try:
        for name in modules:
            handles.append(backbone.get_submodule(name).register_forward_hook(_keeper(found, name)))
        if shallow is not None:
            handles.append(backbone.get_submodule(shallow).register_forward_hook(_keeper(first, shallow, copy=True)))
        maps = backbone(images)
    finally:
        for handle in handles:
            handle.remove()
    if shallow is not None:
        maps = [first[shallow], *maps[1:]]
    return maps, tuple(found[name] for name in modules)


@cache
def find_shallow_tap(backbone: str, output_stride: int, name: str, stride: int) -> tuple[str, int]:
    """The module ``name`` of the timm model ``backbone``, as a backbone calls it, and its channels.

    Raises:
        BadInput: there is no such module, or its output is not at ``stride``.
    """
    shapes = _map_shapes(weightless_backbone(backbone, output_stride))
    spellings = {plain_module_name(each): each for each in shapes}
    module = name if name in shapes else spellings.get(plain_module_name(name))
    if module is None or shapes[module][1] != stride:
        fitting = {each: shape for each, shape in shapes.items() if shape[1] == stride}
        raise BadInput(
            f"Backbone {backbone} has no feature map at stride {stride} called {name}. Pass a module with "
            f"--shallow-tap, out of {_candidates(fitting)}."
        )
    return module, shapes[module][0]


@cache
def find_side_taps(backbone: str, output_stride: int, names: tuple[str, ...] = ()) -> SideTaps:
    """The side taps ``names`` of the timm model ``backbone``, or without names its three default taps.

    Names are those of timm's model, either with dots or as timm flattens them for feature maps. The default taps are
    the last three of timm's feature maps from stride 4 on, not counting the deepest.

    Raises:
        BadInput: not three different names, an unknown one, not from fine to coarse, or fewer than three default taps.
    """
    probe = weightless_backbone(backbone, output_stride)
    shapes = _map_shapes(probe)
    spellings = {plain_module_name(name): name for name in shapes}
    if names:
        if len(set(names)) != COUNT or len(names) != COUNT:
            raise BadInput(f"--side-taps must name {COUNT} different modules, not {', '.join(names)}.")
    else:
        tapped = [tap["module"] for tap in probe.feature_info.info[:-1] if tap["reduction"] >= FINEST]
        names = tuple(name for name in tapped[-COUNT:] if plain_module_name(name) in spellings)
        if len(names) < COUNT:
            raise BadInput(
                f"Backbone {backbone} has no default side taps: besides the deepest, it has fewer than {COUNT} feature "
                f"maps from stride {FINEST} on. {TAPS_REMEDY}, out of {_candidates(shapes)}."
            )
    unknown = [name for name in names if plain_module_name(name) not in spellings]
    if unknown:
        raise BadInput(
            f"Backbone {backbone} has no feature map at {', '.join(unknown)}. {TAPS_REMEDY}, out of "
            f"{_candidates(shapes)}."
        )
    modules = tuple(name if name in shapes else spellings[plain_module_name(name)] for name in names)
    channels = tuple(shapes[module][0] for module in modules)
    strides = tuple(shapes[module][1] for module in modules)
    if list(strides) != sorted(strides):
        raise BadInput(
            f"--side-taps must go from fine to coarse, but the strides of {', '.join(names)} are "
            f"{', '.join(map(str, strides))}. Pass them in the order of their strides."
        )
    return SideTaps(modules, channels, strides)


def _keeper(found: dict[str, Tensor], name: str, copy: bool = False) -> Any:
    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        found[name] = output.clone() if copy else output

    return keep


def _map_shapes(probe: nn.Module) -> dict[str, tuple[int, int]]:
    """Channels and stride of each module within the backbone ``probe`` that returns one square map of features."""
    outputs: dict[str, Any] = {}
    for name, module in probe.named_modules():
        if name:
            module.register_forward_hook(_keeper(outputs, name))
    with torch.no_grad():
        probe.eval()(torch.empty(1, 3, PROBED, PROBED, device="meta"))
    return {
        name: (output.shape[1], PROBED // output.shape[2])
        for name, output in outputs.items()
        if isinstance(output, Tensor)
        and output.dim() == 4
        and output.shape[2] == output.shape[3] > 1
        and PROBED % output.shape[2] == 0
    }


def plain_module_name(name: str) -> str:
    """A module's name, the same whether timm nests it or flattens it: ``stages.0`` and ``stages_0``."""
    for container in CONTAINERS:
        name = name.removeprefix(container)
    return name.replace(".", "_")


def _candidates(shapes: dict[str, tuple[int, int]]) -> str:
    """The blocks and stages with their channels and strides, without the modules inside blocks."""
    return ", ".join(
        f"{name} ({channels}@{stride})"
        for name, (channels, stride) in shapes.items()
        if name.count(".") <= 1 and stride >= FINEST
    )
