"""The header of each artifact: its kind, its inputs and how it was made."""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

SCHEMA_VERSION = "1.2"  # "major.minor": readers reject a newer major version
RECORDED_PACKAGES = (
    "alseg", "torch", "timm", "segmentation-models-pytorch", "numpy", "scipy", "h5py", "pillow", "scikit-learn",
    "opencv-contrib-python-headless",
)  # fmt: skip


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


@dataclass(frozen=True)
class InputRef:
    """An input as recorded in the output: its path relative to the output's folder, and its digest."""

    file: str
    digest: str

    def path(self, artifact: Path) -> Path:
        """Where the input lies from ``artifact``, which recorded it; links to the artifact are followed."""
        folder = Path(os.path.realpath(artifact)).parent if artifact.is_symlink() else artifact.parent
        return folder / self.file


@dataclass(frozen=True)
class Header:
    """The root attributes of an artifact (design: artifact contract).

    ``digest`` identifies the content: the arrays with their names, types and shapes, and ``attributes``.
    ``settings`` and ``inputs`` record how it was made and decide whether it is up to date.
    """

    kind: str
    stage: str
    settings: dict[str, Any]
    inputs: dict[str, InputRef]
    seed: int
    digest: str = ""
    counts: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    schema_version: str = SCHEMA_VERSION
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def pruned(self) -> list[str]:
        """The folders of arrays that were removed to free space; see `stages.artifacts.pruned`."""
        return list(self.attributes.get("pruned", []))

    def lacks(self, path: str) -> bool:
        """Whether the array at ``path`` was among those removed."""
        return any(path == folder or path.startswith(f"{folder}/") for folder in self.pruned)

    def pruned_fault(self, path: Path) -> str:
        """What to say when removed content of the artifact in ``path`` is read."""
        return (
            f"{path} was pruned: its content was removed to free space, and only its header is left. Run "
            f"`alseg {self.stage}` to it again with --force, or remove it and run make or `alseg next` again."
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Header":
        inputs = {role: InputRef(**ref) for role, ref in values["inputs"].items()}
        return cls(**{**values, "inputs": inputs})


@cache
def recorded_versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect results."""
    versions = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def content_digest(
    kind: str, attributes: Mapping[str, Any], arrays: Mapping[str, tuple[str, tuple[int, ...], str]]
) -> str:
    """Digest of an artifact's content.

    ``arrays`` maps each array's path to (dtype, shape, SHA-256 of its bytes).
    """
    listing = [[path, dtype, list(shape), checksum] for path, (dtype, shape, checksum) in sorted(arrays.items())]
    return digest_of([kind, SCHEMA_VERSION.split(".")[0], attributes, listing])
