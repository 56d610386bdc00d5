"""Resume checkpoints in `<output>.work/`: the last two, each whole or absent, loaded without executing code."""

import hashlib
import io
import shutil
from pathlib import Path
from typing import Any

import torch

from stages.artifacts.publish import publish_bytes, work_folder
from stages.runtime.console import say

KEEP = 2
CHECKSUM_BYTES = hashlib.sha256().digest_size  # at the end of the file, over all before


class Checkpoints:
    """The checkpoints of one training; file names contain the request's key, so that others are never loaded."""

    def __init__(self, output: Path, key: str):
        self.folder = work_folder(output)
        self.key = key

    def paths(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob(f"step-*-{self.key[:16]}.pt"))

    def remove_others(self) -> None:
        """Removes the files of other requests and of dead processes."""
        if self.folder.is_dir():
            for path in set(self.folder.iterdir()) - set(self.paths()):
                path.unlink(missing_ok=True)

    def save(self, step: int, state: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save({"key": self.key, "state": state}, buffer)
        buffer.write(hashlib.sha256(buffer.getbuffer()).digest())
        saved = self.folder / f"step-{step:09d}-{self.key[:16]}.pt"
        publish_bytes(saved, buffer.getbuffer())
        whole = [path for path in self.paths() if path <= saved]  # a later one is damaged, or training would be there
        for other in set(self.paths()) - set(whole[-KEEP:]):
            other.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """The newest state of this request that matches its checksum, on the CPU.

        A damaged checkpoint only costs the steps since the one before.
        """
        for path in reversed(self.paths()):
            try:
                content = path.read_bytes()
                body, checksum = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
                if hashlib.sha256(body).digest() != checksum:
                    raise ValueError("checksum")
                saved = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
            except Exception:  # decoders raise anything
                say(f"{path} is damaged; training the steps since the checkpoint before again")
                continue
            if saved["key"] == self.key:
                return saved["state"]
        return None

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
