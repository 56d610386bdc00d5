"""The command `predict`: the masks that a model predicts for any images."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.answering.exchange.coco import coco_document
from stages.answering.exchange.indexed_png import FOLDER, files_about
from stages.answering.exchange.values import colours_of
from stages.artifacts.annotations import Annotations
from stages.artifacts.header import digest_of
from stages.artifacts.model import Model, require_same_bands
from stages.artifacts.publish import make_folder, output_lock, publish_bytes
from stages.datasets.reading import displayed, recorded_reading
from stages.pixels.resize import resize_image, target_size
from stages.predicting.geotiff import metres_per_pixel
from stages.predicting.masks import Masks
from stages.predicting.sources import Source, find_sources
from stages.predicting.summary import class_outlines, shares_table
from stages.predicting.windows import probability_bands, resized_bands
from stages.runtime.console import Progress, say
from stages.runtime.errors import BadInput, Stopped
from stages.runtime.signals import stop_on_signal
from stages.settings.predict import PredictSettings
from stages.settings.prepare import RESIZING

if TYPE_CHECKING:
    from stages.networks.predictor import Predictor
    from stages.predicting.windows import Bands

TABLE, COCO = "shares.csv", "masks.coco.json"


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
        table = shares_table(with_sides(masks, sources, settings), classes)
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
) -> Iterator[tuple[Source, np.ndarray, float | None]]:
    """Images with their masks and the side of a pixel in metres, if it is known."""
    given = settings.of_table.pixel_size if settings.of_table is not None else None
    for source, mask in read_all(masks, sources):
        yield source, mask, given or metres_per_pixel(source.georeference)


def write_masks(model: Model, missing: Sequence[Source], masks: Masks, about: dict[str, str], total: int) -> None:
    """Predicts the images ``missing``, one after the other."""
    from stages.networks.predictor import load_predictor
    from stages.runtime.devices import choose_device

    settings = masks.settings
    predictor = load_predictor(model, settings.checkpoint, choose_device(settings.use.device), settings.use.precision)
    recorded = model.attributes.get("resized", {})
    with stop_on_signal() as stop, Progress("predicting", total) as bar:
        bar.advance(total - len(missing))
        for source in missing:
            if stop:
                raise Stopped(f"stopped after {bar.done} of {bar.total} images; run the same command to continue")
            image = source.read()
            shown = displayed(image, recorded_reading(model.reading))
            masks.write(source, shown, bands(predictor, image, source, settings, recorded), about[source.name])
            bar.advance()


def bands(
    predictor: "Predictor", image: np.ndarray, source: Source, settings: PredictSettings, recorded: dict[str, Any]
) -> "Bands":
    """The probabilities of ``image`` (H,W,B) u8 at its size; the network sees it resized as its dataset was."""
    import torch

    given = {name: value for name in RESIZING if (value := getattr(settings, name)) is not None}
    how = given or ({} if source.dataset is not None else recorded)
    height, width = image.shape[:2]
    seen = target_size(height, width, **{name: how[name] for name in RESIZING if name in how})
    resized = resize_image(image, *seen, recorded.get("filter", "bilinear"))
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None]

    def predict(window: torch.Tensor) -> torch.Tensor:
        return predictor.probabilities(window, settings.flip, settings.scales)

    found = probability_bands(predict, pixels, settings.window, settings.overlap)
    return resized_bands(found, seen, (height, width))
