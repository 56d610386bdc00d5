"""The evaluation artifact: one row per model and checkpoint.

`/models/{file,digest,checkpoint,epoch}` (M,). `/confusion` (M,C,C) i64 with rows = truth. `/iou` (M,C), `/miou` (M,)
and `/pixel_accuracy` (M,). `/cost/{answers,asked_images,labelled_pixels,clicks,seconds}` (M,). Undefined values are
NaN. Attributes: classes, split, image_sizes (of the smallest and the largest image), and oracle_privilege if masks that
nobody would have chose the weights. A JSON file of the same name contains the same for people; alseg does not read it.

`/images/id` (I,), `/images/truth` (I,C) and `/images/{predicted,hits}` (M,I,C) i64 are numbers of pixels per image and
class: in the mask, predicted, and predicted right. Files of older versions do not have them.

If attribute measured_at is "answers", the models are compared with the answers of a ledger's last round instead of
masks. Then `sample` tells whether confusion, IoU and accuracy are of the queries drawn at random ("control") or of all
of them ("all"); regions count by their pixels. `/answers/{sample,queries}` (S,) names both samples,
`/answers/{share,low,high}` (M,S) are the share that was predicted right and its 95 % interval (NaN where none is fair),
`/answers/{miou_low,miou_high}` (M,) those of the mIoU, `/answered/{image,queries}` (I,) and `/answered/share` (M,I) are
per image.
"""

from pathlib import Path

from stages.artifacts.hdf5 import Artifact
from stages.artifacts.structure import Array, Attribute

SAMPLES = ("all", "control")
INTERVAL = ("share", "low", "high")
COSTS = ("answers", "asked_images", "labelled_pixels", "clicks", "seconds")
"""Cost of a model's labels: answers, images with answers, labelled pixels, clicks, seconds."""


class Evaluation(Artifact):
    kind = "evaluation"
    holds = (
        Attribute("classes", list, extent="C"),
        Attribute("split"),
        Attribute("image_sizes", optional=True),
        Attribute("measured_at", choices=("answers",), optional=True),
        Attribute("sample", choices=SAMPLES, optional=True),
        *(Array(f"models/{name}", ("S",), ("M",)) for name in ("file", "digest", "checkpoint")),
        Array("models/epoch", ("i",), ("M",), low=0),
        Array("confusion", ("i",), ("M", "C", "C"), low=0),
        Array("iou", ("f",), ("M", "C"), low=0, below=2, nan=True),
        *(Array(name, ("f",), ("M",), low=0, below=2, nan=True) for name in ("miou", "pixel_accuracy")),
        Array("images/id", ("S",), ("J",), unique=True, optional=True),
        Array("images/truth", ("i",), ("J", "C"), low=0, optional=True),
        *(Array(f"images/{name}", ("i",), ("M", "J", "C"), low=0, optional=True) for name in ("predicted", "hits")),
        Array("answers/sample", ("S",), ("S",), optional=True),
        Array("answers/queries", ("i",), ("S",), low=0, optional=True),
        *(Array(f"answers/{name}", ("f",), ("M", "S"), low=0, below=2, nan=True, optional=True) for name in INTERVAL),
        *(
            Array(f"answers/miou_{name}", ("f",), ("M",), low=0, below=2, nan=True, optional=True)
            for name in INTERVAL[1:]
        ),
        Array("answered/image", ("S",), ("I",), optional=True),
        Array("answered/queries", ("i",), ("I",), low=1, optional=True),
        Array("answered/share", ("f",), ("M", "I"), low=0, below=2, nan=True, optional=True),
        *(Array(f"cost/{name}", ("f",), ("M",), low=0, nan=True) for name in COSTS),
    )

    def __init__(self, path: Path | str):
        super().__init__(path)
        self.confusion = self.read("confusion")
