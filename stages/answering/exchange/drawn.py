"""Answers as shapes of other tools (COCO, CVAT, labelme, Label Studio): painted on the images of the queries."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from stages.answering.exchange.painted import Painting, Strokes
from stages.answering.exchange.values import value_of, values_of
from stages.datasets.image_names import first_image_of, known_names
from stages.datasets.shapes.drawing import Drawing, Form, Point, pixels_of
from stages.pixels.grids import Size
from stages.runtime.errors import BadInput


def read_drawn(
    path: Path, drawings: Sequence[Drawing], classes: Sequence[str], sizes: Mapping[str, Size]
) -> dict[str, Painting]:
    """Image id -> its shapes, later ones on top of earlier ones; images without shapes are left out.

    ``sizes`` are those of the images, for drawings that do not say theirs. BadInput for images that are not among them,
    and for labels that are not classes.
    """
    values, known = values_of(classes), known_names(sizes)
    labels = dict.fromkeys(shape.label for drawing in drawings for shape in drawing.shapes)
    meaning = {label: value_of(label, values) for label in labels}
    if unknown := sorted(label for label, value in meaning.items() if value is None):
        wrong = ", ".join(map(repr, unknown))
        raise BadInput(f"{path} contains unknown categories ({wrong}). Rename them to one of {', '.join(values)}.")
    found: dict[str, Painting] = {}
    for drawing in drawings:
        if not drawing.shapes:
            continue
        image = first_image_of(drawing.names, known, str(path))
        if image in found:
            raise BadInput(f"{path} contains image {image} twice. Keep one of them.")
        size = drawing.size or sizes[image]
        forms = [shape.form for shape in drawing.shapes]
        for shape in drawing.shapes:
            if isinstance(shape.form, Point) and not (0 <= shape.form.x < size[1] and 0 <= shape.form.y < size[0]):
                raise BadInput(f"{shape.where} is outside of image {image}. Move or remove it.")
        painted = np.array([meaning[shape.label] for shape in drawing.shapes], dtype=np.uint8)
        found[image] = Painting(size, partial(strokes_of, forms, size, painted))
    return found


def strokes_of(forms: Sequence[Form], size: Size, values: np.ndarray) -> Strokes:
    """The ``forms`` on an image of ``size``, painted with values (n,) u8."""
    indices = [pixels_of(form, size, size) for form in forms]
    return Strokes(size, np.concatenate(indices), np.repeat(values, [len(index) for index in indices]))
