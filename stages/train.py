"""The stage `train`: a network from the labels of a ledger, or from pseudo-labels made of one."""

import csv
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import require_made_from
from stages.artifacts.header import InputRef, canonical
from stages.artifacts.labels import Labels, open_labels
from stages.artifacts.model import write_model
from stages.artifacts.publish import publish_bytes
from stages.artifacts.request import Request, produce, refer
from stages.errors import BadInput
from stages.ranks import Ranks, joined_ranks
from stages.settings.network import NetworkSettings
from stages.settings.train import TrainSettings


def run(dataset: Path, labels: Path, output: Path, settings: TrainSettings, force: bool = False) -> Path:
    """Trains on ``labels`` (annotations or pseudo_labels) of ``dataset`` and publishes ``output`` (safetensors).

    Beside it: `<stem>.history.csv` with a row per epoch and `<stem>.curve.png`. Raises Stopped after saving on a
    signal; the same call then continues. Raises BadInput for labels of another dataset, and where there is none.
    """
    with Dataset(dataset) as data, open_labels(labels) as given:
        require_made_from(given, "dataset", data)
        require_labels(given, settings)
        inputs = refer(output, {"dataset": data, "labels": given}) | weights_ref(output, settings)
        request = Request("train", "model", output, settings, inputs, (".history.csv", ".curve.png"))
    if output.suffix != ".safetensors":
        raise BadInput(f"A model is a safetensors file; call the output {output.with_suffix('.safetensors').name}.")
    from stages.inference.devices import choose_device

    device = choose_device(settings.device)
    with joined_ranks(device.type) as ranks:
        if settings.batch % ranks.size or settings.batch < 2 * ranks.size:
            raise BadInput(
                f"batch {settings.batch} cannot be shared by {ranks.size} processes with two or more images each; "
                f"give a multiple of {ranks.size} from {2 * ranks.size} on."
            )
        return produce(request, lambda: build(request, dataset, labels, settings, ranks), force, ranks)


def require_labels(labels: Labels, settings: TrainSettings) -> None:
    """BadInput when there is nothing to learn from."""
    if not labels.labelled_ids():
        raise BadInput(f"{labels.path} holds no label (every answer is void); annotate more before training.")
    if settings.objective == "class-sets":
        if not isinstance(labels, Annotations):
            raise BadInput(f"{labels.path} holds {labels.kind}; the objective class-sets learns from annotations.")
        if not labels.answers.class_sets.any():
            raise BadInput(f"{labels.path} has no answers that name classes together; set --objective labels.")


def build(request: Request, dataset: Path, labels: Path, settings: TrainSettings, ranks: Ranks) -> str:
    import torch

    from stages.inference.devices import choose_device
    from stages.inference.predictor import place
    from stages.networks.build import build_network
    from stages.networks.weights import load_weights
    from stages.randomness import torch_seed
    from stages.supervision.class_set_objective import ClassSetObjective
    from stages.supervision.cross_entropy import LabelObjective
    from stages.training.checkpoints import Checkpoints
    from stages.training.loop import Row, Training
    from stages.training.samples import TrainingSamples

    device = choose_device(settings.device)
    network_settings = NetworkSettings(**settings.model_dump(include=set(NetworkSettings.model_fields)))
    with Dataset(dataset) as data, open_labels(labels) as given:
        classes, cost = data.classes, given.cost()
        asked_images = given.header.counts["images"]
        statistics = input_statistics(data, settings)
    torch.manual_seed(torch_seed(settings.seed, "initialisation"))
    outputs = len(classes) + settings.learn_void
    network = build_network(network_settings, outputs)
    weights = load_weights(network, settings.weights, settings.backbone)
    if settings.norm_momentum is not None:
        for module in network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum = settings.norm_momentum
    place(network, device)
    samples = TrainingSamples(dataset, labels, settings, statistics[0])
    if len(samples) < 2 * ranks.size:
        raise BadInput(
            f"{labels} has labels in {len(samples)} images; batch normalisation needs at least 2 per process."
        )
    kind = ClassSetObjective if settings.objective == "class-sets" else LabelObjective
    objective = kind(network, samples, statistics, settings, device, ranks)
    checkpoints = Checkpoints(request.output, request.key())
    if ranks.is_main:
        checkpoints.remove_others()

    def write_history(history: list[Row]) -> None:
        if not request.output.exists():  # a finished model keeps its history until the new one is finished
            publish_bytes(request.path_beside(".history.csv"), history_csv(history))

    trained = Training(objective, settings, checkpoints, ranks).run(write_history)
    if not ranks.is_main:
        return ""
    from stages.pictures.curves import training_curve

    validated = [row for row in trained.history if "val_miou" in row]
    results: dict[str, Any] = {
        "epochs": len(trained.history),
        "best_epoch": trained.best_epoch,
        "best_val_miou": max((row["val_miou"] for row in validated), default=None),
        "last_val_miou": validated[-1]["val_miou"] if validated else None,
    }
    attributes = {
        "network": network_settings.model_dump(mode="json", exclude={"weights"}),
        "classes": classes,
        "outputs": outputs,
        "mean": list(statistics[0]),
        "std": list(statistics[1]),
        "best_epoch": trained.best_epoch,
    }
    counts = (
        results
        | cost
        | {
            "initial_weights": Path(weights.source).name,
            "labelled_pixels": int(objective.label_counts.sum()),
            "labelled_images": len(samples),
            "asked_images": asked_images,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
        }
    )
    beside = {
        request.path_beside(".history.csv"): history_csv(trained.history),
        request.path_beside(".curve.png"): training_curve(trained.history),
    }
    header = request.header(json.loads(canonical(attributes)), counts)
    write_model(request.output, header, trained.last, trained.best, beside)
    checkpoints.remove()
    return summary(results, len(samples))


def weights_ref(output: Path, settings: TrainSettings) -> dict[str, InputRef]:
    """A weights file is an input like any other: a changed one makes the model stale."""
    path = Path(settings.weights)
    if settings.weights in ("imagenet", "none") or not path.is_file():
        return {}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"weights": InputRef(os.path.relpath(path, output.parent), digest)}


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


def summary(results: dict[str, Any], images: int) -> str:
    text = f"{results['epochs']} epochs on {images} images"
    if results["best_epoch"]:
        text += (
            f", val mIoU {100 * results['last_val_miou']:.2f} at the last epoch, "
            f"{100 * results['best_val_miou']:.2f} at the best ({results['best_epoch']})"
        )
    return text
