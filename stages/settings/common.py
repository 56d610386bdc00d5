"""Settings that several stages share."""

from typing import Literal

from pydantic import Field

from stages.settings.base import EXECUTION, Settings

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]
Checkpoint = Literal["last", "best"]
PRECISION = "Precision of the forward pass; auto: bfloat16 on CUDA, float32 elsewhere."


class NetworkUse(Settings):
    """Settings of stages that run a trained network over images."""

    batch: int = Field(4, ge=1, description="Images per forward pass.", json_schema_extra=EXECUTION)
    device: Device = Field("auto", description="Device to run the network on.", json_schema_extra=EXECUTION)
    precision: Precision = Field("auto", description=PRECISION)
