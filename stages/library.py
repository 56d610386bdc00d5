"""alseg as a library: one function per stage.

Files are str or Path. Settings are keywords under their flat names, as on the command line with _ for -; ``recipe`` and
``profile`` (names or TOML files) give values of lower priority, ``plugins`` are Python files that register parts.
``shard``, such as "3/16", does that share of the work only; the call without it joins all shares. Each function returns
the path of its output and does nothing if that is up to date. Raises `BadInput` with one sentence per fault,
`StageFailed` if the disk is full or another process writes the output, and `Stopped` after saving on a signal.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stages.artifacts.hdf5 import Artifact
from stages.artifacts.model import Model
from stages.artifacts.opening import open_any
from stages.recipes.resolve import resolve
from stages.registry import STAGES
from stages.runtime.parts import load_plugin
from stages.runtime.shares import parse_share

File = str | Path


def open_artifact(path: File) -> Artifact | Model:
    """The artifact in ``path``, whatever its kind: an HDF5 file open for reading, or a model.

    BadInput for a file that is not an artifact, is damaged, or was written with a newer schema.
    """
    return open_any(Path(path))


def run_stage(
    stage: str,
    output: File,
    files: dict[str, File | Sequence[File] | None],
    settings: dict[str, Any],
    recipe: File | None = None,
    profile: File | None = None,
    plugins: Iterable[File] = (),
    force: bool = False,
    shard: str | None = None,
) -> Path:
    """Runs a stage of the table `stages.registry.STAGES`; ``files`` maps its inputs to files."""
    for plugin in plugins:
        load_plugin(plugin)
    paths: dict[str, Any] = {
        role: None if file is None else as_path(file, STAGES[stage].input(role)) for role, file in files.items()
    }
    found = resolve(
        stage,
        settings,
        None if recipe is None else str(recipe),
        None if profile is None else str(profile),
        paths.get("dataset"),
        "keyword",
    )
    if shard is not None:
        paths["share"] = parse_share(shard)
    return STAGES[stage].run(output=Path(output), settings=found.settings, force=force, **paths)


def as_path(file: File | Sequence[File], each: Any) -> Any:
    """A file as the stage takes it: a path, a list of paths, or the text of a description."""
    if each is not None and each.kind == "description":
        return str(file)
    if isinstance(file, str | Path):
        return [Path(file)] if each is not None and each.many else Path(file)
    return [Path(one) for one in file]


def prepare(
    description: File,
    output: File,
    *,
    root: File | None = None,
    force: bool = False,
    shard: str | None = None,
    **settings: Any,
) -> Path:
    """Check a dataset (shipped name or TOML file) below ``root`` and pack it into one HDF5 file."""
    return run_stage("prepare", output, {"description": description, "root": root}, settings, force=force, shard=shard)


def extract_superpixels(
    dataset: File,
    output: File,
    *,
    superpixels: File | None = None,
    model: File | None = None,
    recipe: File | None = None,
    profile: File | None = None,
    plugins: Iterable[File] = (),
    force: bool = False,
    shard: str | None = None,
    **settings: Any,
) -> Path:
    """Cut images into regions, or merge the regions ``superpixels`` by the predictions of ``model``."""
    files: dict[str, Any] = {"dataset": dataset, "superpixels": superpixels, "model": model}
    return run_stage("extract-superpixels", output, files, settings, recipe, profile, plugins, force, shard)


def import_regions(
    dataset: File,
    regions: File | Sequence[File],
    output: File,
    *,
    recipe: File | None = None,
    profile: File | None = None,
    plugins: Iterable[File] = (),
    force: bool = False,
    **settings: Any,
) -> Path:
    """Take the regions in files of other programs."""
    files: dict[str, Any] = {"dataset": dataset, "regions": regions}
    return run_stage("import-regions", output, files, settings, recipe, profile, plugins, force)


def cluster_regions(
    dataset: File,
    superpixels: File,
    output: File,
    *,
    features: File | None = None,
    recipe: File | None = None,
    profile: File | None = None,
    force: bool = False,
    **settings: Any,
) -> Path:
    """Cluster regions by pretrained-network features, or by those stored in the clusters ``features``."""
    files: dict[str, Any] = {"dataset": dataset, "superpixels": superpixels, "features": features}
    return run_stage("cluster-regions", output, files, settings, recipe, profile, (), force)


def train(
    dataset: File,
    labels: File,
    output: File,
    *,
    model: File | None = None,
    recipe: File | None = None,
    profile: File | None = None,
    plugins: Iterable[File] = (),
    force: bool = False,
    **settings: Any,
) -> Path:
    """Train a network on annotations or pseudo-labels, starting from ``model`` if given."""
    files: dict[str, Any] = {"dataset": dataset, "labels": labels, "model": model}
    return run_stage("train", output, files, settings, recipe, profile, plugins, force)


def import_model(
    dataset: File,
    weights: File,
    output: File,
    *,
    recipe: File | None = None,
    profile: File | None = None,
    plugins: Iterable[File] = (),
    force: bool = False,
    **settings: Any,
) -> Path:
    """Turn ``weights`` that other code wrote into a model for the classes of ``dataset``."""
    files: dict[str, Any] = {"dataset": dataset, "weights": weights}
    return run_stage("import-model", output, files, settings, recipe, profile, plugins, force)


def score(
    dataset: File,
    output: File,
    *,
    model: File | None = None,
    superpixels: File | None = None,
    clusters: File | None = None,
    annotations: File | None = None,
    recipe: File | None = None,
    profile: File | None = None,
    plugins: Iterable[File] = (),
    force: bool = False,
    shard: str | None = None,
    **settings: Any,
) -> Path:
    """Score every unlabelled pixel, region or image; higher scores are queried first."""
    files: dict[str, Any] = {
        "dataset": dataset,
        "model": model,
        "superpixels": superpixels,
        "clusters": clusters,
        "annotations": annotations,
    }
    return run_stage("score", output, files, settings, recipe, profile, plugins, force, shard)


def select(
    dataset: File,
    scores: File,
    output: File,
    *,
    annotations: File | None = None,
    superpixels: File | None = None,
    clusters: File | None = None,
    gold: File | None = None,
    recipe: File | None = None,
    profile: File | None = None,
    plugins: Iterable[File] = (),
    force: bool = False,
    **settings: Any,
) -> Path:
    """Select the next queries, skipping what the ledger ``annotations`` covers."""
    files: dict[str, Any] = {
        "dataset": dataset,
        "scores": scores,
        "annotations": annotations,
        "superpixels": superpixels,
        "clusters": clusters,
        "gold": gold,
    }
    return run_stage("select", output, files, settings, recipe, profile, plugins, force)


def import_queries(
    dataset: File,
    selection: File,
    output: File,
    *,
    annotations: File | None = None,
    superpixels: File | None = None,
    order: File | None = None,
    force: bool = False,
    **settings: Any,
) -> Path:
    """Take what another program selected, in the file or folder ``selection``, as the next queries."""
    files: dict[str, Any] = {
        "dataset": dataset,
        "selection": selection,
        "annotations": annotations,
        "superpixels": superpixels,
        "order": order,
    }
    return run_stage("import-queries", output, files, settings, force=force)


def annotate_simulate(
    dataset: File,
    queries: File,
    output: File,
    *,
    annotations: File | None = None,
    superpixels: File | None = None,
    recipe: File | None = None,
    profile: File | None = None,
    force: bool = False,
    **settings: Any,
) -> Path:
    """Answer queries from the ground truth and append the answers to the ledger ``annotations``."""
    files: dict[str, Any] = {
        "dataset": dataset,
        "queries": queries,
        "annotations": annotations,
        "superpixels": superpixels,
    }
    return run_stage("annotate-simulate", output, files, settings, recipe, profile, (), force)


def annotate(
    dataset: File,
    queries: File,
    output: File,
    *,
    annotations: File | None = None,
    superpixels: File | None = None,
    force: bool = False,
    **settings: Any,
) -> Path:
    """Answer queries in a browser; returns when all are answered or somebody finishes."""
    files: dict[str, Any] = {
        "dataset": dataset,
        "queries": queries,
        "annotations": annotations,
        "superpixels": superpixels,
    }
    return run_stage("annotate", output, files, settings, force=force)


def export_queries(
    dataset: File,
    queries: File,
    output: File,
    *,
    superpixels: File | None = None,
    annotations: File | None = None,
    images: File | None = None,
) -> Path:
    """Write queries for other tools, in the format that the ending of ``output`` names."""
    given = {"superpixels": superpixels, "annotations": annotations, "images": images}
    files = {role: Path(file) for role, file in given.items() if file is not None}
    return STAGES["export-queries"].run(Path(dataset), Path(queries), Path(output), **files)


def import_answers(
    dataset: File,
    queries: File,
    answers: File,
    output: File,
    *,
    annotations: File | None = None,
    superpixels: File | None = None,
    force: bool = False,
    **settings: Any,
) -> Path:
    """Append answers given in other tools to the ledger ``annotations``."""
    files: dict[str, Any] = {
        "dataset": dataset,
        "queries": queries,
        "answers": answers,
        "annotations": annotations,
        "superpixels": superpixels,
    }
    return run_stage("import-answers", output, files, settings, force=force)


def import_labels(
    dataset: File,
    labels: File | Sequence[File],
    output: File,
    *,
    annotations: File | None = None,
    names: File | None = None,
    images: File | None = None,
    force: bool = False,
    **settings: Any,
) -> Path:
    """Write the labels in files of other programs as a ledger, or append them to ``annotations``."""
    files: dict[str, Any] = {
        "dataset": dataset,
        "labels": labels,
        "annotations": annotations,
        "names": names,
        "images": images,
    }
    return run_stage("import-labels", output, files, settings, force=force)


def pseudo_label(
    dataset: File,
    annotations: File,
    output: File,
    *,
    model: File | None = None,
    superpixels: File | None = None,
    recipe: File | None = None,
    profile: File | None = None,
    plugins: Iterable[File] = (),
    force: bool = False,
    shard: str | None = None,
    **settings: Any,
) -> Path:
    """Turn answers into dense labels, by the predictions of ``model`` or by features."""
    files: dict[str, Any] = {
        "dataset": dataset,
        "annotations": annotations,
        "model": model,
        "superpixels": superpixels,
    }
    return run_stage("pseudo-label", output, files, settings, recipe, profile, plugins, force, shard)


def evaluate(
    dataset: File,
    models: File | Sequence[File],
    output: File,
    *,
    annotations: File | None = None,
    recipe: File | None = None,
    profile: File | None = None,
    plugins: Iterable[File] = (),
    force: bool = False,
    shard: str | None = None,
    **settings: Any,
) -> Path:
    """Evaluate one or more models on a split, or on the answers of the last round of the ledger ``annotations``."""
    files: dict[str, Any] = {"dataset": dataset, "models": models, "annotations": annotations}
    return run_stage("evaluate", output, files, settings, recipe, profile, plugins, force, shard)


def predict(
    model: File,
    images: File | Sequence[File],
    output: File,
    *,
    annotations: File | None = None,
    recipe: File | None = None,
    profile: File | None = None,
    plugins: Iterable[File] = (),
    force: bool = False,
    **settings: Any,
) -> Path:
    """Write the masks that ``model`` predicts for images, folders of images or datasets to the folder ``output``."""
    files: dict[str, Any] = {"model": model, "images": images, "annotations": annotations}
    return run_stage("predict", output, files, settings, recipe, profile, plugins, force)
