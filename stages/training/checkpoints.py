"""Resume checkpoints in `<output>.work/`: the last two, each whole or absent, loaded without executing code."""

import io
from pathlib import Path
from typing import Any

import torch

from stages.artifacts.publish import make_folder, publish_bytes, work_folder
from stages.artifacts.resume import remove_other_resume_files, remove_resume_files, resume_path

KEEP = 2


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
        publish_bytes(resume_path(self.folder, f"step-{step:09d}", self.key, ".pt"), buffer.getbuffer())
        for old in self.paths()[:-KEEP]:
            old.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """The newest readable state of this request, on the CPU."""
        for path in reversed(self.paths()):
            try:
                content = torch.load(path, map_location="cpu", weights_only=True)
            except Exception:  # a damaged checkpoint only costs the steps since the previous one
                continue
            if content.get("key") == self.key:
                return content["state"]
        return None

    def remove(self) -> None:
        remove_resume_files(self.folder, self.key)
