"""What every way of making pseudo-labels gives to the stage."""

from collections.abc import Callable, Sequence
from typing import Any

from stages.artifacts.hdf5 import Writer

REGION_COLUMNS = ("answer", "pixels", "kept", "threshold")
PROTOTYPE_COLUMNS = ("prototypes/answer", "prototypes/class", "prototypes/y", "prototypes/x")
# Writes `labels/<id>` of some images and the rows answer, pixels, kept, threshold of their region answers; returns
# {"labelled": {image: labelled pixels}}
Fill = Callable[[Writer, Sequence[str]], dict[str, Any]]
