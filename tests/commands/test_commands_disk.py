"""A disk without room: a clean message, nothing published, and the same command succeeds once there is room."""

import pytest
from commands_support import CHAIN, STAGES, assert_same

pytestmark = pytest.mark.slow


def leftovers(disk, step):
    """What lies on the disk but for what a rerun goes on from."""
    resumed = (f"{step.output}.parts", f"{step.output}.work")
    return sorted(path.name for path in disk.iterdir() if path.name not in resumed)


def assert_nothing_published(disk, step):
    assert set(leftovers(disk, step)) <= {"m.history.csv"}, "the rows of a training so far"


@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_known_to_be_too_small_is_refused_before_writing(stage, place, world, preloaded, small_disk):
    step = CHAIN[stage]
    disk = small_disk("size=1m")
    told = "Free some space and run the same command again"
    preloaded.run(*step.to(disk / step.output), cwd=place).expect(1, err=told)
    assert leftovers(disk, step) == []
    small_disk("size=64m")
    preloaded.run(*step.to(disk / step.output), cwd=place).expect(0, out="wrote")
    assert_same(disk / step.output, world / step.output)
    assert leftovers(disk, step) == sorted([step.output, *step.beside])


@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_that_takes_no_more_files_fails_cleanly_wherever_that_is(stage, place, world, preloaded, small_disk):
    """Free space cannot foretell this: each run may create one file more than the one before."""
    step = CHAIN[stage]
    for files in range(40):
        disk = small_disk(f"size=64m,nr_inodes={files + 1}")
        done = preloaded.run(*step.to(disk / step.output), cwd=place)
        if done.code == 0:
            break
        done.expect(1, err="No space left on device")
        assert_nothing_published(disk, step)
    assert files > 1
    assert_same(disk / step.output, world / step.output)
    assert leftovers(disk, step) == sorted([step.output, *step.beside])


@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_that_fills_up_while_a_stage_writes_fails_cleanly(stage, place, world, preloaded, small_disk):
    """As if another process took the room after the stage had asked for it."""
    step = CHAIN[stage]
    for kib in [*range(4, 260, 64 if stage == "train" else 8), *(1 << power for power in range(9, 17))]:
        disk = small_disk(f"size={kib}k")
        done = preloaded.run(*step.to(disk / step.output), cwd=place, unchecked=True)
        if done.code == 0:
            break
        done.expect(1, err="failed: ")
        assert_nothing_published(disk, step)
    assert kib > 4
    assert_same(disk / step.output, world / step.output)
    preloaded.run("verify", disk / step.output, cwd=place).expect(0, out="undamaged")
    assert leftovers(disk, step) == sorted([step.output, *step.beside])
