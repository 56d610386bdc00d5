"""The command `predict`: the masks that a model predicts for any images."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.answering.exchange.coco import coco_document
from stages.answering.exchange.indexed_png import FOLDER, files_about
from stages.answering.exchange.values import colours_of
from stages.artifacts.annotations import Annotations
from stages.artifacts.header import digest_of
from stages.artifacts.locks import output_lock
from stages.artifacts.model import Model, require_same_bands
from stages.artifacts.publish import make_folder, publish_bytes
from stages.images.rasters import open_raster
from stages.images.reading import displayed, recorded_reading
from stages.pixels.grids import Size
from stages.pixels.resize import resize_image, target_size
from stages.predicting.geotiff import metres_on_map, metres_per_pixel
from stages.predicting.masks import Masks
from stages.predicting.mosaics import Finished, Windows, finished_parts
from stages.predicting.originals import FileWindows, TileWindows
from stages.predicting.sources import Source, find_sources
from stages.predicting.summary import class_outlines, shares_table
from stages.predicting.windows import probability_bands, resized_bands
from stages.runtime.console import Progress, say
from stages.runtime.errors import BadInput, Stopped
from stages.runtime.signals import stop_on_signal
from stages.settings.predict import PredictSettings
from stages.settings.prepare import RESIZING

if TYPE_CHECKING:
    from torch import Tensor

    from stages.networks.predictor import Predictor
    from stages.predicting.windows import Bands

TABLE, COCO = "shares.csv", "masks.coco.json"
MOST_SIDE = 2048  # longest side of a window of a large file that the network sees made smaller
OVERLAY_SIDE = 4096  # longest side of the overlay of a large image


def run(
    model: Path,
    images: Sequence[Path],
    output: Path,
    settings: PredictSettings,
    annotations: Path | None = None,
    force: bool = False,
) -> Path:
    """Writes a mask for each of ``images`` (files, folders, datasets) to the folder ``output``, at the image's size.

    Each file is whole or absent. Masks that are there are kept if model, settings and image are the same. On a signal
    the current image is finished, then Stopped is raised. Raises BadInput for images that do not exist, have masks of
    the same name, or cannot be read.
    """
    opened = Model(model)
    if opened.of_images:
        raise BadInput(f"{model} predicts classes of whole images. Pass a segmentation model.")
    opened.require_checkpoint(settings.checkpoint)
    if annotations is not None and not settings.pool:
        raise BadInput("--annotations says which images of the pool have masks. Pass --pool too.")
    if output.exists() and not output.is_dir():
        raise BadInput(f"{output} is a file. Choose a folder for the masks.")
    with ExitStack() as stack:
        ledger = None if annotations is None else stack.enter_context(Annotations(annotations))
        reading = recorded_reading(opened.reading)
        sources = find_sources(images, output, settings.split, settings.pool, ledger, stack, reading)
        for data in {id(source.dataset): source.dataset for source in sources if source.dataset is not None}.values():
            if data.classes != opened.attributes["classes"]:
                raise BadInput(f"{data.path} has other classes than {model}. Pass a model trained on these classes.")
            require_same_bands(opened, data)
        require_for_large(opened, sources, settings)
        make_folder(output)
        with output_lock(output):
            write_all(opened, sources, output, settings, force)
    return output


def write_all(model: Model, sources: Sequence[Source], output: Path, settings: PredictSettings, force: bool) -> None:
    """Writes the masks that are missing, then the table and the documents about all of them."""
    classes = model.attributes["classes"]
    masks = Masks(output, FOLDER if settings.pool else "", settings, colour_table(model), len(classes))
    made = [model.digest, settings.result_settings()]
    about = {source.name: digest_of([*made, source.identity()]) for source in sources}
    missing = [source for source in sources if force or not masks.is_done(source, about[source.name])]
    if missing:
        write_masks(model, missing, masks, about, len(sources))
    if settings.table:
        table = shares_table(with_sides(masks, sources, settings), classes, masks.void_is_no_data)
        publish_bytes(output / TABLE, table)
    if settings.coco:
        shapes = class_outlines(read_all(masks, sources), len(classes))
        named = ((source.file_name, found) for source, found in shapes)
        publish_bytes(output / COCO, coco_document(classes, f"alseg: predictions of {model.path.name}", named))
    if settings.pool:
        ids = [source.name for source in sources]
        for name, content in files_about(classes, masks.colours[: len(classes)], ids):
            make_folder((output / name).parent)
            publish_bytes(output / name, content)
    fresh = f"wrote {output}: {len(missing)} masks" if missing else f"{output} is up to date"
    say(f"{fresh}, {len(sources) - len(missing)} kept" if missing and len(missing) < len(sources) else fresh)


def colour_table(model: Model) -> np.ndarray:
    """(256,3) u8 colours of class numbers; those that no class has are white.

    BadInput for a model that records no colours.
    """
    palette = model.attributes.get("palette")
    if palette is None:
        raise BadInput(f"{model.path} was trained by an older version and has no colours. Train it again.")
    table = np.full((256, 3), 255, dtype=np.uint8)
    for value, colour in colours_of(np.array(palette, dtype=np.uint8)).items():
        if value < len(palette):
            table[value] = colour
    return table


def read_all(masks: Masks, sources: Sequence[Source]) -> Iterator[tuple[Source, np.ndarray]]:
    for source in sources:
        yield source, masks.read(source)


def with_sides(
    masks: Masks, sources: Sequence[Source], settings: PredictSettings
) -> Iterator[tuple[Source, np.ndarray, Size, float | None]]:
    """Images with the counts of values in their masks, their sizes and the side of a pixel in metres, if known."""
    given = settings.of_table.pixel_size if settings.of_table is not None else None
    for source in sources:
        known = metres_on_map(source.map_grid) if source.is_large else metres_per_pixel(source.georeference)
        yield source, *masks.counts(source), given or known


def require_for_large(model: Model, sources: Sequence[Source], settings: PredictSettings) -> None:
    """BadInput for what cannot be done with images that are predicted part by part."""
    large = next((source for source in sources if source.is_large), None)
    if large is None:
        return
    name = large.file_name
    if settings.coco:
        raise BadInput(f"{name} is too large for COCO, which needs a whole mask in memory. Omit --coco.")
    file = next((source for source in sources if source.is_large and source.dataset is None), None)
    if file is not None and "scale" not in (how := sides_of(resizing(model, settings))) and how:
        (key,) = how
        raise BadInput(
            f"{file.file_name} is too large to be resized to one {key.replace('_', ' ')}. Pass --scale: how much "
            "smaller the network sees it, or 1."
        )


def resizing(model: Model, settings: PredictSettings) -> dict[str, Any]:
    """How images of files are resized: as the options say, otherwise as those of the model's dataset were.

    The filter is that of the dataset either way.
    """
    given = {name: value for name in RESIZING if (value := getattr(settings, name)) is not None}
    recorded = model.attributes.get("resized", {})
    return (given or sides_of(recorded)) | ({"filter": recorded["filter"]} if "filter" in recorded else {})


def sides_of(how: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `target_size` among what says how images are resized."""
    return {name: how[name] for name in RESIZING if name in how}


def write_masks(model: Model, missing: Sequence[Source], masks: Masks, about: dict[str, str], total: int) -> None:
    """Predicts the images ``missing``, one after the other."""
    from stages.networks.predictor import load_predictor
    from stages.runtime.devices import choose_device

    settings = masks.settings
    predictor = load_predictor(model, settings.checkpoint, choose_device(settings.use.device), settings.use.precision)
    how = resizing(model, settings)
    with stop_on_signal() as stop, Progress("predicting", total) as bar:
        bar.advance(total - len(missing))

        def obey() -> None:
            if stop:
                raise Stopped(f"stopped after {bar.done} of {bar.total} images; run the same command to continue")

        for source in missing:
            obey()
            if source.is_large:
                write_large(predictor, source, masks, how, about[source.name], obey)
            else:
                image = source.read()
                shown = displayed(image, recorded_reading(model.reading))
                masks.write(source, shown, bands(predictor, image, source, settings, how), about[source.name])
            bar.advance()


def write_large(
    predictor: "Predictor", source: Source, masks: Masks, how: dict[str, Any], about: str, obey: Callable[[], None]
) -> None:
    """Predicts an image part by part; ``obey`` is called between them, and ends it by an exception."""
    settings = masks.settings
    network = network_of(predictor, settings)
    with ExitStack() as stack:
        if source.dataset is not None:
            windows: Windows = TileWindows(source.dataset, source.name, source.tiles, network, masks.number)
        else:
            raster = stack.enter_context(open_raster(source.path))
            scale = how.get("scale") or 1.0
            longest = min(int(settings.window / scale), max(settings.window, MOST_SIDE))
            way = how.get("filter", "bilinear")
            windows = FileWindows(raster, network, longest, settings.overlap, scale, source.reading, way)
        small = None
        if settings.overlay:
            small = windows.reduced(target_size(*windows.size, long_side=min(OVERLAY_SIDE, max(windows.size))))
        masks.write_parts(source, windows.size, watched(windows, obey), small, about)


def watched(windows: Windows, obey: Callable[[], None]) -> Iterator[Finished]:
    """The parts of an image, with progress."""
    with Progress("windows", len(windows.tops) * len(windows.lefts)) as bar:
        for part in finished_parts(windows):
            yield part
            bar.advance()
            obey()


def network_of(predictor: "Predictor", settings: PredictSettings) -> Callable[["Tensor"], "Tensor"]:
    """(1,B,h,w) u8 -> (1,C,h,w) f32 probabilities, averaged as the settings say."""
    return lambda pixels: predictor.probabilities(pixels, settings.flip, settings.scales)


def bands(
    predictor: "Predictor", image: np.ndarray, source: Source, settings: PredictSettings, how: dict[str, Any]
) -> "Bands":
    """The probabilities of ``image`` (H,W,B) u8 at its size; the network sees it resized as its dataset was."""
    import torch

    given = {name: value for name in RESIZING if (value := getattr(settings, name)) is not None}
    height, width = image.shape[:2]
    seen = target_size(height, width, **(given if source.dataset is not None else sides_of(how)))
    pixels = torch.from_numpy(np.array(resize_image(image, *seen, how.get("filter", "bilinear")))).permute(2, 0, 1)[
        None
    ]
    found = probability_bands(network_of(predictor, settings), pixels, settings.window, settings.overlap)
    return resized_bands(found, seen, (height, width))
