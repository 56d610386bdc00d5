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
    """The report in Markdown: where it was measured, then a table per group."""
    lines = ["| | |", "|---|---|", *(f"| {row.what} | {row.result} |" for row in machine)]
    for title, rows in groups.items():
        lines += ["", f"### {title}", "", "| what | result | target | public code |", "|---|---|---|---|"]
        lines += [f"| {row.what} | {row.result} | {row.target} | {row.public} |" for row in rows]
    return "\n".join(lines)


def replace_section(document: str, text: str) -> str:
    """``document`` with ``text`` between the markers."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{DOCUMENT} has no {BEGIN} ... {END} for the results; restore them.")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"
