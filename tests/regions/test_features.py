"""Features of patches: the layer the specification names, weights from everywhere, refusals."""

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from stages.regions.features import build_patch_network, load_encoder
from stages.runtime.errors import BadInput
from stages.settings.cluster_regions import KMeansSettings

SMALL = {"encoder": "mobilenetv3_small_050", "weights": "none", "device": "cpu"}


def patches(number: int, side: int = 16) -> np.ndarray:
    return np.random.default_rng(number).random((number, 3, side, side), dtype=np.float32)


def test_vgg16_gives_conv5_3_after_its_relu():
    encoder = load_encoder(KMeansSettings(weights="none", device="cpu"), 0)
    names = [name for name, module in encoder.network.backbone.named_children() if isinstance(module, torch.nn.Conv2d)]
    assert len(names) == 13
    assert names[-1] == "features_28"
    given = patches(5)
    with torch.inference_mode():
        layers = torch.nn.Sequential(*encoder.network.backbone.children())
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (encoder.mean, encoder.std))
        expected = layers((torch.from_numpy(given) - mean) / std)
    assert isinstance(layers[-1], torch.nn.ReLU)
    assert expected.shape == (5, 512, 1, 1)
    found = encoder.features(given)
    assert found.shape == (5, 512)
    assert found.dtype == np.float16
    assert (found >= 0).all()
    assert 0.2 < (found > 0).mean() < 0.8
    np.testing.assert_allclose(found, expected[:, :, 0, 0], rtol=2e-3, atol=1e-6)
    assert encoder.mean == pytest.approx((0.485, 0.456, 0.406))


@pytest.mark.parametrize(
    "name, side, channels, cells",
    [
        ("mobilenetv3_small_050", 16, 24, 1),
        ("mobilenetv3_small_050", 20, 24, 4),
        ("mobilenetv3_small_050", 32, 288, 1),
        ("mobilenetv3_small_050", 2, 16, 1),
        ("tu-test_efficientnet", 15, 32, 4),
    ],
)
def test_the_deepest_map_whose_stride_is_not_above_the_side(name, side, channels, cells):
    network = build_patch_network(name, side).eval()
    with torch.inference_mode():
        (found,) = network.backbone(torch.zeros(2, 3, side, side))
        averaged = network(torch.zeros(2, 3, side, side))
    assert network.channels == channels
    assert found.shape[:2] == (2, channels)
    assert found[0, 0].numel() == cells
    torch.testing.assert_close(averaged, found.mean((2, 3)))


def test_random_weights_are_seeded_and_batches_and_the_number_of_patches_change_nothing(monkeypatch):
    settings = KMeansSettings(**SMALL)
    given = patches(7)
    found = load_encoder(settings, 0).features(given)
    torch.manual_seed(1)
    np.testing.assert_array_equal(load_encoder(settings, 0).features(given), found)
    assert (load_encoder(settings, 1).features(given) != found).any()
    monkeypatch.setattr("stages.regions.features.BATCH_CELLS", 2 * 16 * 16)
    np.testing.assert_allclose(load_encoder(settings, 0).features(given), found, rtol=5e-3, atol=1e-4)
    assert load_encoder(settings, 0).features(given[:0]).shape == (0, 24)


def test_weights_of_a_whole_classifier_fill_the_encoder(tmp_path):
    torch.manual_seed(5)
    classifier = timm.create_model(SMALL["encoder"])
    safetensors.torch.save_file(classifier.state_dict(), tmp_path / "w.safetensors")
    encoder = load_encoder(KMeansSettings(**SMALL | {"weights": str(tmp_path / "w.safetensors")}), 0)
    assert torch.equal(encoder.network.backbone.state_dict()["conv_stem.weight"], classifier.conv_stem.weight)
    assert encoder.source.endswith("w.safetensors")
    other = timm.create_model("test_efficientnet").state_dict()
    safetensors.torch.save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(
        BadInput, match=r"fit only .* of the backbone .*\. Pass weights of this backbone, or --weights none\.$"
    ):
        load_encoder(KMeansSettings(**SMALL | {"weights": str(tmp_path / "other.safetensors")}), 0)


@pytest.mark.shared
def test_real_weights_tell_patches_apart(shared):
    settings = KMeansSettings(
        encoder="tf_efficientnet_lite0", weights=str(shared / "weights/tf_efficientnet_lite0.safetensors"), device="cpu"
    )
    found = load_encoder(settings, 0).features(np.concatenate([patches(2), np.zeros((2, 3, 16, 16), np.float32)]))
    assert found.shape == (4, 112)
    assert np.abs(found[0] - found[1]).max() > 0.1
    np.testing.assert_allclose(found[2], found[3], atol=1e-2)
    assert np.abs(found[0] - found[2]).mean() > 0.5


@pytest.mark.parametrize(
    "values, says",
    [
        ({"encoder": "vgg61"}, "Unknown timm backbone 'vgg61'. Did you mean .*vgg16"),
        ({"encoder": "mobilenetv3_small_050.nonsense"}, r"no weights 'nonsense' of .*one of lamb_in1k\.$"),
        (
            {"encoder": "vit_small_patch16_224"},
            r"has no feature maps for patches of 16 x 16 pixels\. Choose a convolutional --encoder such as .*\.$",
        ),
        (
            {"encoder": "convnext_tiny", "patch": 3},
            r"with a stride of 3 or less \(its smallest is 4\)\. Raise --patch to 4, or choose another --encoder\.$",
        ),
        (
            {"weights": "missing.safetensors"},
            r"'missing\.safetensors' cannot be read: .*\. Pass a file with --weights, or --weights none for random",
        ),
    ],
)
def test_refusals_name_the_remedy(values, says):
    with pytest.raises(BadInput, match=says):
        load_encoder(KMeansSettings(**SMALL | values), 0)


def test_features_beyond_16_bits_are_refused():
    encoder = load_encoder(KMeansSettings(**SMALL), 0)
    with torch.no_grad():
        for parameter in encoder.network.parameters():
            parameter.mul_(100)
    told = r"not finite in 16 bits\. Choose other --weights, another --encoder, or --precision float32\.$"
    with pytest.raises(BadInput, match=told):
        encoder.features(patches(3))
