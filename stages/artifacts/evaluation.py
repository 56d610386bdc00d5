"""The evaluation artifact: one row per model and checkpoint.

`/models/{file,digest,checkpoint,epoch}` (M,). `/confusion` (M,C,C) i64 with rows = truth. `/iou` (M,C), `/miou` (M,)
and `/pixel_accuracy` (M,). `/cost/{answers,asked_images,labelled_pixels,clicks,seconds}` (M,). Undefined values are
NaN. Attributes: classes, split, and oracle_privilege if masks that nobody would have chose the weights. A JSON file of
the same name contains the same for people; alseg does not read it.
"""

from pathlib import Path

from stages.artifacts.hdf5 import Artifact


class Evaluation(Artifact):
    kind = "evaluation"

    def __init__(self, path: Path | str):
        super().__init__(path)
        self.confusion = self.read("confusion")
