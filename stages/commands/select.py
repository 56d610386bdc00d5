"""The stage `select`: which pixels, regions or images to query next."""

from pathlib import Path

import numpy as np

from stages.artifacts.annotations import Annotations
from stages.artifacts.clusters import Clusters
from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Writer, build_in_memory, require_made_from
from stages.artifacts.header import Header
from stages.artifacts.images_table import require_same_grid, write_images
from stages.artifacts.publish import publish_bytes
from stages.artifacts.purposes import AGAIN, CONTROL, GOLD, purpose_counts, write_purpose
from stages.artifacts.queries import COORDINATES
from stages.artifacts.request import Request, produce, refer
from stages.artifacts.scores import Scores
from stages.artifacts.superpixels import Superpixels, regions_of
from stages.runtime.console import say
from stages.runtime.errors import BadInput, NothingLeft
from stages.runtime.parts import RULES, Part
from stages.selecting.again import choose_again
from stages.selecting.chooser import Chooser
from stages.selecting.extra import Mixture
from stages.selecting.image_budget import counted_images
from stages.selecting.images import choose_images
from stages.selecting.pixels import choose_pixels, pixel_budget
from stages.selecting.regions import choose_regions
from stages.selecting.seconds import Allowance, allowance
from stages.settings.select import SelectSettings

TOLD = {"control": "drawn at random", "again": "asked again", "gold": "with known answers"}
IMAGE_ANSWERS = {"mask": "mask", "class": "image-class", "classes": "image-classes"}


def run(
    dataset: Path,
    scores: Path,
    output: Path,
    settings: SelectSettings,
    annotations: Path | None = None,
    superpixels: Path | None = None,
    clusters: Path | None = None,
    gold: Path | None = None,
    force: bool = False,
) -> Path:
    """Publishes the queries of the next round; what ``annotations`` covers is not queried again unless settings say so.

    ``gold`` is a ledger of known answers, a share of which is queried too. Scores of regions need their
    ``superpixels``. ``clusters`` of the same regions are read by rules that need their features. A budget that exceeds
    what is left takes all of it and says so. Raises NothingLeft if nothing is left, and BadInput for a rule or settings
    that do not apply to the scores' unit, and for scores, regions or a ledger of another dataset.
    """
    with Dataset(dataset) as data, Scores(scores) as scored:
        require_made_from(scored, "dataset", data)
        settings = settings.settled(str(scores), unit=scored.unit)
        rule = RULES[settings.rule]
        require_unit(rule, scored)
        ledger = None if annotations is None else Annotations(annotations)
        if ledger is not None:
            require_made_from(ledger, "dataset", data)
            require_same_grid(ledger, ledger.sizes, scored.sizes)
        regions = regions_of(superpixels, data, scored)
        grouped = clusters_of(clusters, rule, scored, regions)
        known = None if gold is None else Annotations(gold)
        if known is not None:
            require_made_from(known, "dataset", data)
            require_same_grid(known, known.sizes, scored.sizes)
        mixture = mixture_of(settings, ledger, known)
        require_mixable(settings, mixture, rule, scored)
        inputs = {
            "dataset": data,
            "scores": scored,
            "annotations": ledger,
            "superpixels": regions,
            "clusters": grouped,
            "gold": known,
        }
        request = Request("select", "queries", output, settings, refer(output, inputs))
        try:
            return produce(request, lambda: build(request, data, scored, regions, grouped, mixture, settings), force)
        except NothingLeft as error:
            if output.exists():
                raise BadInput(
                    f"{output} was made from other inputs. Remove it and what was made from it. {error}"
                ) from None
            raise


def require_unit(rule: Part, scores: Scores) -> None:
    """BadInput unless ``rule`` applies to the unit of ``scores``."""
    units = rule.facts["units"]
    if scores.unit in units:
        return
    others = [part.name for part in RULES.parts() if scores.unit in part.facts["units"]]
    raise BadInput(
        f"Rule {rule.name} serves {' and '.join(f'{unit}s' for unit in units)}, and {scores.path} has {scores.unit}s. "
        f"Use {', '.join(others)}."
    )


def clusters_of(path: Path | None, rule: Part, scores: Scores, regions: Superpixels | None) -> Clusters | None:
    """The clusters in ``path``; None if the rule does not read them, so that the queries do not depend on them."""
    if path is None:
        return None
    if regions is None:
        raise BadInput(f"--clusters applies to scores of regions, and {scores.path} has {scores.unit}s. Omit it.")
    needs = rule.facts["needs"]
    if "features" not in needs and ("clusters" not in needs or scores.has_clusters):
        return None
    clusters = Clusters(path)
    require_made_from(clusters, "superpixels", regions)
    return clusters


def mixture_of(settings: SelectSettings, ledger: Annotations | None, gold: Annotations | None) -> Mixture:
    """The queries that the rule does not choose."""
    round_number = 0 if ledger is None else ledger.next_round
    shares, mixed = {}, settings.mixed
    if mixed is not None:
        shares = {CONTROL: mixed.control, AGAIN: mixed.repeat, GOLD: mixed.gold_share if gold is not None else 0.0}
    return Mixture(ledger, gold, shares, round_number, settings.seed)


def require_mixable(settings: SelectSettings, mixture: Mixture, rule: Part, scores: Scores) -> None:
    """BadInput if the kind of answer, the rule or the scores do not allow the queries that the rule does not choose."""
    names = {CONTROL: "--control", AGAIN: "--repeat", GOLD: "--gold"}
    asked = ["--again"] if settings.again else [names[purpose] for purpose, share in mixture.shares.items() if share]
    if settings.again:
        if mixture.gold is not None:
            raise BadInput("--again queries only what was answered, so --gold has no share. Omit one of them.")
        if mixture.ledger is None:
            raise BadInput("--again queries what was answered. Pass the ledger with --annotations.")
        if settings.region is not None and settings.region.pixels is not None:
            raise BadInput("--again with --answer pixel needs scores of pixels. Score with --unit pixel.")
    if asked and scores.kept < 1:
        raise BadInput(
            f"{' and '.join(asked)}: {scores.path} has only the highest {scores.kept:.0%} of the scores. Score again "
            "without --keep-share, or leave it out."
        )
    exact = (settings.image is not None and settings.image.image_answer == "mask") or (
        settings.region is not None and settings.region.answer == "precise"
    )
    known = [name for name in asked if name != "--control"]
    if exact and known:
        raise BadInput(
            f"{' and '.join(known)}: only queries whose answer names classes are asked twice, not masks and exact "
            "labels. Leave it out."
        )
    if asked and not rule.facts["budget"] and not settings.again:
        say(f"note: {' and '.join(asked)} has no effect, because rule {rule.name} has no budget to take a share of")


def build(
    request: Request,
    data: Dataset,
    scores: Scores,
    regions: Superpixels | None,
    clusters: Clusters | None,
    mixture: Mixture,
    settings: SelectSettings,
) -> str:
    ledger, round_number = mixture.ledger, mixture.round
    rule, legacy = RULES[settings.rule], settings.stream == "legacy"
    chooser = Chooser(rule, settings.of_rule, round_number, settings.seed, legacy)
    if settings.of_rule is not None and (note := settings.of_rule.note(round_number)):
        say(f"note: {note}")
    answer, unit, privilege = "class", scores.unit, "none"
    budget = settings.budget_of(round_number)
    allowed = allowance_of(settings, scores, ledger)
    if allowed is not None and settings.again:
        budget = allowed.number()
    if settings.region is not None:
        assert regions is not None
        if settings.again:
            columns, counts = choose_again(scores, regions, mixture, budget)
        else:
            columns, counts = choose_regions(
                regions, scores, ledger, clusters, settings.region, budget, chooser, mixture, allowed
            )
        answer, privilege = settings.region.answer, regions.attributes["oracle_privilege"]
        if settings.region.pixels is not None:
            unit, answer = "pixel", "class"
    elif settings.image is not None:
        if settings.again:
            columns, counts = choose_again(scores, None, mixture, budget)
        else:
            counted = counted_images(data, scores.ids, settings.image)
            columns, counts = choose_images(scores, ledger, settings.image, counted, budget, chooser, mixture, allowed)
        answer = IMAGE_ANSWERS[settings.image.image_answer]
    else:
        assert settings.pixel is not None
        if settings.again:
            columns, counts = choose_again(scores, None, mixture, budget)
        else:
            total = pixel_budget(budget, len(scores.ids)) if allowed is None else allowed.number()
            columns, counts = choose_pixels(data, scores, ledger, settings.pixel, total, chooser, mixture)
        if settings.pixel.exclude_void:
            privilege = "void excluded from the draw"
    number = len(columns["image"])
    purpose = columns.get("purpose", np.zeros(number, dtype=np.uint8))
    known = int((purpose >= AGAIN).sum())
    if not number or (number == known < counts.get("asked", 0)):
        raise NothingLeft("Nothing left to query: the ledger covers the whole pool.")
    counts = {
        "queries": number,
        "images": len(np.unique(columns["image"])),
        "mean_score": float(columns["score"].mean(dtype=np.float64)),
        **counts,
        **purpose_counts(purpose),
    }
    if allowed is not None:
        units = columns.get("region", columns["image"])
        counts["seconds"] = float(np.broadcast_to(allowed.each, max(len(allowed.each), units.max() + 1))[units].sum())
    if "cluster" in columns:
        cluster = columns["cluster"][columns["cluster"] >= 0]
        counts["cluster_queries"] = np.bincount(cluster, minlength=clusters_in(scores, clusters)).tolist()

    def fill(writer: Writer) -> Header:
        write_images(writer, scores.ids, scores.sizes)
        nowhere = np.full(number, -1)
        for name in COORDINATES:
            writer.array(f"queries/{name}", columns.get(name, nowhere).astype(np.int32))
        writer.array("queries/score", columns["score"].astype(np.float32))
        write_purpose(writer, "queries/purpose", purpose)
        attributes = {
            "unit": unit,
            "answer": answer,
            "round": round_number,
            "measure": scores.attributes["measure"],
            "oracle_privilege": privilege,
        }
        return request.header(attributes, counts)

    publish_bytes(request.output, build_in_memory(fill))
    missing = f", {counts['shortfall']} fewer than budgeted (no more were left)" if counts.get("shortfall") else ""
    told = "".join(f", {count} {TOLD[name]}" for name, count in purpose_counts(purpose).items())
    taking = f", about {counts['seconds']:.0f} s" if allowed is not None else ""
    return f"round {round_number}, {number} {unit} queries in {counts['images']} images{taking}{told}{missing}"


def allowance_of(settings: SelectSettings, scores: Scores, ledger: Annotations | None) -> Allowance | None:
    """The seconds to spend and what each query takes; None for a budget of queries."""
    if settings.budget_seconds is None:
        return None
    assert settings.assumed is not None
    if not RULES[settings.rule].facts["budget"]:
        raise BadInput(f"Rule {settings.rule} has no budget. Omit --budget-seconds.")
    answer = "class"
    if settings.region is not None and settings.region.pixels is None:
        answer = settings.region.answer
    elif settings.image is not None:
        answer = IMAGE_ANSWERS[settings.image.image_answer]
    return allowance(settings.budget_seconds, scores, ledger, answer, settings.assumed)


def clusters_in(scores: Scores, clusters: Clusters | None) -> int:
    """Number of clusters, including those without queries."""
    return len(scores.cluster_tables().regions) if clusters is None or scores.has_clusters else clusters.number
