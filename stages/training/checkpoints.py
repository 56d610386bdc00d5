"""Resume checkpoints in `<output>.work/`: the last two, each whole or absent, loaded without executing code."""

import io
import shutil
from pathlib import Path
from typing import Any

import torch

from stages.artifacts.publish import publish_bytes, work_folder

KEEP = 2


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
        publish_bytes(self.folder / f"step-{step:09d}-{self.key[:16]}.pt", buffer.getbuffer())
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
        shutil.rmtree(self.folder, ignore_errors=True)
