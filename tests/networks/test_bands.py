"""Networks for images of other bands than red, green and blue."""

import pytest
import safetensors.torch
import timm
import torch
from worlds import changed

from stages.networks.build import build_network
from stages.networks.weights import load_weights
from stages.runtime.errors import BadInput
from stages.settings.network import NetworkSettings

NAME = "test_efficientnet"
TINY = NetworkSettings(backbone=NAME, head_width=64, low_level_width=8)


@pytest.mark.parametrize(
    ("architecture", "backbone", "bands"),
    [("deeplabv3plus", NAME, 5), ("deeplabv3plus", NAME, 1), ("deeplabv2", "test_resnet", 5), ("unet", f"tu-{NAME}", 5),
     ("unet", "resnet18", 5), ("classifier", NAME, 2)],
)  # fmt: skip
def test_a_network_takes_as_many_bands_as_images_have(architecture: str, backbone: str, bands: int) -> None:
    settings = changed(TINY, {"architecture": architecture, "backbone": backbone})
    network, colours = build_network(settings, 2, bands=bands), build_network(settings, 2)
    assert network.training
    logits = network.eval()(torch.rand(1, bands, 64, 64))
    assert logits.shape == ((1, 2, 1, 1) if architecture == "classifier" else (1, 2, 64, 64))
    other = [
        (name, tensor.shape, of_colours.shape)
        for (name, tensor), of_colours in zip(network.state_dict().items(), colours.state_dict().values(), strict=True)
        if tensor.shape != of_colours.shape
    ]
    assert len(other) == 1
    assert (other[0][1][1], other[0][2][1]) == (bands, 3)


def test_every_band_counts() -> None:
    network = build_network(TINY, 2, bands=5).eval()
    images = torch.zeros(6, 5, 64, 64)
    for band in range(5):
        images[band, band] = 1
    found = network(images)
    assert all((found[band] != found[5]).any() for band in range(5))


def test_weights_of_three_bands_are_repeated_and_scaled_and_those_of_as_many_bands_kept(tmp_path) -> None:
    state = timm.create_model(NAME).state_dict()
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(state, path)
    network = build_network(TINY, 2, bands=5)
    report = load_weights(network, str(path), NAME)
    assert report.matched == report.total
    first = network.backbone.state_dict()["conv_stem.weight"]
    given = state["conv_stem.weight"]
    assert torch.allclose(first, 0.6 * given[:, [0, 1, 2, 0, 1]])
    grey = build_network(TINY, 2, bands=1)
    load_weights(grey, str(path), NAME)
    assert torch.allclose(grey.backbone.state_dict()["conv_stem.weight"], given.sum(1, keepdim=True))
    torch.save(network.backbone.state_dict(), tmp_path / "own.pth")
    again = build_network(TINY, 2, bands=5)
    load_weights(again, str(tmp_path / "own.pth"), NAME)
    assert torch.equal(again.backbone.state_dict()["conv_stem.weight"], first)


def test_a_network_that_keeps_three_inputs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.networks.bands.PROBE_SIDE", 1000)  # hides the convolutions that read the image
    monkeypatch.setattr("stages.networks.bands.probed", lambda network, bands: network(torch.zeros(2, bands, 64, 64)))
    with pytest.raises(BadInput, match="This network cannot take images of 5 bands"):
        build_network(TINY, 2, bands=5)
