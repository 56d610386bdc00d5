"""Labels that exist already, as rows of a ledger: points, shapes, partial and whole masks of any program."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from stages.answering.answer import name_fault
from stages.answering.exchange.label_masks import MaskReader, labelmap_of, require_class
from stages.answering.exchange.label_names import OMITTED, UNKNOWN, LabelNames
from stages.answering.exchange.label_tiles import drawings_of_tiles, masks_of_tiles, points_in_tiles, source_size
from stages.answering.exchange.points import MOST_BYTES, PointTable, read_points
from stages.artifacts.answers import ANSWERED, ANSWERED_VOID, Answers
from stages.artifacts.dataset import Dataset
from stages.artifacts.images_table import rows_by_image
from stages.datasets.image_names import first_image_of, image_of, is_image, known_names
from stages.datasets.originals import require_original
from stages.datasets.shapes import files as shape_files
from stages.datasets.shapes.drawing import Drawing, Point, Shape, painted, pixels_of
from stages.datasets.shapes.label_studio import label_studio_drawings, label_studio_table
from stages.pixels.grids import Size, map_on_grid
from stages.pixels.resize import resize_mask
from stages.pixels.runs import Areas, areas_of
from stages.pixels.void import VOID
from stages.runtime.console import Progress
from stages.runtime.errors import BadInput
from stages.runtime.limited import read_limited
from stages.settings.common import Overlap

TABLES = (".csv", ".tsv", ".txt")
MASKS = (".png", ".tif", ".tiff", ".bmp", ".gif")
MOST_FAULTS = 20


@dataclass(frozen=True)
class LabelFiles:
    """The files of each kind."""

    tables: list[Path]
    shapes: list[Path]
    masks: list[Path]

    @property
    def every(self) -> list[Path]:
        return [*self.tables, *self.shapes, *self.masks]


def label_files(given: Sequence[Path]) -> LabelFiles:
    """The files ``given`` and those in the folders ``given``, by their endings.

    Beside shapes or tables, image files in a folder are photographs; otherwise they are masks. BadInput for what does
    not exist, folders without labels, and other endings.
    """
    found = LabelFiles([], [], [])
    places = dict.fromkeys(TABLES, found.tables) | dict.fromkeys(shape_files.ENDINGS, found.shapes)
    places |= dict.fromkeys(MASKS, found.masks)
    for path in given:
        inside = [path]
        if path.is_dir():
            inside = shape_files.files_below(path, (".csv", ".tsv", *shape_files.ENDINGS))
            inside = inside or shape_files.files_below(path, MASKS)
        elif not path.is_file():
            raise BadInput(f"{path} does not exist. Pass the files or folders with the labels.")
        if not inside or inside[0].suffix.lower() not in places:
            raise BadInput(
                f"{path} contains no labels. Pass tables ({', '.join(TABLES)}), shapes "
                f"({', '.join(shape_files.ENDINGS)}), masks ({', '.join(MASKS)}), or folders of them."
            )
        for file in inside:
            places[file.suffix.lower()].append(file)
    return found


@dataclass
class Faults:
    """What is wrong, one sentence each, and what was left out."""

    sentences: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def collect(self, read: Callable[[], Any]) -> Any:
        """What ``read`` returns; None if it raises BadInput, whose sentences are kept."""
        try:
            return read()
        except BadInput as error:
            self.sentences += error.faults
            return None

    def require_none(self) -> None:
        """BadInput with the first sentences."""
        rest = len(self.sentences) - MOST_FAULTS
        if self.sentences:
            more = [f"{rest} more faults of these kinds."] if rest > 0 else []
            raise BadInput(self.sentences[:MOST_FAULTS] + more)


@dataclass(frozen=True)
class Labels:
    """New rows of a ledger, the annotators that they refer to, and exact labels (H,W) u8 by image."""

    answers: Answers
    annotators: list[str]
    masks: dict[str, np.ndarray]
    counts: dict[str, int]

    @property
    def mean_area(self) -> float:
        """Mean pixels of a shape or partial mask; 0 without any."""
        sizes = self.answers.areas.sizes()[self.answers.of_regions]
        return float(sizes.mean()) if len(sizes) else 0.0


@dataclass(frozen=True)
class Gathering:
    """Where labels go: the images ``ids`` of ``data`` on ``grids``, and the sizes of their files.

    ``file_size`` gives (height, width) of the file of an image for coordinates that come without one; ``where`` in its
    message. ``cost``: clicks and seconds of a label.
    """

    data: Dataset
    ids: Sequence[str]
    grids: Mapping[str, Size]
    names: LabelNames
    file_size: Callable[[str, str], Size]
    overlap: Overlap
    round: int
    cost: tuple[float, float]
    faults: Faults = field(default_factory=Faults)

    def image(self, names: Iterable[str], where: str, count: int) -> str | None:
        """The image that one of ``names`` belongs to; None, and counted or a fault, if it is not to be labelled."""
        image = self.faults.collect(partial(first_image_of, names, self.known, where))
        return image if image is not None and self.takes(image, count) else None

    def takes(self, image: str, count: int) -> bool:
        """Whether ``image`` is to be labelled; otherwise its ``count`` labels are counted."""
        if image in self.grids:
            return True
        self.faults.left_out[f"labels of images in split {self.data.splits[image]!r}"] += count
        return False

    def source(self, names: Iterable[str]) -> str | None:
        """The file that one of ``names`` is, if tiles were cut from it, and no tile is called so."""
        if self.data.tiling is None or any(is_image(name, self.known) for name in names):
            return None
        sources = known_names(self.data.tiling.ids)
        return next((image_of(name, sources, name) for name in names if is_image(name, sources)), None)

    @cached_property
    def known(self) -> dict[str, str | None]:
        return known_names(self.data.all_ids)

    @cached_property
    def places(self) -> dict[str, int]:
        return {image: place for place, image in enumerate(self.ids)}

    def rows(self, image: str, count: int, **columns: Any) -> Answers:
        """``count`` rows about ``image`` with these columns; a label of void is an answer that names no class."""
        if "label" in columns:
            columns["state"] = np.where(columns["label"] == VOID, ANSWERED_VOID, ANSWERED)
        clicks, seconds = self.cost
        about = {"image": self.places[image], "round": self.round, "clicks": clicks, "seconds": seconds}
        return Answers.of(count, len(self.data.classes), **about, **columns)


def read_labels(files: LabelFiles, gathering: Gathering, unlabelled: str | None, annotator: str) -> Labels:
    """All labels in ``files``, image by image; BadInput with the first faults of all of them."""
    faults = gathering.faults
    tables: list[PointTable] = []
    drawings: list[Drawing] = []
    for path in files.tables:
        found = faults.collect(partial(points_or_drawings, path))
        if isinstance(found, PointTable):
            tables.append(found)
        else:
            drawings += found or []
    for path in files.shapes:
        drawings += faults.collect(partial(shape_files.read_drawings, path)) or []
    people = [annotator]
    parts: dict[str, list[Answers]] = defaultdict(list)
    counts: Counter[str] = Counter()
    for table in tables:
        add_points(table, gathering, people, parts, counts)
    by_image: dict[str, list[tuple[Drawing, Shape]]] = defaultdict(list)
    for drawing in drawings:
        source = gathering.source(drawing.names)
        if source is not None:
            tiles = faults.collect(partial(drawings_of_tiles, gathering.data, source, drawing)) or []
            listed = [(image, part) for image, part in tiles if gathering.takes(image, len(part.shapes))]
        else:
            image = gathering.image(drawing.names, drawing.where, len(drawing.shapes))
            listed = [] if image is None else [(image, drawing)]
        for image, part in listed:
            by_image[image] += [(part, shape) for shape in part.shapes]
    masks: dict[str, np.ndarray] = {}
    areas_from = {image: listed[0][0].where for image, listed in by_image.items()}
    reader = MaskReader(gathering.names, gathering.data.palette, gathering.data.ignored, unlabelled)
    with Progress("reading labels", len(by_image) + len(files.masks)) as bar:
        for image, listed in by_image.items():
            found = faults.collect(partial(drawn, listed, image, gathering, counts))
            if found is not None:
                rows, exact = found
                parts[image].append(rows)
                if (exact != VOID).any():
                    masks[image] = exact
            bar.advance()
        for path in files.masks:
            for image, values in faults.collect(partial(mask_parts, path, gathering, reader)) or []:
                if image in areas_from:
                    both = f"{path} and {areas_from[image]} both label areas of image {image}"
                    faults.sentences.append(f"{both}. Keep one of them.")
                areas_from[image] = str(path)
                found = masked(values, image, gathering, counts)
                if found is not None:
                    rows, masks[image] = found
                    parts[image].append(rows)
            bar.advance()
    faults.sentences += gathering.names.faults("labels or pixels")
    if wrong := next(filter(None, map(name_fault, people)), None):
        faults.sentences.append(f"annotator: {wrong}")
    for image, listed_rows in parts.items():
        if len(listed_rows) > 1:
            faults.sentences += contradictions_between_files(image, listed_rows, gathering.data.classes)
    faults.require_none()
    ordered = [rows for image in gathering.ids for rows in parts.get(image, [])]
    if not ordered:
        raise BadInput(f"{files.every[0]} labels no image of this split. Check --split, --map and --others.")
    rows = numbered(ordered)
    used, annotators = np.unique(rows.annotator, return_inverse=True)
    return Labels(replace(rows, annotator=annotators), [people[place] for place in used], masks, dict(counts))


def points_or_drawings(path: Path) -> PointTable | list[Drawing]:
    """The points in a table, or the shapes in one of Label Studio."""
    rows = label_studio_table(path, read_limited(path, MOST_BYTES))
    return read_points(path) if rows is None else label_studio_drawings(path, rows)


def numbered(parts: Sequence[Answers]) -> Answers:
    """All rows; shapes and partial masks, marked by region 0, get a number each."""
    rows = parts[0].followed_by(*parts[1:])
    np.copyto(rows.region, np.cumsum(rows.of_regions) - 1, where=rows.of_regions, casting="same_kind")
    return rows


def add_points(
    table: PointTable, gathering: Gathering, people: list[str], parts: dict[str, list[Answers]], counts: Counter[str]
) -> None:
    """Adds the points of a table to ``parts``, each once, and their annotators to ``people``.

    Of points that fall into the same pixel of the grid, the first one counts.
    """
    faults = gathering.faults
    uses = np.bincount(table.label, minlength=len(table.labels)).tolist()
    of_label = [gathering.names.value(name, count) for name, count in zip(table.labels, uses, strict=True)]
    value = np.array(of_label, dtype=np.int64)[table.label]
    for name in table.annotators:
        if name and name not in people:
            people.append(name)
    person = np.array([people.index(name) if name else 0 for name in table.annotators])[table.annotator]
    for name, rows in rows_by_image(table.image, table.images).items():
        faults.sentences += contradictions(table, rows, name)
        for image, chosen, y, x, size in faults.collect(partial(located, table, name, rows, gathering)) or []:
            grid = gathering.grids[image]
            kept = np.flatnonzero((value[chosen] != OMITTED) & (value[chosen] != UNKNOWN))
            below = (np.stack([y[kept], x[kept]], 1) * grid // size).astype(np.int64)
            _, first = np.unique(below[:, 0] * grid[1] + below[:, 1], return_index=True)
            first.sort()
            taken = chosen[kept][first]
            if len(taken):
                columns = {"label": value[taken], "annotator": person[taken]}
                parts[image].append(gathering.rows(image, len(taken), y=below[first, 0], x=below[first, 1], **columns))
            counts["points"] += len(taken)
            counts["points_in_one_pixel"] += len(kept) - len(taken)


def located(
    table: PointTable, name: str, rows: np.ndarray, gathering: Gathering
) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray, Size]]:
    """Each image that the points ``rows`` of what a table calls ``name`` are on, these rows, and where they are there.

    y and x (n,) f64 are in pixels of an image of that size. Points outside are faults.
    """
    source = gathering.source([name])
    image = gathering.image([name], str(table.path), len(rows)) if source is None else None
    if image is None and source is None:
        return []
    size = size_of_points(table, int(rows[0]), image, source, gathering)
    outside = (table.y < 0) | (table.x < 0) | (table.y >= size[0]) | (table.x >= size[1])
    gathering.faults.sentences += [
        f"{table.at(row)}: row {table.y[row]:g}, column {table.x[row]:g} is outside of image {image or source} "
        f"({size[1]}x{size[0]}). Correct or remove it."
        for row in rows[outside[rows]].tolist()
    ]
    rows = rows[~outside[rows]]
    y, x = table.y[rows], table.x[rows]
    if image is not None:
        return [(image, rows, y, x, size)]
    assert source is not None
    tiles = points_in_tiles(gathering.data, source, y, x)
    gathering.faults.left_out["points that are in no tile"] += len(rows) - sum(len(found) for _, found, *_ in tiles)
    return [(tile, rows[found], *where) for tile, found, *where in tiles if gathering.takes(tile, len(found))]


def size_of_points(table: PointTable, row: int, image: str | None, source: str | None, gathering: Gathering) -> Size:
    """(height, width) of the image, or of the source of tiles, that the points of a table are on."""
    said = None
    if np.isfinite(table.sizes[row]).all():
        said = int(table.sizes[row][0]), int(table.sizes[row][1])
    if source is not None:
        return source_size(gathering.data, source, said, table.at(row))
    assert image is not None
    if said is None:
        return gathering.file_size(image, str(table.path))
    require_original(gathering.data, image, said, table.at(row))
    return said


def contradictions(table: PointTable, rows: np.ndarray, image: str) -> list[str]:
    """A sentence for each place among ``rows`` of a table that has two labels."""
    order = rows[np.lexsort([table.label[rows], table.x[rows], table.y[rows]])]
    one, two = order[:-1], order[1:]
    same = (table.y[one] == table.y[two]) & (table.x[one] == table.x[two]) & (table.label[one] != table.label[two])
    return [
        f"{table.at(second)}: row {table.y[second]:g}, column {table.x[second]:g} of image {image} is "
        f"{table.labels[table.label[second]]}, but {table.labels[table.label[first]]} in line {table.line[first]}. "
        "Keep one of them."
        for first, second in zip(one[same].tolist(), two[same].tolist(), strict=True)
    ]


def contradictions_between_files(image: str, parts: Sequence[Answers], classes: Sequence[str]) -> list[str]:
    """A sentence for each pixel of an image with points of different labels in several files."""
    columns = [np.concatenate([getattr(part, name)[part.y >= 0] for part in parts]) for name in ("label", "x", "y")]
    label, x, y = (column[np.lexsort(columns)] for column in columns)
    differing = np.flatnonzero((y[1:] == y[:-1]) & (x[1:] == x[:-1]) & (label[1:] != label[:-1]))
    names = [*classes, *["void"] * (VOID + 1 - len(classes))]
    return [
        f"Image {image}: the pixel in row {y[row]}, column {x[row]} of the dataset is {names[label[row]]} in one file "
        f"and {names[label[row + 1]]} in another. Keep one of them."
        for row in differing.tolist()
    ]


def drawn(
    listed: Sequence[tuple[Drawing, Shape]], image: str, gathering: Gathering, counts: Counter[str]
) -> tuple[Answers, np.ndarray] | None:
    """The rows of the shapes on an image, and their exact labels (H,W) u8; None if none is left.

    Points become pixels, the others regions without the pixels that shapes above them cover.
    """
    grid, faults = gathering.grids[image], gathering.faults
    exact = np.full(grid, VOID, dtype=np.uint8)
    indices, values, points = [], [], []
    for drawing, shape in listed:
        value = gathering.names.value(shape.label)
        if value in (OMITTED, UNKNOWN):
            continue
        if drawing.size is None:
            size = gathering.file_size(image, drawing.where)
        else:
            size = drawing.size
            require_original(gathering.data, image, size, drawing.where)
        if not isinstance(shape.form, Point):
            indices.append(pixels_of(shape.form, size, grid))
            values.append(value)
        elif 0 <= shape.form.x < size[1] and 0 <= shape.form.y < size[0]:
            points.append((int(pixels_of(shape.form, size, grid)[0]), value))
        else:
            faults.sentences.append(
                f"{shape.where} is outside of image {image} ({size[1]}x{size[0]}). Correct or remove it."
            )
    above = painted(indices, grid, gathering.overlap)
    seen = np.unique(above[above >= 0])
    counts["shapes"] += len(seen)
    counts["shapes_without_pixels"] += len(indices) - len(seen)
    parts = []
    if points:
        places = dict(reversed(points))  # of several in one pixel, the first one counts
        y, x = np.divmod(np.array([*places]), grid[1])
        parts.append(gathering.rows(image, len(places), y=y, x=x, label=np.array([*places.values()])))
        counts["points"] += len(places)
        counts["points_in_one_pixel"] += len(points) - len(places)
    if len(seen):
        labels = np.array(values, dtype=np.int64)
        exact[above >= 0] = labels[above[above >= 0]]
        areas = areas_of(above, seen.astype(np.int32))
        parts.append(gathering.rows(image, len(seen), label=labels[seen], region=0, superpixels=0, areas=areas))
    return (numbered(parts), exact) if parts else None


def mask_parts(path: Path, gathering: Gathering, reader: MaskReader) -> list[tuple[str, np.ndarray]]:
    """Each image that a mask is of, and the values (H,W) i16 of its labels there, see `MaskReader`."""
    source = gathering.source([path.as_posix()])
    image = gathering.image([path.as_posix()], str(path), 1) if source is None else None
    if image is None and source is None:
        return []
    values = reader.read(path, labelmap_of(path))
    if (values == UNKNOWN).any():
        return []  # reported for all masks together
    if (values != OMITTED).any():
        require_class(path, values)
    if image is not None:
        require_original(gathering.data, image, (values.shape[0], values.shape[1]), str(path))
        return [(image, values)]
    assert source is not None
    tiles = masks_of_tiles(gathering.data, source, values, str(path))
    return [(tile, part) for tile, part in tiles if gathering.takes(tile, 1)]


def masked(
    values: np.ndarray, image: str, gathering: Gathering, counts: Counter[str]
) -> tuple[Answers, np.ndarray] | None:
    """The row of the mask of an image, and its exact labels (H,W) u8; None if nothing is labelled with a class.

    values (H,W) i16 of any size, see `MaskReader`. A mask that is labelled everywhere is that of the image, another one
    is a region of all labelled pixels.
    """
    values = map_on_grid(resize_mask(values, *gathering.data.sizes[image]), gathering.grids[image])
    labelled = values != OMITTED
    if not (labelled & (values != VOID)).any():
        return None
    if labelled.all():
        counts["masks"] += 1
        return gathering.rows(image, 1), values.astype(np.uint8)
    counts["partial_masks"] += 1
    areas: Areas = areas_of(np.where(labelled, 0, -1).astype(np.int32), np.zeros(1, dtype=np.int32))
    return (
        gathering.rows(image, 1, region=0, superpixels=0, areas=areas),
        np.where(labelled, values, VOID).astype(np.uint8),
    )
