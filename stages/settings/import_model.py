"""The settings of `import-model`."""

from typing import Literal

from pydantic import Field

from stages.settings.base import StageSettings, group
from stages.settings.network import BuiltNetworkSettings

Triple = tuple[float, float, float]


class ImportModelSettings(StageSettings):
    """Settings of `import-model`. Those of the network and the input come from the table of the source, if any."""

    source: str = Field(
        "auto",
        min_length=1,
        description="Table that says how the tensors are called, by name or as a TOML file; auto: the one that fits, "
        "none: tensors are called as in timm, torchvision or alseg.",
    )
    learn_void: bool = Field(False, description="The network has an extra last class for void.")
    mean: Triple | None = Field(
        None, description="Mean of the images in 0..1, red first, that the network expects; none: that of the source."
    )
    std: Triple | None = Field(
        None, description="Standard deviation of the images that the network expects; none: that of the source."
    )
    channels: Literal["source", "rgb", "bgr"] = Field(
        "source", description="Order of the channels that the network expects; source: that of the source."
    )
    network: BuiltNetworkSettings = group()
