import pytest
import torch
import torchvision
from torch import nn
from worlds import changed

from stages.networks.build import build_network
from stages.networks.dropout import dropout_modules
from stages.networks.norms import freeze_norm
from stages.networks.weights import load_weights
from stages.runtime.errors import BadInput
from stages.settings.network import NetworkSettings

PUBLISHED = NetworkSettings(
    architecture="deeplabv2", backbone="resnet101", output_stride=8, aspp_rates=(6, 12, 18, 24), align_corners=True
)
TINY = changed(PUBLISHED, {"backbone": "test_resnet", "aspp_rates": (1, 2, 3, 4)})
TINY_EFFICIENTNET = changed(TINY, {"backbone": "test_efficientnet"})


def count(parameters):
    return sum(parameter.numel() for parameter in parameters)


def test_published_numbers_of_parameters():
    with torch.device("meta"):
        network = build_network(PUBLISHED, 18)
    convolutions = [part.weight for part in network.backbone.modules() if isinstance(part, nn.Conv2d)]
    norms = [part for part in network.backbone.modules() if isinstance(part, nn.BatchNorm2d)]
    head = dict(network.classifier.named_parameters())
    assert count(network.parameters()) == 43_827_336
    assert count(convolutions) == 42_394_816
    assert sum(count(norm.parameters()) for norm in norms) == 105_344
    assert count(value for name, value in head.items() if name.endswith("weight")) == 1_327_104
    assert count(value for name, value in head.items() if name.endswith("bias")) == 72
    assert [branch.dilation[0] for branch in network.classifier] == [6, 12, 18, 24]
    assert all(branch.padding == branch.dilation for branch in network.classifier)


def test_six_outputs_have_fewer_parameters_in_the_head_alone():
    with torch.device("meta"):
        network = build_network(PUBLISHED, 6)
    assert count(network.parameters()) == 43_827_336 - 12 * 4 * (2048 * 9 + 1)


def test_names_tell_backbone_head_weights_and_head_biases_apart():
    names = [name for name, _ in build_network(TINY, 3).named_parameters() if not name.startswith("backbone.")]
    assert names == [f"classifier.{branch}.{kind}" for branch in range(4) for kind in ("weight", "bias")]


@pytest.mark.parametrize(
    "size, expected",
    [((320, 320), (41, 41)), ((256, 256), (33, 33)), ((321, 321), (41, 41)), ((97, 64), (13, 9)), ((33, 50), (5, 7))],
)
def test_features_have_the_published_size_and_logits_that_of_the_image(size, expected):
    network = build_network(TINY, 5).eval()
    with torch.inference_mode():
        images = torch.rand(1, 3, *size)
        (deep,) = network.backbone(images)
        logits = network(images)
    assert deep.shape[-2:] == expected
    assert logits.shape == (1, 5, *size)
    assert logits.dtype == torch.float32
    assert network.pad_multiple == 1
    assert network.support is None


def test_the_published_backbone_has_the_published_feature_size():
    with torch.device("meta"):
        network = build_network(PUBLISHED, 18).eval()
        assert [network.backbone(torch.empty(1, 3, side, side))[0].shape[-1] for side in (320, 256)] == [41, 33]
        assert network(torch.empty(1, 3, 256, 320)).shape == (1, 18, 256, 320)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_backbone_without_a_pool_has_one_feature_in_output_stride_pixels(output_stride):
    settings = changed(TINY_EFFICIENTNET, {"output_stride": output_stride})
    network = build_network(settings, 2).eval()
    with torch.inference_mode():
        (deep,) = network.backbone(torch.rand(1, 3, 64, 96))
        assert deep.shape[-2:] == (64 // output_stride, 96 // output_stride)
        assert network(torch.rand(1, 3, 50, 33)).shape == (1, 2, 50, 33)


def test_backbone_is_the_dilated_one_of_torchvision_but_for_the_pool():
    published = torchvision.models.resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
    published.maxpool.ceil_mode = True
    trunk = nn.Sequential(*list(published.children())[:-2]).eval()
    network = build_network(changed(PUBLISHED, {"backbone": "resnet50"}), 2).eval()
    state = {name: tensor for name, tensor in published.state_dict().items() if not name.startswith("fc.")}
    network.backbone.load_state_dict(state)
    images = torch.rand(1, 3, 48, 65)
    with torch.inference_mode():
        assert torch.allclose(network.backbone(images)[0], trunk(images), atol=1e-5)


def test_logits_are_the_resized_sum_of_the_branches():
    for align_corners in (True, False):
        network = build_network(changed(TINY, {"align_corners": align_corners}), 3).eval()
        images = torch.rand(2, 3, 40, 56)
        with torch.inference_mode():
            (deep,) = network.backbone(images)
            total = sum(branch(deep) for branch in network.classifier)
            expected = nn.functional.interpolate(total, (40, 56), mode="bilinear", align_corners=align_corners)
            assert torch.allclose(network(images), expected, atol=1e-6)


def test_first_weights_of_the_head():
    network = build_network(changed(TINY, {"backbone": "resnet26", "aspp_rates": (6, 12)}), 6)
    for branch in network.classifier:
        assert branch.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert branch.weight.mean().item() == pytest.approx(0, abs=2e-4)
        assert not branch.bias.any()


def test_same_seed_gives_the_same_network():
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build_network(TINY, 2).state_dict())
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["classifier.0.weight"], other["classifier.0.weight"])


def test_it_trains_on_one_image_and_has_no_dropout():
    network = build_network(TINY, 2).train()
    network(torch.rand(1, 3, 64, 64)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert dropout_modules(network) == []


@pytest.mark.parametrize(
    "change, words",
    [
        ({"backbone": "vit_tiny_patch16_224"}, ["vit_tiny_patch16_224", "a feature map at output stride 8"]),
        ({"backbone": "vgg16"}, ["vgg16", "output stride 8"]),
        ({"backbone": "resnet102"}, ["'resnet102'", "resnet101"]),
    ],
)
def test_what_cannot_be_built_is_named_with_its_remedy(change, words):
    with pytest.raises(BadInput) as caught:
        build_network(changed(PUBLISHED, change), 2)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_support_heads_are_refused():
    with pytest.raises(BadInput, match="deeplabv2 has no support heads"):
        build_network(TINY, 2, support=True)


@pytest.fixture(scope="module")
def torchvision_state():
    """Every tensor of torchvision's ResNet-101 by name and shape, each full of a number of its own; small on disk."""
    with torch.device("meta"):
        state = torchvision.models.resnet101(weights=None).state_dict()
    return {name: torch.tensor(0.5 + index).expand(tensor.shape) for index, (name, tensor) in enumerate(state.items())}


@pytest.fixture(scope="module")
def resnet101():
    return build_network(PUBLISHED, 2)


def test_weights_of_torchvision_fill_the_whole_backbone(tmp_path, torchvision_state, resnet101):
    path = tmp_path / "resnet101.pth"
    torch.save(torchvision_state, path)
    report = load_weights(resnet101, str(path), "resnet101")
    assert report.matched == report.total == 520
    for name in ("conv1.weight", "layer3.22.conv2.weight", "layer4.2.bn3.running_var", "layer1.0.downsample.0.weight"):
        assert (resnet101.backbone.state_dict()[name] == torchvision_state[name]).all()


def test_weights_of_other_names_are_refused(tmp_path, torchvision_state, resnet101):
    path = tmp_path / "resnet101.pth"
    torch.save({f"base.{name}": tensor for name, tensor in torchvision_state.items()}, path)
    with pytest.raises(BadInput, match=r"fit only 0\.0% of the backbone resnet101"):
        load_weights(resnet101, str(path), "resnet101")


def test_frozen_norms_keep_their_statistics_and_learn():
    network = build_network(TINY, 2).train()
    freeze_norm(network)
    statistics = {name: tensor.clone() for name, tensor in network.named_buffers()}
    network(torch.rand(1, 3, 64, 64) + 3).square().sum().backward()
    assert statistics
    assert all(torch.equal(tensor, statistics[name]) for name, tensor in network.named_buffers())
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert network.training
    assert network.backbone.training
    network.train()
    network(torch.rand(1, 3, 64, 64) + 3)
    assert not torch.equal(network.backbone.bn1.running_mean, statistics["backbone.bn1.running_mean"])


def test_every_kind_of_batch_norm_is_frozen_and_nothing_else():
    network = build_network(TINY_EFFICIENTNET, 2)
    network.add_module("synced", nn.SyncBatchNorm(4))
    network.add_module("others", nn.Sequential(nn.GroupNorm(1, 4), nn.LayerNorm(4), nn.Dropout(0.5)))
    freeze_norm(network.train())
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d | nn.SyncBatchNorm)]
    assert len(norms) > 5
    assert not any(norm.training for norm in norms)
    assert all(part.training for part in network.others)
