import pytest
import safetensors.torch
import timm
import torch
from worlds import changed

from stages.networks.build import build_network
from stages.networks.dropout import dropout_modules
from stages.networks.norms import freeze_norm
from stages.networks.weights import load_weights
from stages.runtime.errors import BadInput
from stages.settings.network import NetworkSettings

NAME = "test_efficientnet"
TINY = NetworkSettings(architecture="classifier", backbone=NAME)
REFERENCE = changed(TINY, {"reference_head": True})
LITE0 = "tf_efficientnet_lite0"


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    "backbone, reference_head, expected",
    [
        ("resnet50", True, 25_557_032 + 21_021),
        ("resnet50", False, 25_557_032 - 2_049_000 + 2049 * 21),
        ("resnet101", True, 44_549_160 + 21_021),
        ("vgg16", True, 138_357_544 + 21_021),
    ],
)
def test_published_number_of_parameters(backbone, reference_head, expected):
    with torch.device("meta"):
        network = build_network(changed(TINY, {"backbone": backbone, "reference_head": reference_head}), 21)
    assert count(network) == expected
    head = {name for name, _ in network.named_parameters() if not name.startswith("backbone.")}
    assert head == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("size", [(320, 320), (256, 256), (97, 64), (33, 50), (32, 32)])
@pytest.mark.parametrize("settings", [TINY, REFERENCE], ids=["own-head", "reference-head"])
def test_one_logit_per_class_and_image(settings, size):
    network = build_network(settings, 5).eval()
    images = torch.rand(1, 3, *size)
    with torch.inference_mode():
        logits, features = network(images), network.features(images)
    assert logits.shape == (1, 5, 1, 1)
    assert features.shape == (1, 256)
    assert logits.dtype == features.dtype == torch.float32
    assert network.pad_multiple == 1
    assert network.support is None


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "vgg11", "mobilenetv3_small_050"])
@pytest.mark.parametrize("reference_head", [False, True])
def test_other_backbones(backbone, reference_head):
    with torch.device("meta"):
        network = build_network(changed(TINY, {"backbone": backbone, "reference_head": reference_head}), 3)
        network.eval()
        assert network(torch.empty(2, 3, 45, 32)).shape == (2, 3, 1, 1)
        features = network.features(torch.empty(2, 3, 45, 32))
    assert features.dim() == 2
    assert reference_head or features.shape[1] == network.classifier.in_features
    assert network.classifier.in_features == 1000 or not reference_head


def test_logits_come_from_the_features():
    images = torch.rand(2, 3, 64, 48)
    own, reference = (build_network(settings, 3).eval() for settings in (TINY, REFERENCE))
    with torch.inference_mode():
        assert torch.equal(own(images)[..., 0, 0], own.classifier(own.features(images)))
        published = reference.backbone.get_classifier()(reference.features(images))
        assert published.shape == (2, 1000)
        assert torch.equal(reference(images)[..., 0, 0], reference.classifier(published))


def test_features_are_the_mean_of_an_undilated_map_whatever_the_output_stride():
    network = build_network(changed(TINY, {"output_stride": 8}), 3).eval()
    images = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        maps = network.backbone.forward_features(images)
        assert maps.shape[-2:] == (2, 3)
        assert torch.allclose(network.features(images), maps.mean((-2, -1)), atol=1e-6)


@pytest.mark.parametrize("settings", [TINY, REFERENCE], ids=["own-head", "reference-head"])
def test_it_trains_on_one_image_and_has_no_dropout(settings):
    network = build_network(settings, 2).train()
    network(torch.rand(1, 3, 64, 64)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert dropout_modules(network) == []


def test_frozen_norms_keep_their_statistics():
    network = build_network(TINY, 2).train()
    freeze_norm(network)
    statistics = {name: tensor.clone() for name, tensor in network.named_buffers()}
    network(torch.rand(1, 3, 32, 32)).sum().backward()
    assert all(torch.equal(tensor, statistics[name]) for name, tensor in network.named_buffers())


@pytest.mark.parametrize("settings", [TINY, REFERENCE], ids=["own-head", "reference-head"])
def test_same_seed_gives_the_same_network(settings):
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build_network(settings, 2).state_dict())
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_looking_at_the_model_spends_no_random_numbers():
    torch.manual_seed(3)
    network = build_network(TINY, 2)
    torch.manual_seed(3)
    alone = timm.create_model(NAME, num_classes=0)
    assert all(torch.equal(tensor, alone.state_dict()[name]) for name, tensor in network.backbone.state_dict().items())


def test_batches_of_one_and_of_many_agree_in_eval_mode():
    network = build_network(TINY, 4).eval()
    images = torch.rand(3, 3, 40, 40)
    with torch.inference_mode():
        together = network(images)
        assert torch.allclose(together, torch.cat([network(image[None]) for image in images]), atol=1e-5)


@pytest.mark.shared
@pytest.mark.parametrize("reference_head", [False, True])
def test_the_file_of_the_segmentation_backbone_fills_the_classifier(shared, reference_head):
    path = shared / "weights" / f"{LITE0}.safetensors"
    network = build_network(changed(TINY, {"backbone": LITE0, "reference_head": reference_head}), 21)
    report = load_weights(network, str(path), LITE0)
    assert report.matched == report.total > 240
    published = safetensors.torch.load_file(path)
    state = network.backbone.state_dict()
    assert all(torch.equal(tensor, published[name]) for name, tensor in state.items() if name in published)
    assert ("classifier.weight" in state) == reference_head
    assert torch.equal(state["conv_head.weight"], published["conv_head.weight"])


@pytest.mark.parametrize("how", ["absent", "of another size"])
def test_the_reference_head_insists_on_weights_for_it(tmp_path, how):
    state = timm.create_model(NAME).state_dict()
    if how == "absent":
        del state["classifier.weight"], state["classifier.bias"]
    else:
        state["classifier.weight"] = torch.rand(7, 256)
    path = tmp_path / "w.pth"
    torch.save(state, path)
    report = load_weights(build_network(TINY, 2), str(path), NAME)
    assert report.matched == report.total
    network = build_network(REFERENCE, 2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(BadInput, match=r"pretrained head of the backbone test_efficientnet.*classifier\.weight"):
        load_weights(network, str(path), NAME)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_weights_of_other_names_are_refused(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({f"base.{name}": tensor for name, tensor in timm.create_model(NAME).state_dict().items()}, path)
    with pytest.raises(BadInput, match=r"fit only 0\.0%"):
        load_weights(build_network(TINY, 2), str(path), NAME)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"backbone": "beit_base_patch16_224"}, ["beit_base_patch16_224", "any size", "resnet50"]),
        ({"backbone": "resnet51"}, ["'resnet51'", "resnet50"]),
        ({"backbone": "beit_base_patch16_224", "reference_head": True}, ["any size"]),
        ({"backbone": "convnext_tiny.dinov3_lvd1689m", "reference_head": True}, ["no classifier", "--reference-head"]),
    ],
)
def test_what_cannot_be_built_is_named_with_its_remedy(change, words):
    with pytest.raises(BadInput) as caught:
        build_network(changed(TINY, change), 2)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_support_heads_are_refused():
    with pytest.raises(BadInput, match="classifier has no support heads"):
        build_network(TINY, 2, support=True)
