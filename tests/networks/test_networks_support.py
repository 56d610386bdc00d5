import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from worlds import changed

from stages.networks import side_taps
from stages.networks.build import build_network
from stages.networks.dropout import dropout_modules
from stages.networks.side_taps import find_side_taps, run_with_taps
from stages.networks.support import SupportHeads, growing_classifier
from stages.runtime.errors import BadInput
from stages.settings.network import NetworkSettings

TINY = NetworkSettings(
    backbone="mobilenetv3_small_050", head_width=32, low_level_width=8, aspp_rates=(2, 4), lossiness_width=16
)
TINIES = {name: changed(TINY, {"architecture": name}) for name in ("deeplabv3plus", "deeplabv3", "lraspp")}
PUBLISHED = {
    "deeplabv3": NetworkSettings(
        architecture="deeplabv3", backbone="resnet50", output_stride=8, aspp_rates=(12, 24, 36), align_corners=False
    ),
    "lraspp": NetworkSettings(
        architecture="lraspp",
        backbone="mobilenetv3_large_100",
        side_taps=("blocks.2", "blocks.4.0", "blocks.5.1"),
        align_corners=False,
    ),
    "deeplabv3plus": NetworkSettings(side_taps=("blocks.1", "blocks.3", "blocks.4")),
}


def taps_of(settings):
    """The side taps of a network's backbone."""
    own = settings.of_architecture
    return find_side_taps(settings.backbone, own.output_stride, own.support.side_taps)


each_architecture = pytest.mark.parametrize("settings", TINIES.values(), ids=TINIES)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def built(settings, classes=5, support=True, seed=0):
    torch.manual_seed(seed)
    return build_network(settings, classes, support=support)


def segmentation(network):
    return {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("support.")}


@pytest.mark.parametrize(
    "architecture, total, own, support",
    [
        ("deeplabv3", 68_793_425, 39_638_355, 29_155_070),
        ("lraspp", 9_216_527, 3_221_198, 5_995_329),
        ("deeplabv3plus", 8_825_817, 5_815_539, 3_010_278),
    ],
)
def test_networks_have_the_published_numbers_of_parameters(architecture, total, own, support):
    """Spec madbal.md, check 15."""
    with torch.device("meta"):
        network = build_network(PUBLISHED[architecture], 19, support=True)
        assert (count(network), count(network.support)) == (total, support)
        assert count(build_network(PUBLISHED[architecture], 19)) == own == total - support
        assert count(build_network(PUBLISHED[architecture], 21, support=True)) > total


@pytest.mark.parametrize(
    "architecture, channels, strides",
    [
        ("deeplabv3", (256, 512, 1024), (4, 8, 8)),
        ("lraspp", (40, 112, 160), (8, 16, 16)),
        ("deeplabv3plus", (24, 64, 96), (4, 16, 16)),
    ],
)
def test_published_side_taps(architecture, channels, strides):
    taps = taps_of(PUBLISHED[architecture])
    assert (taps.channels, taps.strides) == (channels, strides)


@pytest.mark.parametrize("architecture", TINIES)
@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "mobilenetv3_small_050", "xception65", "test_convnext"])
def test_any_backbone_carries_support_heads(architecture, backbone):
    settings = changed(TINIES[architecture], {"backbone": backbone})
    with torch.device("meta"):
        network = build_network(settings, 21, support=True).eval()
        maps = network.support(network.inner(torch.empty(1, 3, 64, 64)), (64, 64))
    assert maps.sides.shape == (1, 3, 21, 64, 64)


@each_architecture
def test_parameters_are_those_of_the_backbone_the_head_or_the_support_heads(settings):
    network = built(settings)
    names = dict(network.named_parameters())
    support = {id(parameter) for parameter in network.support.parameters()}
    assert support == {id(parameter) for name, parameter in names.items() if name.startswith("support.")}
    assert support.isdisjoint(id(parameter) for parameter in network.backbone.parameters())
    assert count(build_network(settings, 5)) == count(network) - count(network.support)


@each_architecture
@pytest.mark.parametrize("size", [(48, 72), (64, 64), (40, 56), (45, 70)])
def test_maps_have_the_size_asked_for_at_odd_sizes_too(settings, size):
    network = built(settings).eval()
    with torch.inference_mode():
        inner = network.inner(torch.rand(2, 3, *size))
        coarse, maps = network.support.coarse(inner), network.support(inner, size)
        logits = network.segment(inner, size)
    assert logits.shape == (2, 5, *size)
    for found, (height, width) in ((maps, size), (coarse, [-(-side // 4) for side in size])):
        assert found.sides.shape == (2, 3, 5, height, width)
        assert found.mixing.shape == (2, 3, height, width)
        assert found.lossiness.shape == (2, 2, height, width)
        assert all(each.dtype == torch.float32 and each.isfinite().all() for each in found)
        assert (found.mixing.sum(1) - 1).abs().max() <= 1e-6
        assert found.mixing.min() >= 0


@each_architecture
def test_side_logits_grow_without_aligned_corners(settings):
    network = built(settings).eval()
    with torch.inference_mode():
        inner = network.inner(torch.rand(1, 3, 32, 48))
        coarse, maps = network.support.coarse(inner), network.support(inner, (32, 48))
        first = network.support.sides[0](inner.sides[0])
    assert torch.equal(coarse.sides[:, 0], first)
    for depth in range(3):
        grown = nn.functional.interpolate(coarse.sides[:, depth], (32, 48), mode="bilinear", align_corners=False)
        assert torch.allclose(maps.sides[:, depth], grown, atol=1e-6)


def test_mixing_of_deeplabv3_grows_to_the_nearest():
    network = built(TINIES["deeplabv3"]).eval()
    with torch.inference_mode():
        inner = network.inner(torch.rand(1, 3, 64, 64))
        deep = network.support.mixer(*inner.head).softmax(1)
        grown = deep.repeat_interleave(4, 2).repeat_interleave(4, 3)
        assert torch.equal(network.support.coarse(inner).mixing, grown)


@each_architecture
def test_weights_of_a_plain_network_fit_and_give_the_same_logits(settings):
    plain, network = built(settings, support=False, seed=1), built(settings, seed=2)
    missing, unexpected = network.load_state_dict(plain.state_dict(), strict=False)
    assert unexpected == []
    assert set(missing) >= {f"support.{name}" for name, _ in network.support.named_parameters()}
    assert all(name.startswith("support.") for name in missing)
    images = torch.rand(2, 3, 48, 72)
    for mode in (True, False):
        torch.manual_seed(5)
        expected = plain.train(mode)(images)
        torch.manual_seed(5)
        assert torch.equal(network.train(mode)(images), expected)
    assert torch.equal(network.segment(network.inner(images), (48, 72)), expected)
    assert plain.support is None
    assert plain.inner(images).sides == ()


@each_architecture
def test_support_heads_do_not_change_what_is_drawn_for_the_network(settings):
    plain, network, other = built(settings, support=False), built(settings), built(settings, seed=1)
    assert list(segmentation(network)) == list(plain.state_dict())
    assert all(torch.equal(plain.state_dict()[name], tensor) for name, tensor in segmentation(network).items())
    again = built(settings).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in network.state_dict().items())
    name = "support.sides.0.weight"
    assert not torch.equal(again[name], other.state_dict()[name])


@each_architecture
def test_lossiness_alone_teaches_side_heads_and_mixer_but_not_the_network(settings):
    network = built(settings)
    images = torch.rand(2, 3, 64, 96)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.eval()
    network.support.train()
    with torch.no_grad():
        inner = network.inner(images)
    network.support(inner, (64, 96)).lossiness.square().sum().backward()
    # Of the squeeze-excitation the second layer is almost 0 at first, yet never exactly.
    assert all(parameter.grad.abs().max() > 0 for parameter in network.support.sides.parameters())
    assert all(parameter.grad is not None for parameter in network.support.parameters())
    assert any(parameter.grad.abs().max() > 0 for parameter in network.support.mixer.parameters())
    others = {name: p for name, p in network.named_parameters() if not name.startswith("support.")}
    assert all(parameter.grad is None for parameter in others.values())
    assert all(torch.equal(before[name], tensor) for name, tensor in segmentation(network).items())


@each_architecture
def test_segmentation_alone_leaves_the_support_heads_alone(settings):
    network = built(settings).train()
    before = {name: tensor.clone() for name, tensor in network.support.state_dict().items()}
    network(torch.rand(2, 3, 64, 64)).square().sum().backward()
    assert all(parameter.grad is None for parameter in network.support.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.support.state_dict().items())


@each_architecture
def test_state_dict_and_deepcopy_give_the_same_maps(settings):
    network = built(settings).eval()
    images = torch.rand(1, 3, 48, 72)
    again = built(settings, seed=9).eval()
    again.load_state_dict(network.state_dict())
    copied = copy.deepcopy(network)
    with torch.inference_mode():
        expected = network.support(network.inner(images), (48, 72))
        for other in (again, copied):
            found = other.support(other.inner(images), (48, 72))
            assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
    assert copied.support.sides[0].weight is not network.support.sides[0].weight


@each_architecture
def test_nothing_is_kept_after_a_pass(settings):
    network = built(settings).eval()
    with torch.no_grad():
        inner = network.inner(torch.rand(1, 3, 64, 64))
        kept = [weakref.ref(tensor) for part in inner for tensor in part]
        assert len(kept) == {"deeplabv3plus": 5, "deeplabv3": 5, "lraspp": 7}[settings.architecture]
        del inner
    gc.collect()
    assert not any(tensor() is not None for tensor in kept)
    with pytest.raises(RuntimeError):
        network.inner(torch.rand(1, 7, 64, 64))
    assert not any(part._forward_hooks for part in network.modules())


def test_support_heads_under_distributed_training(tmp_path):
    class Teaching(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.support = network.support

        def forward(self, inner):
            return self.support(inner, (64, 64))

    network = built(TINY)
    alone = copy.deepcopy(network)
    images = torch.rand(2, 3, 64, 64)
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(network)
        torch.manual_seed(3)
        logits = wrapped(images)
        torch.manual_seed(3)
        assert torch.equal(logits, alone(images))
        with torch.no_grad():
            inner = network.inner(images)
        maps = nn.parallel.DistributedDataParallel(Teaching(network))(inner)
        sum(each.square().sum() for each in maps).backward()
    finally:
        torch.distributed.destroy_process_group()
    assert all(parameter.grad is not None for parameter in network.support.parameters())


@each_architecture
def test_maps_are_float32_under_autocast(settings):
    network = built(settings).eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        maps = network.support(network.inner(torch.rand(1, 3, 64, 64)), (64, 64))
    assert all(each.dtype == torch.float32 for each in maps)
    assert (maps.mixing.sum(1) - 1).abs().max() <= 1e-6


def test_lossiness_is_the_published_chain_of_layers():
    heads = built(TINY, classes=7).support
    first, second, residual, squeeze, last = heads.lossiness
    features = torch.rand(2, 7 + 32, 6, 5)
    body = second(first(features))
    body = body + residual.convolutions[2](residual.convolutions[0](body).relu())
    factors = (squeeze.factors[2].weight @ (squeeze.factors[0].weight @ body.mean((2, 3)).T).relu()).T.sigmoid()
    assert torch.allclose(heads.lossiness(features), last(body * factors[..., None, None]), atol=1e-5)
    assert [first.out_channels, second.out_channels, last.out_channels] == [16, 64, 2]
    assert [tuple(each.weight.shape) for each in (squeeze.factors[0], squeeze.factors[2])] == [(4, 64), (64, 4)]
    assert built(TINIES["lraspp"]).support.lossiness[0].out_channels == 8


@pytest.mark.parametrize("settings", [TINY, TINIES["lraspp"]])
def test_mixed_side_logits_are_what_lossiness_sees(settings):
    network = built(settings).eval()
    seen = []
    network.support.lossiness.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        inner = network.inner(torch.rand(1, 3, 64, 64))
        maps = network.support.coarse(inner)
    mixed = sum(maps.mixing[:, k, None] * maps.sides[:, k] for k in range(3))
    assert torch.allclose(seen[0][:, :5], mixed, atol=1e-6)
    if settings is TINY:
        assert torch.equal(seen[0][:, 5:], inner.deep[0])
    else:
        low, high = inner.deep
        deep = [low, network.support.reduce(high)]
        deep = [nn.functional.interpolate(each, (16, 16), mode="bilinear", align_corners=False) for each in deep]
        assert torch.equal(seen[0][:, 5:], torch.cat(deep, 1))
        assert deep[1].shape[1] == high.shape[1] // 2


def test_reset_draws_what_is_published():
    heads = built(changed(TINIES["deeplabv3"], {"lossiness_width": 256})).support
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.fill_(3)
        for norm in heads.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean.fill_(3)
    torch.manual_seed(4)
    heads.reset()
    kernel = heads.mixer[0].convs[1][0].weight
    assert kernel.std().item() == pytest.approx((2 / (288 * 9)) ** 0.5, rel=0.02)
    assert heads.lossiness[0].weight.std().item() == pytest.approx((2 / (77 * 9)) ** 0.5, rel=0.02)
    assert heads.lossiness[3].factors[0].weight.std().item() == pytest.approx(1e-4, rel=0.25)
    norms = [part for part in heads.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms
    assert all((norm.weight == 1).all() and (norm.bias == 1e-4).all() for norm in norms)
    assert all((norm.running_mean == 0).all() for norm in norms)
    # Torch's own draw for transposed convolutions and biases is uniform within 1 / sqrt(fan-in).
    assert 0 < heads.sides[1].weight.abs().max() <= (1 / (5 * 25)) ** 0.5
    assert 0 < heads.lossiness[0].bias.abs().max() <= (1 / (77 * 9)) ** 0.5
    state = copy.deepcopy(heads.state_dict())
    torch.manual_seed(4)
    heads.reset()
    assert all(torch.equal(state[name], tensor) for name, tensor in heads.state_dict().items())


@pytest.mark.parametrize(
    "stride, padding, output_padding", [(1, 2, 0), (2, 2, 1), (3, 1, 0), (4, 1, 1), (8, 0, 3), (16, 0, 11)]
)
def test_growing_classifiers_multiply_the_size_by_their_stride(stride, padding, output_padding):
    grow = growing_classifier(3, 2, stride)
    assert (grow.padding, grow.output_padding) == ((padding, padding), (output_padding, output_padding))
    assert grow(torch.rand(1, 3, 5, 7)).shape == (1, 2, 5 * stride, 7 * stride)


def test_dropout_of_support_heads_makes_no_committee():
    assert [dropout.p for dropout in dropout_modules(built(TINY))] == [0.5, 0.5, 0.2]
    assert [dropout.p for dropout in dropout_modules(built(TINIES["deeplabv3"]))] == [0.5]
    assert dropout_modules(built(TINIES["lraspp"])) == []


@pytest.mark.parametrize("settings", [TINY, TINIES["deeplabv3"]], ids=["deeplabv3plus", "deeplabv3"])
def test_training_support_heads_on_one_image(settings):
    network = built(settings).eval()
    network.support.train()
    inner = network.inner(torch.rand(1, 3, 64, 64))
    if settings is TINY:
        assert network.support(inner, (64, 64)).lossiness.isfinite().all()
    else:
        with pytest.raises(ValueError, match="batch size of 2 or more"):
            network.support(inner, (64, 64))


def test_taps_by_name_are_those_taken_without_names():
    automatic = taps_of(TINY)
    assert automatic == (("blocks.0", "blocks.1", "blocks.3"), (8, 16, 24), (4, 8, 16))
    named = built(changed(TINY, {"side_taps": automatic.modules})).eval()
    network = built(TINY).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for mine, theirs in zip(named.inner(images).sides, network.inner(images).sides, strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_convnext", "test_resnet", "xception41"])
def test_taps_taken_without_names_are_the_feature_maps_of_timm(backbone):
    settings = NetworkSettings(
        architecture="fpn-dilated", backbone=backbone, head_width=64, output_stride=16, align_corners=True
    )
    taps = find_side_taps(backbone, 16)
    with torch.device("meta"):
        network = build_network(settings, 2).eval()
        maps, sides = run_with_taps(network.backbone, torch.empty(1, 3, 64, 64), taps.modules)
    assert len(maps) == 4
    assert all(mine is theirs for mine, theirs in zip(sides, maps, strict=False))
    assert taps.channels == tuple(side.shape[1] for side in sides)
    assert taps.strides == tuple(64 // side.shape[2] for side in sides) == (4, 8, 16)


def test_names_are_those_of_timm_even_where_it_flattens_the_model():
    settings = changed(TINY, {"backbone": "test_convnext"})
    names = ("stages.0", "stages.1.blocks.0", "stages.2")
    taps = taps_of(changed(settings, {"side_taps": names}))
    assert taps.modules == ("stages_0", "stages_1.blocks.0", "stages_2")
    assert taps_of(changed(settings, {"side_taps": taps.modules})) == taps


def test_taps_at_one_stride_need_no_growing():
    network = built(changed(TINY, {"side_taps": ("blocks.1", "blocks.1.1", "blocks.3")}))
    assert isinstance(network.support, SupportHeads)
    assert [head.stride for head in network.support.sides] == [(1, 1), (1, 1), (2, 2)]
    with torch.inference_mode():
        maps = network.eval().support(network.inner(torch.rand(1, 3, 48, 72)), (48, 72))
    assert maps.sides.shape == (1, 3, 5, 48, 72)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"side_taps": ("blocks.1", "blocks.33", "layer4")}, ["blocks.33, layer4", "blocks.3 (24@16)", "--side-taps"]),
        ({"side_taps": ("blocks.0", "blocks.1")}, ["3 different", "blocks.0, blocks.1"]),
        ({"side_taps": ("blocks.0", "blocks.1", "blocks.1")}, ["3 different"]),
        ({"side_taps": ("blocks.0", "blocks.1", "blocks.2", "blocks.3")}, ["3 different"]),
        ({"side_taps": ("blocks.3", "blocks.1", "blocks.0")}, ["fine to coarse", "16, 8, 4"]),
        ({"side_taps": ("", "blocks.1", "blocks.3")}, ["--side-taps"]),
        ({"architecture": "fpn-dilated", "head_width": 64}, ["fpn-dilated", "deeplabv3, deeplabv3plus, light, lraspp"]),
        ({"architecture": "unet", "backbone": "resnet18"}, ["unet", "deeplabv3, deeplabv3plus, light, lraspp"]),
        ({"architecture": "unett"}, ["Unknown architecture 'unett'"]),
    ],
)
def test_what_cannot_be_supported_is_named_with_its_remedy(change, words):
    with pytest.raises(BadInput) as caught:
        build_network(changed(TINY, change), 2, support=True)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_too_few_feature_maps_ask_for_names(monkeypatch):
    def shortened(name, output_stride):
        probe = whole(name, output_stride)
        del probe.feature_info.info[1]
        return probe

    whole = side_taps.weightless_backbone
    monkeypatch.setattr(side_taps, "weightless_backbone", shortened)
    side_taps.find_side_taps.cache_clear()
    with pytest.raises(BadInput, match=r"fewer than 3 feature maps .*--side-taps, out of .*blocks\.0 \(8@4\)"):
        taps_of(TINY)
    assert taps_of(changed(TINY, {"side_taps": ("blocks.0", "blocks.1", "blocks.3")}))
