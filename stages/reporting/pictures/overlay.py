"""Overlays of an artifact's data on an image."""

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.clusters import Clusters
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Artifact, require_made_from
from stages.artifacts.model import Model, require_same_classes
from stages.artifacts.opening import open_input
from stages.artifacts.pseudo_labels import PseudoLabels
from stages.artifacts.queries import Queries
from stages.artifacts.scores import Scores
from stages.artifacts.superpixels import Superpixels
from stages.reporting.pictures.clusters import draw_clusters
from stages.reporting.pictures.curves import to_png
from stages.reporting.pictures.gated import draw_gated
from stages.reporting.pictures.images import draw_image_queries, draw_image_scores
from stages.reporting.pictures.labels import draw_answers, draw_pseudo_labels
from stages.reporting.pictures.panels import axes_of, class_legend, colourise, figure_for
from stages.reporting.pictures.picked import draw_picked_pixels
from stages.reporting.pictures.regions import draw_region_queries, draw_region_scores, draw_superpixels
from stages.runtime.errors import BadInput

DRAWN = Superpixels | Clusters | Scores | Queries | Annotations | PseudoLabels


def draw(artifact: Artifact | Model, data: Dataset | None, image: str | None) -> bytes:
    """PNG bytes of the data of ``artifact`` for ``image`` (default: the first image with data).

    Datasets draw the mask beside the image, superpixels their borders, clusters some of their patches, scores a heat
    map, queries and annotations their points or regions, pseudo-labels the labels made from the answers. Without
    ``image``, clusters, scores and queries of whole images, and pseudo-labels judged by a discriminator draw a sheet of
    many images. Without ``data``, the images come from the dataset that the artifact was made from. Models draw their
    prediction for an image (default: the first for validation), also of other datasets with the same classes.
    """
    if isinstance(artifact, Model):
        return draw_predictions(artifact, data, image)
    if isinstance(artifact, Dataset):
        return draw_dataset(artifact, picked(image, artifact.all_ids))
    if not isinstance(artifact, DRAWN):
        raise BadInput(f"{artifact.path} contains {artifact.header.kind}, which cannot be drawn per image.")
    if data is None:
        data = open_input(artifact, "dataset", Dataset)
    require_made_from(artifact, "dataset", data)
    match artifact:
        case Superpixels():
            return draw_superpixels(artifact, data, picked(image, artifact.ids))
        case Clusters():
            return draw_clusters(artifact, data, named_image(image, artifact.ids))
        case Scores():
            if artifact.unit == "image":
                return draw_image_scores(artifact, data, named_image(image, artifact.ids))
            draw_them = draw_region_scores if artifact.unit == "region" else draw_scores
            return draw_them(artifact, data, picked(image, artifact.ids))
        case Queries():
            asked = [artifact.ids[index] for index in np.unique(artifact.image)]
            if artifact.unit == "image":
                return draw_image_queries(artifact, data, named_image(image, asked))
            image = picked(image, asked)
            if artifact.unit == "region":
                return draw_region_queries(artifact, data, image)
            chosen_in_regions = (artifact.region >= 0).all()
            return (draw_picked_pixels if chosen_in_regions else draw_queries)(artifact, data, image)
        case Annotations():
            answered = [artifact.ids[index] for index in np.unique(artifact.answers.image)]
            return draw_answers(artifact, data, picked(image, answered))
        case PseudoLabels():
            if artifact.attributes.get("method") == "gated":
                return draw_gated(artifact, data, named_image(image, artifact.ids))
            return draw_pseudo_labels(artifact, data, picked(image, artifact.ids))


def named_image(image: str | None, ids: list[str]) -> str | None:
    """``image`` if it is in ``ids``; None means all of them. Otherwise BadInput."""
    return None if image is None and ids else picked(image, ids)


def picked(image: str | None, ids: list[str]) -> str:
    """``image`` if it is in ``ids``; None means the first one. Otherwise BadInput."""
    if not ids:
        raise BadInput("The file has no data for any image.")
    if image is None:
        return ids[0]
    if image not in ids:
        raise BadInput(f"No data for image {image!r} in this file. It contains {', '.join(ids[:3])}, ...")
    return image


def draw_predictions(model: Model, data: Dataset | None, image: str | None) -> bytes:
    """The prediction of ``model`` for an image of ``data``, by default of the dataset it was trained on."""
    from stages.reporting.pictures.predictions import draw_model  # only this one needs torch

    if data is None:
        data = open_input(model, "dataset", Dataset)
    require_same_classes(model, data)
    if image is None:
        image = next((name for name in sorted(data.all_ids) if data.splits[name] == "val"), None)
    if image is not None and image not in data.all_ids:
        raise BadInput(f"{data.path} has no image {image!r}. It contains {', '.join(data.all_ids[:3])}, ...")
    return draw_model(model, data, picked(image, data.all_ids))


def draw_dataset(data: Dataset, image: str) -> bytes:
    pixels = data.rgb(image)
    panels = 2 if f"masks/{image}" in data else 1
    figure = figure_for(pixels, panels)
    left, *right = axes_of(figure, panels)
    left.imshow(pixels)
    left.set_title(f"{image} ({data.splits[image]})", fontsize=9)
    for axes in right:
        mask = data.mask(image)
        axes.imshow(colourise(mask, data.palette), interpolation="nearest")
        class_legend(figure, data, np.unique(mask))
    return to_png(figure)


def draw_scores(scores: Scores, data: Dataset, image: str) -> bytes:
    pixels = data.rgb(image, scores.sizes[image])
    figure = figure_for(pixels, 2, bars=1)
    left, right = axes_of(figure, 2)
    left.imshow(pixels)
    left.set_title(image, fontsize=9)
    heat = right.imshow(np.ma.masked_invalid(scores.map(image)), cmap="inferno")
    right.set_title(f"{scores.attributes['measure']}: brighter is queried first", fontsize=9)
    figure.colorbar(heat, ax=right, shrink=0.75)
    return to_png(figure)


def draw_queries(queries: Queries, data: Dataset, image: str) -> bytes:
    """The queried pixels."""
    pixels = data.rgb(image, queries.sizes[image])
    figure = figure_for(pixels)
    (axes,) = axes_of(figure, 1)
    axes.imshow(pixels)
    rows = np.flatnonzero(queries.image == queries.ids.index(image))
    axes.scatter(queries.x[rows], queries.y[rows], s=40, c="#E69F00", edgecolors="white", linewidths=1.2)
    axes.set_title(f"{image}: pixel queries of round {queries.round} ({len(rows)})", fontsize=9)
    return to_png(figure)
