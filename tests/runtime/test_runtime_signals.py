"""Signals that ask a stage to save and stop."""

import os
import signal

import pytest

from stages.runtime.signals import stop_on_signal


@pytest.fixture
def missed(request):
    """The signals that nobody asked the stage to handle; without this one they would end the tests."""
    found = []
    before = signal.signal(request.param, lambda number, frame: found.append(number))
    yield request.param, found
    signal.signal(request.param, before)


@pytest.mark.parametrize("missed", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], indirect=True)
def test_a_signal_sets_the_request_and_the_handler_before_comes_back(missed):
    number, found = missed
    with stop_on_signal() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
    assert not found
    os.kill(os.getpid(), number)
    assert found == [number]


def test_a_hang_up_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop
    finally:
        signal.signal(signal.SIGHUP, before)
