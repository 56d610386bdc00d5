"""Killed at any moment, stopped by SIGTERM, started twice: the same command ends with the same artifact."""

import random
import signal
import subprocess
import time

import pytest
from commands_support import (
    CHAIN,
    STAGES,
    TRAIN,
    assert_same,
    assert_undisturbed,
    digest,
    finish,
    listing,
    remove,
    run,
    start,
    wait_until,
)

KILLS = {"prepare": 4, "train": 5, "score": 4, "select": 3, "annotate-simulate": 3, "evaluate": 3}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_rerun_after_kills_at_random_moments_gives_the_same(stage, place, world):
    step = CHAIN[stage]
    remove(place, step)
    draw = random.Random(f"kills of {stage}")
    began = time.monotonic()
    run(*step.words, cwd=place).expect(0, out="wrote")
    duration = time.monotonic() - began
    kills = 0
    while kills < KILLS[stage]:
        if (place / step.output).exists():  # it was faster than its kill
            remove(place, step)
        process = start(*step.words, cwd=place)
        try:
            process.wait(draw.uniform(0, duration))
        except subprocess.TimeoutExpired:
            process.kill()
        kills += finish(process).code == -signal.SIGKILL
    run(*step.words, cwd=place).expect(0)
    assert_undisturbed(place, world, step)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_rerun_after_a_kill_before_any_change_on_disk_gives_the_same(stage, place, world, preloaded):
    """Run n dies before its n-th change of the disk, on top of what the runs before it left, until one gets through."""
    step = CHAIN[stage]
    remove(place, step)
    for kills in range(200):
        done = preloaded.run(*step.words, cwd=place, die_at=kills + 1)
        if done.code == 0:
            break
        assert done.code == -signal.SIGKILL, done
    assert kills >= 4
    done.expect(0)
    preloaded.run(*step.words, cwd=place).expect(0, out="up to date")
    assert_undisturbed(place, world, step)


@pytest.mark.parametrize("stage", STAGES)
def test_a_rebuild_killed_before_any_change_on_disk_leaves_the_old_or_the_new(stage, place, preloaded):
    step = CHAIN[stage]
    before = digest(place / step.output)
    for point in range(1, 200):
        done = preloaded.run(*step.words, "--seed", "7", "--force", cwd=place, die_at=point)
        found = digest(place / step.output)
        preloaded.run("verify", step.output, cwd=place).expect(0, out="whole")
        if done.code == 0:
            break
    print(stage, point, before, found)


@pytest.fixture
def stopped_training(place, preloaded):
    """A training that was killed after a few steps: its folder holds two checkpoints."""
    step = CHAIN["train"]
    remove(place, step)
    process = preloaded.start(*step.words, cwd=place)
    work = place / "m.safetensors.work"
    wait_until(lambda: len(list(work.glob("*.pt"))) == 2, "two checkpoints")
    process.send(signal.SIGKILL)
    process.finish()
    return work
