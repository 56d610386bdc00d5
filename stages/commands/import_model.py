"""The stage `import-model`: turn weights that other code wrote into a model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from stages.artifacts.dataset import Dataset
from stages.artifacts.header import canonical
from stages.artifacts.model import write_model
from stages.artifacts.request import Request, produce, refer, reference
from stages.runtime.console import say
from stages.runtime.errors import BadInput
from stages.runtime.parts import ARCHITECTURES
from stages.settings.import_model import ImportModelSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stages.networks.foreign.conversion import Fit, Renamed
    from stages.networks.foreign.tables import Inputs, Source

REMEDY = (
    "Pass a .safetensors, .npz or TensorFlow .index file, or one written by torch.save that holds tensors and plain "
    "values only."
)

NO_COST = {"epochs": 0, "answers": 0, "asked_images": 0, "labelled_pixels": 0, "clicks": 0, "seconds": 0.0}
"""What evaluations read of a model's training, which the file does not tell."""


def run(dataset: Path, weights: Path, output: Path, settings: ImportModelSettings, force: bool = False) -> Path:
    """Publishes ``output`` (safetensors): the network of the settings with the tensors of the file ``weights``.

    A table (`stages.networks.foreign.tables`) says how the tensors are called and which network they belong to;
    explicit settings override it, and it overrides recipes. Prints what is missing, unexpected or of another shape.
    Raises BadInput for a file that cannot be read without running code, and if the segmentation network is not
    complete. Support heads are imported if the file has them all.
    """
    from stages.networks.foreign.conversion import unwrapped
    from stages.networks.foreign.files import read_tensors

    with Dataset(dataset) as data:
        tensors, digest = read_tensors(weights, "Weights", REMEDY)
        tensors = unwrapped(tensors)
        source = source_of(tensors, settings.source)
        if source is not None:
            settings = settings.offered(source.network, f"source {source.name}")
        predicts = ARCHITECTURES[settings.network.architecture].facts["predicts"]
        if predicts == "images":
            raise BadInput("import-model reads segmentation networks. Set an --architecture that predicts pixels.")
        inputs = refer(output, {"dataset": data}) | {"weights": reference(output, weights, digest)}
        request = Request("import-model", "model", output, settings, inputs)
        if request.output.suffix != ".safetensors":
            name = output.with_suffix(".safetensors").name
            raise BadInput(f"{output}: a model is a safetensors file. Pass -o {name}.")
        return produce(request, lambda: build(request, weights, tensors, source, data, settings), force)


def source_of(tensors: "dict[str, Tensor]", name: str) -> "Source | None":
    """The table called ``name``; the one that fits the ``tensors`` for auto, and None for none."""
    from stages.networks.foreign.tables import load_source, recognised

    if name == "auto":
        return recognised(tensors)
    return None if name == "none" else load_source(name)


def build(
    request: Request,
    weights: Path,
    tensors: "dict[str, Tensor]",
    source: "Source | None",
    data: Dataset,
    settings: ImportModelSettings,
) -> str:
    """Converts the tensors, publishes the model, and returns a one-line summary."""
    from stages.networks.bands import COLOURS
    from stages.networks.foreign.conversion import converted, identity

    of = f"source {source.name}: {source.title}" if source else "no table, tensors called as in timm or torchvision"
    say(f"{weights.name}: {of}")
    renamed = converted(tensors, source) if source else identity(tensors)
    outputs = len(data.classes) + settings.learn_void
    if data.bands != COLOURS:
        raise BadInput(
            f"{data.path} has images of {data.bands} bands. Import networks for datasets of three bands only."
        )
    network, fit, support = filled(settings, outputs, renamed)
    for sentence in fit.sentences():
        say(f"{weights.name}: {sentence}")
    require_complete(weights, fit, outputs)
    expected = source.inputs_for(data.attributes["name"]) if source else None
    mean, std, channels = input_of(settings, expected, data, has_table=source is not None)
    if channels == "bgr":
        reverse_channels(network)
    attributes = {
        "network": settings.network.recorded(),
        "classes": data.classes,
        "outputs": outputs,
        "support": support,
        "of_images": False,
        "of_sets": None,
        "discriminator": False,
        "mean": list(mean),
        "std": list(std),
        "best_epoch": None,
    }
    counts = NO_COST | {
        "initial_weights": weights.name,
        "source": source.name if source else "none",
        "matched": len(fit.matched),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }
    header = request.header(json.loads(canonical(attributes)), counts)
    write_model(request.output, header, network.state_dict(), None)
    heads = " with support heads" if support else ""
    return f"{len(fit.matched)} tensors of {settings.network.architecture} on {settings.network.backbone}{heads}"


def filled(settings: ImportModelSettings, outputs: int, renamed: "Renamed") -> "tuple[nn.Module, Fit, bool]":
    """The network with the tensors, what fitted, and whether it has support heads: only if the file has all of them."""
    import torch

    from stages.networks.build import build_network
    from stages.networks.foreign.conversion import SUPPORT, fill, without

    heads = [name for name in renamed[0] if name.startswith(SUPPORT)]
    with torch.random.fork_rng(devices=[]):
        if heads and ARCHITECTURES[settings.network.architecture].facts["support"]:
            network = build_network(settings.network, outputs, support=True)
            fit = fill(network, *renamed)
            lacking = [name for name in fit.missing + fit.reshaped if name.startswith(SUPPORT)]
            if not lacking:
                return network, fit, True
            renamed = without(renamed, heads, "support heads, which are incomplete")
        network = build_network(settings.network, outputs)
        return network, fill(network, *renamed), False


def require_complete(weights: Path, fit: "Fit", outputs: int) -> None:
    """BadInput unless all tensors of the segmentation network are in the file."""
    lacking = fit.missing + fit.reshaped
    if not lacking:
        return
    from stages.networks.weights import first_named

    classes = [name for name in fit.reshaped if name.startswith("classifier")]
    remedy = (
        f"The file has another number of classes than the {outputs} here: pass its own dataset, or --learn-void if it "
        "has an extra one for void."
        if classes and len(classes) == len(lacking)
        else "Set the architecture, the backbone and their settings as in its training, or another --source."
    )
    raise BadInput(
        f"{weights} does not contain the whole network: {len(lacking)} of {len(lacking) + len(fit.matched)} tensors "
        f"are missing or of another shape ({first_named(lacking)}). {remedy}"
    )


def input_of(
    settings: ImportModelSettings, expected: "Inputs | None", data: Dataset, has_table: bool
) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Mean, standard deviation and order of channels that the network expects.

    From the settings, otherwise from the table, otherwise from the dataset; without a table from the backbone.
    """
    from stages.networks.weights import backbone_statistics

    mean: tuple[float, ...]
    std: tuple[float, ...]
    if expected is not None:
        mean, std, channels = expected.mean, expected.std, expected.channels
    elif has_table:
        mean, std, channels = tuple(data.attributes["mean"]), tuple(data.attributes["std"]), "rgb"
    else:
        (mean, std), channels = backbone_statistics(settings.network.backbone), "rgb"
    if settings.channels != "source":
        channels = settings.channels
    return settings.mean or mean, settings.std or std, channels


def reverse_channels(network: "nn.Module") -> None:
    """Reverse the input channels of the first convolution, for a network that expects blue first."""
    import torch

    first = next(part for part in network.get_submodule("backbone").modules() if isinstance(part, torch.nn.Conv2d))
    with torch.no_grad():
        first.weight.copy_(first.weight.flip(1))
