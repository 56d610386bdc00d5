"""Labels of answers spread to the pixels that are similar to them in the features of a frozen network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer
from stages.artifacts.images_table import write_images
from stages.artifacts.model import Model
from stages.artifacts.request import Request
from stages.artifacts.shards import Fill, Parts, build_shards
from stages.artifacts.superpixels import Superpixels
from stages.pixels.grids import Size
from stages.pixels.void import VOID
from stages.pseudo_labelling.references import References, centres, labelled_pixels, pool_references
from stages.runtime.console import say
from stages.runtime.errors import BadInput
from stages.runtime.ranks import Ranks
from stages.settings.common import Checkpoint, NetworkUse
from stages.settings.pseudo_label import NeighbourSettings

if TYPE_CHECKING:
    from torch import Tensor

    from stages.networks.pixel_features import PixelEncoder, PixelMaps

BEFORE = 9  # digits in the names of the shards of references, which are built before those of labels
NAMED = 5  # classes named in a warning


class Known(NamedTuple):
    """References on the device: features (R,D) f32 of unit length, classes (R,) i64."""

    features: "Tensor"
    classes: "Tensor"


@dataclass(frozen=True)
class Spread:
    """The answers to spread, and what decides how."""

    data: Dataset
    ledger: Annotations
    regions: Superpixels | None
    settings: NeighbourSettings
    seed: int

    @property
    def answered(self) -> list[str]:
        """Sorted ids of the images with answers."""
        return sorted(set(self.ledger.rows) | set(self.ledger.exact_ids))

    @property
    def ids(self) -> list[str]:
        """Sorted ids of the images that get labels."""
        split = self.settings.pool and self.settings.pool.unlabelled_split
        return sorted({*self.answered, *(self.data.ids(split) if split else ())})

    @property
    def classes(self) -> int:
        return len(self.data.classes)

    @property
    def outputs(self) -> int:
        """The classes that are voted for: void too, as the last one, unless there is no number left for it."""
        return min(self.classes + 1, VOID)

    def size(self, image: str) -> Size:
        """Of the label map: the grid of the answers, or that of the dataset for an image without any."""
        return self.ledger.sizes.get(image, self.data.sizes[image])

    def references_of(self, image: str, place: int = 0) -> References:
        return labelled_pixels(self.ledger, image, place, min(self.classes, VOID), self.seed, self.settings.cap)

    def answers_over(self, labels: np.ndarray, image: str) -> np.ndarray:
        """``labels`` (H,W) u8 of ``image``, changed in place to its answers where it has any."""
        if image in self.ledger.sizes:
            given = self.ledger.label_map(image, min(self.classes, VOID))
            np.copyto(labels, given, where=given != VOID)
        return labels


def load_encoder(spread: Spread, model: Model | None, checkpoint: Checkpoint, use: NetworkUse) -> "PixelEncoder":
    from stages.networks.pixel_features import load_pixel_encoder, trained_pixel_encoder

    scale, pretrained = spread.settings.input_scale, spread.settings.encoding
    if pretrained is not None:
        name, weights = pretrained.encoder, pretrained.weights
        return load_pixel_encoder(name, weights, scale, use, spread.seed, spread.data.bands)
    assert model is not None
    return trained_pixel_encoder(model, checkpoint, scale, use)


def find_references(spread: Spread) -> References:
    """The labelled pixels that others are compared with, of the pool, or of each image.

    BadInput without any, and if fewer than vote are in the pool. Prints which classes are missing, and how many images
    have fewer than vote if each image is on its own.
    """
    images, settings = spread.answered, spread.settings
    parts = (spread.references_of(image, place) for place, image in enumerate(images))
    if settings.among == "pool":
        found = pool_references(parts, settings.cap)
        label, few = found.label, 0
    else:
        counted = [np.bincount(part.label, minlength=spread.outputs) for part in parts]
        numbers = [int(each.sum()) for each in counted]
        label = np.flatnonzero(np.sum(counted, axis=0)) if counted else np.zeros(0, dtype=np.int64)
        found, few = References.none(), sum(0 < number < settings.neighbours for number in numbers)
    if not (label < spread.classes).any():
        why = "every answer is void" if len(label) else "no answer names one class of a pixel, a region or a mask"
        raise BadInput(f"{spread.ledger.path} has no labels to spread: {why}. Annotate more.")
    if settings.among == "pool" and len(found) < settings.neighbours:
        raise BadInput(
            f"--neighbours {settings.neighbours} exceeds the {len(found)} labelled pixels that are compared. Lower it, "
            "or annotate more."
        )
    if few:
        say(f"Warning: {few} of {len(images)} images have fewer than {settings.neighbours} labelled pixels; all vote.")
    missing = [name for place, name in enumerate(spread.data.classes) if place not in label]
    if missing:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        say(f"Warning: no answer names {', '.join(missing[:NAMED])}{more}, so no pixel takes that class.")
    return found


def spread_images(
    spread: Spread, found: References, encoder: "PixelEncoder", request: Request, size: int, ranks: Ranks
) -> Fill:
    """Labels each pixel whose first two classes differ by enough votes; answers keep their class.

    ``found`` are the references of the pool, if those are compared. Their features are computed first, in shards of
    ``size`` images that the ``ranks`` share, so that a stopped run continues.
    """
    import torch

    from stages.pixels.maps import interpolated
    from stages.pseudo_labelling.neighbours import decide, vote
    from stages.regions.reductions import region_means

    settings, device = spread.settings, encoder.device
    every: Known | None = None
    if settings.among == "pool":
        features = torch.from_numpy(reference_features(spread, found, encoder, request, size, ranks))
        every = Known(features.to(device), torch.from_numpy(found.label.astype(np.int64)).to(device))

    def known_to(image: str, maps: "PixelMaps") -> Known:
        if every is not None:
            return every
        own = spread.references_of(image)
        features = maps.at(*centres(own.pixel, spread.size(image)))
        return Known(features, torch.from_numpy(own.label.astype(np.int64)).to(device))

    def shares_of(image: str, maps: "PixelMaps", known: Known) -> "Tensor":
        """(C,H,W) f32 share of the votes for each class at each pixel, or their mean over the region of the pixel."""
        height, width = spread.size(image)
        rows, columns = -(-height // settings.cell), -(-width // settings.cell)
        cells = maps.at(*centres(np.arange(rows * columns), (rows, columns)))
        shares = vote(cells, *known, spread.outputs, settings.neighbours, settings.vote_temperature)
        shares = interpolated(shares.T.reshape(-1, rows, columns).contiguous(), (height, width))
        if spread.regions is None or image not in spread.regions.sizes:
            return shares
        own = torch.from_numpy(spread.regions.labels(image)).long().to(device)
        means = region_means(shares, own, spread.regions.number(image)).float()
        return torch.where(own >= 0, means[:, own.clamp(min=0)], shares)

    def fill(writer: Writer, part: Sequence[str]) -> dict[str, Any]:
        labelled: dict[str, int] = {}
        for image, maps in encoder.of_images(spread.data, part):
            known = known_to(image, maps)
            if len(known.classes):
                labels = decide(shares_of(image, maps, known), settings.margin).cpu().numpy()
            else:
                labels = np.full(spread.size(image), VOID, dtype=np.uint8)
            labels = spread.answers_over(labels, image)
            writer.array(f"labels/{image}", labels)
            labelled[image] = int((labels < spread.classes).sum())
        return {"labelled": labelled}

    return fill


def reference_features(
    spread: Spread, found: References, encoder: "PixelEncoder", request: Request, size: int, ranks: Ranks
) -> np.ndarray:
    """(R,D) f32 features of the references ``found``, sorted by image."""
    answered = spread.answered
    places, starts = np.unique(found.image, return_index=True)
    names = [answered[place] for place in places]
    pixels = dict(zip(names, np.split(found.pixel, starts[1:]), strict=True))

    def fill(writer: Writer, part: Sequence[str]) -> dict[str, Any]:
        for image, maps in encoder.of_images(spread.data, part):
            features = maps.at(*centres(pixels[image], spread.size(image)))
            writer.rows("features", features.cpu().numpy())
        return {}

    shards = build_shards(request, names, size, fill, "collecting labelled pixels", ranks, digits=BEFORE)
    ranks.barrier()
    return Parts([shards.path(index) for index in range(shards.number)], []).column("features")


def finish_spread(
    writer: Writer, parts: Parts, spread: Spread, ids: Sequence[str], found: References
) -> dict[str, Any]:
    """Writes the table of the images, and returns the counts of the header."""
    labelled, sizes = parts.merged("labelled"), {image: spread.size(image) for image in ids}
    write_images(writer, ids, sizes)
    writer.array("images/labelled_pixels", np.array([labelled[image] for image in ids], dtype=np.int64))
    return {
        "images": spread.ledger.header.counts["images"],
        "references": len(found),
        "pixels": sum(height * width for height, width in sizes.values()),
        "labelled_pixels": sum(labelled.values()),
    }
