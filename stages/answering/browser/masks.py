"""Finished masks of whole images that people bring to the page, kept on the disk until the ledger has them."""

import hashlib
import shutil
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from stages.answering.exchange.indexed_png import mode_and_size, values_in
from stages.answering.exchange.painted import require_size
from stages.answering.exchange.values import OPEN
from stages.answering.given import Given, Refused
from stages.answering.questions import Questions
from stages.artifacts.publish import make_folder, publish_bytes
from stages.datasets.encode import FAST, png_bytes
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput

MOST_MASK_BYTES = 1 << 26  # of an uploaded file
MOST_TOLD = 6  # classes
OPACITY = 170  # of 255, of the colours over the image


class MaskFiles:
    """The masks in a folder: class indices as PNG, named after their query and what they hold."""

    def __init__(self, folder: Path, questions: Questions):
        self.folder, self.questions = folder, questions
        self.lock = threading.Lock()  # one upload at a time

    def path(self, query: int, digest: str) -> Path:
        return self.folder / f"{query}-{digest}.png"

    def take(self, query: int, content: bytes) -> tuple[str, str]:
        """Keeps the mask in the PNG file ``content`` and returns its digest, and what it shows in words.

        It is read as `import-answers` reads PNG: numbers of classes or their colours, what is not painted being void.
        Refused where it is no finished mask of the query's image.
        """
        image, classes = self.questions.image(query), self.questions.classes
        make_folder(self.folder)
        with self.lock, tempfile.NamedTemporaryFile(dir=self.folder) as upload:
            upload.write(content)
            upload.flush()
            file = Path(upload.name)
            try:
                require_size(mode_and_size(file)[1], image, self.questions, False)
                seen = values_in(file, classes, self.questions.data.palette, None)
            except BadInput as error:
                raise Refused(422, str(error).replace(str(file), "The file")) from None
        if (seen == OPEN).any():
            raise Refused(
                422, f"The file has pixels that are still open (value {OPEN}); paint them, then choose it again."
            )
        if not (seen < len(classes)).any():
            raise Refused(422, "The file shows no class at all; choose the finished mask of this image.")
        mask = np.where(seen < len(classes), seen, np.uint8(VOID))
        digest = hashlib.sha256(mask.tobytes()).hexdigest()
        with self.lock:
            publish_bytes(self.path(query, digest), png_bytes(mask, level=FAST))
        return digest, shares(mask, classes)

    def has(self, query: int, digest: str) -> bool:
        return self.path(query, digest).is_file()

    def read(self, query: int, digest: str) -> np.ndarray:
        """(H,W) u8 classes, 255 = void; BadInput where the file is gone or another one."""
        path = self.path(query, digest)
        try:
            with Image.open(path) as picture:
                mask = np.array(picture)
        except Exception:  # whatever decoders raise
            mask = np.zeros((0, 0), dtype=np.uint8)
        if hashlib.sha256(mask.tobytes()).hexdigest() != digest:
            raise BadInput(f"{path} is damaged or gone; remove the line of query {query} from the journal beside it.")
        return mask

    def require(self, given: Iterable[Given]) -> None:
        """BadInput unless all masks that the answers ``given`` name are whole."""
        for answer in given:
            self.read(answer.query, answer.mask)

    def overlay(self, query: int, digest: str) -> bytes:
        """The mask as PNG in the colours of the classes, to lie over the image; void is clear."""
        mask, palette = self.read(query, digest), self.questions.data.palette
        colours = np.zeros((256, 4), dtype=np.uint8)
        colours[: len(palette), :3], colours[: len(palette), 3] = palette, OPACITY
        return png_bytes(colours[mask], level=FAST)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def shares(mask: np.ndarray, classes: list[str]) -> str:
    """What covers how much of a mask (H,W) u8, most first and not all of it."""
    counts = np.bincount(mask.ravel(), minlength=256)
    names = {**dict(enumerate(classes)), VOID: "void"}
    order = [value for value in np.argsort(-counts, kind="stable").tolist() if counts[value]]
    percent = 100 * counts / mask.size
    told = [
        f"{names[value]} {percent[value]:.{0 if percent[value] >= 9.95 else 1}f}\N{NO-BREAK SPACE}%"
        for value in order[:MOST_TOLD]
    ]
    return ", ".join(told) + (f" and {len(order) - MOST_TOLD} more" if len(order) > MOST_TOLD else "")
