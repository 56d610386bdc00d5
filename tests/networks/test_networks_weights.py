import hashlib
import pickle
from pathlib import Path
from urllib.error import URLError

import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import timm
import torch
from worlds import changed

from stages.networks.build import build_network
from stages.networks.weights import backbone_statistics, load_weights
from stages.runtime.errors import BadInput
from stages.settings.network import NetworkSettings

NAME = "test_efficientnet"
REMEDY = r"Pass a file with --weights, or --weights none for random weights\.$"
NOT_LOADED = rf"were not loaded: the file is damaged or contains more than plain tensors\. {REMEDY}"
TINY = NetworkSettings(backbone=NAME, head_width=64, low_level_width=8)


def prefixed(state, prefix=""):
    return {prefix + name: tensor for name, tensor in state.items()}


def assert_holds(backbone, state, prefix=""):
    for name, tensor in backbone.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, state[name.removeprefix(prefix)]), name


@pytest.fixture
def state():
    """What a published file holds: all tensors of the classifier model, other than any network drawn later."""
    torch.manual_seed(99)
    return timm.create_model(NAME).state_dict()


@pytest.fixture
def network():
    return build_network(TINY, 2)


@pytest.fixture
def lite0(shared):
    return shared / "weights" / "tf_efficientnet_lite0.safetensors"


@pytest.mark.shared
@pytest.mark.parametrize(
    "architecture, backbone, prefix",
    [("deeplabv3plus", "tf_efficientnet_lite0", ""), ("unet", "tu-tf_efficientnet_lite0", "model.")],
)
def test_real_weights_fill_the_backbone(lite0, architecture, backbone, prefix):
    network = build_network(NetworkSettings(architecture=architecture, backbone=backbone), 2)
    report = load_weights(network, str(lite0), backbone)
    assert_holds(network.backbone, safetensors.torch.load_file(lite0), prefix)
    assert report.matched == report.total > 200
    assert report.sha256 == hashlib.sha256(lite0.read_bytes()).hexdigest()
    assert report.source == str(lite0)


@pytest.mark.parametrize("file", ["w.safetensors", "w.pth", "w.pt", "w.bin"])
def test_backbone_equals_the_file_and_the_head_stays(tmp_path, network, state, file):
    path = tmp_path / file
    (safetensors.torch.save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    head = {name: tensor.clone() for name, tensor in network.state_dict().items() if not name.startswith("backbone.")}
    report = load_weights(network, str(path), NAME)
    assert_holds(network.backbone, state)
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in head.items())
    assert report.matched == report.total
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_reset_undoes_training(tmp_path, network, state):
    """PixelPick check A12: each round starts from the file, not from the weights of the round before."""
    path = tmp_path / "w.pth"
    torch.save(state, path)
    load_weights(network, str(path), NAME)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    network(torch.rand(2, 3, 32, 32))
    load_weights(network, str(path), NAME)
    assert_holds(network.backbone, state)


@pytest.mark.parametrize("prefix", ["module.", "encoder.", "backbone.", "model.", "module.encoder.model."])
@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_nesting_and_prefixes_are_seen_through(tmp_path, network, state, prefix, key):
    path = tmp_path / "w.pth"
    torch.save({key: prefixed(state, prefix), "epoch": 3}, path)
    load_weights(network, str(path), NAME)
    assert_holds(network.backbone, state)


@pytest.mark.parametrize("architecture, backbone", [("unet", f"tu-{NAME}"), ("fpn-dilated", NAME)])
def test_timm_names_fit_every_architecture(tmp_path, state, architecture, backbone):
    path = tmp_path / "w.pth"
    torch.save(state, path)
    network = build_network(changed(TINY, {"architecture": architecture, "backbone": backbone}), 2)
    report = load_weights(network, str(path), backbone)
    assert report.matched == report.total
    assert_holds(network.backbone, state, "model.")


def test_timm_names_fit_a_backbone_whose_modules_timm_flattens(tmp_path):
    settings = changed(TINY, {"backbone": "test_convnext"})
    state = timm.create_model("test_convnext").state_dict()
    path = tmp_path / "w.pth"
    torch.save(state, path)
    network = build_network(settings, 2)
    assert any(name.startswith("stages_0.") for name in network.backbone.state_dict())
    report = load_weights(network, str(path), "test_convnext")
    assert report.matched == report.total


def test_half_precision_files_are_converted(tmp_path, network, state):
    path = tmp_path / "w.pth"
    torch.save({name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}, path)
    load_weights(network, str(path), NAME)
    kernel = network.backbone.conv_stem.weight
    assert kernel.dtype == torch.float32
    assert torch.equal(kernel, state["conv_stem.weight"].half().float())


def without(state, backbone, share, how):
    """``state`` with that share of the backbone's tensors dropped or given another shape, rounded up."""
    names = [name for name in backbone.state_dict() if not name.endswith("num_batches_tracked")]
    lost = names[: -int(-share * len(names) // 1)]
    changed = dict(state)
    for name in lost:
        if how == "dropped":
            del changed[name]
        else:
            changed[name] = torch.zeros(*state[name].shape, 2)
    return changed, lost, len(names)


@pytest.mark.parametrize("how", ["dropped", "reshaped"])
def test_below_95_percent_the_file_is_refused_and_nothing_is_changed(tmp_path, network, state, how):
    changed, lost, total = without(state, network.backbone, 0.05, how)
    assert len(lost) > 0.05 * total
    path = tmp_path / "w.pth"
    torch.save(changed, path)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(BadInput) as caught:
        load_weights(network, str(path), NAME)
    message = str(caught.value)
    assert f"{(total - len(lost)) / total:.1%}" in message
    assert f"{'Missing' if how == 'dropped' else 'of another shape'}: {lost[0]}" in message
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_from_95_percent_on_the_file_is_taken(tmp_path, network, state):
    changed, lost, total = without(state, network.backbone, 0.03, "dropped")
    assert len(lost) < 0.05 * total
    path = tmp_path / "w.pth"
    torch.save(changed, path)
    report = load_weights(network, str(path), NAME)
    assert (report.matched, report.total) == (total - len(lost), total)


def test_batch_counters_do_not_count(tmp_path, network, state):
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({name: t for name, t in state.items() if "num_batches_tracked" not in name}, path)
    report = load_weights(network, str(path), NAME)
    assert report.matched == report.total


def test_two_networks_in_one_file_are_refused(tmp_path, network, state):
    path = tmp_path / "w.pth"
    torch.save(prefixed(state, "model.") | prefixed(state, "module."), path)
    with pytest.raises(
        BadInput, match=r"same tensor twice, as .+ and as .+\. Keep one of the two networks in the file\.$"
    ):
        load_weights(network, str(path), NAME)


class Poison:
    """Unpickled without care, it makes the directory."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return Path.mkdir, (Path(self.target),)


@pytest.mark.parametrize("file", ["w.pth", "w.pt", "w.bin", "w.safetensors", "w"])
@pytest.mark.parametrize("container", ["torch", "pickle"])
def test_poisoned_pickles_never_run(tmp_path, network, state, file, container):
    path, target = tmp_path / file, tmp_path / "executed"
    poisoned = {"state_dict": {**state, "conv_stem.weight": Poison(target)}}
    if container == "torch":
        torch.save(poisoned, path)
    else:
        path.write_bytes(pickle.dumps(poisoned, protocol=2))
    with pytest.raises(BadInput, match=NOT_LOADED):
        load_weights(network, str(path), NAME)
    assert not target.exists()
    # The poison is real: an unguarded reader runs it.
    if container == "pickle" and file == "w.pth":
        pickle.loads(path.read_bytes())
        assert target.exists()


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".safetensors"])
def test_damaged_files_are_refused(tmp_path, network, state, suffix):
    path = tmp_path / f"w{suffix}"
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(state, path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:9], b"", b"<html>not found</html>", bytes(2000)):
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match=NOT_LOADED):
            load_weights(network, str(path), NAME)


def test_a_file_nested_in_itself_comes_to_an_end(tmp_path, network):
    content = {}
    content["state_dict"] = content
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(BadInput, match=r"fit only 0\.0% of .*\. Pass weights of this backbone, or --weights none\.$"):
        load_weights(network, str(tmp_path / "w.pth"), NAME)


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], {"a": 1}, {"state_dict": {}}, {"model": 3}])
def test_files_of_something_else_are_refused(tmp_path, network, content):
    path = tmp_path / "w.pth"
    torch.save(content, path)
    fault = r"contain no tensors by name\. Pass a file with --weights, or|fit only .* Pass weights of this backbone, or"
    with pytest.raises(BadInput, match=rf"({fault}) --weights none"):
        load_weights(network, str(path), NAME)


def test_missing_files_and_directories_are_refused(tmp_path, network):
    for path in (tmp_path / "absent.pth", tmp_path, Path("imagenett")):
        with pytest.raises(BadInput, match=rf"cannot be read: (No such file|Is a) .*\. {REMEDY}"):
            load_weights(network, str(path), NAME)


def test_none_changes_nothing(network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    report = load_weights(network, "none", NAME)
    assert (report.source, report.matched, report.sha256) == ("none", 0, None)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("name", [NAME, f"{NAME}.r160_in1k"])
def test_imagenet_comes_from_timm_and_leaves_the_random_state_alone(monkeypatch, network, state, name):
    def pretrained(asked, pretrained):
        assert (asked, pretrained) == (name, True)
        model = create(name)
        model.load_state_dict(state)
        return model

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", pretrained)
    before = torch.get_rng_state()
    report = load_weights(network, "imagenet", f"tu-{name}")
    assert torch.equal(torch.get_rng_state(), before)
    assert_holds(network.backbone, state)
    assert (report.source, report.sha256) == ("timm test_efficientnet.r160_in1k", None)
    assert report.matched == report.total


def test_imagenet_comes_from_smp_for_its_own_encoders(monkeypatch):
    settings = NetworkSettings(architecture="unet", backbone="resnet18")
    published = smp.encoders.get_encoder("resnet18")
    monkeypatch.setattr(smp.encoders, "get_encoder", lambda name, weights: published)
    network = build_network(settings, 2)
    report = load_weights(network, "imagenet", "resnet18")
    assert_holds(network.backbone, published.state_dict())
    assert report.source == "smp resnet18 imagenet"


@pytest.mark.parametrize("error", [URLError("no route"), RuntimeError("No pretrained weights exist"), KeyError("x")])
def test_failed_downloads_name_the_remedy(monkeypatch, network, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(BadInput, match=rf"^Cannot download ImageNet weights for {NAME}: .*\. {REMEDY}") as caught:
        load_weights(network, "imagenet", NAME)
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize(
    "name, mean, std",
    [
        ("tf_efficientnet_lite0", 0.5, 0.5),
        ("tu-tf_efficientnet_lite0", 0.5, 0.5),
        ("mobilenetv2_100.ra_in1k", 0.485, 0.229),
        ("xception65.tf_in1k", 0.5, 0.5),
        ("efficientnet-b0", 0.485, 0.229),
        ("resnet34", 0.485, 0.229),
    ],
)
def test_statistics_are_those_the_weights_expect(name, mean, std):
    means, deviations = backbone_statistics(name)
    assert (means[0], deviations[0]) == (mean, std)
    assert len(means) == len(deviations) == 3


@pytest.mark.parametrize("name", ["mobilenetv2_10", "tu-mobilenetv2_10"])
def test_statistics_of_an_unknown_backbone(name):
    with pytest.raises(BadInput, match="mobilenetv2_100"):
        backbone_statistics(name)
