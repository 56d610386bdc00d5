"""Resume checkpoints in `<output>.work/`: the last two, each whole or absent, loaded without executing code."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from stages.artifacts.publish import make_folder, publish_bytes, work_folder
from stages.artifacts.resume import remove_other_resume_files, remove_resume_files, resume_path
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
        return sorted(self.folder.glob(resume_path(Path(), "step-*", self.key, ".pt").name))

    def remove_others(self) -> None:
        """Removes the files of dead processes, and of other requests but for those used last."""
        remove_other_resume_files(self.folder, self.key)

    def save(self, step: int, state: dict[str, Any]) -> None:
        make_folder(self.folder)
        buffer = io.BytesIO()
        torch.save({"key": self.key, "state": state}, buffer)
        buffer.write(hashlib.sha256(buffer.getbuffer()).digest())
        saved = resume_path(self.folder, f"step-{step:09d}", self.key, ".pt")
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
        remove_resume_files(self.folder, self.key)
