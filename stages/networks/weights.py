"""First weights for a backbone, from a file or downloaded, and the input statistics they expect."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from stages.networks.bands import adapted
from stages.networks.foreign.files import read_tensors
from stages.networks.foreign.transformers import as_timm
from stages.networks.names import TIMM_PREFIX, is_timm_name, timm_name, unknown_name
from stages.networks.smp_adapter import SmpNetwork
from stages.runtime.errors import BadInput

NEEDED_SHARE = 0.95
"""Share of the backbone's tensors that a file must contain by name and shape."""

WRAPPERS = ("module.", "encoder.", "encoder_q.", "backbone.", "model.")
"""Prefixes that wrappers add to the names of a backbone; MoCo files (pixelpick.md 3.2) have ``encoder_q.``."""

WEIGHTS_REMEDY = "Pass a file with --weights, or --weights none for random weights."

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class WeightsReport:
    """Where the weights of a backbone came from and how much of it they cover.

    ``matched`` of ``total`` tensors were set, not counting BatchNorm's ``num_batches_tracked``; ``sha256`` is that of
    the file, or None without a file.
    """

    source: str
    matched: int
    total: int
    sha256: str | None = None


def load_weights(network: nn.Module, weights: str, backbone_name: str) -> WeightsReport:
    """Set the backbone of ``network`` to pretrained weights; the head does not change.

    A file is never trusted: pickles are read by ``torch.load(weights_only=True)``, which runs no code from them.
    Tensors are matched by name and shape; wrapper prefixes on either side and other tensors in the file (classifiers,
    other heads) are ignored, and values are converted to the dtype of the network. A first convolution of three inputs
    is adapted to those of the network as timm does. For a vision transformer, files of its authors and of Hugging Face
    serve too, position embeddings of another grid are resampled by timm, and every tensor must fit. The backbone is
    left untouched
    unless 95 % of its tensors are matched, and all of the ``needed_tensors`` of a network that has any; unmatched
    tensors keep their random values. (PixelPick check A12.)

    Args:
        network: from ``build_network``.
        weights: ``none``, ``imagenet``, or the path of a ``.safetensors`` file or of one written by ``torch.save``.
        backbone_name: the name that ``network`` was built with.

    Raises:
        BadInput: the download fails, or the file cannot be read, contains no tensors or does not fit.
    """
    backbone = network.get_submodule("backbone")
    if weights == "none":
        return WeightsReport("none", matched=0, total=len(_counted(backbone)))
    if weights == "imagenet":
        name = network.encoder_name if isinstance(network, SmpNetwork) else backbone_name
        source, tensors = _download(name, from_smp=isinstance(network, SmpNetwork))
        digest = None
    else:
        source = weights
        tensors, digest = read_tensors(Path(weights), "Weights", WEIGHTS_REMEDY)
    transformer = as_timm(tensors, backbone, source)
    if transformer is not None:
        _require_all(backbone, transformer, source, backbone_name)
        tensors = transformer
    needed: tuple[str, ...] = getattr(network, "needed_tensors", ())
    matched, total = _fill(backbone, tensors, source, backbone_name, needed)
    return WeightsReport(source, matched, total, digest)


def backbone_statistics(backbone_name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel (RGB in 0..1) of the input that the backbone's ImageNet weights expect.

    Timm names, with or without ``tu-``, use timm's ``pretrained_cfg``; the other encoders of
    segmentation-models-pytorch use ImageNet's statistics. (smp publishes its own numbers online only; all its encoders
    but ``inceptionv4`` and ``inceptionresnetv2`` were trained with ImageNet's, and timm has those two as
    ``tu-inception_...``.)

    Raises:
        BadInput: neither library has the name; the message names close matches.
    """
    if not backbone_name.startswith(TIMM_PREFIX) and not is_timm_name(backbone_name):
        if backbone_name in smp.encoders.encoders:
            return IMAGENET_MEAN, IMAGENET_STD
        raise unknown_name("backbone", backbone_name, [*timm.list_models(), *smp.encoders.encoders])
    config = _timm_config(timm_name(backbone_name))
    return tuple(config.mean), tuple(config.std)


def _timm_config(name: str) -> Any:
    """timm's configuration of the pretrained weights of ``name``; without a tag those of the default tag."""
    return timm.models.get_pretrained_cfg(name, allow_unregistered=False)


def _download(backbone_name: str, from_smp: bool) -> tuple[str, Mapping[str, Tensor]]:
    """A name for the ImageNet weights of the backbone, and their tensors."""
    smp_encoder = from_smp and not backbone_name.startswith(TIMM_PREFIX)
    name = backbone_name if smp_encoder else timm_name(backbone_name)
    try:
        # Building the pretrained model draws random weights first, which must not advance the global random stream.
        with torch.random.fork_rng(devices=[]):
            if smp_encoder:
                return f"smp {name} imagenet", smp.encoders.get_encoder(name, weights="imagenet").state_dict()
            config = _timm_config(name)
            return f"timm {config.architecture}.{config.tag}", timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # the hub clients raise many kinds, some from their own libraries
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise BadInput(f"Cannot download ImageNet weights for {backbone_name}: {reason}. {WEIGHTS_REMEDY}") from error


def plain_tensor_name(name: str) -> str:
    """A tensor's name without wrappers, the same whether timm nests a module or flattens it for feature maps.

    ``module.stages.0.conv.weight`` and ``stages_0.conv.weight`` are the same tensor.
    """
    return unwrapped_name(name).replace(".", "_")


def unwrapped_name(name: str) -> str:
    """A tensor's name without the prefixes of wrappers."""
    while prefix := next((prefix for prefix in WRAPPERS if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
    return name


def _counted(backbone: nn.Module) -> list[str]:
    """The names of the backbone's tensors that are learned or measured."""
    return [name for name in backbone.state_dict() if not name.endswith("num_batches_tracked")]


def _require_all(backbone: nn.Module, tensors: Mapping[str, Tensor], source: str, backbone_name: str) -> None:
    """BadInput, with the first tensor that differs, unless ``tensors`` fill the transformer ``backbone``."""
    given = {plain_tensor_name(name): tensor for name, tensor in tensors.items()}
    for name, target in backbone.state_dict().items():
        tensor = given.get(plain_tensor_name(name))
        if tensor is None or adapted(tensor, target).shape != target.shape:
            shape = None if tensor is None else tuple(tensor.shape)
            what = "is missing" if shape is None else f"is {shape} instead of {tuple(target.shape)}"
            raise BadInput(
                f"Weights {source!r} are not of the backbone {backbone_name}: {unwrapped_name(name)} {what}. Pass "
                "timm's, the authors' or Hugging Face's file of this backbone, or --weights none."
            )


def _fill(
    backbone: nn.Module, tensors: Mapping[str, Tensor], source: str, backbone_name: str, needed: tuple[str, ...]
) -> tuple[int, int]:
    """Copy ``tensors`` into the backbone; returns how many of its counted tensors matched, and how many it has."""
    targets = backbone.state_dict()
    wanted = {plain_tensor_name(name) for name in targets}
    origins: dict[str, str] = {}
    for name in tensors:
        if (plain := plain_tensor_name(name)) in wanted and origins.setdefault(plain, name) != name:
            raise BadInput(
                f"Weights {source!r} contain the same tensor twice, as {origins[plain]} and as {name}. "
                "Keep one of the two networks in the file."
            )
    found = {name: tensors[origins[plain_tensor_name(name)]] for name in targets if plain_tensor_name(name) in origins}
    found = {name: adapted(tensor, targets[name]) for name, tensor in found.items()}
    fitting = {name: tensor for name, tensor in found.items() if tensor.shape == targets[name].shape}

    counted = _counted(backbone)
    matched = sum(name in fitting for name in counted)
    if matched < NEEDED_SHARE * len(counted):
        missing = [name for name in counted if name not in found]
        unlike = [
            f"{name} {tuple(found[name].shape)} instead of {tuple(targets[name].shape)}"
            for name in counted
            if name in found and name not in fitting
        ]
        raise BadInput(
            f"Weights {source!r} fit only {matched / len(counted):.1%} of the backbone {backbone_name} "
            f"({matched} of {len(counted)} tensors; {NEEDED_SHARE:.0%} are needed). Missing: {first_named(missing)}; "
            f"of another shape: {first_named(unlike)}. Pass weights of this backbone, or --weights none."
        )
    if lacking := [name for name in needed if name not in fitting]:
        raise BadInput(
            f"Weights {source!r} lack the pretrained head of the backbone {backbone_name}, or have a different one "
            f"({first_named(lacking)}). Pass weights that have it, or leave out --reference-head."
        )
    with torch.no_grad():
        for name, tensor in fitting.items():
            targets[name].copy_(tensor)
    return matched, len(counted)


def first_named(names: list[str], shown: int = 3) -> str:
    """The first few of ``names``, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more if names else "none"
