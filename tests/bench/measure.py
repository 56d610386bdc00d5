"""What all benchmarks share: timing by repetition, rows of the report, commands in processes of their own."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEED = 0
ALSEG = [sys.executable, "-m", "alseg_cli"]


@dataclass(frozen=True)
class Job:
    """Where benchmarks put their files, and whether they shall only show that they work."""

    folder: Path
    quick: bool


@dataclass(frozen=True)
class Row:
    """A line of the report; ``public`` is what public code needs for the same."""

    what: str
    result: str
    target: str = ""
    public: str = ""


@dataclass(frozen=True)
class Measured:
    """Median, minimum and maximum of repetitions."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Measured":
        return cls(statistics.median(values), min(values), max(values))

    def text(self, unit: str, factor: float = 1, digits: int = 3) -> str:
        """``median unit (minimum to maximum)``, all times ``factor``."""
        median, low, high = (plain(factor * value, digits) for value in (self.median, self.low, self.high))
        return f"{median} {unit} ({low} to {high})".replace("  ", " ")


def plain(value: float, digits: int = 3) -> str:
    """``value`` with ``digits`` significant digits, never in exponents: 0.132, 4.51, 216, 10800."""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{rounded:.{digits}g}"


def seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def measure(function: Callable[[], object], repeat: int, warm_up: bool = True) -> Measured:
    """Seconds of ``function``, called once unmeasured and then ``repeat`` times."""
    if warm_up:
        function()
    return Measured.of([seconds(function) for _ in range(repeat)])


def run(command: Sequence[str], environment: dict[str, str] | None = None) -> str:
    """The standard output of a command run from the repository's root; its errors show when it fails."""
    done = subprocess.run(command, cwd=ROOT, env=environment or dict(os.environ), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout
