import pytest
import torch
from torch import nn
from torchvision.models.segmentation import deeplabv3_resnet50
from worlds import changed

from stages.networks.build import build_network
from stages.networks.dropout import dropout_modules
from stages.runtime.errors import BadInput
from stages.settings.network import NetworkSettings

TINY = NetworkSettings(backbone="test_efficientnet", head_width=64, low_level_width=8)
TINY_FPN = changed(TINY, {"architecture": "fpn-dilated", "output_stride": 8})
TINY_V3 = changed(TINY, {"architecture": "deeplabv3", "aspp_rates": (2, 4)})
TINY_LRASPP = changed(TINY, {"architecture": "lraspp"})
UNET = NetworkSettings(architecture="unet", backbone="resnet18")


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("classes, expected", [(11, 5_813_483), (19, 5_815_539), (21, 5_816_053)])
def test_deeplabv3plus_has_the_published_number_of_parameters(classes, expected):
    with torch.device("meta"):
        network = build_network(NetworkSettings(), classes)
    assert count(network) == expected
    assert count(network.backbone) == 1_811_712
    assert count(network.pyramid) == 2_706_432
    assert count(network.low_level) == 1_248


@pytest.mark.parametrize("classes, expected", [(11, 26_709_579), (19, 26_710_611), (21, 26_710_869)])
def test_fpn_dilated_has_the_published_number_of_parameters(classes, expected):
    with torch.device("meta"):
        network = build_network(NetworkSettings(architecture="fpn-dilated", backbone="resnet50.tv_in1k"), classes)
    assert (network.pad_multiple, network.align_corners) == (8, False)
    assert count(network) == expected
    assert count(network.backbone) == 23_508_032
    convolutions = [sum(isinstance(part, nn.Conv2d) for part in level) for level in network.levels]
    assert convolutions == [2, 3, 3, 3]


@pytest.mark.parametrize("classes, expected", [(19, 39_638_355), (21, 39_638_869)])
def test_deeplabv3_has_the_published_number_of_parameters(classes, expected):
    settings = NetworkSettings(architecture="deeplabv3", backbone="resnet50", output_stride=8, aspp_rates=(12, 24, 36))
    with torch.device("meta"):
        network = build_network(settings, classes)
    assert count(network) == expected
    assert count(network.backbone) == 23_508_032
    assert [branch[0].dilation[0] for branch in network.classifier[0].convs[1:4]] == [12, 24, 36]


def test_deeplabv3_is_that_of_torchvision():
    settings = NetworkSettings(
        architecture="deeplabv3", backbone="resnet50", output_stride=8, aspp_rates=(12, 24, 36), align_corners=False
    )
    published = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=5).eval()
    network = build_network(settings, 5).eval()
    network.load_state_dict(published.state_dict())
    images = torch.rand(1, 3, 49, 66)
    with torch.inference_mode():
        assert torch.allclose(network(images), published(images)["out"], atol=1e-6)


@pytest.mark.parametrize("classes, expected", [(19, 3_221_198), (21, 3_221_538)])
def test_lraspp_has_the_published_number_of_parameters(classes, expected):
    with torch.device("meta"):
        network = build_network(NetworkSettings(architecture="lraspp", backbone="mobilenetv3_large_100"), classes)
    assert count(network) == expected
    assert (network.low, network.high) == (40, 960)


def test_separable_head_has_the_published_number_of_parameters():
    # Spec multi_class_query.md 8: 3.174 M in the head at 20 outputs. Its classifier has no bias, hence 20 fewer.
    with torch.device("meta"):
        network = build_network(NetworkSettings(backbone="resnet50s", separable=True), 20)
    assert count(network) - count(network.backbone) - 20 == 3_174_416


@pytest.mark.parametrize("size", [(360, 480), (256, 512)])
@pytest.mark.parametrize(
    "settings",
    [TINY, TINY_FPN, TINY_V3, TINY_LRASPP],
    ids=["deeplabv3plus", "fpn-dilated", "deeplabv3", "lraspp"],
)
def test_logits_have_the_size_of_the_image(settings, size):
    network = build_network(settings, 5).eval()
    assert network.pad_multiple == 8
    with torch.inference_mode():
        logits = network(torch.rand(1, 3, *size))
    assert logits.shape == (1, 5, *size)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize("settings", [TINY, TINY_V3, TINY_LRASPP], ids=["deeplabv3plus", "deeplabv3", "lraspp"])
def test_networks_without_a_pyramid_of_features_take_any_size(settings):
    network = build_network(settings, 2).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 50, 33)).shape == (1, 2, 50, 33)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_fpn_dilated_grows_every_level_to_the_image_at_any_output_stride(output_stride):
    network = build_network(changed(TINY_FPN, {"output_stride": output_stride}), 2).eval()
    with torch.inference_mode():
        assert network.pad_multiple == output_stride
        assert network(torch.rand(1, 3, 64, 32)).shape == (1, 2, 64, 32)
        with pytest.raises(ValueError, match=f"multiples of {output_stride}, not 60x32"):
            network(torch.rand(1, 3, 60, 32))


def test_backbone_is_dilated_to_the_output_stride():
    images = torch.rand(1, 3, 64, 64)
    for output_stride in (8, 16, 32):
        network = build_network(changed(TINY, {"output_stride": output_stride}), 2).eval()
        shallow, deep = network.backbone(images)
        assert shallow.shape[-2:] == (16, 16)
        assert deep.shape[-2:] == (64 // output_stride,) * 2


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_heads_without_a_decoder_see_the_maps_they_are_meant_to(output_stride):
    images = torch.rand(1, 3, 64, 64)
    for settings in (TINY_V3, TINY_LRASPP):
        network = build_network(changed(settings, {"output_stride": output_stride}), 2).eval()
        with torch.inference_mode():
            maps = network.backbone(images)
            coarse = network.classifier(*maps)
            logits = nn.functional.interpolate(coarse, (64, 64), mode="bilinear", align_corners=True)
            assert torch.equal(network(images), logits)
        assert maps[-1].shape == (1, 64, *(64 // output_stride,) * 2)
        assert len(maps) == (1 if settings is TINY_V3 else 2)
        assert maps[0].shape[2] == 64 // (output_stride if settings is TINY_V3 else 8)


@pytest.mark.parametrize("settings, name", [(TINY, r"DeepLabV3\+"), (TINY_V3, "DeepLabV3")])
def test_training_a_pooling_branch_on_one_image_is_refused_clearly(settings, name):
    network = build_network(settings, 2).train()
    with pytest.raises(ValueError, match=f"{name} cannot .* batch size of 2 or more"):
        network(torch.rand(1, 3, 32, 32))
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_lraspp_trains_on_one_image():
    network = build_network(TINY_LRASPP, 2).train()
    network(torch.rand(1, 3, 64, 64)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_one_image_is_fine_where_only_the_dropout_is_in_training_mode():
    network = build_network(TINY, 2).eval()
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(images), network(images))
        for dropout in dropout_modules(network):
            dropout.train()
        assert not torch.equal(network(images), network(images))


def test_features_feed_the_classifier():
    network = build_network(TINY, 2).eval()
    with torch.inference_mode():
        assert network.features(torch.rand(1, 3, 32, 64)).shape == (1, 64, 8, 16)


def test_same_seed_gives_the_same_network():
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build_network(TINY, 2).state_dict())
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_head_convolutions_are_kaiming_normal_except_the_low_level_one():
    network = build_network(changed(TINY, {"head_width": 256, "low_level_width": 48}), 2)
    kernel = network.decoder[0][0].weight
    assert kernel.std().item() == pytest.approx((2 / (304 * 9)) ** 0.5, rel=0.02)
    # Torch's own draw is uniform within 1 / sqrt(fan-in), which a normal one would leave.
    assert network.low_level[0].weight.abs().max() <= (1 / 24) ** 0.5


def test_dropout_modules_are_those_of_the_head():
    network = build_network(TINY, 2)
    network.backbone.add_module("inner", nn.Dropout(0.3))
    assert [dropout.p for dropout in dropout_modules(network)] == [0.5, 0.5, 0.2]
    assert dropout_modules(build_network(TINY_FPN, 2)) == []
    assert dropout_modules(build_network(TINY_LRASPP, 2)) == []
    thinned = build_network(changed(TINY_V3, {"aspp_dropout": 0.3}), 2)
    assert [dropout.p for dropout in dropout_modules(thinned)] == [0.3]
    without = changed(TINY, {"aspp_dropout": 0.0, "decoder_dropouts": (0.0, 0.0)})
    assert dropout_modules(build_network(without, 2)) == []
    fpn = build_network(NetworkSettings(architecture="fpn", backbone="resnet18"), 2)
    assert [dropout.p for dropout in dropout_modules(fpn)] == [0.2]


def test_smp_unet():
    network = build_network(UNET, 4).eval()
    assert network.pad_multiple == 32
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 64, 64)).shape == (1, 4, 64, 64)
    assert network.backbone is network.model.encoder
    assert not any(name.startswith("backbone.") for name in network.state_dict())


@pytest.mark.parametrize("name", ["tu-test_efficientnet", "test_efficientnet.r160_in1k"])
def test_prefix_and_tag_mean_the_same_network(name):
    same = build_network(changed(TINY, {"backbone": name}), 2, support=True)
    torch.manual_seed(0)
    plain = build_network(TINY, 2, support=True)
    assert same.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("architecture", ["classifier", "deeplabv2", "deeplabv3", "lraspp", "fpn-dilated", "unet"])
def test_every_architecture_takes_a_tag(architecture):
    name = ("tu-" if architecture == "unet" else "") + "test_efficientnet.r160_in1k"
    with torch.device("meta"):
        network = build_network(changed(TINY, {"architecture": architecture, "backbone": name}), 2)
        plain = build_network(changed(TINY, {"architecture": architecture, "backbone": name.split(".")[0]}), 2)
    assert count(network) == count(plain)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"architecture": "unett"}, ["'unett'", "deeplabv3plus", "fpn-dilated", "unet", "segformer"]),
        ({"backbone": "mobilenetv2_10"}, ["'mobilenetv2_10'", "mobilenetv2_100"]),
        (
            {"backbone": "resnet101.tv3_in1k"},
            ["timm has no weights 'tv3_in1k' of resnet101. Choose one of a1_in1k, a1h_in1k, ", ", tv2_in1k, tv_in1k."],
        ),
        ({"backbone": "resnet101."}, ["timm has no weights '' of resnet101. Choose one of "]),
        ({"backbone": "test_resnetz.tv_in1k"}, ["Unknown timm backbone 'test_resnetz.tv_in1k'", "test_resnet"]),
        ({"backbone": "hf-hub:somebody/resnet50"}, ["Unknown timm backbone"]),
        ({"backbone": "vit_tiny_patch16_224"}, ["vit_tiny_patch16_224", "stride 4", "output stride 16"]),
        (
            {"architecture": "deeplabv3", "backbone": "vit_tiny_patch16_224"},
            ["vit_tiny_patch16_224", "a feature map at output stride 16"],
        ),
        ({"architecture": "lraspp", "backbone": "vit_tiny_patch16_224"}, ["stride 8", "output stride 16"]),
        ({"architecture": "unet", "backbone": "resnet35"}, ["'resnet35'", "resnet34"]),
        ({"architecture": "unet", "backbone": "tu-mobilenetv2_10"}, ["'mobilenetv2_10'", "mobilenetv2_100"]),
        ({"architecture": "linknet", "backbone": "mit_b0"}, ["linknet", "mit_b0"]),
        ({"architecture": "fpn-dilated", "head_width": 100}, ["multiple of 64", "100"]),
    ],
)
def test_what_cannot_be_built_is_named_with_its_remedy(change, words):
    with pytest.raises(BadInput) as caught:
        build_network(NetworkSettings.load(change), 2)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_no_classes_are_refused():
    with pytest.raises(ValueError, match="at least one class"):
        build_network(TINY, 0)
