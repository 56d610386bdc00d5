"""The evaluation artifact: one row per model and checkpoint.

`/models/{file,digest,checkpoint,epoch}` (M,). `/confusion` (M,C,C) i64 with rows = truth. `/iou` (M,C), `/miou` (M,)
and `/pixel_accuracy` (M,). `/cost/{answers,asked_images,labelled_pixels,clicks,seconds}` (M,). Undefined values are
NaN. Attributes: classes, split, image_sizes (of the smallest and the largest image), and oracle_privilege if masks that
nobody would have chose the weights. A JSON file of the same name contains the same for people; alseg does not read it.
"""

from pathlib import Path

from stages.artifacts.hdf5 import Artifact
from stages.artifacts.structure import Array, Attribute

COSTS = ("answers", "asked_images", "labelled_pixels", "clicks", "seconds")
"""Cost of a model's labels: answers, images with answers, labelled pixels, clicks, seconds."""


class Evaluation(Artifact):
    kind = "evaluation"
    holds = (
        Attribute("classes", list, extent="C"),
        Attribute("split"),
        Attribute("image_sizes", optional=True),
        *(Array(f"models/{name}", ("S",), ("M",)) for name in ("file", "digest", "checkpoint")),
        Array("models/epoch", ("i",), ("M",), low=0),
        Array("confusion", ("i",), ("M", "C", "C"), low=0),
        Array("iou", ("f",), ("M", "C"), low=0, below=2, nan=True),
        *(Array(name, ("f",), ("M",), low=0, below=2, nan=True) for name in ("miou", "pixel_accuracy")),
        *(Array(f"cost/{name}", ("f",), ("M",), low=0, nan=True) for name in COSTS),
    )

    def __init__(self, path: Path | str):
        super().__init__(path)
        self.confusion = self.read("confusion")
