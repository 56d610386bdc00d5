import subprocess
import sys

import pytest
from pydantic import ValidationError

from stages.runtime.errors import BadInput
from stages.settings.base import fields_of
from stages.settings.network import NetworkSettings, recorded_network
from stages.settings.train import TrainSettings

FLAT = {  # what model files recorded before settings were those of one architecture
    "architecture": "lraspp",
    "backbone": "mobilenetv3_large_100",
    "output_stride": 16,
    "aspp_rates": [6, 12, 18],
    "aspp_dropout": 0.5,
    "decoder_dropouts": [0.5, 0.2],
    "head_width": 256,
    "low_level_width": 48,
    "separable": False,
    "classifier": "linear",
    "temperature": 0.1,
    "align_corners": False,
    "side_taps": [],
    "lossiness_width": 64,
    "reference_head": False,
}
WIRING = {  # newer settings, whose defaults are what older networks had
    "dilate_from": "second-block",
    "stride_first": False,
    "pad_first": False,
    "shallow_tap": None,
    "separable_norm": False,
}


def test_every_field_explains_itself():
    for name, uses in fields_of(NetworkSettings).items():
        for _, field in uses:
            assert field.description, name
            assert field.description.endswith("."), name


LIGHT = {"depths", "head_dropout"}


def test_all_names_from_before_are_there():
    assert fields_of(NetworkSettings).keys() == {*FLAT, *WIRING, *LIGHT, "weights"}


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        NetworkSettings().backbone = "resnet50"


@pytest.mark.parametrize(
    "values",
    [
        {"output_stride": 4},
        {"aspp_rates": ()},
        {"aspp_rates": (6, 0)},
        {"aspp_dropout": 1.0},
        {"decoder_dropouts": (0.5,)},
        {"decoder_dropouts": (0.5, -0.1)},
        {"head_width": 0},
        {"backbone": ""},
        {"depth": 3},
        {"architecture": "unett"},
        {"architecture": "lraspp", "head_width": 64},
        {"architecture": "unet", "output_stride": 8},
        {"temperature": 0.2},
    ],
)
def test_what_makes_no_network_is_refused(values):
    with pytest.raises(ValidationError):
        NetworkSettings(**values)


def test_a_setting_of_another_architecture_is_refused_with_what_it_is_for():
    with pytest.raises(BadInput, match="does not apply to architecture deeplabv2; it is for architecture deeplabv3, "):
        NetworkSettings.load({"architecture": "deeplabv2", "aspp_dropout": 0.1})
    with pytest.raises(BadInput, match="does not apply to classifier linear; it is for classifier cosine with arch"):
        NetworkSettings.load({"temperature": 0.2})


def test_settings_of_support_heads_are_for_their_objective():
    with pytest.raises(BadInput, match="does not apply to objective labels; it is for objective support"):
        TrainSettings.load({"lossiness_width": 64})
    support = TrainSettings.load({"objective": "support", "lossiness_width": 64})
    assert support.network.recorded()["lossiness_width"] == 64
    assert "lossiness_width" not in TrainSettings().network.recorded()
    assert NetworkSettings(lossiness_width=64).recorded()["lossiness_width"] == 64  # of a model, objective unknown


def test_what_a_model_file_records_makes_the_same_network():
    settings = NetworkSettings(classifier="cosine", temperature=0.2, separable=True)
    assert "weights" not in settings.recorded()
    assert recorded_network(settings.recorded()) == settings


def test_older_model_files_record_settings_that_do_not_apply():
    settings = recorded_network(FLAT)
    kept = ("architecture", "backbone", "output_stride", "align_corners", "side_taps", "lossiness_width")
    newer = {name: value for name, value in WIRING.items() if name != "separable_norm"}
    assert settings.recorded() == {name: FLAT[name] for name in kept} | newer
    assert recorded_network(FLAT | {"architecture": "LRASPP"}) == settings


def test_a_network_of_a_plug_in_that_is_not_loaded_is_named():
    with pytest.raises(BadInput, match=r"m.safetensors: Unknown architecture 'mine'\. .* or pass --plugin") as caught:
        recorded_network({"architecture": "mine", "backbone": "resnet18", "depth": 3}, "m.safetensors")
    assert len(caught.value.faults) == 1


def test_settings_and_architectures_import_no_torch():
    code = (
        "import sys; from stages.runtime.parts import ARCHITECTURES; import stages.settings.network; "
        "assert len(ARCHITECTURES.names()) > 10; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
