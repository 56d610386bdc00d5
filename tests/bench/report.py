"""The generated section of docs/benchmarks.md."""

import os
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from tests.bench.measure import ROOT, SEED, Row

DOCUMENT = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
PACKAGES = ("torch", "numpy", "h5py", "timm")


def environment(command: str) -> list[Row]:
    """Where and with what it was measured, as it is now."""
    import platform

    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    versions = ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)])
    return [
        Row("command", f"`{command}`"),
        Row("date", time.strftime("%Y-%m-%d")),
        Row("CPU", f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores"),
        Row("memory", f"{memory:.0f} GiB"),
        Row("GPU", gpu),
        Row("versions", versions),
        Row("threads of torch", f"{torch.get_num_threads()} (score and select: 1)"),
        Row("load average before", f"{os.getloadavg()[0]:.2f} (an idle machine: near 0)"),
        Row("seed", str(SEED)),
    ]


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def section(groups: Mapping[str, Sequence[Row]], machine: Sequence[Row]) -> str:
    """The report in Markdown: where it was measured, then a table per group, each with when it was measured."""
    lines = ["| | |", "|---|---|", *(f"| {row.what} | {row.result} |" for row in machine)]
    return "\n".join([*lines, *(block(title, rows, machine) for title, rows in groups.items())])


def block(title: str, rows: Sequence[Row], machine: Sequence[Row]) -> str:
    """The table of one group."""
    known = {row.what: row.result for row in machine}
    measured = f"{known['command']}, {known['date']}, load average before {known['load average before']}"
    lines = ["", f"### {title}", "", measured, "", "| what | result | target | public code |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.what} | {row.result} | {row.target} | {row.public} |" for row in rows)])


def replace_section(document: str, text: str) -> str:
    """``document`` with ``text`` between the markers."""
    before, _, after = parts(document)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def replace_blocks(document: str, groups: Mapping[str, Sequence[Row]], machine: Sequence[Row]) -> str:
    """``document`` with the tables of ``groups`` in place of their old ones; new ones come last."""
    before, text, after = parts(document)
    for title, rows in groups.items():
        first, _, rest = text.partition(f"\n### {title}\n")
        _, following, others = rest.partition("\n### ")
        text = first.rstrip("\n") + "\n" + block(title, rows, machine) + "\n" + (f"\n### {others}" if following else "")
    return f"{before}{BEGIN}{text.rstrip()}\n{END}{after}"


def parts(document: str) -> tuple[str, str, str]:
    """What stands before, between and behind the markers."""
    before, begin, rest = document.partition(BEGIN)
    text, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{DOCUMENT} has no {BEGIN} ... {END} for the results; restore them.")
    return before, text, after
