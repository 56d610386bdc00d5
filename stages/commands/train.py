"""The stage `train`: a network from the labels of a ledger, or from pseudo-labels made of one, or of another model."""

import csv
import io
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import require_made_from
from stages.artifacts.header import canonical
from stages.artifacts.labels import Labels, open_labels
from stages.artifacts.model import Model, require_same_classes, write_model
from stages.artifacts.publish import publish_bytes
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.weights import weights_ref
from stages.runtime.console import say
from stages.runtime.errors import BadInput
from stages.runtime.ranks import Ranks, joined_ranks
from stages.settings.network import NetworkSettings
from stages.settings.train import TrainSettings

if TYPE_CHECKING:
    from torch import nn

SUPPORT = "support."  # what the names of the parameters of support heads begin with
SUPPORT_FIELDS = {"side_taps", "lossiness_width"}


def run(
    dataset: Path,
    labels: Path,
    output: Path,
    settings: TrainSettings,
    model: Path | None = None,
    force: bool = False,
) -> Path:
    """Trains on ``labels`` (annotations or pseudo_labels) of ``dataset`` and publishes ``output`` (safetensors).

    With ``model`` training starts from its weights; support heads are trained beside it, and it stays as it is. Beside
    the output: `<stem>.history.csv` with a row per epoch and `<stem>.curve.png`. Raises Stopped after saving on a
    signal; the same call then continues. Raises BadInput for labels of another dataset, where there is none, and for a
    model that does not fit.
    """
    start = None if model is None or settings.cold_start else Model(model)
    if settings.objective == "support" and start is None:
        raise BadInput("Support heads are trained beside a model; give --model.")
    with Dataset(dataset) as data, open_labels(labels) as given:
        require_made_from(given, "dataset", data)
        require_labels(given, settings)
        if start is not None:
            require_start(start, data, given, settings)
        inputs = refer(output, {"dataset": data, "labels": given, "model": start})
        inputs |= weights_ref(output, settings.weights) if start is None else {}
        request = Request("train", "model", output, settings, inputs, (".history.csv", ".curve.png"))
    if output.suffix != ".safetensors":
        raise BadInput(f"A model is a safetensors file; call the output {output.with_suffix('.safetensors').name}.")
    from stages.runtime.devices import choose_device

    device = choose_device(settings.device)
    with joined_ranks(device.type) as ranks:
        if settings.batch % ranks.size or settings.batch < 2 * ranks.size:
            raise BadInput(
                f"batch {settings.batch} cannot be shared by {ranks.size} processes with two or more images each; "
                f"give a multiple of {ranks.size} from {2 * ranks.size} on."
            )
        return produce(request, lambda: build(request, dataset, labels, start, settings, ranks), force, ranks)


def require_labels(labels: Labels, settings: TrainSettings) -> None:
    """BadInput when there is nothing to learn from."""
    if settings.objective in ("image-classes", "adversarial"):
        if not isinstance(labels, Annotations):
            raise BadInput(f"{labels.path} holds {labels.kind}; the objective {settings.objective} takes annotations.")
        if settings.objective == "adversarial" and not labels.mask_ids:
            raise BadInput(f"{labels.path} has no full mask, of which the objective adversarial learns; ask for masks.")
        if settings.objective == "image-classes" and not len(labels.image_rows):
            raise BadInput(f"{labels.path} names no classes of images; ask for them with --image-answer class.")
        return
    if not labels.labelled_ids():
        raise BadInput(f"{labels.path} holds no label (every answer is void); annotate more before training.")
    if settings.objective == "class-sets":
        if not isinstance(labels, Annotations):
            raise BadInput(f"{labels.path} holds {labels.kind}; the objective class-sets learns from annotations.")
        if not labels.answers.class_sets.any():
            raise BadInput(f"{labels.path} has no answers that name classes together; set --objective labels.")


def require_start(start: Model, data: Dataset, labels: Labels, settings: TrainSettings) -> None:
    """BadInput for a model that this training cannot start from."""
    if start.of_images != (settings.objective == "image-classes"):
        predicts = "classes of whole images" if start.of_images else "a class per pixel"
        raise BadInput(f"{start.path} predicts {predicts}; start from a model of the same kind.")
    require_same_classes(start, data, of_images=True)
    if start.of_images and isinstance(labels, Annotations) and start.attributes["classes"] != labels.image_classes:
        raise BadInput(f"{start.path} predicts other classes than {labels.path} names; set --cold-start.")
    start.require_checkpoint(settings.checkpoint)
    if settings.learn_void != start.knows_void:
        raise BadInput(
            f"{start.path} was trained {'with' if start.knows_void else 'without'} --learn-void; do the same."
        )
    if settings.objective != "support":
        given, own = network_settings(settings, None).model_dump(mode="json"), start.attributes["network"]
        other = sorted(name for name in given.keys() & own.keys() - SUPPORT_FIELDS if given[name] != own[name])
        if other:
            differences = ", ".join(f"{name} {own[name]}" for name in other)
            raise BadInput(f"{start.path} has another network; to start from it, set {differences}.")


def network_settings(settings: TrainSettings, start: Model | None) -> NetworkSettings:
    """The network to build: that of ``start``, if support heads join it, else what the settings say."""
    own = settings.model_dump(include=set(NetworkSettings.model_fields))
    if start is not None and settings.objective == "support":
        own = start.attributes["network"] | {name: own[name] for name in SUPPORT_FIELDS}
    return NetworkSettings(**own)


def build(
    request: Request, dataset: Path, labels: Path, start: Model | None, settings: TrainSettings, ranks: Ranks
) -> str:
    import torch

    from stages.networks.build import build_network
    from stages.networks.predictor import place
    from stages.runtime.devices import choose_device
    from stages.runtime.randomness import torch_seed
    from stages.training.checkpoints import Checkpoints
    from stages.training.loop import HistoryRow, Training
    from stages.training.objectives.adversarial import AdversarialObjective
    from stages.training.objectives.class_sets import ClassSetObjective
    from stages.training.objectives.image_classes import ImageObjective
    from stages.training.objectives.labels import LabelObjective
    from stages.training.objectives.support import SupportObjective
    from stages.training.samples.images import ImageSamples
    from stages.training.samples.maps import TrainingSamples
    from stages.training.samples.streams import StreamSamples

    learning: dict[str, tuple[type[LabelObjective], type[TrainingSamples]]] = {
        "labels": (LabelObjective, TrainingSamples),
        "class-sets": (ClassSetObjective, TrainingSamples),
        "support": (SupportObjective, TrainingSamples),
        "image-classes": (ImageObjective, ImageSamples),
        "adversarial": (AdversarialObjective, StreamSamples),
    }
    objective_kind, samples_kind = learning[settings.objective]
    device = choose_device(settings.device)
    built, support = network_settings(settings, start), settings.objective == "support"
    with Dataset(dataset) as data, open_labels(labels) as given:
        of_images = settings.objective == "image-classes"
        classes = given.image_classes if isinstance(given, Annotations) and of_images else data.classes
        of_sets = isinstance(given, Annotations) and of_images and given.names_sets
        cost = given.cost()
        asked_images = given.header.counts["images"]
        statistics = input_statistics(data, settings)
    if start is not None:
        statistics = (tuple(start.attributes["mean"]), tuple(start.attributes["std"]))
    torch.manual_seed(torch_seed(settings.seed, "initialisation"))
    outputs = len(classes) + settings.learn_void
    network = build_network(built, outputs, support)
    origin = set_first_weights(network, start, settings)
    if settings.norm_momentum is not None:
        for module in network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum = settings.norm_momentum
    place(network, device)
    samples = samples_kind(dataset, labels, settings, statistics[0])
    if len(samples) < 2 * ranks.size and settings.objective not in ("image-classes", "adversarial"):
        raise BadInput(
            f"{labels} has labels in {len(samples)} images; batch normalisation needs at least 2 per process."
        )
    objective = objective_kind(network, samples, statistics, settings, device, ranks)
    if not objective.validates:
        say(f"without validation, as split {settings.validation_split!r} has not what is learned: last weights only")
    checkpoints = Checkpoints(request.output, request.key())
    if ranks.is_main:
        checkpoints.remove_others()

    def write_history(history: list[HistoryRow]) -> None:
        if not request.output.exists():  # a finished model keeps its history until the new one is finished
            publish_bytes(request.path_beside(".history.csv"), history_csv(history))

    trained = Training(objective, settings, checkpoints, ranks).run(write_history)
    if not ranks.is_main:
        return ""
    from stages.reporting.pictures.curves import training_curve

    criterion = objective.criterion
    validated = {int(row["epoch"]): row[f"val_{criterion}"] for row in trained.history if f"val_{criterion}" in row}
    results: dict[str, Any] = {
        "epochs": len(trained.history),
        "best_epoch": trained.best_epoch,
        f"best_val_{criterion}": validated.get(trained.best_epoch),
        f"last_val_{criterion}": list(validated.values())[-1] if validated else None,
    }
    attributes = {
        "network": built.model_dump(mode="json", exclude={"weights"}),
        "classes": classes,
        "outputs": outputs,
        "support": support,
        "of_images": of_images,
        "of_sets": of_sets,
        "discriminator": settings.objective == "adversarial",
        "mean": list(statistics[0]),
        "std": list(statistics[1]),
        "best_epoch": trained.best_epoch,
    }
    counts = (
        results
        | cost
        | {
            "initial_weights": origin,
            "labelled_pixels": int(objective.label_counts.sum()),
            "labelled_images": len(samples),
            "asked_images": asked_images,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
        }
    )
    if isinstance(objective, SupportObjective):
        means = zip(classes, objective.thresholds.tolist(), strict=False)
        counts["class_thresholds"] = {name: None if math.isinf(value) else value for name, value in means}
    beside = {
        request.path_beside(".history.csv"): history_csv(trained.history),
        request.path_beside(".curve.png"): training_curve(trained.history, criterion),
    }
    header = request.header(json.loads(canonical(attributes)), counts)
    write_model(request.output, header, trained.last, trained.best, beside, trained.others)
    checkpoints.remove()
    return summary(results, criterion, len(samples))


def set_first_weights(network: "nn.Module", start: Model | None, settings: TrainSettings) -> str:
    """Sets what training starts from, and says where it came from; support heads keep their random weights."""
    from stages.networks.weights import load_weights

    if start is None:
        return Path(load_weights(network, settings.weights, settings.backbone).source).name
    weights = start.weights(settings.checkpoint)
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith(SUPPORT)}
    missing, unexpected = network.load_state_dict(kept, strict=False)
    assert not unexpected, unexpected
    assert all(name.startswith(SUPPORT) for name in missing), missing
    return f"{start.path.name}, {settings.checkpoint}"


def input_statistics(data: Dataset, settings: TrainSettings) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation the network's input is normalised with."""
    from stages.networks.weights import backbone_statistics

    match settings.normalisation:
        case "dataset":
            return tuple(data.attributes["mean"]), tuple(data.attributes["std"])
        case "imagenet":
            return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        case _:
            mean, std = backbone_statistics(settings.backbone)
            return tuple(mean), tuple(std)


def history_csv(history: list[dict[str, float]]) -> bytes:
    """One row per epoch; columns that only some epochs have (validation) stay empty in the others."""
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in history for name in row))
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue().encode()


def summary(results: dict[str, Any], criterion: str, images: int) -> str:
    from stages.training.loop import criterion_text

    text = f"{results['epochs']} epochs on {images} images"
    if results["best_epoch"]:
        last, best = (criterion_text(criterion, results[f"{which}_val_{criterion}"]) for which in ("last", "best"))
        text += f", val {last} at the last epoch, {best} at the best ({results['best_epoch']})"
    return text
