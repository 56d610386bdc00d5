"""K-means over the regions of a whole dataset, in a process of its own since memory taken before would hide its peak.

``python -m tests.bench.kmeans REGIONS MODULE ...`` prints what one pass and the assignment took and the peak of memory,
with the modules loaded that the command has loaded by then.
"""

import json
import sys
from importlib import import_module

import numpy as np

from stages.regions.clustering import kmeans, nearest_centroids
from stages.runtime.randomness import stream
from stages.settings.cluster_regions import KMeansSettings
from tests.bench.class_sets import memory
from tests.bench.measure import SEED, seconds

FEATURES = 512
PER_IMAGE = 512
CLUSTERS = 9
FED = 4096  # features made at a time, so that making them takes no memory to speak of


def random_features(count: int) -> np.ndarray:
    """(count, FEATURES) f16 around as many centres as there are clusters, cut off at 0 as by a ReLU."""
    random = stream(SEED, "features")
    centres = random.standard_normal((CLUSTERS, FEATURES), dtype=np.float32)
    features = np.empty((count, FEATURES), dtype=np.float16)
    for start in range(0, count, FED):
        part = features[start : start + FED]
        made = random.standard_normal(part.shape, dtype=np.float32)
        made += centres[random.integers(0, CLUSTERS, len(part))]
        part[:] = made.clip(0, out=made)
    return features


def main(regions: int) -> None:
    """Once, for it is long."""
    settings = KMeansSettings(passes=1)
    features, numbers = random_features(regions), np.full(regions // PER_IMAGE, PER_IMAGE)
    centroids: list[np.ndarray] = []
    one = seconds(lambda: centroids.append(kmeans(features, numbers, CLUSTERS, settings, SEED, lambda count: None)))
    assigned = seconds(lambda: nearest_centroids(features, centroids[0], lambda count: None))
    peak = {"features": features.nbytes / 1e6, "peak": memory("VmHWM")}
    print(json.dumps({"pass": one, "assigned": assigned} | peak))


if __name__ == "__main__":
    for name in sys.argv[2:]:
        import_module(name)
    main(int(sys.argv[1]))
