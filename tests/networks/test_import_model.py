"""`import-model`: files of other code become models that other stages read; what does not fit is told."""

import numpy as np
import pytest
import reference_networks as reference
import safetensors.torch
import torch
from reference_layers import Drawn
from worlds import TINY, random_masks, write_dataset

from stages.artifacts.model import Model
from stages.commands import import_model, score
from stages.networks.build import build_network
from stages.networks.predictor import load_predictor
from stages.recipes.resolve import resolve
from stages.runtime.errors import BadInput
from stages.settings.import_model import ImportModelSettings
from stages.settings.network import NetworkSettings
from stages.settings.score import ScoreSettings

SMALL = {name: TINY[name] for name in ("backbone", "head_width", "low_level_width")}


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "d.h5", random_masks(["a", "b"], (40, 56), 3), 3)


@pytest.fixture
def network():
    return build_network(NetworkSettings(**SMALL), 3).eval()


def imported(dataset, weights, **settings):
    output = dataset.with_name("m.safetensors")
    import_model.run(dataset, weights, output, ImportModelSettings(**settings), force=True)
    return Model(output)


def saved(folder, content, name="w.pth"):
    torch.save(content, folder / name)
    return folder / name


def test_a_published_checkpoint_gives_the_logits_of_its_code(dataset, tmp_path, capsys):
    """As training scripts save it: nested, its modules named twice, with counters of batches and a NumPy score."""
    weights = Drawn()
    images = torch.randint(0, 256, (2, 3, 40, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    mean, std = torch.full((1, 3, 1, 1), 0.5), torch.full((1, 3, 1, 1), 0.25)  # those of the dataset
    with torch.inference_mode():
        expected = reference.pixelpick_deeplab(weights, (images / 255 - mean) / std, 3)
    twice = {name.replace("features.17", "high_level_features.17"): value for name, value in weights.items()}
    counters = {"aspp.bn1.num_batches_tracked": torch.tensor(7)}
    path = saved(tmp_path, {"model": dict(weights) | twice | counters, "miou": np.float64(0.5)})
    model = imported(dataset, path)
    said = capsys.readouterr().out
    assert "source pixelpick-mobilenetv2: PixelPick, DeepLabV3+ on MobileNetV2" in said
    assert "15 not used: copies of backbone.features" in said
    predictor = load_predictor(model, "last", torch.device("cpu"), "float32")
    torch.testing.assert_close(predictor.logits(images), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert model.attributes["network"]["dilate_from"] == "next-stage"
    assert (model.checkpoints(), model.has_support, model.outputs) == (["last"], False, 3)
    assert model.header.inputs["weights"].file == "w.pth"
    score.run(dataset, tmp_path / "s.h5", ScoreSettings(measure="entropy"), model=model.path)
    assert (tmp_path / "s.h5").is_file()


@pytest.mark.parametrize("ending", [".pth", ".safetensors", ".npz"])
def test_tensors_called_as_here_need_no_table(ending, dataset, network, tmp_path):
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    path = tmp_path / f"w{ending}"
    if ending == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})
    elif ending == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        saved(tmp_path, {"state_dict": state})
    model = imported(dataset, path, **SMALL)
    found = model.weights("last")
    assert all(torch.equal(tensor, found[name]) for name, tensor in network.state_dict().items())
    assert model.attributes["mean"] == [0.485, 0.456, 0.406]  # the backbone's


def test_what_does_not_fit_is_told_and_refused(dataset, network, tmp_path, capsys):
    state = network.state_dict()
    imported(dataset, saved(tmp_path, state | {"aux.weight": torch.zeros(2), "aux.bias": torch.zeros(2)}), **SMALL)
    assert "w.pth: 2 unexpected: aux.weight, aux.bias" in capsys.readouterr().out
    lacking = {name: tensor for name, tensor in state.items() if not name.startswith("decoder.2")}
    says = r"not contain the whole network: 5 of \d+ tensors are missing or of another shape \(decoder\.2\.0\.weight, "
    with pytest.raises(BadInput, match=says + r".* and 2 more\)\. Set the architecture, the backbone"):
        imported(dataset, saved(tmp_path, lacking), **SMALL)
    assert "5 missing: decoder.2.0.weight" in capsys.readouterr().out
    other = build_network(NetworkSettings(**SMALL), 4).state_dict()
    says = r"classifier\.weight \(4, 16, 1, 1\) instead of \(3, 16, 1, 1\).* than the 3 here: .* or --learn-void"
    with pytest.raises(BadInput, match=says):
        imported(dataset, saved(tmp_path, other), **SMALL)
    model = imported(dataset, saved(tmp_path, other), learn_void=True, **SMALL)
    assert (model.outputs, model.knows_void) == (4, True)


class Payload:
    ran = False

    def __reduce__(self):
        return (exec, ("import test_import_model; test_import_model.Payload.ran = True",))


def test_no_code_in_a_file_is_run(dataset, network, tmp_path):
    path = saved(tmp_path, {"state_dict": network.state_dict(), "optimiser": Payload()})
    with pytest.raises(
        BadInput, match=r"were not loaded: the file is damaged or contains more than plain tensors\. Pass"
    ):
        imported(dataset, path, **SMALL)
    assert not Payload.ran
    saved(tmp_path, network)
    with pytest.raises(BadInput, match=r"more than plain tensors"):
        imported(dataset, path, **SMALL)


def test_the_same_file_is_up_to_date_and_another_is_not(dataset, network, tmp_path, capsys):
    path, output = saved(tmp_path, network.state_dict()), tmp_path / "m.safetensors"
    settings = ImportModelSettings(**SMALL)
    import_model.run(dataset, path, output, settings)
    import_model.run(dataset, path, output, settings)
    assert "m.safetensors is up to date" in capsys.readouterr().out
    saved(tmp_path, network.state_dict() | {"classifier.bias": torch.ones(3)})
    import_model.run(dataset, path, output, settings)
    assert "input weights changed (w.pth)" in capsys.readouterr().out
    with pytest.raises(BadInput, match=r"a model is a safetensors file\. Pass -o m\.safetensors\."):
        import_model.run(dataset, path, tmp_path / "m.pth", settings)


def test_support_heads_are_imported_if_complete(dataset, tmp_path, capsys):
    settings = NetworkSettings(**SMALL, lossiness_width=16)
    state = build_network(settings, 3, support=True).state_dict()
    assert imported(dataset, saved(tmp_path, state), **SMALL, lossiness_width=16).has_support
    state.pop("support.lossiness.4.bias")
    assert not imported(dataset, saved(tmp_path, state), **SMALL, lossiness_width=16).has_support
    assert "not used: support heads, which are incomplete" in capsys.readouterr().out


def test_input_statistics_are_of_the_source_the_dataset_and_the_options(dataset, network, tmp_path):
    source = tmp_path / "mine.toml"
    source.write_text(
        "title = 'Mine'\nsource = 'here'\nhas = ['a']\nnames = [['^net[.]', '']]\n"
        "[network]\nbackbone = 'mobilenetv3_small_050'\nhead_width = 16\nlow_level_width = 8\n"
        "[inputs.made]\nmean = [0.1, 0.2, 0.3]\nstd = [1.0, 1.0, 1.0]\nchannels = 'bgr'\n"
    )
    path = saved(tmp_path, {f"net.{name}": tensor for name, tensor in network.state_dict().items()})
    model = imported(dataset, path, source=str(source))
    assert (model.attributes["mean"], model.attributes["std"]) == ([0.1, 0.2, 0.3], [1.0, 1.0, 1.0])
    flipped = model.weights("last")["backbone.conv_stem.weight"]
    assert torch.equal(flipped, network.state_dict()["backbone.conv_stem.weight"].flip(1))
    model = imported(dataset, path, source=str(source), mean=(0.5, 0.5, 0.5), channels="rgb")
    assert (model.attributes["mean"], model.attributes["std"]) == ([0.5, 0.5, 0.5], [1.0, 1.0, 1.0])
    assert torch.equal(
        model.weights("last")["backbone.conv_stem.weight"], network.state_dict()["backbone.conv_stem.weight"]
    )


def test_options_override_the_table_and_the_table_the_recipe():
    from stages.networks.foreign.tables import load_source

    found = resolve("import-model", {"aspp_dropout": 0.3}, "multi-class-query").settings
    assert (found.network.backbone, found.network.of_architecture.classifier) == ("resnet50s.gluon_in1k", "cosine")
    settled = found.offered(load_source("pixelpick-mobilenetv2").network)
    assert (settled.network.backbone, settled.network.of_architecture.aspp_dropout) == ("mobilenetv2_100", 0.3)


def test_other_commands_name_this_one(tmp_path, network):
    path = saved(tmp_path, network.state_dict())
    with pytest.raises(BadInput, match=r"w\.pth is not an alseg model\. Import its weights first: alseg import-model"):
        Model(path)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(
        BadInput, match=r"but not an alseg model\. Import its weights first: alseg import-model DATASET"
    ):
        Model(tmp_path / "w.safetensors")


def test_a_faulty_table_is_refused(tmp_path):
    from stages.networks.foreign.tables import load_source

    (tmp_path / "t.toml").write_text("title = 'x'\nsource = 'y'\nhas = []\nvalues = [{ names = 'a' }]\n")
    with pytest.raises(BadInput) as found:
        load_source(str(tmp_path / "t.toml"))
    assert "has" in str(found.value)
    assert "exactly one of permute, rotate and add" in str(found.value)
    with pytest.raises(BadInput, match=r"Unknown source 'pixelpik'\. Did you mean pixelpick"):
        load_source("pixelpik")
