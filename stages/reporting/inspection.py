"""`alseg inspect`: kind, provenance and contents of an artifact."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from stages.artifacts.dataset import Dataset
from stages.artifacts.hdf5 import Artifact
from stages.artifacts.model import Model
from stages.artifacts.opening import open_any
from stages.artifacts.queries import Queries
from stages.artifacts.request import publish_extra
from stages.artifacts.structure import pattern_of
from stages.reporting.agreement import compared
from stages.reporting.diagnostics import against_truth, kind_specific
from stages.reporting.places import places_table, sources_table
from stages.runtime.console import say

# Printed in %, like precisions
SHARES = (
    *("kept", "achievable_accuracy", "pixels_in_no_region", "sieve_recall"),
    *("share_of_regions", "share_of_pixels"),
    *("coverage", "miou", "miou_where_labelled", "miou_accepted", "regions_with_one_class", "pixels_in_set"),
)
MOST_ARRAYS = 200  # per group; larger groups give the range of evenly spaced members


def run(
    file: Path, as_json: bool, dataset: Path | None, image: str | None, png: Path | None, against: Path | None = None
) -> None:
    """Prints a description, or draws the artifact for one image."""
    artifact = open_any(file)
    data = None if dataset is None else Dataset(dataset)
    if png is not None:
        from stages.reporting.pictures.overlay import draw

        publish_extra(png, draw(artifact, data, image))
        say(f"wrote {png}")
        return
    description = describe(artifact, data)
    if against is not None:
        description |= compared(artifact, open_any(against))
    if as_json:
        print(json.dumps(description, indent=1), flush=True)
    else:
        print_description(description)


def describe(artifact: Artifact | Model, data: Dataset | None = None) -> dict[str, Any]:
    """Description of an artifact as JSON values; with ``data``, also its accuracy against the ground truth."""
    header = artifact.header
    found: dict[str, Any] = {
        "file": str(artifact.path),
        "kind": header.kind,
        "schema_version": header.schema_version,
        "stage": header.stage,
        "created": header.created,
        "digest": header.digest,
        "seed": header.seed,
        "inputs": {role: vars(ref) for role, ref in header.inputs.items()},
        "settings": header.settings,
        "versions": header.versions,
        "counts": header.counts,
        "attributes": header.attributes,
    }
    if header.pruned:
        found["arrays"] = {} if isinstance(artifact, Model) else array_table(artifact)
        return found
    if isinstance(artifact, Model):
        tensors = artifact.tensors()
        found["arrays"] = {
            f"{prefix}.*": {"number": len(names), "values": int(sum(tensors[name].numel() for name in names))}
            for prefix in [*artifact.checkpoints(), *(["discriminator"] if artifact.has_discriminator else [])]
            for names in [[name for name in tensors if name.startswith(f"{prefix}.")]]
        }
    else:
        found["arrays"] = array_table(artifact)
    found |= kind_specific(artifact)
    if isinstance(artifact, Dataset) and (sources := sources_table(artifact)):
        found["sources"] = sources
    if isinstance(artifact, Queries) and data is not None and (places := places_table(artifact, data)):
        found["places"] = places
    truth = {} if data is None else against_truth(artifact, data)
    return found | ({"against_truth": truth} if truth else {})


def array_table(artifact: Artifact) -> dict[str, Any]:
    """Number, types, shapes and range of values per array, or per group of arrays named after images."""
    groups: dict[str, list[tuple[str, Any]]] = {}
    for path, dataset in artifact.arrays():
        pattern = pattern_of(path)
        name = pattern.replace("*", "<id>") if pattern in artifact.described_arrays else path
        groups.setdefault(name, []).append((path, dataset))
    table = {}
    for name, members in groups.items():
        shapes = sorted({dataset.shape for _, dataset in members})
        entry: dict[str, Any] = {
            "number": len(members),
            "dtype": members[0][1].dtype.str.removeprefix("|").removeprefix("<"),
            "shape": list(shapes[0]) if len(shapes) == 1 else f"{list(shapes[0])} to {list(shapes[-1])}",
        }
        step = max(1, len(members) // MOST_ARRAYS)
        if members[0][1].dtype.kind in "iuf" and any(0 not in shape for shape in shapes):
            ranges = [value_range(artifact.read(path)) for path, _ in members[::step]]
            extremes = [found for found in ranges if found is not None]
            if extremes:
                entry["range"] = [min(low for low, _ in extremes), max(high for _, high in extremes)]
            if step > 1:
                entry["range_over"] = len(ranges)
        table[name] = entry
    return table


def value_range(values: np.ndarray) -> tuple[float, float] | None:
    """Lowest and highest value that is not NaN; None if there is none."""
    if values.dtype.kind == "f" and np.isnan(values).all():
        return None
    return float(np.nanmin(values)), float(np.nanmax(values))


def print_description(description: dict[str, Any]) -> None:
    """The description as tables."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{description['file']}[/bold]: {description['kind']}", markup=True)
    facts = Table(show_header=False, box=None, pad_edge=False)
    facts.add_row("written by", f"{description['stage']}, {description['created']}, seed {description['seed']}")
    facts.add_row("digest", description["digest"])
    for role, ref in description["inputs"].items():
        facts.add_row(f"from {role}", f"{ref['file']} ({ref['digest'][:12]})")
    facts.add_row("settings", pairs(description["settings"]))
    facts.add_row("counts", pairs(description["counts"]))
    for name, value in description["attributes"].items():
        facts.add_row(name, pairs(value) if isinstance(value, dict) else short_json(value))
    facts.add_row("versions", pairs(description["versions"]))
    console.print(facts)
    arrays = Table("array", "number", "type", "shape", "range", box=None, pad_edge=False)
    for name, entry in description["arrays"].items():
        bounds = " to ".join(f"{value:g}" for value in entry["range"]) if "range" in entry else ""
        of = f" (over {entry['range_over']})" if "range_over" in entry else ""
        shape = entry.get("shape", f"{entry.get('values', '')} values")
        arrays.add_row(name, str(entry["number"]), entry.get("dtype", ""), str(shape), bounds + of)
    console.print(arrays)
    if "pruned" in description["attributes"]:
        console.print("Its content was pruned: only its header and small tables are left.")
    for title in ("splits", "cost", "image_classes", "class_pixels", "class_labels", "class_clicks"):
        if title in description:
            print_shares(console, title.replace("_", " "), description[title])
    for title in ("rounds", "clusters", "sources", "places", "answered_twice", "known_answers"):
        if description.get(title):
            console.print(rows_table(description[title]))
    if "against" in description:
        table = Table("compared with", "", box=None, pad_edge=False)
        for name, value in description["against"].items():
            table.add_row(name.replace("_", " "), f"{value:.1%}" if name == "share" else short_json(value))
        console.print(table)
    if "against_truth" in description:
        table = Table("against the ground truth", "", box=None, pad_edge=False)
        for name, value in description["against_truth"].items():
            table.add_row(name.replace("_", " "), number(name, value))
        console.print(table)
    for result in description.get("results", []):
        values = {name: "none" if value is None else f"{100 * value:.1f}" for name, value in result["iou"].items()}
        miou = "none" if result["miou"] is None else f"{100 * result['miou']:.2f}"
        console.print(f"{result['model']} ({result['checkpoint']}): mIoU {miou}; {pairs(values)}")


def print_shares(console: Console, title: str, values: dict[str, Any]) -> None:
    total = sum(values.values())
    table = Table(title, "", "", box=None, pad_edge=False)
    for name, value in values.items():
        share = f"{100 * value / total:.2f} %" if total and title.startswith("class") else ""
        table.add_row(name, f"{value:g}" if isinstance(value, float) else str(value), share)
    console.print(table)


def rows_table(rows: list[dict[str, Any]]) -> Table:
    names = list(rows[-1])  # the last row has most columns
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name.replace("_", " "), justify="right", overflow="fold")
    for values in rows:
        table.add_row(*(number(name, values[name]) if name in values else "" for name in names))
    return table


def number(name: str, value: float | None) -> str:
    """A share in %, anything else as a number."""
    if value is None:
        return "none"
    if name in SHARES or name.startswith("label_precision"):
        return f"{100 * value:.2f} %"
    if name.startswith("mean_"):
        return f"{value:.2f}"
    if name.startswith("map_"):
        return f"{value:.10g}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {short_json(value)}" for name, value in values.items())


def short_json(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 400 else f"{text[:400]}..."
