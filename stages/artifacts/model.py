"""The model artifact: one safetensors file with the last weights and, if there was validation, the best.

Tensors are called ``last.<parameter>`` and ``best.<parameter>``. A discriminator that was trained with the network is
``discriminator.<parameter>`` (its last weights). The metadata entry ``alseg`` contains the header as JSON. Its
attributes name the network, the classes and the input normalisation, so no later stage needs an option, and
``oracle_privilege`` if masks that nobody would have chose the weights.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import check_schema
from stages.artifacts.header import Header, canonical, content_digest, digest_of
from stages.artifacts.publish import publish_together
from stages.artifacts.structure import Attribute, bands_fault
from stages.runtime.errors import BadInput

if TYPE_CHECKING:
    import torch

HOLDS = (
    Attribute("network", dict),
    Attribute("classes", list),
    Attribute("outputs", int, optional=True),
    Attribute("mean", tuple),
    Attribute("std", tuple, above=0),
    Attribute("best_epoch", int, optional=True),
)

FOREIGN = (".pth", ".pt", ".bin", ".tar", ".ckpt", ".npz", ".index")
"""Endings of files in which other code stores weights."""

IMPORT = "Import its weights first: alseg import-model DATASET {} -o model.safetensors."


def read_model_header(path: Path) -> Header:
    """The header of a model file, read without torch; BadInput if the file is not a model, damaged or too new."""
    if not path.is_file():
        raise BadInput(f"There is no file {path}. Run `alseg train` first.")
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        if path.suffix in FOREIGN:
            raise BadInput(f"{path} is not an alseg model. {IMPORT.format(path)}") from error
        raise BadInput(f"{path} is not a readable safetensors file (truncated or damaged). Train it again.") from error
    if "alseg" not in metadata:
        raise BadInput(f"{path} is a safetensors file but not an alseg model. {IMPORT.format(path)}")
    try:
        values = json.loads(metadata["alseg"])
        if metadata.get("header_sha256") != digest_of(values):
            raise ValueError("header checksum")
        header = Header.from_json(values)
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{path} is damaged: its header does not match. Train it again.") from error
    check_schema(path, header)
    faults = {held.name: held.fault(header.attributes) for held in HOLDS}
    faults["mean"] = faults["mean"] or (None if faults["std"] else bands_fault(header.attributes))
    for name, fault in faults.items():
        if fault is not None:
            raise BadInput(f"{path} is not a valid model file: attribute {name} {fault}. Train it again.")
    classes = len(header.attributes["classes"])
    if header.attributes.get("outputs", classes) not in (classes, classes + 1):  # the other is void
        raise BadInput(f"{path} is not a valid model file: attribute outputs does not fit the classes. Train it again.")
    return header


class Model:
    """A trained network on disk."""

    kind = "model"

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.header = read_model_header(self.path)

    @property
    def digest(self) -> str:
        return self.header.digest

    @property
    def attributes(self) -> dict[str, Any]:
        return self.header.attributes

    @property
    def outputs(self) -> int:
        """Output channels of the network: its classes, then void if it learned void as a class."""
        return self.attributes.get("outputs", len(self.attributes["classes"]))

    @property
    def has_support(self) -> bool:
        """Whether its network has support heads: side classifiers, their mixing, predicted lossiness."""
        return self.attributes.get("support", False)

    @property
    def has_discriminator(self) -> bool:
        """Whether a discriminator was trained beside the network."""
        return self.attributes.get("discriminator", False)

    @property
    def of_images(self) -> bool:
        """Whether the model predicts classes of whole images."""
        return self.attributes.get("of_images", False)

    @property
    def of_sets(self) -> bool | None:
        """Whether it was trained to name all classes of an image instead of one; None if not recorded."""
        return self.attributes.get("of_sets")

    @property
    def bands(self) -> int:
        """How many bands the images have that it predicts."""
        return len(self.attributes["mean"])

    @property
    def reading(self) -> dict[str, Any]:
        """How files become such images, as JSON values (`stages.images.reading`); empty: as viewers show them."""
        return self.attributes.get("reading", {})

    @property
    def knows_void(self) -> bool:
        return self.outputs > len(self.attributes["classes"])

    def checkpoints(self) -> list[str]:
        """``["last"]``, or ``["last", "best"]`` if there was validation."""
        return ["last", "best"] if self.attributes["best_epoch"] else ["last"]

    def require_checkpoint(self, checkpoint: str) -> None:
        """BadInput if the file has no such weights."""
        if checkpoint not in self.checkpoints():
            raise BadInput(
                f"{self.path} has no {checkpoint} weights, which only training with validation writes. Use last."
            )

    def weights(self, checkpoint: str) -> "dict[str, torch.Tensor]":
        """The state dict of ``checkpoint`` (last or best) on the CPU; BadInput when absent or damaged."""
        self.require_checkpoint(checkpoint)
        return self.part(checkpoint)

    def part(self, prefix: str) -> "dict[str, torch.Tensor]":
        """The tensors called ``<prefix>.<name>``, by name, on the CPU; BadInput when damaged."""
        tensors = self.tensors()
        prefix = f"{prefix}."
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    def tensors(self) -> "dict[str, torch.Tensor]":
        """All tensors on the CPU; BadInput when damaged."""
        from safetensors.torch import load_file

        return self.whole(load_file)

    def whole(self, load: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """All tensors as ``load`` (of safetensors.torch or safetensors.numpy) reads them; BadInput when damaged."""
        if self.header.pruned:
            raise BadInput(self.header.pruned_fault(self.path))
        try:
            tensors = load(self.path)
        except (SafetensorError, OSError, ValueError) as error:
            raise BadInput(f"{self.path} is damaged or truncated. Train it again.") from error
        if tensor_digest(self.header.attributes, tensors) != self.header.digest:
            raise BadInput(f"{self.path} is damaged: its tensors do not match its digest. Train it again.")
        return tensors


def require_same_classes(model: Model, data: Dataset, of_images: bool = False) -> None:
    """BadInput unless ``model`` predicts the classes of the pixels of ``data``, or, if ``of_images``, of its images."""
    require_same_bands(model, data)
    if model.of_images and not of_images:
        raise BadInput(f"{model.path} predicts classes of whole images. Pass a segmentation model.")
    known = [data.image_level_classes, data.classes] if model.of_images else [data.classes]
    if model.attributes["classes"] not in known:
        raise BadInput(
            f"{model.path} was trained for the classes {', '.join(model.attributes['classes'][:4])}, ... but "
            f"{data.path} has {', '.join(known[0][:4])}, ... Pass a model trained on these classes."
        )


def require_same_bands(model: Model, data: Dataset) -> None:
    """BadInput unless the images of ``data`` have as many bands as those that ``model`` was trained on."""
    if model.bands != data.bands:
        raise BadInput(
            f"{model.path} was trained on images of {model.bands} bands, but those of {data.path} have {data.bands}. "
            "Pass a model trained on these bands."
        )


def tensor_digest(attributes: Mapping[str, Any], tensors: "Mapping[str, torch.Tensor | np.ndarray]") -> str:
    """The digest of a model with these tensors, each on the CPU or an array."""
    arrays = {}
    for name, tensor in tensors.items():
        content = np.asarray(tensor, order="C")
        checksum = hashlib.sha256(content.tobytes()).hexdigest()
        arrays[name] = (content.dtype.str, content.shape, checksum)
    return content_digest("model", attributes, arrays)


def write_model(
    path: Path,
    header: Header,
    last: "Mapping[str, torch.Tensor]",
    best: "Mapping[str, torch.Tensor] | None",
    beside: Mapping[Path, bytes] | None = None,
    others: "Mapping[str, Mapping[str, torch.Tensor]] | None" = None,
) -> None:
    """Publishes the weights with ``header`` (its digest is set here), together with the files ``beside``.

    ``others`` are the weights of other modules by name.
    """
    from safetensors.torch import save

    every = {"last": last} | ({} if best is None else {"best": best}) | dict(others or {})
    tensors = {
        f"{prefix}.{name}": tensor.detach().cpu().contiguous()
        for prefix, weights in every.items()
        for name, tensor in weights.items()
    }
    values = header.to_json() | {"digest": tensor_digest(header.attributes, tensors)}
    values = json.loads(canonical(values))
    content = save(tensors, {"alseg": canonical(values), "header_sha256": digest_of(values)})
    publish_together({**(beside or {}), path: content})
