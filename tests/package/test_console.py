"""What a command writes into a log."""

import pytest

from stages.runtime import console
from stages.runtime.console import Progress

HOUR = 3600.0


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests set: ``clock[0]`` in seconds."""
    now = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("hours", [1 / 60, 1, 24, 30 * 24, 365 * 24])
def test_the_log_of_ten_thousand_images_stays_below_200_lines(clock, capsys, hours):
    images = 10_000
    with Progress("scoring", images) as bar:
        for _ in range(images):
            clock[0] += hours * HOUR / images
            bar.advance(note="x" if bar.shows() else None)
    lines = capsys.readouterr().err.splitlines()
    assert min(hours * 60, 5) <= len(lines) < 200


def test_lines_come_soon_and_say_how_long_it_takes(clock, capsys):
    with Progress("scoring", 100) as bar:
        for _ in range(100):
            clock[0] += 2
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("scoring: 5/100, 190 s left")
    assert len(lines) > 10
