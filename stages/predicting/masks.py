"""From the probabilities of an image to the files about it."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from stages.artifacts.publish import make_folder, publish_bytes, publishing, require_space
from stages.datasets.encode import about_image, jpeg_bytes, png_bytes, tiff_bytes
from stages.images.image_files import image_file
from stages.images.rasters import open_raster
from stages.pixels.boxes import Box, fill_reduced
from stages.pixels.grids import Size
from stages.pixels.void import VOID
from stages.predicting.mosaics import Finished
from stages.predicting.sources import Source
from stages.predicting.tiled_files import about_tiled, tiled_file
from stages.predicting.windows import Bands
from stages.settings.predict import PredictSettings

MASK_OPACITY = 0.5
OVERLAY = ".overlay.jpg"
ROWS = 512  # of a large mask that are counted at once


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
        """The mask of an image; a GeoTIFF for a GeoTIFF, and for what is too large for one piece."""
        as_tiff = source.is_large or source.georeference
        return self.root / self.folder / f"{source.name}{'.tif' if as_tiff else '.png'}"

    def beside(self, source: Source, ending: str) -> Path:
        return self.root / self.folder / f"{source.name}{ending}"

    def is_done(self, source: Source, about: str) -> bool:
        path = self.path(source)
        return path.is_file() and (about_tiled(path) if source.is_large else about_image(path)) == about

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
            publish_bytes(self.beside(source, OVERLAY), self.overlay(image, mask))
        tags, index = source.georeference, self.settings.encoding == "index"
        pixels, palette = (mask, self.colours) if index else (self.colours[mask], None)
        content = tiff_bytes(pixels, palette, tags, about) if tags else png_bytes(pixels, palette, about=about)
        publish_bytes(self.path(source), content)

    def write_parts(
        self, source: Source, size: Size, parts: Iterable[Finished], small: np.ndarray | None, about: str
    ) -> None:
        """Writes the files about a large image, whose probabilities come in ``parts``, from the top down.

        Pixels without data are void. ``small``: the image made smaller (h,w,3) u8, for an overlay.
        """
        make_folder(self.path(source).parent)
        index = self.settings.encoding == "index"
        palette, nodata = (self.colours, VOID) if index else (None, None)
        with ExitStack() as stack:
            kept = self.kept_probabilities(source, size, stack)
            file = tiled_file(self.path(source), size, palette, source.map_grid, nodata, about)
            add = stack.enter_context(file)
            small_mask = None if small is None else np.empty(small.shape[:2], dtype=np.uint8)
            rows = np.empty((0, size[1]), dtype=np.uint8)
            for part in parts:
                if part.box.x == 0:
                    rows = np.full((part.box.height, size[1]), VOID, dtype=np.uint8)
                if part.with_data.any():
                    labels, probabilities = self.labels(part.probabilities)
                    rows[:, part.box.columns] = np.where(part.with_data.numpy(), labels, VOID)
                    if kept is not None:
                        kept[:, part.box.rows, part.box.columns] = probabilities
                if part.row_ends:
                    add(rows if index else self.colours[rows])
                    if small_mask is not None:
                        fill_reduced(small_mask, rows, Box(part.box.y, 0, *rows.shape), size)
            if small is not None and small_mask is not None:
                publish_bytes(self.beside(source, OVERLAY), self.overlay(small, small_mask))

    def labelled(self, bands: Bands) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Rows of each band, and what `labels` gives for it."""
        for start, band in bands:
            labels, probabilities = self.labels(band)
            yield slice(start, start + len(labels)), labels, probabilities

    def labels(self, band: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Labels (n,W) u8 of probabilities (C,n,W), and these as they are written.

        Void, if the network learned it, is never predicted, as in `evaluate`.
        """
        found = band[: self.number]
        confidence, labels = found.max(0)
        predicted = labels.numpy().astype(np.uint8)
        if self.settings.of_confidence is not None:
            predicted[(confidence < self.settings.min_confidence).numpy()] = self.settings.of_confidence.unsure
        values = found.numpy()
        if self.settings.probabilities == "u8":
            values = (values * 255).round().astype(np.uint8)
        return predicted, values

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
        with image_file(self.path(source), ("PNG", "TIFF")) as image:
            return self.as_index(np.atleast_3d(np.array(image)))

    def counts(self, source: Source) -> tuple[np.ndarray, Size]:
        """How many pixels of a mask have each value (256,), and its size."""
        if not source.is_large:
            mask = self.read(source)
            return np.bincount(mask.ravel(), minlength=256), (mask.shape[0], mask.shape[1])
        counts = np.zeros(256, dtype=np.int64)
        with open_raster(self.path(source)) as raster:
            height, width = raster.size
            for top in range(0, height, ROWS):
                part = raster.pixels(Box(top, 0, min(ROWS, height - top), width))
                counts += np.bincount(self.as_index(part).ravel(), minlength=256)
        return counts, raster.size

    def as_index(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels of a written mask (h,w,B) as class numbers (h,w) u8.

        Of classes of one colour, the first; void for colours of no class.
        """
        if self.settings.encoding == "index":
            return pixels[..., 0]
        packed = [each.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1]) for each in (pixels, self.colours)]
        found, first = np.unique(packed[1], return_index=True)
        first[first >= self.number] = VOID
        return first[np.searchsorted(found, packed[0])].astype(np.uint8)

    @property
    def void_is_no_data(self) -> bool:
        """Whether void in a mask means that the image has no data there, and not also that a pixel is unsure."""
        unsure = self.settings.of_confidence
        return unsure is None or (unsure.unsure != VOID and self.settings.encoding == "index")
