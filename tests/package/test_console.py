"""What a command writes into a log."""

import socket
import subprocess
import sys

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


@pytest.mark.parametrize("unbuffered", [[], ["-u"]], ids=["buffered", "unbuffered"])
def test_a_line_is_one_write(unbuffered):
    """Processes that share a log then keep their lines whole; each read of such a socket gets what one write sent."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        program = "import sys; from stages.runtime.console import print_line; print_line('a line', sys.stderr)"
        subprocess.run([sys.executable, *unbuffered, "-c", program], stderr=theirs, check=True)
        assert ours.recv(100) == b"a line\n"
