"""Queries and answers of a run per ledger, and the labels made from them.

Ledgers are read column by column, not as `Annotations`: those of earlier versions lack later columns.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stages.artifacts.answers import ANSWERED_VOID, SKIPPED
from stages.artifacts.hdf5 import Artifact
from stages.pixels.void import VOID
from stages.reporting.pictures.sheet import spread_out
from stages.reporting.report.collect import Node, Run
from stages.runtime.console import Progress
from stages.runtime.errors import BadInput

MOST_MASKS = 200  # full masks counted per round: each must be decompressed
VOID_NAME, SKIPPED_NAME, UNTOLD = "void", "skipped", "no single class"
# Optional count of the last round in the header of a ledger -> column title, and whether it is a share
TOLD = {
    "label_precision": ("pixels right", True),
    "achievable_accuracy": ("achievable accuracy", True),
    "mean_set_size": ("classes per answer", False),
    "mean_distinct_classes": ("classes per image", False),
    "wrong": ("simulated errors", False),
    "pixels_asked_before": ("pixels queried before", False),
}


@dataclass(frozen=True)
class Asked:
    """What one ledger added to the previous one.

    `named`: answers per class name. An answer that names several classes is split equally, a mask by its pixels, so
    that the values sum to `answers`. `counted_masks`: (counted, of) if not all masks were counted.
    """

    file: str
    round: int | None
    unit: str
    kind: str
    queries: int | None
    answers: int
    clicks: float
    seconds: float
    total_clicks: float
    total_seconds: float
    images: int
    classes: list[str]
    named: dict[str, float]
    counted_masks: tuple[int, int] | None = None
    more: dict[str, float] = field(default_factory=dict)


def asked_of(run: Run) -> list[Asked]:
    """All ledgers of the run; those that cannot be read are named in its notes."""
    found = []
    for node in run.of_kind("annotations"):
        try:
            with Artifact(node.path) as ledger:
                found.append(asked(run, node, ledger))
        except BadInput as error:
            run.notes += [f"{node.file}: {fault}".replace(str(node.path), node.path.name) for fault in error.faults]
    return found


def asked(run: Run, node: Node, ledger: Artifact) -> Asked:
    columns = {name: ledger.read(f"answers/{name}") for name in ("image", "y", "round", "class", "state")}
    clicks, seconds = (ledger.read(f"answers/{name}").astype(np.float64) for name in ("clicks", "seconds"))
    new = added_rows(run, node, columns["round"])
    count = len(columns["image"])
    level = ledger.read("answers/image_level") if "answers/image_level" in ledger else np.zeros(count, np.uint8)
    of_images = bool(len(new)) and bool(level[new].all())
    sets = ledger.read("class_sets") if "class_sets" in ledger else None
    classes = list(ledger.attributes["classes"])
    if of_images and (sets is None or not sets[new].any()):
        classes = list(ledger.attributes.get("image_classes", classes))
    named, counted = count_named(ledger, columns, level, sets, new, classes)
    unit, kind, queries = what_was_asked(run, node)
    last = node.header.counts.get("last_round", {})
    more = {name: last[name] for name in TOLD if isinstance(last.get(name), int | float) and last[name]}
    return Asked(
        file=node.file,
        round=node.round,
        unit=unit,
        kind=kind,
        queries=queries,
        answers=len(new),
        clicks=float(clicks[new].sum()),
        seconds=float(seconds[new].sum()),
        total_clicks=float(clicks.sum()),
        total_seconds=float(seconds.sum()),
        images=len(np.unique(columns["image"][new])),
        classes=classes,
        named=named,
        counted_masks=counted,
        more=more,
    )


def added_rows(run: Run, node: Node, rounds: np.ndarray) -> np.ndarray:
    """Row numbers of the answers that the ledger adds to the one it was made from, whose rows come first."""
    before = node.header.inputs.get("annotations")
    if before is None:
        return np.arange(len(rounds))
    known = run.by_digest.get(before.digest)
    if known is not None and "answers" in known.header.counts:
        return np.arange(int(known.header.counts["answers"]), len(rounds))
    return np.flatnonzero(rounds == rounds.max(initial=-1))


def what_was_asked(run: Run, node: Node) -> tuple[str, str, int | None]:
    """Unit, kind of answer and number of the queries of a ledger; empty or None if unknown."""
    ref = node.header.inputs.get("queries")
    queries = run.by_digest.get(ref.digest) if ref is not None else None
    if queries is None:
        return "", "", None
    attributes = queries.header.attributes
    return attributes.get("unit", ""), attributes.get("answer", ""), queries.header.counts.get("queries")


def count_named(
    ledger: Artifact,
    columns: dict[str, np.ndarray],
    level: np.ndarray,
    sets: np.ndarray | None,
    new: np.ndarray,
    classes: Sequence[str],
) -> tuple[dict[str, float], tuple[int, int] | None]:
    """Answers per class among the rows ``new``, see `Asked`."""
    counts = np.zeros(256)
    label, state = columns["class"][new], columns["state"][new]
    open_rows = np.ones(len(new), dtype=bool)
    if sets is not None:
        several = sets[new].astype(np.float64)
        size = several.sum(1)
        named = size > 0
        shares = (several[named] / size[named, None]).sum(0)
        counts[: len(shares) - 1] += shares[:-1]
        counts[VOID] += shares[-1]
        open_rows &= ~named
    one = open_rows & (label != VOID)
    counts += np.bincount(label[one], minlength=256)
    void, skipped = open_rows & (state == ANSWERED_VOID), open_rows & (state == SKIPPED)
    counts[VOID] += int((void & ~one).sum())
    left = new[open_rows & ~one & ~void & ~skipped]  # masks and exact labels of regions
    untold, counted = 0.0, None
    region = ledger.read("answers/region")[left] if "answers/region" in ledger else np.full(len(left), -1)
    masks = left[(region < 0) & (columns["y"][left] < 0) & (level[left] == 0)]
    if len(masks):
        shares, looked = mask_shares(ledger, columns["image"][masks])
        counts += shares * len(masks)
        counted = (looked, len(masks)) if looked < len(masks) else None
        untold += len(masks) * (1 - shares.sum())
    exact = left[region >= 0]
    if len(exact):
        votes = ledger.read("votes")[exact].astype(np.float64) if "votes" in ledger else np.zeros((len(exact), 1))
        total = votes.sum(1)
        known = (votes[total > 0] / total[total > 0, None]).sum(0)
        counts[: len(known) - 1] += known[:-1]
        counts[VOID] += known[-1]
        untold += int((total == 0).sum())
    untold += len(left) - len(masks) - len(exact)
    found = {name: float(counts[index]) for index, name in enumerate(classes)} | {VOID_NAME: float(counts[VOID])}
    if skipped.any():
        found[SKIPPED_NAME] = float((skipped & ~one).sum())
    return found | ({UNTOLD: untold} if untold > 1e-9 else {}), counted


def mask_shares(ledger: Artifact, images: np.ndarray) -> tuple[np.ndarray, int]:
    """(256,) f64 mean share of the pixels per class in the masks of ``images`` (row numbers), and the number read."""
    ids = ledger.strings("images/id")
    chosen = images[spread_out(len(images), MOST_MASKS)]
    total = np.zeros(256)
    with Progress("counting masks", len(chosen)) as bar:
        for index in chosen.tolist():
            mask = ledger.read(f"masks/{ids[index]}")
            total += np.bincount(mask.ravel(), minlength=256) / mask.size
            bar.advance()
    return total / max(len(chosen), 1), len(chosen)


def clusters_of(run: Run) -> list[dict[str, Any]]:
    """Per selection over clusters: its round, and the queries, budget and score of each cluster."""
    return [
        {
            "round": node.round,
            "file": node.file,
            "queries": counts["cluster_queries"],
            "budget": counts.get("cluster_budget", []),
            "score": counts.get("cluster_score", []),
        }
        for node in run.of_kind("queries")
        if isinstance((counts := node.header.counts).get("cluster_queries"), list)
    ]


def pseudo_labels_of(run: Run) -> list[dict[str, Any]]:
    """Per file of pseudo-labels: its method and counts. Shares are in %, None if unknown."""
    found = []
    for node in run.of_kind("pseudo_labels"):
        counts, attributes = node.header.counts, node.header.attributes
        judged = counts.get("accepted", 0) + counts.get("refused", 0)
        found.append(
            {
                "round": node.round,
                "file": node.file,
                "method": attributes.get("method", "sieve"),
                "images": counts.get("images"),
                "regions": counts.get("regions"),
                "sieved_regions": counts.get("sieved_regions"),
                "kept": percent(counts.get("kept_pixels"), counts.get("region_pixels")),
                "labelled_pixels": counts.get("labelled_pixels"),
                "accepted": percent(counts.get("accepted"), judged),
                "judged": judged or None,
            }
        )
    return found


def percent(part: float | None, whole: float | None) -> float | None:
    return 100 * part / whole if part is not None and whole else None


def acceptance_of(run: Run) -> list[dict[str, Any]]:
    """Per training with a discriminator: the share of predictions it accepted, in the last epoch and at most."""
    found = []
    for node in run.of_kind("model"):
        history = node.path.with_name(node.path.stem + ".history.csv")
        if not node.header.attributes.get("discriminator") or not history.is_file():
            continue
        try:
            with history.open(encoding="utf-8", newline="") as file:
                rows = [100 * float(row["accepted"]) for row in csv.DictReader(file) if row.get("accepted")]
        except (OSError, ValueError):
            continue
        if rows:
            found.append({"round": node.round, "file": node.file, "last": rows[-1], "highest": max(rows)})
    return found
