"""The stage `train`: train a network on a ledger or pseudo-labels, optionally starting from another model."""

import csv
import io
import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import require_made_from
from stages.artifacts.header import InputRef, canonical
from stages.artifacts.labels import Labels, open_labels
from stages.artifacts.model import Model, require_same_classes, write_model
from stages.artifacts.publish import publish_bytes
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.weights import weights_ref
from stages.evaluating.privileges import choosing_privileges, recorded_privilege
from stages.pixels.grids import Size
from stages.pixels.void import VOID
from stages.runtime.console import say
from stages.runtime.errors import BadInput
from stages.runtime.parts import OBJECTIVES, Part
from stages.runtime.ranks import Ranks, joined_ranks
from stages.settings.network import NetworkSettings, SupportableSettings, SupportHeadSettings, recorded_network
from stages.settings.train import TrainSettings

if TYPE_CHECKING:
    import torch
    from torch import nn

    from stages.training.learner import Learner
    from stages.training.loop import HistoryRow, Trained

SUPPORT = "support."  # prefix of the parameter names of support heads


def run(
    dataset: Path,
    labels: Path,
    output: Path,
    settings: TrainSettings,
    model: Path | None = None,
    force: bool = False,
) -> Path:
    """Trains on ``labels`` (annotations or pseudo_labels) of ``dataset`` and publishes ``output`` (safetensors).

    With ``model``, training starts from its weights; support heads are trained on top of it without changing it. Also
    writes `<stem>.history.csv`, with a row per epoch, and `<stem>.curve.png` beside the output. On a signal, saves and
    raises Stopped; the same call then continues. Raises BadInput for labels of another dataset or of a kind that the
    objective cannot learn from, and for a model that does not fit.
    """
    objective = OBJECTIVES[settings.objective]
    start = None if model is None or settings.cold_start else Model(model)
    if objective.facts["start"] and start is None:
        raise BadInput(f"Objective {objective.name} starts from a trained model. Pass --model, without --cold-start.")
    with Dataset(dataset) as data, open_labels(labels) as given:
        require_made_from(given, "dataset", data)
        require_labels(given, settings.reads_labels, objective.facts["wraps"] or "objective")
        if settings.learn_void and len(data.classes) >= VOID:
            raise BadInput(f"{dataset} has {VOID} classes, which leaves no number for void. Set --no-learn-void.")
        if start is not None:
            require_start(start, data, given, settings)
        inputs = refer(output, {"dataset": data, "labels": given, "model": start})
        inputs |= weights_ref(output, settings.network.weights) if start is None else {}
        request = Request("train", "model", output, settings, inputs, (".history.csv", ".curve.png"))
        if request.output.suffix != ".safetensors":
            name = output.with_suffix(".safetensors").name
            raise BadInput(f"{output}: a model is a safetensors file. Pass -o {name}.")
        from stages.runtime.devices import choose_device

        device, batch = choose_device(settings.execution.device), settings.optimisation.batch
        with joined_ranks(device.type) as ranks:
            if batch % ranks.size or batch < 2 * ranks.size:
                raise BadInput(
                    f"--batch {batch} cannot be shared by {ranks.size} processes with two or more images each. Pass a "
                    f"multiple of {ranks.size} that is at least {2 * ranks.size}."
                )
            return produce(request, lambda: build(request, data, given, start, settings, device, ranks), force, ranks)


def require_labels(labels: Labels, objective: Part, chooser: str) -> None:
    """BadInput if ``labels`` lack what the objective, named by ``chooser``, learns from, by its fact ``labels``.

    - maps: one class per pixel, in annotations or pseudo-labels; at least one label.
    - class-sets: annotations with classes named together for a region.
    - masks: annotations with a full mask.
    - image-classes: annotations with classes of whole images.
    """
    learns = objective.facts["labels"]
    if learns not in ("maps", "class-sets", "masks", "image-classes"):
        raise BadInput(
            f"Objective {objective.name} declares labels {learns!r}; declare maps, class-sets, masks or image-classes."
        )
    if learns in ("maps", "class-sets") and not labels.labelled_ids():
        if isinstance(labels, Annotations) and len(labels.image_rows):
            raise BadInput(
                f"{labels.path} has no labels of pixels, only classes of images. Set --objective image-classes."
            )
        raise BadInput(f"{labels.path} has no labels: every answer is void. Annotate more before training.")
    if learns == "maps":
        return
    if not isinstance(labels, Annotations):
        raise BadInput(
            f"{labels.path} holds {labels.kind}, but objective {objective.name} learns from annotations. Pass a ledger."
        )
    if learns == "class-sets" and not labels.answers.class_sets.any():
        raise BadInput(f"{labels.path} has no class sets. Set --{chooser} labels.")
    if learns == "masks" and not labels.mask_ids - labels.empty_ids:
        raise BadInput(
            f"{labels.path} has no full masks, which objective {objective.name} learns from. Query them with "
            "--image-answer mask."
        )
    if learns == "image-classes" and not len(labels.image_rows):
        raise BadInput(f"{labels.path} has no classes of images. Query them with --image-answer class.")


def require_start(start: Model, data: Dataset, labels: Labels, settings: TrainSettings) -> None:
    """BadInput for a model that this training cannot start from."""
    objective = OBJECTIVES[settings.objective]
    if start.of_images != (objective.facts["predicts"] == "images"):
        predicts = "classes of whole images" if start.of_images else "a class per pixel"
        raise BadInput(f"{start.path} predicts {predicts}. Start from a model of the same kind.")
    require_same_classes(start, data, of_images=True)
    if start.of_images and isinstance(labels, Annotations) and start.attributes["classes"] != labels.image_classes:
        raise BadInput(f"{start.path} predicts other classes than {labels.path} names. Set --cold-start.")
    start.require_checkpoint(settings.checkpoint)
    if settings.learn_void != start.knows_void:
        way = "with --learn-void" if start.knows_void else "without --learn-void"
        raise BadInput(f"{start.path} was trained {way}. Train {way} as well.")
    if not objective.facts["support"]:
        given = settings.network.recorded()
        own = recorded_network(start.attributes["network"], str(start.path)).recorded()
        own = {name: value for name, value in own.items() if name not in SupportHeadSettings.model_fields}
        other = sorted(name for name, value in own.items() if name not in given or given[name] != value)
        if other:
            differences = ", ".join(f"{name} {own[name]}" for name in other)
            raise BadInput(f"{start.path} has another network. To start from it, set {differences}.")


def network_settings(settings: TrainSettings, start: Model | None) -> NetworkSettings:
    """The network to build: that of ``start`` if support heads are added to it, otherwise that of the settings."""
    if start is None or not OBJECTIVES[settings.objective].facts["support"]:
        return settings.network
    own = settings.network.of_architecture
    heads = own.support if isinstance(own, SupportableSettings) else None
    return recorded_network(start.attributes["network"] | (heads.flat() if heads else {}), str(start.path))


def build(
    request: Request,
    data: Dataset,
    given: Labels,
    start: Model | None,
    settings: TrainSettings,
    device: "torch.device",
    ranks: Ranks,
) -> str:
    """Trains, publishes the model with its history and plot, and returns a one-line summary."""
    import torch

    from stages.networks.batch_memory import require_batch_memory
    from stages.networks.build import build_network
    from stages.networks.norms import fix_affine, set_norm_momentum
    from stages.networks.predictor import place
    from stages.runtime.randomness import torch_seed
    from stages.training.checkpoints import Checkpoints
    from stages.training.events import event_writer, events_folder
    from stages.training.loop import Training
    from stages.training.task import Task

    objective, built = OBJECTIVES[settings.objective], network_settings(settings, start)
    of_images = objective.facts["predicts"] == "images"
    classes = given.image_classes if isinstance(given, Annotations) and of_images else data.classes
    of_sets = isinstance(given, Annotations) and of_images and given.names_sets
    counts = given.cost() | {"asked_images": given.header.counts["images"]}
    mean, std = input_statistics(data, settings.normalisation, settings.network.backbone)
    bought = {data.splits[image] for image in given.ids}
    privileges = choosing_privileges(data, settings.validation.validation_split, bought)
    if start is not None:
        mean, std = tuple(start.attributes["mean"]), tuple(start.attributes["std"])
    torch.manual_seed(torch_seed(settings.seed, "initialisation"))
    outputs = len(classes) + settings.learn_void
    if not of_images:
        ids = given.labelled_ids()
        crop, each = settings.augmentation.crop or largest_size(data, ids), settings.optimisation.batch // ranks.size
        require_batch_memory("train", min(each, len(ids)), crop, data.bands, outputs, device.type, learns=True)
    network = build_network(built, outputs, objective.facts["support"], data.bands)
    counts["initial_weights"] = set_initial_weights(network, start, settings, request.inputs.get("weights"))
    counts["parameters"] = sum(parameter.numel() for parameter in network.parameters())
    set_norm_momentum(network, settings.optimisation.norm_momentum)
    if not settings.optimisation.learn_norm:
        fix_affine(network)
    place(network, device)
    task = Task(network, data, given, settings, mean, std, device, ranks)
    learner: Learner = objective(task, settings.of_objective)
    if settings.optimisation.frozen is not None and counts["initial_weights"] == "none":
        say("The frozen backbone has random weights, which nothing improves. Pass --weights.")
    if not learner.validates:
        split = settings.validation.validation_split
        say(f"No validation: split {split!r} has no ground truth. Keeping the last weights only.")
    elif privileges:
        say(f"Oracle privilege: {'; '.join(privileges)}. The model records it.")
    checkpoints = Checkpoints(request.output, request.key())
    if ranks.is_main:
        checkpoints.remove_others()

    wanted = settings.execution.tensorboard and ranks.is_main
    with event_writer(events_folder(request.output)) if wanted else nullcontext() as write_events:

        def write_history(history: "list[HistoryRow]") -> None:
            if not request.output.exists():  # an existing model keeps its history until the new one is finished
                publish_bytes(request.path_beside(".history.csv"), history_csv(history))
            if write_events is not None:
                write_events(history)

        trained = Training(learner, settings, checkpoints, ranks).run(write_history)
    if not ranks.is_main:
        return ""
    from stages.reporting.pictures.curves import training_curve

    results = training_results(trained, learner.criterion)
    learned = learner.counts()
    attributes = {
        "network": built.recorded(),
        "classes": classes,
        "outputs": outputs,
        "support": objective.facts["support"],
        "of_images": of_images,
        "of_sets": of_sets,
        "discriminator": "discriminator" in trained.others,
        "mean": list(mean),
        "std": list(std),
        "palette": data.palette.tolist(),
        "resized": data.resized,
        "best_epoch": trained.best_epoch,
        **({"reading": data.reading} if data.reading else {}),
    } | recorded_privilege(privileges if learner.validates else [])
    beside = {
        request.path_beside(".history.csv"): history_csv(trained.history),
        request.path_beside(".curve.png"): training_curve(trained.history, learner.criterion),
    }
    header = request.header(json.loads(canonical(attributes)), results | counts | learned)
    write_model(request.output, header, trained.last, trained.best, beside, trained.others)
    checkpoints.remove()
    return training_summary(results, learner.criterion, learned["labelled_images"])


def largest_size(data: Dataset, ids: list[str]) -> Size:
    """Height and width that hold each of ``ids``."""
    heights, widths = zip(*(data.sizes[image] for image in ids), strict=True)
    return max(heights), max(widths)


def set_initial_weights(
    network: "nn.Module", start: Model | None, settings: TrainSettings, recorded: InputRef | None
) -> str:
    """Sets the weights that training starts from and returns their source; support heads keep their random weights.

    BadInput when the weights file is no longer what was ``recorded`` of it.
    """
    from stages.networks.weights import load_weights

    if start is None:
        report = load_weights(network, settings.network.weights, settings.network.backbone)
        if recorded is not None and report.sha256 != recorded.digest:
            raise BadInput(f"{report.source}: the file was replaced while it was read. Run the command again.")
        return Path(report.source).name
    weights = start.weights(settings.checkpoint)
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith(SUPPORT)}
    missing, unexpected = network.load_state_dict(kept, strict=False)
    assert not unexpected, unexpected
    assert all(name.startswith(SUPPORT) for name in missing), missing
    return f"{start.path.name}, {settings.checkpoint}"


def input_statistics(data: Dataset, normalisation: str, backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that normalise the input of the network."""
    from stages.networks.bands import COLOURS
    from stages.networks.weights import IMAGENET_MEAN, IMAGENET_STD, backbone_statistics

    if data.bands != COLOURS and normalisation != "dataset":
        say(
            f"The images have {data.bands} bands: they are normalised by their own mean and deviation, and saturation, "
            "hue and grey are not augmented."
        )
        normalisation = "dataset"
    match normalisation:
        case "dataset":
            return tuple(data.attributes["mean"]), tuple(data.attributes["std"])
        case "imagenet":
            return IMAGENET_MEAN, IMAGENET_STD
        case _:
            return backbone_statistics(backbone)


def history_csv(history: "list[HistoryRow]") -> bytes:
    """One row per epoch; columns that only some epochs have (validation) stay empty in the others."""
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in history for name in row))
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue().encode()


def training_results(trained: "Trained", criterion: str) -> dict[str, Any]:
    """Number of epochs, the best epoch, and the best and last validation values (None without validation)."""
    validated = {int(row["epoch"]): row[f"val_{criterion}"] for row in trained.history if f"val_{criterion}" in row}
    return {
        "epochs": len(trained.history),
        "best_epoch": trained.best_epoch,
        f"best_val_{criterion}": validated.get(trained.best_epoch),
        f"last_val_{criterion}": list(validated.values())[-1] if validated else None,
    }


def training_summary(results: dict[str, Any], criterion: str, images: int) -> str:
    from stages.training.loop import criterion_text

    text = f"{results['epochs']} epochs on {images} images"
    if results["best_epoch"]:
        last, best = (criterion_text(criterion, results[f"{which}_val_{criterion}"]) for which in ("last", "best"))
        text += f", val {last} at the last epoch, {best} at the best ({results['best_epoch']})"
    return text
