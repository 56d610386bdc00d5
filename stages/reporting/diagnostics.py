"""What `alseg inspect` computes per kind of artifact: histograms, cost and label precision."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import ANSWERED_VOID
from stages.artifacts.clusters import Clusters
from stages.artifacts.dataset import Dataset
from stages.artifacts.evaluation import Evaluation
from stages.artifacts.hdf5 import Artifact, require_made_from
from stages.artifacts.model import Model
from stages.artifacts.opening import open_input
from stages.artifacts.pseudo_labels import PseudoLabels
from stages.artifacts.superpixels import Superpixels
from stages.pixels.void import VOID
from stages.regions.votes import achievable, label_precision, vote_all
from stages.reporting.people import gold_of, people_of
from stages.reporting.quality import KNOWN, TWICE, people_table
from stages.runtime.console import Progress
from stages.runtime.numbers import defined


def kind_specific(artifact: Artifact | Model) -> dict[str, Any]:
    """Class histogram, cost and scores, if the kind has them."""
    match artifact:
        case Dataset():
            splits = list(artifact.splits.values())
            images = {"splits": {name: splits.count(name) for name in sorted(set(splits))}}
            if "masks" not in artifact:
                return images
            maps = (artifact.read(f"masks/{path}") for path, _ in artifact.arrays("masks"))
            return images | {"class_pixels": histogram(value_counts(maps), artifact.classes)}
        case Clusters():
            return {"clusters": cluster_table(artifact.header.counts)}
        case Annotations():
            classes = artifact.attributes["classes"]
            found: dict[str, Any] = {"cost": artifact.cost()}
            if len(artifact.image_rows):
                found["image_classes"] = image_classes(artifact)
            if len(artifact.image_rows) < len(artifact.answers) or not len(artifact.answers):
                labels = histogram(answer_counts(artifact), classes)
                several = pixels_with_several(artifact)
                if several:
                    labels["void"] -= several
                    labels["several classes"] = several
                found["class_labels"] = labels
            if twice := people_of(artifact):
                found["answered_twice"] = people_table(twice, TWICE)
            if known := gold_of(artifact):
                found["known_answers"] = people_table(known, KNOWN)
            return found | (rounds_of_regions(artifact) if artifact.region_files else {})
        case PseudoLabels():
            classes = artifact.attributes["classes"]
            counts = value_counts(artifact.label_map(image, len(classes)) for image in artifact.labelled_ids())
            void = int(counts[len(classes)])  # a separate class for models that learned it
            return {
                "cost": artifact.cost(),
                "class_labels": counts_by_name(counts, classes) | ({"void": void} if void else {}),
            }
        case Evaluation():
            miou, checkpoints = artifact.read("miou"), artifact.strings("models/checkpoint")
            files, iou = artifact.strings("models/file"), artifact.read("iou")
            return {
                "results": [
                    {
                        "model": files[row],
                        "checkpoint": checkpoints[row],
                        "miou": defined(miou[row]),
                        "iou": {
                            name: None if np.isnan(value) else float(value)
                            for name, value in zip(artifact.attributes["classes"], iou[row], strict=True)
                        },
                    }
                    for row in range(len(files))
                ]
            }
        case _:
            return {}


def image_classes(ledger: Annotations) -> dict[str, int]:
    """Images per image-level class; an answer may name several. "none": images without a class."""
    labels, sets = ledger.answers.label[ledger.image_rows], ledger.answers.class_sets[ledger.image_rows]
    if ledger.names_sets:
        counts, nothing = sets.sum(0, dtype=np.int64), int((~sets.any(1)).sum())
    else:
        counts, nothing = np.bincount(labels, minlength=256), int((labels == VOID).sum())
    return counts_by_name(counts, ledger.image_classes) | ({"none": nothing} if nothing else {})


def cluster_table(counts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Regions and pixels per cluster and their shares of the total, from the header of a clusters file."""
    regions, pixels = counts["regions_per_cluster"], counts["pixels_per_cluster"]
    return [
        {
            "cluster": number,
            "regions": regions[number],
            "share_of_regions": share(regions[number], sum(regions)),
            "pixels": pixels[number],
            "share_of_pixels": share(pixels[number], sum(pixels)),
        }
        for number in range(len(regions))
    ]


def value_counts(maps: Iterable[np.ndarray]) -> np.ndarray:
    """(256,) i64 pixels per value of the ``maps``, each (H,W) u8."""
    counts = np.zeros(256, dtype=np.int64)
    for values in maps:
        counts += np.bincount(values.ravel(), minlength=256)
    return counts


def counts_by_name(counts: np.ndarray, classes: Sequence[str]) -> dict[str, int]:
    return {name: int(counts[index]) for index, name in enumerate(classes)}


def histogram(counts: np.ndarray, classes: Sequence[str]) -> dict[str, int]:
    return counts_by_name(counts, classes) | {"void": int(counts[VOID])}


def answer_counts(ledger: Annotations) -> np.ndarray:
    """(256,) i64 labelled pixels per class; 255: queried pixels without a class."""
    answers, counts = ledger.answers, np.zeros(256, dtype=np.int64)
    dense = {ledger.ids[index] for index in np.unique(answers.image[answers.of_regions])} | set(ledger.exact_ids)
    for image, rows in ledger.rows.items():
        if image not in dense:  # points only: no map needed
            counts += np.bincount(answers.label[rows][answers.y[rows] >= 0], minlength=256)
            continue
        labels = ledger.label_map(image)
        asked = ledger.queried_area(image) | (image in ledger.mask_ids)
        asked[ledger.queried_pixels(image)] = True
        counts += np.bincount(labels[asked | (labels != VOID)], minlength=256)
    return counts


def pixels_with_several(ledger: Annotations) -> int:
    """Pixels without a single class in regions with several classes; `answer_counts` counts them as void."""
    several = (ledger.answers.class_sets.sum(1) > 1) & ledger.answers.of_regions
    found = 0
    for image, rows in ledger.rows.items():
        if several[rows].any():
            places, sets = ledger.set_map(image)
            found += int(((places >= 0) & (sets.sum(1) > 1)[places] & (ledger.label_map(image) == VOID)).sum())
    return found


def rounds_of_regions(ledger: Annotations) -> dict[str, Any]:
    """Results per round and clicks per class of a ledger with answers about regions.

    In rounds of class sets, `label_precision` covers the sets with one class only; `mean_set_size` includes empty sets
    and void. `pixels_in_set` is the share of the non-void pixels whose class was named: an upper bound on the accuracy
    of labels made from the sets.
    """
    answers = ledger.answers
    sizes = answers.areas.sizes()
    rounds = []
    for number in range(ledger.next_round):
        rows = np.flatnonzero(answers.round == number)
        sets = answers.class_sets[rows]
        rounds.append(
            {
                "round": number,
                "answers": len(rows),
                "void": int((answers.state[rows] == ANSWERED_VOID).sum()),
                "clicks": float(answers.clicks[rows].sum(dtype=np.float64)),
                "pixels": int(sizes[rows].sum()),
                "label_precision": label_precision(answers.votes[rows], answers.label[rows]),
            }
        )
        if sets.any():
            seen = (answers.votes[rows] * sets)[:, :-1].sum(dtype=np.int64)
            rounds[-1] |= {
                "mean_set_size": float(sets.sum(1).mean()),
                "pixels_in_set": share(seen, answers.votes[rows, :-1].sum(dtype=np.int64)),
            }
    again = ledger.header.counts.get("last_round", {}).get("pixels_asked_before")
    if rounds and again is not None:
        rounds[-1]["pixels_asked_before"] = again
    return {"rounds": rounds, "class_clicks": class_clicks(ledger)}


def class_clicks(ledger: Annotations) -> dict[str, float]:
    """Clicks per class named for pixels and regions.

    The clicks of a class set are split equally among its classes (one each, in simulations). Entries without clicks are
    left out. "nothing named": clicks that say no class is present, in rounds of class sets that do not offer void.
    "no single class": exact labels of a region have many classes, and a skipped query has none.
    """
    answers, classes = ledger.answers, ledger.attributes["classes"]
    clicks = answers.clicks.astype(np.float64) * (answers.image_level == 0)
    sets = answers.class_sets.astype(np.float64)
    sizes = sets.sum(1)
    of_sets = sizes > 0
    each = np.where(of_sets, clicks / np.maximum(sizes, 1), 0) @ sets
    each[:-1] += np.bincount(answers.label, weights=clicks * ~of_sets, minlength=256)[: len(classes)]
    void = ~of_sets & (answers.state == ANSWERED_VOID)
    empty = void & np.isin(answers.round, answers.round[of_sets])
    other = ~of_sets & ~void & (answers.label == VOID)
    spent = dict(zip(classes, each[:-1].tolist(), strict=True))
    spent["void"] = float(each[-1] + clicks[void & ~empty].sum())
    spent["nothing named"], spent["no single class"] = float(clicks[empty].sum()), float(clicks[other].sum())
    return {name: value for name, value in spent.items() if value}


def share(part: Any, whole: Any) -> float | None:
    """``part / whole``; None if ``whole`` is 0."""
    return float(part / whole) if whole else None


def against_truth(artifact: Artifact | Model, data: Dataset) -> dict[str, Any]:
    """Accuracy of regions or pseudo-labels; empty for other kinds, or if an image has no mask.

    Reads all images of the artifact. BadInput if the artifact was made from another dataset.
    """
    if not isinstance(artifact, Superpixels | PseudoLabels):
        return {}
    require_made_from(artifact, "dataset", data)
    if not all(f"masks/{image}" in data for image in artifact.ids):
        return {}
    if isinstance(artifact, Superpixels):
        return truth_of_regions(artifact, data)
    method = artifact.attributes.get("method", "sieve")
    if method == "sieve":
        return truth_of_sieved(artifact, data)
    if method == "gated":
        return truth_of_gated(artifact, data)
    if method == "neighbours":
        return truth_of_spread(artifact, data)
    return truth_of_disambiguated(artifact, data)


def truth_of_regions(regions: Superpixels, data: Dataset) -> dict[str, Any]:
    """Best accuracy with one class per region, regions per image, and the share of pixels in no region."""
    best, pixels, outside, total = 0, 0, 0, 0
    with Progress("comparing with the ground truth", len(regions.ids)) as bar:
        for image in regions.ids:
            labels = regions.labels(image)
            right, known = achievable(
                vote_all(data.mask(image, regions.sizes[image]), labels, regions.number(image), len(data.classes))
            )
            best, pixels = best + right, pixels + known
            outside += int((labels < 0).sum())
            total += labels.size
            bar.advance()
    return {
        "achievable_accuracy": share(best, pixels),
        "regions_per_image": regions.count / len(regions.ids),
        "pixels_in_no_region": share(outside, total),
    }


def truth_of_sieved(pseudo: PseudoLabels, data: Dataset) -> dict[str, Any]:
    """Label precision in the answered regions before and after the sieve.

    A pixel in several regions counts once, with the last answer. Pixels labelled exactly are left out.
    """
    ledger = open_input(pseudo, "annotations", Annotations)
    before, after, right_in_both = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64), 0
    with Progress("comparing with the ground truth", len(pseudo.ids)) as bar:
        for image in pseudo.ids:
            region = ledger.queried_area(image) & ~labelled_exactly(ledger, image)
            truth = data.mask(image, ledger.sizes[image])[region]
            given, kept = ledger.label_map(image)[region], pseudo.label_map(image)[region]
            before += tally(given, truth)
            after += tally(kept, truth)
            right_in_both += int(((given == truth) & (kept == truth) & (truth != VOID)).sum())
            bar.advance()
    return {
        "pixels_before": int(before[0]),
        "pixels_after": int(after[0]),
        "kept": share(after[0], before[0]),
        "label_precision_before": share(before[2], before[1]),
        "label_precision_after": share(after[2], after[1]),
        "sieve_recall": share(right_in_both, before[2]),
    }


def labelled_exactly(ledger: Annotations, image: str) -> np.ndarray:
    """(H,W) bool: queried as single pixels or labelled exactly."""
    exact = np.zeros(ledger.sizes[image], dtype=bool)
    if image in ledger.exact_ids:
        exact = (ledger.read(f"masks/{image}") != VOID) | (image in ledger.mask_ids)
    exact[ledger.queried_pixels(image)] = True
    return exact


def truth_of_disambiguated(pseudo: PseudoLabels, data: Dataset) -> dict[str, Any]:
    """Precision of labels made from class sets, inside the queried regions and beyond them.

    The label void, of models that learned it, is right where the truth is void and wrong elsewhere. Other labels are
    not scored where the truth is void, as in an evaluation. `coverage` is the share of the pixels of a known class that
    are labelled, in the queried images. `miou` counts unlabelled pixels as misses, `miou_where_labelled` leaves them
    out; void is not a class in either. Pixels labelled exactly count in these three, but are neither inside nor beyond.
    `regions_with_one_class` is the share of the non-empty sets that name one class, or only void.
    """
    from stages.evaluating.confusion import mean_iou

    ledger, classes = open_input(pseudo, "annotations", Annotations), len(data.classes)
    inside, beyond = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    sizes = ledger.answers.class_sets.sum(1)
    # rows: true class; columns: class, void, none
    confusion = np.zeros((classes, classes + 2), dtype=np.int64)
    with Progress("comparing with the ground truth", len(pseudo.ids)) as bar:
        for image in pseudo.ids:
            truth, labels = data.mask(image, pseudo.sizes[image]), pseudo.label_map(image, classes)
            # void is known, to the label void alone
            void = np.where((truth == VOID) & (labels == classes), np.uint8(classes), truth)
            exact, asked = labelled_exactly(ledger, image), ledger.queried_area(image)
            for counts, where in ((inside, asked & ~exact), (beyond, ~asked & ~exact)):
                counts += tally(labels[where], void[where])
            known = truth != VOID
            found = np.where(labels[known] == VOID, classes + 1, labels[known])
            pairs = truth[known].astype(np.int64) * (classes + 2) + found
            confusion += np.bincount(pairs, minlength=confusion.size).reshape(confusion.shape)
            bar.advance()
    return {
        "pixels_inside": int(inside[0]),
        "pixels_beyond": int(beyond[0]),
        "label_precision_inside": share(inside[2], inside[1]),
        "label_precision_beyond": share(beyond[2], beyond[1]),
        "coverage": share(confusion[:, :-1].sum(), confusion.sum()),
        "miou": defined(mean_iou(confusion)),
        "miou_where_labelled": defined(mean_iou(confusion[:, :-1])),
        "regions_with_one_class": share((sizes == 1).sum(), (sizes > 0).sum()),
    }


def truth_of_gated(pseudo: PseudoLabels, data: Dataset) -> dict[str, Any]:
    """Precision of the predictions that the discriminator accepted; images with a full mask are left out.

    `coverage` is the share of the pixels of a known class that got labels, over all images without a full mask.
    """
    from stages.evaluating.confusion import mean_iou

    classes, accepted = len(data.classes), pseudo.read("images/accepted").astype(bool)
    judged = ~np.isnan(pseudo.read("images/score"))
    confusion, known = np.zeros((classes, classes + 1), dtype=np.int64), 0  # last column: void, if it is learnt
    with Progress("comparing with the ground truth", int(judged.sum())) as bar:
        for row in np.flatnonzero(judged).tolist():
            image = pseudo.ids[row]
            truth = data.mask(image)
            of_class = truth != VOID
            known += int(of_class.sum())
            if accepted[row]:
                labels = pseudo.label_map(image, classes)[of_class]
                pairs = truth[of_class].astype(np.int64) * (classes + 1) + labels
                confusion += np.bincount(pairs, minlength=confusion.size).reshape(confusion.shape)
            bar.advance()
    return {
        "images_judged": int(judged.sum()),
        "images_accepted": int(accepted.sum()),
        "coverage": share(confusion.sum(), known),
        "label_precision_accepted": share(np.trace(confusion), confusion.sum()),
        "miou_accepted": defined(mean_iou(confusion)),
    }


def truth_of_spread(pseudo: PseudoLabels, data: Dataset) -> dict[str, Any]:
    """Precision of the labels that were spread from answers, in all and per class; answered pixels count too.

    `coverage` is the share of the pixels of a known class that are labelled. `miou` counts unlabelled pixels as misses,
    `miou_where_labelled` leaves them out. Pixels that took the label void are unlabelled.
    """
    from stages.evaluating.confusion import mean_iou

    classes = len(data.classes)
    confusion = np.zeros((classes, classes + 1), dtype=np.int64)  # rows: true class; last column: none
    with Progress("comparing with the ground truth", len(pseudo.ids)) as bar:
        for image in pseudo.ids:
            truth, labels = data.mask(image, pseudo.sizes[image]), pseudo.label_map(image)
            known = truth != VOID
            pairs = truth[known].astype(np.int64) * (classes + 1) + labels[known].clip(max=classes)
            confusion += np.bincount(pairs, minlength=confusion.size).reshape(confusion.shape)
            bar.advance()
    labelled = confusion[:, :-1]
    of_class = zip(data.classes, np.diag(labelled), labelled.sum(0), strict=True)
    return {
        "coverage": share(labelled.sum(), confusion.sum()),
        "label_precision": share(np.trace(labelled), labelled.sum()),
        "miou": defined(mean_iou(confusion)),
        "miou_where_labelled": defined(mean_iou(labelled)),
        **{f"label_precision_of_{name}": share(right, pixels) for name, right, pixels in of_class},
    }


def tally(labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(3,) i64: labelled pixels, those with a known truth, those that are right. Both arguments (P,) u8, 255 = none."""
    known = (labels != VOID) & (truth != VOID)
    return np.array([(labels != VOID).sum(), known.sum(), (known & (labels == truth)).sum()])
