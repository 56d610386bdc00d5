"""What a scheduler has to grant a stage."""

from typing import Annotated, Literal

from pydantic import Field

from stages.datasets.fields import Table

Count = Annotated[int, Field(ge=1)]
Kind = Literal["train", "network", "other"]


class Resources(Table):
    """GPUs, CPU cores, memory in GiB, and the most minutes that a stage takes."""

    gpus: Annotated[int, Field(ge=0)] = 0
    cpus: Count = 2
    memory_gb: Count = 8
    minutes: Count = 60


def usual(kind: Kind) -> Resources:
    """Ample for images of 2 megapixels on one GPU; trainings may take a day, stages that run a network four hours."""
    match kind:
        case "train":
            return Resources(gpus=1, cpus=8, memory_gb=32, minutes=1440)
        case "network":
            return Resources(gpus=1, cpus=8, memory_gb=32, minutes=240)
        case _:
            return Resources()


def kind_of(stage: str, on_device: bool) -> Kind:
    return "train" if stage == "train" else "network" if on_device else "other"
