"""Exact labels of images and regions: painted on the page or uploaded, on disk until the ledger contains them."""

import contextlib
import hashlib
import re
import tempfile
import threading
from collections.abc import Collection
from pathlib import Path

import numpy as np

from stages.answering.answer import Answer
from stages.answering.browser.refused import Refused
from stages.answering.exchange.indexed_png import mode_and_size, values_in
from stages.answering.exchange.painted import require_size
from stages.answering.exchange.values import OPEN, UNPAINTED
from stages.answering.questions import Questions
from stages.artifacts.publish import make_folder, publish_bytes
from stages.datasets.encode import FAST, png_bytes
from stages.images.image_files import image_file
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput

MOST_MASK_BYTES = 1 << 26  # of an uploaded file
MOST_NAMED = 6  # classes
UPLOAD = "upload-"  # begins the name of a file that is being looked at
KEPT = re.compile(rf"[0-9]+-[0-9a-f]{{64}}\.png|{UPLOAD}.*|\..*\.partial")  # and not files of anybody else


class MaskFiles:
    """The masks in a folder: class indices as PNG, named after their query and their digest."""

    def __init__(self, folder: Path, questions: Questions):
        self.folder, self.questions = folder, questions
        self.lock = threading.Lock()  # one upload at a time

    def path(self, query: int, digest: str) -> Path:
        return self.folder / f"{query}-{digest}.png"

    def take(self, query: int, content: bytes) -> tuple[str, str]:
        """Stores the mask in the PNG file ``content``; returns its digest and its classes in words.

        The file is read as `import-answers` reads PNG: pixels are class numbers or class colours; values that the
        dataset ignores and unpainted pixels are void. Refused if it is not a finished mask of the query's image. Of a
        region only its own pixels count, and it may be all void.
        """
        questions, classes, data = self.questions, self.questions.classes, self.questions.data
        image, size = questions.image(query), questions.painted_size(query)
        make_folder(self.folder)
        with self.lock, tempfile.NamedTemporaryFile(dir=self.folder, prefix=UPLOAD) as upload:
            upload.write(content)
            upload.flush()
            file = Path(upload.name)
            try:
                require_size(mode_and_size(file)[1], size, image, False)
                seen = values_in(file, classes, data.palette, data.ignored, None)
            except BadInput as error:
                raise Refused(422, str(error).replace(str(file), "The file")) from None
        if (seen == OPEN).any():
            raise Refused(422, f"The file contains open pixels (value {OPEN}). Paint them, then choose the file again.")
        if questions.regions is None and not (seen < len(classes)).any():
            raise Refused(422, "The file contains no class. Choose the finished mask of this image.")
        mask = np.where((seen < len(classes)) | (seen == UNPAINTED), seen, np.uint8(VOID))
        return self.keep(query, mask), class_shares(mask, classes)

    def keep(self, query: int, mask: np.ndarray) -> str:
        """Keeps a mask (H,W) u8, 255 = void, 252 = not painted yet; returns its digest."""
        digest = hashlib.sha256(mask.tobytes()).hexdigest()
        make_folder(self.folder)
        with self.lock:
            publish_bytes(self.path(query, digest), png_bytes(mask, level=FAST))
        return digest

    def draft(self, query: int) -> str:
        """The digest of the mask that was stored last for a query; empty if there is none."""
        found = [path for path in self.folder.glob(f"{query}-*.png") if KEPT.fullmatch(path.name)]
        newest = max(found, key=lambda path: path.stat().st_mtime_ns, default=None)
        return "" if newest is None else newest.stem.partition("-")[2]

    def has(self, query: int, digest: str) -> bool:
        return self.path(query, digest).is_file()

    def read(self, query: int, digest: str) -> np.ndarray:
        """(H,W) u8 classes, 255 = void or not painted; BadInput if the file is missing or has changed."""
        mask = self.read_begun(query, digest)
        return np.where(mask == UNPAINTED, np.uint8(VOID), mask)

    def read_begun(self, query: int, digest: str) -> np.ndarray:
        """The same with 252 for pixels that are not painted yet."""
        path = self.path(query, digest)
        try:
            with image_file(path, ("PNG",)) as picture:
                mask = np.array(picture)
        except BadInput:
            mask = np.zeros((0, 0), dtype=np.uint8)
        if hashlib.sha256(mask.tobytes()).hexdigest() != digest:
            raise BadInput(
                f"{path} is missing or damaged. Remove the line of query {query} from the journal beside it."
            )
        return mask

    def require(self, answers: Collection[Answer]) -> None:
        """BadInput unless the masks of all ``answers`` that have one are intact."""
        for answer in answers:
            if answer.mask:
                self.read(answer.query, answer.mask)

    def remove_all_but(self, answers: Collection[Answer], query: int | None = None, drafts_too: bool = True) -> None:
        """Removes the masks, of one query or of all, that none of the ``answers`` refers to.

        Unless ``drafts_too``, those of queries without an answer stay.
        """
        referred = {self.path(answer.query, answer.mask) for answer in answers}
        answered = {str(answer.query) for answer in answers}
        for path in self.folder.glob("*" if query is None else f"{query}-*"):
            number, _, digest = path.stem.partition("-")
            is_draft = digest != "" and number.isdecimal() and number not in answered
            if path not in referred and KEPT.fullmatch(path.name) and (drafts_too or not is_draft):
                path.unlink(missing_ok=True)
        if query is None:
            with contextlib.suppress(OSError):
                self.folder.rmdir()


def class_shares(mask: np.ndarray, classes: list[str]) -> str:
    """The largest classes of a mask (H,W) u8 and their shares, in words."""
    counts = np.bincount(np.where(mask == UNPAINTED, VOID, mask).ravel(), minlength=256)
    names = {**dict(enumerate(classes)), VOID: "void"}
    order = [value for value in np.argsort(-counts, kind="stable").tolist() if counts[value]]
    percent = 100 * counts / mask.size
    shown = [
        f"{names[value]} {percent[value]:.{0 if percent[value] >= 9.95 else 1}f}\N{NO-BREAK SPACE}%"
        for value in order[:MOST_NAMED]
    ]
    return ", ".join(shown) + (f" and {len(order) - MOST_NAMED} more" if len(order) > MOST_NAMED else "")
