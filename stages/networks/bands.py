"""Networks for images of other bands than red, green and blue: the first convolution gets as many inputs."""

from typing import Any

import torch
from timm.models._manipulate import adapt_input_conv
from torch import Tensor, nn

from stages.runtime.errors import BadInput

COLOURS = 3
PROBE_SIDE = 64  # of the image that shows which convolutions read it


def take_bands(network: nn.Module, bands: int) -> None:
    """Give the convolutions of ``network`` that read the image ``bands`` inputs instead of three.

    Their new weights are random, of a spread that keeps the deviation of their outputs. `adapted` fits pretrained ones.
    Raises BadInput if the network still takes three bands only.
    """
    found: list[nn.Conv2d] = []

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(module, nn.Conv2d)
        if inputs[0].shape[1] == COLOURS and inputs[0].shape[-1] >= PROBE_SIDE:
            found.append(module)

    ways: list[Any] = [
        module.register_forward_pre_hook(note)
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and module.in_channels == COLOURS and module.groups == 1
    ]
    try:
        probed(network, COLOURS)
    finally:
        for way in ways:
            way.remove()
    for convolution in found:
        weight = convolution.weight
        shape = (weight.shape[0], bands, *weight.shape[2:])
        spread = float(weight.detach().std()) * (COLOURS / bands) ** 0.5
        convolution.in_channels = bands
        convolution.weight = nn.Parameter(torch.randn(shape) * spread)
    try:
        probed(network, bands)
    except Exception as error:  # networks raise any kind of exception for an input that they cannot take
        raise BadInput(
            f"This network cannot take images of {bands} bands ({error}). Choose another architecture or backbone, "
            "or prepare the dataset with three bands."
        ) from error


def probed(network: nn.Module, bands: int) -> None:
    """Run ``network`` on an image of zeros; its mode, statistics and random numbers stay as they are."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    with torch.inference_mode():
        network(torch.zeros(2, bands, PROBE_SIDE, PROBE_SIDE))
    for module, mode in modes.items():
        module.training = mode


def adapted(tensor: Tensor, target: Tensor) -> Tensor:
    """``tensor`` with the inputs of ``target``, by timm's rule, if it is a first convolution of three; or as it is."""
    same = tensor.ndim == target.ndim == 4 and (tensor.shape[0], tensor.shape[2:]) == (
        target.shape[0],
        target.shape[2:],
    )
    return (
        adapt_input_conv(target.shape[1], tensor) if same and tensor.shape[1] == COLOURS != target.shape[1] else tensor
    )
