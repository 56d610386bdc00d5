"""The annotations artifact: the ledger, all answers so far.

The rows of the previous ledger stay unchanged and in place; each round appends its rows in a new file.
`/answers/{image,y,x,region,superpixels,round,class,state,clicks,seconds,annotator,image_level}` (A,): a pixel (y, x), a
region (its global index in the file `superpixels`), or a whole image (-1 throughout). `class` is 255 if the answer
names none. If `image_level` is 1, `class` is a class of images (attribute `image_classes`), and no mask was drawn.
`/masks/<id>` (H,W) u8: exact labels of whole images or of regions labelled precisely, 255 = none. `/annotators/name`.
`/images/{id,height,width}`: the grid of y and x. With regions `/superpixels/{digest,method,mean_size}`, `/votes`
(A,C+1), and their pixels as runs over the row-major flat image, `/areas/{offsets,start,length}`, so no superpixels
file is needed to read the ledger. Shapes that people drew (`import-labels`) are regions of a file with method
`drawn`, numbered from 0, and exact labels. With class sets `/class_sets` (A,C+1) u8, void last; `class` is then set for
sets with one class. `/answers/purpose` (A,) u8 if it is not 0 throughout: 1 queried at random (control), 2 queried
again, 3 gold. Of answers to the same query the last one counts, unless it is "don't know"; an answer to a gold query
never does. `/answers/suggested` (A,) u8 if a model suggested answers on the page: the class that was shown, 255 = none.
"""

from functools import cached_property
from pathlib import Path

import numpy as np

from stages.artifacts.answers import (
    ANSWERED_VOID,
    COLUMNS,
    DRAWN,
    OPTIONAL,
    SKIPPED,
    STATES,
    Answers,
    Ledger,
    RegionFile,
    ledger_cost,
    stored_name,
)
from stages.artifacts.hdf5 import Artifact
from stages.artifacts.images_table import IMAGES, read_images, require_inside, rows_by_image
from stages.artifacts.purposes import AGAIN, GOLD, purpose_column
from stages.artifacts.structure import Array, Attribute
from stages.pixels.runs import Areas, empty_areas
from stages.pixels.void import VOID
from stages.settings.annotate_simulate import PresenceSettings

NO_ROWS = np.zeros(0, dtype=np.int64)


class Annotations(Artifact):
    """A ledger, open for reading."""

    kind = "annotations"
    holds = (
        Attribute("classes", list, extent="C"),
        Attribute("image_classes", list, extent="L", optional=True),
        *IMAGES,
        Array("annotators/name", ("S",), ("P",)),
        Array("answers/image", ("i",), ("A",), low=0, below="N"),
        *(Array(f"answers/{name}", ("i",), ("A",), low=-1) for name in ("y", "x", "region", "superpixels")),
        Array("answers/round", ("i",), ("A",), low=0),
        Array("answers/class", ("u1",), ("A",)),
        Array("answers/state", ("u1",), ("A",), below=len(STATES)),
        Array("answers/clicks", ("f",), ("A",), low=0),
        Array("answers/seconds", ("f",), ("A",), low=0),
        Array("answers/annotator", ("u1",), ("A",), below="P"),
        Array("answers/image_level", ("u1",), ("A",), below=2),
        purpose_column("answers/purpose", "A"),
        Array("answers/suggested", ("u1",), ("A",), below="C", void=True, optional=True),
        *(Array(f"superpixels/{name}", ("S",), ("F",), optional=True) for name in ("digest", "method")),
        Array("superpixels/mean_size", ("f",), ("F",), low=0, optional=True),
        Array("areas/start", ("i",), ("runs",), low=0, optional=True),
        Array("areas/length", ("i",), ("runs",), low=1, optional=True),
        Array("areas/offsets", ("i",), ("A+1",), offsets="runs", optional=True),
        Array("votes", ("i",), ("A", "C+1"), low=0, optional=True),
        Array("class_sets", ("u1",), ("A", "C+1"), below=2, optional=True),
        Array("masks/*", ("u1",), ("H", "W"), below="C", void=True),
    )

    def __init__(self, path: Path | str):
        super().__init__(path)
        self.ids, self.sizes = read_images(self)
        stored = [name for name in COLUMNS if name not in OPTIONAL or f"answers/{name}" in self]
        columns = {name: self.read(f"answers/{stored_name(name)}") for name in stored}
        for name in COLUMNS.keys() - columns.keys():
            dtype, default = COLUMNS[name]
            columns[name] = np.full(len(columns["image"]), default, dtype=dtype)
        self.annotators = self.strings("annotators/name")
        self.region_files: list[RegionFile] = []
        count, classes = len(columns["image"]), len(self.attributes["classes"])
        areas, votes = empty_areas(count), np.zeros((count, classes + 1), dtype=np.int32)
        sets = np.zeros((count, classes + 1), dtype=np.uint8)
        if "superpixels" in self:
            digests, methods = self.strings("superpixels/digest"), self.strings("superpixels/method")
            sizes = self.read("superpixels/mean_size").tolist()
            self.region_files = [RegionFile(*values) for values in zip(digests, methods, sizes, strict=True)]
            areas = Areas(*(self.read(f"areas/{name}") for name in ("offsets", "start", "length")))
            votes = self.read("votes")
        if "class_sets" in self:
            sets = self.read("class_sets")
        self.answers = Answers(**columns, areas=areas, votes=votes, class_sets=sets)
        self.require_answers()
        self.in_force = in_force(self.answers)
        valid = np.flatnonzero(self.in_force)
        self.rows = {image: valid[rows] for image, rows in rows_by_image(columns["image"][valid], self.ids).items()}

    def require_answers(self) -> None:
        """BadInput unless each answer is about a place in its image and names a class that there is."""
        answers = self.answers
        require_inside(self, "answers", answers.image, answers.y, answers.x)
        of_image = answers.image_level == 1
        limit = np.where(of_image, self.extents.get("L", self.extents["C"]), self.extents["C"])
        if ((answers.label >= limit) & (answers.label != VOID)).any():
            raise self.invalid("answers/class", "names a class that is not in the list of classes")
        if answers.superpixels.max(initial=-1) >= len(self.region_files):
            raise self.invalid("answers/superpixels", "names a file that is not in the list of region files")
        areas = answers.areas
        pixels = np.array([height * width for height, width in self.sizes.values()], dtype=np.int64)
        room = np.repeat(pixels[answers.image], np.diff(areas.offsets))
        if (areas.start.astype(np.int64) + areas.length > room).any():
            raise self.invalid("areas/start", "and areas/length lead out of the image")

    def ledger(self) -> Ledger:
        """The whole ledger, in memory."""
        masks = {image: self.read(f"masks/{image}") for image in self.exact_ids}
        return Ledger(self.ids, self.sizes, self.answers, self.annotators, masks, self.region_files)

    @property
    def next_round(self) -> int:
        return int(self.answers.round.max()) + 1 if len(self.answers) else 0

    @cached_property
    def exact_ids(self) -> list[str]:
        """Images with exact labels: full masks and precisely labelled regions."""
        return [image for image, _ in self.arrays("masks")] if "masks" in self else []

    @cached_property
    def empty_ids(self) -> set[str]:
        """Those of `exact_ids` whose exact labels are all void."""
        return {image for image in self.exact_ids if (self.read(f"masks/{image}") == VOID).all()}

    @cached_property
    def mask_ids(self) -> set[str]:
        """Images answered with a full mask."""
        return {self.ids[index] for index in np.unique(self.answers.image[self.answers.of_images])}

    @cached_property
    def image_rows(self) -> np.ndarray:
        """Row numbers of the answers that count and name classes of whole images, oldest first."""
        return np.flatnonzero((self.answers.image_level == 1) & self.in_force)

    @property
    def names_sets(self) -> bool:
        """Whether the answers about whole images name all classes in the image instead of one."""
        return bool(self.answers.class_sets[self.image_rows].any())

    @property
    def presence_share(self) -> float:
        """Smallest share of an image's pixels with which a class counted as present when answers were simulated."""
        return float(self.header.settings.get("presence_share", PresenceSettings.load({}).presence_share))

    @property
    def image_classes(self) -> list[str]:
        """The classes that answers about whole images name; the pixel classes if they name all in an image."""
        classes = self.attributes["classes"]
        return classes if self.names_sets else self.attributes.get("image_classes", classes)

    def rows_of(self, image: str) -> np.ndarray:
        """Row numbers of the answers about ``image`` that count, oldest first."""
        return self.rows.get(image, NO_ROWS)

    def queried_pixels(self, image: str) -> tuple[np.ndarray, np.ndarray]:
        """(y, x) of each pixel queried so far in ``image``, including void and skipped ones."""
        rows = self.rows_of(image)
        rows = rows[self.answers.y[rows] >= 0]
        return self.answers.y[rows], self.answers.x[rows]

    def queried_area(self, image: str) -> np.ndarray:
        """(H,W) bool: inside a region queried so far, whatever the answer."""
        covered = np.zeros(self.sizes.get(image, (0, 0)), dtype=bool)
        covered.ravel()[self.answers.areas.pixels(self.rows_of(image))[0]] = True
        return covered

    def exact_area(self, image: str) -> np.ndarray:
        """(H,W) bool: labelled pixel by pixel, in a mask, a drawn shape or as single pixels, whatever the label."""
        exact = np.full(self.sizes[image], image in self.mask_ids)
        if f"masks/{image}" in self:
            exact |= self.read(f"masks/{image}") != VOID
        rows = self.rows_of(image)
        exact.ravel()[self.answers.areas.pixels(rows[self.drawn[rows]])[0]] = True
        exact[self.queried_pixels(image)] = True
        return exact

    @cached_property
    def drawn(self) -> np.ndarray:
        """(A,) bool: about a shape that people drew, instead of a region that they were asked about."""
        files = np.array([file.method == DRAWN for file in self.region_files] + [False])  # -1: no region
        return files[self.answers.superpixels]

    @property
    def cut_files(self) -> list[RegionFile]:
        """The files of regions that were queried, without shapes that people drew."""
        return [file for file in self.region_files if file.method != DRAWN]

    def labelled_ids(self, void: int = VOID) -> list[str]:
        """Sorted ids of the images with at least one label; ``void`` as for `label_map`."""
        below = np.flatnonzero((self.answers.image_level == 0) & self.in_force)
        rows, _ = self.named(below, void)
        sets = self.answers.class_sets[:, :-1] if void == VOID else self.answers.class_sets
        labelled = np.unique(self.answers.image[np.union1d(rows, below[sets[below].any(1)])])
        exact = {*self.exact_ids} - (self.empty_ids if void == VOID else self.empty_ids - self.mask_ids)
        return sorted({self.ids[index] for index in labelled} | exact)

    def named(self, rows: np.ndarray, void: int = VOID) -> tuple[np.ndarray, np.ndarray]:
        """The ``rows`` (n,) whose answer is one class, and that class (m,) u8; void answers have class ``void``."""
        given = np.where(self.answers.state[rows] == ANSWERED_VOID, np.uint8(void), self.answers.label[rows])
        return rows[given != VOID], given[given != VOID]

    def label_map(self, image: str, void: int = VOID) -> np.ndarray:
        """(H,W) u8 labels of ``image`` on the ledger's grid, 255 = none.

        Later regions are painted over earlier ones, exact answers over all of them. Void answers erase nothing; if
        ``void`` is not 255, they are painted as that class.
        """
        rows = self.rows_of(image)
        regions, given = self.named(rows[self.answers.of_regions[rows]], void)
        index, owner = self.answers.areas.pixels(regions)
        labels = np.full(self.sizes[image], VOID, dtype=np.uint8)
        labels.ravel()[index] = given[owner]
        return self.painted_exactly(image, labels, void)

    def painted_exactly(self, image: str, labels: np.ndarray, void: int = VOID) -> np.ndarray:
        """Paints the exact answers about ``image`` over ``labels`` (H,W) u8, in place, and returns them."""
        if f"masks/{image}" in self:
            mask = self.read(f"masks/{image}")
            np.copyto(labels, mask, where=mask != VOID)
            if image in self.mask_ids:  # in other masks, 255 also marks what was not queried
                labels[mask == VOID] = void
        rows = self.rows_of(image)
        pixels, given = self.named(rows[self.answers.y[rows] >= 0], void)
        labels[self.answers.y[pixels], self.answers.x[pixels]] = given
        return labels

    def set_map(self, image: str) -> tuple[np.ndarray, np.ndarray]:
        """(H,W) i32 row of the class set at each pixel, -1 = none, and the sets (n,C+1) bool, void last.

        The sets are those of the regions of ``image`` for which classes were named.
        """
        rows = self.rows_of(image)
        rows = rows[self.answers.class_sets[rows].any(1) & (self.answers.image_level[rows] == 0)]
        index, owner = self.answers.areas.pixels(rows)
        places = np.full(self.sizes[image], -1, dtype=np.int32)
        places.ravel()[index] = owner
        return places, self.answers.class_sets[rows].astype(bool)

    def cost(self) -> dict[str, float]:
        return ledger_cost(self.answers)


def units_of(answers: Answers) -> np.ndarray:
    """(A,) i64: the same number for answers about the same pixel, region of the same file, or image."""
    places = (answers.image, answers.y, answers.x, answers.region, answers.superpixels, answers.image_level)
    return np.unique(np.stack(places, 1), axis=0, return_inverse=True)[1].reshape(-1)


def in_force(answers: Answers) -> np.ndarray:
    """(A,) bool: the answers that count, see the docstring of this module."""
    valid = answers.purpose != GOLD
    again = answers.purpose == AGAIN
    if again.any():
        unit, row = units_of(answers), np.arange(len(answers))
        given = again & (answers.state != SKIPPED)
        last = np.full(len(answers), -1)
        np.maximum.at(last, unit[given], row[given])
        valid &= (row >= last[unit]) & ~(again & ~given)
    return valid
