import subprocess
import sys

import pytest
from pydantic import ValidationError

from stages.settings.network import NetworkSettings


def test_every_field_explains_itself():
    for name, field in NetworkSettings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


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
    ],
)
def test_what_makes_no_network_is_refused(values):
    with pytest.raises(ValidationError):
        NetworkSettings(**values)


def test_settings_import_no_torch():
    code = "import sys, stages.settings.network; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
