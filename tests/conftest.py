"""Shared by all tests: where the real data lies, and one torch thread so that tests can share a machine."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("programs")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.fsync = lambda descriptor: None  # no test cuts the power, and waiting for disks took minutes
sys.path.insert(0, str(Path(__file__).parent))  # for `worlds`, the small datasets that tests share
if TYPE_CHECKING:
    from programs import Preloaded

SHARED = Path(__file__).parents[2] / "shared"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Published rows are found out from all tables, which takes seconds, so only where they are asked for."""
    unasked = "not published" in config.option.markexpr
    return True if unasked and collection_path == Path(__file__).with_name("published") else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests of real data skip with a reason where it is absent, but never in CI, where it must be there."""
    if item.get_closest_marker("shared") and not SHARED.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{SHARED} must lie beside the checkout in CI")
        pytest.skip(f"needs the real data in {SHARED}")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with CamVid and the encoder weights."""
    return SHARED


@pytest.fixture(scope="session")
def preloaded() -> Iterator["Preloaded"]:
    """Runs commands in forks of one process that has imported everything: the same code, ten times faster."""
    from programs import Preloaded

    server = Preloaded()
    yield server
    server.close()


@pytest.fixture(autouse=True, scope="module")
def no_plug_ins_left() -> Iterator[None]:
    """Plug-ins that the tests of a file loaded in this process are unknown to the tests of the next file."""
    yield
    from plugins import forget

    from stages.runtime.parts import PLUGINS

    for path in list(PLUGINS):
        forget(path)
