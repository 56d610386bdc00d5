"""The stage `cluster-regions`: cluster regions by pretrained-network features."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.artifacts.clusters import Clusters
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer, require_made_from
from stages.artifacts.header import Header, InputRef
from stages.artifacts.images_table import write_images
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.shards import Parts, build_shards, join_shards
from stages.artifacts.superpixels import BOX, Superpixels
from stages.artifacts.weights import weights_ref
from stages.regions.patches import PatchTask, cut_task
from stages.runtime.console import Progress
from stages.runtime.errors import BadInput
from stages.runtime.free_memory import require_memory
from stages.runtime.processes import core_count, map_in_processes
from stages.runtime.ranks import launched_processes
from stages.settings.cluster_regions import ClusterSettings, KMeansSettings

if TYPE_CHECKING:
    from stages.regions.features import PatchEncoder

SHARD_IMAGES = 16
FEATURE_BYTES = 2  # of a number of 16 bits; those of all regions are clustered together


def run(
    dataset: Path,
    superpixels: Path,
    output: Path,
    settings: ClusterSettings,
    features: Path | None = None,
    force: bool = False,
) -> Path:
    """Publishes a cluster for each region of ``superpixels``.

    ``features`` are other clusters of the same regions, whose stored features are reused instead of computing them.
    Raises BadInput for regions of another dataset, for features of other regions or another encoder, for fewer regions
    than clusters, and for an encoder or weights that cannot be loaded.
    """
    if launched_processes() > 1:
        raise BadInput("cluster-regions starts its own processes (--workers). Run it without torchrun.")
    with Dataset(dataset) as data, Superpixels(superpixels) as regions:
        require_made_from(regions, "dataset", data)
        inputs: dict[str, Any] = {"dataset": data, "superpixels": regions}
        weights: dict[str, InputRef] = {}
        if settings.kmeans is not None:
            weights = weights_ref(output, settings.kmeans.weights)
        stored = None if features is None else Clusters(features)
        if stored is not None:
            require_features(stored, regions, settings.kmeans, settings.seed, weights)
            inputs["features"] = stored
        references = refer(output, inputs) | weights
        request = Request("cluster-regions", "clusters", output, settings, references)
        return produce(request, lambda: build(request, data, regions, stored, settings), force)


def require_features(
    stored: Clusters, regions: Superpixels, kmeans: KMeansSettings | None, seed: int, weights: dict[str, InputRef]
) -> None:
    """BadInput unless ``stored`` has the features that ``kmeans`` and ``seed`` give for ``regions``."""
    if kmeans is None:
        raise BadInput("Method random uses no features. Omit --features.")
    if not stored.has_features:
        raise BadInput(f"{stored.path} contains no features. Pass clusters that were written with --keep-features.")
    require_made_from(stored, "superpixels", regions)
    wanted, made = kmeans.flat(), kmeans.defaults() | stored.header.settings
    compared = ["encoder", "patch", "bicubic"]
    was, given = stored.input_ref("weights"), weights.get("weights")
    if was is None or given is None or was.digest != given.digest:  # otherwise the same file, possibly moved
        compared.append("weights")
    differences = [f"{name} {made[name]} instead of {wanted[name]}" for name in compared if made[name] != wanted[name]]
    if not differences and "weights" in compared and (was or given):
        differences.append(f"different content of the weights {kmeans.weights}")
    if kmeans.weights == "none" and stored.header.seed != seed:
        differences.append(f"random weights of seed {stored.header.seed} instead of {seed}")
    if differences:
        raise BadInput(
            f"{stored.path} contains other features: {', '.join(differences)}. Use the same settings, or "
            "omit --features."
        )


def build(
    request: Request, data: Dataset, regions: Superpixels, stored: Clusters | None, settings: ClusterSettings
) -> str:
    """Computes features of the regions in shards, unless ``stored`` has them, then clusters all regions."""
    from stages.regions.clustering import random_clusters, require_enough

    ids = regions.ids
    numbers = np.array([regions.number(image) for image in ids], dtype=np.int64)
    kmeans = settings.kmeans
    if kmeans is not None:
        require_enough(numbers, settings.clusters, kmeans)
    encoder: PatchEncoder | None = None
    source = "none"
    if stored is not None:
        source = stored.header.counts["encoder_weights"]
    elif kmeans is not None:
        from stages.regions.features import load_encoder

        encoder = load_encoder(kmeans, settings.seed)
        why = f"for {encoder.network.channels} features of each of {regions.count} regions"
        require_memory(FEATURE_BYTES * encoder.network.channels * regions.count, "cluster-regions", why)
        source = Path(encoder.source).name

    def fill(writer: Writer, part: Iterable[tuple[str, np.ndarray]]) -> dict[str, Any]:
        for _, features in part:
            writer.rows("features", features)
        return {}

    if encoder is None or kmeans is None:  # nothing to compute before the join
        shards = build_shards(request, [], SHARD_IMAGES, fill, "computing features")
    else:
        work = partial(region_features, data, regions, encoder, kmeans)
        shards = build_shards(request, ids, SHARD_IMAGES, fill, "computing features", work=work)

    def finish(writer: Writer, parts: Parts) -> Header:
        counts: dict[str, Any] = {}
        if kmeans is None:
            clusters = random_clusters(ids, numbers, settings.clusters, settings.seed)
        else:
            features = joined_features(parts, regions.count) if stored is None else stored.features()
            clusters, centroids, inertia = clustered(features, numbers, settings.clusters, kmeans, settings.seed)
            writer.array("centroids", centroids)
            if kmeans.keep_features:
                writer.array("features", features)
            counts = {"encoder_weights": source, "features": features.shape[1], "inertia": inertia}
        write_images(writer, ids, regions.sizes)
        writer.array("regions/cluster", clusters)
        attributes = {
            "method": settings.method,
            "clusters": settings.clusters,
            "encoder": "none" if kmeans is None else kmeans.encoder,
            "split": regions.attributes["split"],
            "oracle_privilege": regions.attributes["oracle_privilege"],
        }
        return request.header(attributes, cluster_counts(clusters, regions.region_sizes, settings.clusters) | counts)

    counts = join_shards(shards, finish).counts
    found = counts["regions_per_cluster"]
    text = (
        f"{counts['regions']} regions of {len(ids)} images in {settings.clusters} clusters of {min(found)} to "
        f"{max(found)} regions"
    )
    return text if kmeans is None else f"{text}, mean squared distance {counts['inertia']:.4g}"


def region_features(
    data: Dataset, regions: Superpixels, encoder: "PatchEncoder", settings: KMeansSettings, ids: Sequence[str]
) -> Iterator[np.ndarray]:
    """The features (K,D) f16 of the regions of each image; processes cut patches while the encoder works."""
    tasks = (
        PatchTask(
            data.rgb(image, regions.sizes[image]),
            regions.labels(image),
            {name: regions.read(f"regions/{name}", regions.rows[image]) for name in BOX},
            settings.patch,
            settings.bicubic,
        )
        for image in ids
    )
    for patches in map_in_processes(cut_task, tasks, settings.workers or core_count()):
        yield encoder.features(patches)


def joined_features(parts: Parts, count: int) -> np.ndarray:
    """(R,D) f16 of all shards, read one after the other into one array, to hold them in memory only once."""
    features = np.zeros((count, 0), dtype=np.float16)
    start = 0
    for path in parts.paths:
        rows = Parts([path], []).column("features")
        if not features.size:
            features = np.empty((count, rows.shape[1]), dtype=np.float16)
        features[start : start + len(rows)] = rows
        start += len(rows)
    return features


def clustered(
    features: np.ndarray, numbers: np.ndarray, number: int, settings: KMeansSettings, seed: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Clusters (R,) u8, centroids (K,D) f32, and the mean squared distance of a region to its centroid."""
    from stages.regions.clustering import kmeans, nearest_centroids

    with Progress("clustering regions", len(features) * (settings.passes + 1)) as bar:
        centroids = kmeans(features, numbers, number, settings, seed, bar.advance)
        clusters, squared = nearest_centroids(features, centroids, bar.advance)
    return clusters, centroids, float(squared.mean(dtype=np.float64))


def cluster_counts(clusters: np.ndarray, sizes: np.ndarray, number: int) -> dict[str, Any]:
    """Number of regions and of pixels in each cluster. clusters (R,) u8, sizes (R,) i32."""
    return {
        "regions": len(clusters),
        "clusters": number,
        "regions_per_cluster": np.bincount(clusters, minlength=number).tolist(),
        "pixels_per_cluster": np.bincount(clusters, weights=sizes, minlength=number).astype(np.int64).tolist(),
    }
