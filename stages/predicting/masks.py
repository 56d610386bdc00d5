"""From the probabilities of an image to the files about it."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stages.artifacts.publish import make_folder, publish_bytes, publishing, require_space
from stages.datasets.encode import about_image, jpeg_bytes, png_bytes, tiff_bytes
from stages.datasets.image_files import image_file
from stages.pixels.grids import Size
from stages.predicting.sources import Source
from stages.predicting.windows import Bands
from stages.settings.predict import PredictSettings

MASK_OPACITY = 0.5


@dataclass(frozen=True)
class Masks:
    """The files of a folder: masks, and what else the settings ask for.

    The mask is published last and records ``key`` and what identifies its image, so an image with an up-to-date mask is
    finished. colours (256,3) u8; folder: of the masks; number: classes.
    """

    root: Path
    folder: str
    settings: PredictSettings
    colours: np.ndarray
    number: int

    def path(self, source: Source) -> Path:
        """The mask of an image; a GeoTIFF for a GeoTIFF."""
        return self.root / self.folder / f"{source.name}{'.tif' if source.georeference else '.png'}"

    def beside(self, source: Source, ending: str) -> Path:
        return self.root / self.folder / f"{source.name}{ending}"

    def is_done(self, source: Source, about: str) -> bool:
        path = self.path(source)
        return path.is_file() and about_image(path) == about

    def write(self, source: Source, image: np.ndarray, bands: Bands, about: str) -> None:
        """Writes the files about ``image`` (H,W,3) u8; ``bands`` are its probabilities at its size."""
        size: Size = image.shape[0], image.shape[1]
        make_folder(self.path(source).parent)
        with ExitStack() as stack:
            kept = self.kept_probabilities(source, size, stack)
            mask = np.empty(size, dtype=np.uint8)
            for rows, labels, probabilities in self.labelled(bands):
                mask[rows] = labels
                if kept is not None:
                    kept[:, rows] = probabilities
        if self.settings.overlay:
            publish_bytes(self.beside(source, ".overlay.jpg"), self.overlay(image, mask))
        tags, index = source.georeference, self.settings.encoding == "index"
        pixels, palette = (mask, self.colours) if index else (self.colours[mask], None)
        content = tiff_bytes(pixels, palette, tags, about) if tags else png_bytes(pixels, palette, about=about)
        publish_bytes(self.path(source), content)

    def labelled(self, bands: Bands) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Rows, their labels (n,W) u8, and their probabilities (C,n,W) as they are written, of each band.

        Void, if the network learned it, is never predicted, as in `evaluate`.
        """
        of_confidence = self.settings.of_confidence
        for start, band in bands:
            found = band[: self.number]
            confidence, labels = found.max(0)
            predicted = labels.numpy().astype(np.uint8)
            if of_confidence is not None:
                predicted[(confidence < self.settings.min_confidence).numpy()] = of_confidence.unsure
            values = found.numpy()
            if self.settings.probabilities == "u8":
                values = (values * 255).round().astype(np.uint8)
            yield slice(start, start + len(predicted)), predicted, values

    def kept_probabilities(self, source: Source, size: Size, stack: ExitStack) -> np.memmap | None:
        """The array (C,H,W) to fill, published as .npy when ``stack`` is closed."""
        if self.settings.probabilities == "none":
            return None
        kind = np.dtype(np.uint8 if self.settings.probabilities == "u8" else np.float16)
        path = self.beside(source, ".probabilities.npy")
        shape = self.number, *size
        require_space(path.parent, int(np.prod(shape)) * kind.itemsize, f"Writing {path.name}")
        partial = stack.enter_context(publishing(path))
        array = np.lib.format.open_memmap(partial, "w+", kind, shape)
        stack.callback(array.flush)
        return array

    def overlay(self, image: np.ndarray, mask: np.ndarray) -> bytes:
        blended = Image.blend(Image.fromarray(image), Image.fromarray(self.colours[mask]), MASK_OPACITY)
        return jpeg_bytes(np.asarray(blended))

    def read(self, source: Source) -> np.ndarray:
        """The mask of an image as class numbers (H,W) u8, whatever its encoding."""
        return read_index(self.path(source), self.colours if self.settings.encoding == "color" else None)


def read_index(path: Path, colours: np.ndarray | None) -> np.ndarray:
    """A written mask as class numbers (H,W) u8; of colours, if given, the first with the colour of the pixel."""
    with image_file(path, ("PNG", "TIFF")) as image:
        pixels = np.array(image)
    if colours is None:
        return pixels
    packed = [each.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1]) for each in (pixels, colours)]
    found, first = np.unique(packed[1], return_index=True)
    return first[np.searchsorted(found, packed[0])].astype(np.uint8)
