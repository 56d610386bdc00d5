"""docs/reproduce.md: the published tables, how to run them, what that takes, and what was measured."""

import json
import shlex
from pathlib import Path
from typing import Any

from stages.recipes.measured_tables import spread_text
from stages.recipes.tables import PublishedTable, Row, load_table, table_names
from tests.reference.costs import Estimate, estimate, measured_steps
from tests.reference.markdown import code, line, page, table

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "reproduce"

INTRODUCTION = """Every table and curve of the publications that can be run here, row by row: what to run, what it
takes, the published numbers and ours. The column *ours* is empty where nothing has been measured at the published
scale; so far that is everywhere, since no GPU was at hand. Measurements at reduced scale are under
[results](README.md#results).

```sh
alseg reproduce                                           # list the tables
alseg reproduce pixelpick-camvid                          # published numbers beside those measured so far
alseg prepare camvid --root /data/camvid -o camvid.h5     # the command of the table
alseg reproduce pixelpick-camvid camvid.h5                # write a Makefile per run, and one for all
make -f runs/pixelpick-camvid/Makefile                    # run them all; -j2: two at a time
```

`--row` plans one row, `--seeds` another number of runs, `--set` overrides a setting in all rows, such as the file of
the initial weights. Superpixels and their clusters are made once for all runs in which they have the same settings. A
table is a TOML file, so one of your own works like those shipped: `alseg reproduce mine.toml data.h5`.

To fill the column *ours*, copy the `measured.json` of a finished table to `docs/results/reproduce/TABLE.json` and run
`make docs`."""

ESTIMATES = """## How hours and memory are estimated

They are estimates, not measurements: no GPU was at hand. `make estimate` runs every row at its published image size on
generated images, with one step per training and two images per batch, and measures that step on a CPU in float32:
floating-point operations of the forward and backward pass, calls of kernels, bytes kept for the backward pass. The
numbers are in [published-steps.json](results/published-steps.json). A row whose steps have not been measured since its
network last changed has no estimate.

- A step on one H100 takes the longest of: its operations at 297 Tflop/s (30 % of the bfloat16 peak of 989), five moves
  of the kept bytes in bfloat16 at 2 TB/s (60 % of 3.35), and 10 µs per kernel. Small networks are bound by the last.
- A pass over an image takes a third of a step's time per image, in proportion to the pixels.
- Hours are those of all runs of the row: steps of all rounds, validations, scoring, merging, pseudo-labels and
  evaluations. Loading data and superpixels, which run on the CPU, are left out.
- Memory is that of a training step in float32: parameters, gradients, the state of the optimiser, and the kept bytes
  times the batch. In bfloat16, the default on a GPU, the kept bytes are about half."""


def reproduce_page() -> str:
    measured = measured_steps()
    tables = [load_table(name) for name in table_names()]
    overview = [
        (f"[{code(each.name)}](#{each.name})", each.title, str(len(each.rows)), code(each.profile), numbers(each))
        for each in tables
    ]
    return page(
        [
            "# Reproduce published tables",
            INTRODUCTION,
            table(("table", "contents", "rows", "profile", "published numbers"), overview),
            *(section(each, measured) for each in tables),
            ESTIMATES,
        ]
    )


def numbers(found: PublishedTable) -> str:
    """How many of the rows have published numbers."""
    having = sum(bool(row.mean) for row in found.rows)
    return "all" if having == len(found.rows) else f"{having} of {len(found.rows)} rows" if having else "none known"


def section(found: PublishedTable, measured: dict[str, Any]) -> str:
    data = found.prepare.split()[-1]
    commands = [found.prepare, f"alseg reproduce {found.name} {data}", f"make -f runs/{found.name}/Makefile"]
    epoch = {"best": "best epoch", "last": "last epoch"}[found.checkpoint]
    source = f"{found.title}: mIoU in %, {epoch}. Source: {found.source}."
    runs = [run_row(found, row, estimate(found, row, measured)) for row in found.rows]
    own = results_of(found)
    lines = [line for row in found.rows for line in result_lines(found, row, own)]
    weights = f"Initial weights of ours: {', '.join(own['weights'])}; on {', '.join(own['devices'])}." if own else ""
    return page(
        [
            f"## {found.name}",
            source,
            found.note,
            "```sh\n" + "\n".join(commands) + "\n```",
            table(("row", "recipe and settings", "runs", "steps per run", "GPU hours", "memory (GiB)"), runs),
            "| row | " + found.cost + " | published | ours |\n|---|---|---|---|\n" + "\n".join(lines),
            weights,
        ]
    )


def run_row(found: PublishedTable, row: Row, cost: Estimate | None) -> tuple[str, ...]:
    settings = " ".join(f"--set {shlex.quote(each)}" for each in row.set)
    seeds = found.seeds_of(row)
    words = code(" ".join([row.recipe, settings]).strip())
    note = f" {row.note}" if row.note else ""
    if cost is None:
        return row.name, words + note, str(seeds), "", "", ""
    steps = f"{cost.steps:,}".replace(",", " ")
    return row.name, words + note, str(seeds), steps, rounded(cost.hours * seeds), rounded(cost.memory)


def rounded(value: float) -> str:
    """Two significant digits, never in exponents."""
    return f"{float(f'{value:.2g}'):g}"


def results_of(found: PublishedTable) -> dict[str, Any]:
    """What was measured at the published scale; {} for nothing."""
    path = RESULTS / f"{found.name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def result_lines(found: PublishedTable, row: Row, own: dict[str, Any]) -> list[str]:
    """A line per label, or one for all of them if nothing is known of the row."""
    labels, mine = found.labels_of(row), own.get("rows", {}).get(row.name)
    if not row.mean and mine is None:
        through = labels[0] if len(labels) == 1 else f"{labels[0]} to {labels[-1]}"
        return [line((row.name, through, "", ""))]
    lines = []
    for place, (label, published) in enumerate(zip(labels, found.published(row), strict=True)):
        ours = mine[place] if mine else None
        cells = [row.name if place == 0 else "", label, spread_text(*published), "" if ours is None else our_text(ours)]
        lines.append(line(cells))
    return lines


def our_text(ours: dict[str, Any]) -> str:
    runs = f" ({ours['runs']} runs)" if ours["runs"] > 1 else " (1 run)"
    return spread_text(ours["mean"], ours["std"]) + runs
