"""What a rule chooses from: one flat pool, for any kind of unit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from stages.artifacts.scores import ClusterTables
from stages.runtime.errors import BadInput
from stages.runtime.parts import RULES

Unit = Literal["pixel", "region", "image"]


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """N units that may be queried, in the order of images and of units within them.

    unit: what they are (region also if the best pixels of regions are queried). scores (N,) float, higher = sooner.
    image (N,) integer: the image of each, counted over the sorted ids. total: units of these images, including those
    queried before. round: number of the round, 0 = no answers yet. kept: the share of the scores of each image that
    was stored, its highest; all others are -inf. lazy: functions that read what few rules need, by the name of the
    property; a property raises BadInput if the inputs do not have it.
    """

    unit: Unit
    scores: np.ndarray
    image: np.ndarray
    total: int
    round: int = 0
    kept: float = 1.0
    lazy: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def features(self) -> np.ndarray:
        """(N,D) float: features of each from a network (from their scores; of regions also from ``--clusters``)."""
        if "features" not in self.lazy and "features_of" in self.lazy:
            return self.features_of(np.arange(len(self)))
        return self._read("features")

    @cached_property
    def queried_features(self) -> np.ndarray:
        """(M,D) float: the features of what was queried before in these images."""
        return self._read("queried_features")

    def features_of(self, positions: np.ndarray) -> np.ndarray:
        """(n,D) f32: the features of those at ``positions`` (n,), read without those of all others if they are many."""
        if "features_of" in self.lazy:
            return np.asarray(self.lazy["features_of"](positions))
        return self.features[positions].astype(np.float32)

    @cached_property
    def predicted(self) -> np.ndarray:
        """(N,) integer: the class predicted for each, -1 if that is void (images: the rarest of those predicted)."""
        return self._read("predicted")

    @cached_property
    def cluster(self) -> np.ndarray:
        """(N,) integer: the cluster of each region."""
        return self._read("cluster")

    @cached_property
    def tables(self) -> ClusterTables:
        """Counts and sums of the region clusters over all images."""
        return self._read("tables")

    @cached_property
    def answered(self) -> np.ndarray:
        """(n,) i64: positions of the images whose class was answered, in the order of the answers."""
        return self._read("answered")

    def _read(self, name: str) -> Any:
        if name in self.lazy:
            return self.lazy[name]()
        others = [part.name for part in RULES.parts() if self.unit in part.facts["units"] and not part.facts["needs"]]
        raise BadInput(f"Candidates of unit {self.unit} have no {name}. Use the rule {', '.join(others)}.")
