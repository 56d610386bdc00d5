"""A file of pretrained weights as an input of a stage."""

import hashlib
from pathlib import Path

from stages.artifacts.header import InputRef
from stages.artifacts.request import reference


def weights_ref(output: Path, weights: str) -> dict[str, InputRef]:
    """The reference to a weights file, under the role `weights`; if the file changes, the output becomes stale.

    Empty for the names ``imagenet`` and ``none``, and if there is no such file.
    """
    path = Path(weights)
    if weights in ("imagenet", "none") or not path.is_file():
        return {}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"weights": reference(output, path, digest)}
