"""The stage `cluster-regions`: every region put into one of a few clusters of what it looks like, once and for all."""

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
from stages.runtime.processes import core_count, map_in_processes
from stages.runtime.ranks import launched_processes
from stages.settings.cluster_regions import ClusterSettings

if TYPE_CHECKING:
    from stages.regions.features import PatchEncoder

SHARD_IMAGES = 16


def run(
    dataset: Path,
    superpixels: Path,
    output: Path,
    settings: ClusterSettings,
    features: Path | None = None,
    force: bool = False,
) -> Path:
    """Publishes a cluster for every region of ``superpixels``.

    ``features`` are other clusters of the same regions whose stored features are used again instead of computing them.
    Raises BadInput for regions of another dataset, for features of other regions or another encoder, for fewer regions
    than clusters, and for an encoder or weights that cannot be had.
    """
    if launched_processes() > 1:
        raise BadInput("cluster-regions starts its own processes (--workers); run it without torchrun.")
    with Dataset(dataset) as data, Superpixels(superpixels) as regions:
        require_made_from(regions, "dataset", data)
        inputs: dict[str, Any] = {"dataset": data, "superpixels": regions}
        weights: dict[str, InputRef] = {}
        if settings.method == "kmeans":
            weights = weights_ref(output, settings.weights)
        stored = None if features is None else Clusters(features)
        if stored is not None:
            require_features(stored, regions, settings, weights)
            inputs["features"] = stored
        references = refer(output, inputs) | weights
        request = Request("cluster-regions", "clusters", output, settings, references)
        return produce(request, lambda: build(request, data, regions, stored, settings), force)


def require_features(
    stored: Clusters, regions: Superpixels, settings: ClusterSettings, weights: dict[str, InputRef]
) -> None:
    """BadInput unless ``stored`` has the features that ``settings`` would give for ``regions``."""
    if settings.method == "random":
        raise BadInput("Random clusters need no features; leave --features out for the method random.")
    if not stored.has_features:
        raise BadInput(f"{stored.path} has no features; give clusters that were built with --keep-features.")
    require_made_from(stored, "superpixels", regions)
    made = stored.header.settings
    compared = ["encoder", "patch"]
    was, given = stored.input_ref("weights"), weights.get("weights")
    if was is None or given is None or was.digest != given.digest:  # else the same file, wherever it lies
        compared.append("weights")
    differences = [
        f"{name} {made[name]} instead of {getattr(settings, name)}"
        for name in compared
        if made[name] != getattr(settings, name)
    ]
    if not differences and "weights" in compared and (was or given):
        differences.append(f"another content of the weights {settings.weights}")
    if settings.weights == "none" and stored.header.seed != settings.seed:
        differences.append(f"random weights of seed {stored.header.seed} instead of {settings.seed}")
    if differences:
        raise BadInput(
            f"{stored.path} has other features: {', '.join(differences)}; give the same settings or leave --features "
            "out."
        )


def build(
    request: Request, data: Dataset, regions: Superpixels, stored: Clusters | None, settings: ClusterSettings
) -> str:
    """Describes the regions in shards where nobody else did, and clusters them when all are described."""
    from stages.regions.clustering import random_clusters, require_enough

    ids = regions.ids
    numbers = np.array([regions.number(image) for image in ids], dtype=np.int64)
    if settings.method == "kmeans":
        require_enough(numbers, settings)
    encoder: PatchEncoder | None = None
    source = "none"
    if stored is not None:
        source = stored.header.counts["encoder_weights"]
    elif settings.method == "kmeans":
        from stages.regions.features import load_encoder

        encoder = load_encoder(settings)
        source = Path(encoder.source).name

    def fill(writer: Writer, part: Iterable[tuple[str, np.ndarray]]) -> dict[str, Any]:
        for _, features in part:
            writer.rows("features", features)
        return {}

    if encoder is None:  # nothing to do ahead of the join
        shards = build_shards(request, [], SHARD_IMAGES, fill, "describing regions")
    else:
        work = partial(described, data, regions, encoder, settings)
        shards = build_shards(request, ids, SHARD_IMAGES, fill, "describing regions", work=work)

    def finish(writer: Writer, parts: Parts) -> Header:
        counts: dict[str, Any] = {}
        if settings.method == "random":
            clusters = random_clusters(ids, numbers, settings)
        else:
            features = joined_features(parts, regions.count) if stored is None else stored.features()
            clusters, centroids, inertia = clustered(features, numbers, settings)
            writer.array("centroids", centroids)
            if settings.keep_features:
                writer.array("features", features)
            counts = {"encoder_weights": source, "features": features.shape[1], "inertia": inertia}
        write_images(writer, ids, regions.sizes)
        writer.array("regions/cluster", clusters)
        attributes = {
            "method": settings.method,
            "clusters": settings.clusters,
            "encoder": "none" if settings.method == "random" else settings.encoder,
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
    return text if settings.method == "random" else f"{text}, mean squared distance {counts['inertia']:.4g}"


def described(
    data: Dataset, regions: Superpixels, encoder: "PatchEncoder", settings: ClusterSettings, ids: Sequence[str]
) -> Iterator[np.ndarray]:
    """The features (K,D) f16 of the regions of each image; patches are cut in processes while the encoder works."""
    tasks = (
        PatchTask(
            data.image(image, regions.sizes[image]),
            regions.labels(image),
            {name: regions.read(f"regions/{name}", regions.rows[image]) for name in BOX},
            settings.patch,
        )
        for image in ids
    )
    for patches in map_in_processes(cut_task, tasks, settings.workers or core_count()):
        yield encoder.features(patches)


def joined_features(parts: Parts, count: int) -> np.ndarray:
    """(R,D) f16 of all shards, one after the other into the one array that memory has room for."""
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
    features: np.ndarray, numbers: np.ndarray, settings: ClusterSettings
) -> tuple[np.ndarray, np.ndarray, float]:
    """Clusters (R,) u8, centroids (K,D) f32, and the mean squared distance between the two."""
    from stages.regions.clustering import kmeans, nearest_centroids

    with Progress("clustering regions", len(features) * (settings.passes + 1)) as bar:
        centroids = kmeans(features, numbers, settings, bar.advance)
        clusters, squared = nearest_centroids(features, centroids, bar.advance)
    return clusters, centroids, float(squared.mean(dtype=np.float64))


def cluster_counts(clusters: np.ndarray, sizes: np.ndarray, number: int) -> dict[str, Any]:
    """What became of the regions: how many, and how many pixels, in each cluster. clusters (R,) u8, sizes (R,) i32."""
    return {
        "regions": len(clusters),
        "clusters": number,
        "regions_per_cluster": np.bincount(clusters, minlength=number).tolist(),
        "pixels_per_cluster": np.bincount(clusters, weights=sizes, minlength=number).astype(np.int64).tolist(),
    }
