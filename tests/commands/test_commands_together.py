"""Two commands at work on one output."""

import signal

import pytest
from commands_support import CHAIN, assert_undisturbed, remove
from programs import wait_until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("stage", ["train", "score", "select"])
def test_the_second_says_who_is_writing_and_touches_nothing(stage, place, world, preloaded):
    step = CHAIN[stage]
    remove(place, step)
    first = preloaded.start(*step.words, cwd=place, signal_at=(4, signal.SIGSTOP))
    wait_until(first.sleeps, "the first to fall asleep with the lock in its hand")
    second = preloaded.run(*step.words, cwd=place)
    second.expect(1, err=f"{step.output} is being written by process {first.pid}")
    assert not (place / step.output).exists()
    first.send(signal.SIGCONT)
    first.finish().expect(0, out="wrote")
    assert_undisturbed(place, world, step)


@pytest.mark.parametrize("stage", ["train", "score"])
def test_two_at_once_leave_a_whole_artifact(stage, place, world, preloaded):
    step = CHAIN[stage]
    remove(place, step)
    done = [process.finish() for process in [preloaded.start(*step.words, cwd=place) for _ in range(2)]]
    assert {one.code for one in done} <= {0, 1}
    assert sum("wrote" in one.out for one in done) == 1
    for one in done:
        if one.code:
            one.expect(1, err="is being written by")
        elif "wrote" not in one.out:
            one.expect(0, out="up to date")
    assert_undisturbed(place, world, step)


def test_a_lock_file_removed_by_its_owner_is_no_lock(place, world, preloaded):
    """One opens the lock file of another, which ends and removes it; meanwhile a third locks a new one."""
    step = CHAIN["select"]
    remove(place, step)
    second = preloaded.start(*step.words, cwd=place, signal_at=(3, signal.SIGSTOP))
    wait_until(second.sleeps, "the second to fall asleep with the lock file open")
    preloaded.run(*step.words, cwd=place).expect(0, out="wrote")
    remove(place, step)
    third = preloaded.start(*step.words, cwd=place, signal_at=(4, signal.SIGSTOP))
    wait_until(third.sleeps, "the third to fall asleep with the lock in its hand")
    second.send(signal.SIGCONT)
    second.finish().expect(1, err=f"is being written by process {third.pid}")
    third.send(signal.SIGCONT)
    third.finish().expect(0, out="wrote")
    assert_undisturbed(place, world, step)


def test_many_at_once_on_one_output_never_corrupt_it(place, world, preloaded):
    step = CHAIN["select"]
    for _ in range(10):
        remove(place, step)
        done = [process.finish() for process in [preloaded.start(*step.words, cwd=place) for _ in range(5)]]
        assert sum("wrote" in one.out for one in done) == 1
        for one in done:
            if one.code:
                one.expect(1, err="is being written by")
            else:
                one.expect(0)
        assert_undisturbed(place, world, step)


def test_the_lock_file_of_a_dead_process_does_not_block(place, world, preloaded):
    step = CHAIN["select"]
    remove(place, step)
    (place / ".q1.h5.lock").write_text("process 4194303 on elsewhere")
    preloaded.run(*step.words, cwd=place).expect(0, out="wrote")
    assert_undisturbed(place, world, step)
