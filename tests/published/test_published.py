"""Published rows run end to end on generated images of their own size, cut short.

A row whose steps are among those of another one, such as random regions beside uncertain ones, is left to that row:
`tests/recipes` runs every recipe on small images.
"""

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.published.__main__ import read_record
from tests.published.cover import representatives
from tests.published.running import run_case
from tests.published.short import Case, cases

CASES = cases()
CASES = {name: CASES[name] for name in representatives(CASES.values())}
PATIENCE = 1800  # seconds
MARGIN = 1.1
QUICK = 90  # seconds
ROWS = read_record()["rows"]

pytestmark = [pytest.mark.published, pytest.mark.timeout(PATIENCE)]


def available() -> float:
    """GiB of memory that a process can still take."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    assert found is not None
    return int(found[1]) / 2**20


def marks_of(name: str) -> list[pytest.MarkDecorator]:
    """Rows that take long, as far as they were measured, are left out of CI."""
    return [pytest.mark.slow] if ROWS.get(name, {}).get("seconds", 0) > QUICK else []


@pytest.mark.parametrize("case", [pytest.param(case, id=name, marks=marks_of(name)) for name, case in CASES.items()])
def test_a_published_row_runs_at_its_own_size(case: Case, tmp_path: Path) -> None:
    needed = MARGIN * ROWS.get(case.name, {}).get("peak", 0.0)
    if needed > available():
        reason = f"needs {needed:.1f} GiB of memory, {available():.1f} are free"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        found = run_case(case.name, tmp_path / "case", PATIENCE)
    finally:
        shutil.rmtree(tmp_path / "case", ignore_errors=True)  # up to a gigabyte of images
    print(f"{case.name}: {found['seconds']} s, {found['peak']} GiB")
