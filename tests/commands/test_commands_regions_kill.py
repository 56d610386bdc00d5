"""The stages on regions, killed, stopped, without room, two at once: the same result, no orphan, no litter."""

import os
import random
import shutil
import signal
import time

import pytest
from commands_support import LONG_REGION_STAGES, REGION_CHAIN, assert_same, assert_undisturbed, listing, remove
from programs import at_work, finish, start, wait_until, workers_at_work

pytestmark = pytest.mark.slow

SEEDS = REGION_CHAIN["extract-superpixels"]
TWO_WORKERS = ("--workers", "2")
SLOWLY = ("--iterations", "10000")  # a quarter of a second for each of the six images
CHANGES = 200  # of files and folders: more than any stage makes here
STEPS = {
    "extract-superpixels": 2,
    "adaptive": 5,
    "score": 5,
    "pseudo-label": 5,
    "neighbours": 9,
}  # from one kill to the next


def assert_nobody_left(place):
    wait_until(lambda: not at_work(place), f"the end of {at_work(place)}")


def parts(place, step):
    """The finished shards: name -> modification time and checksum."""
    return {name: told for name, told in listing(place / f"{step.output}.parts").items() if name.endswith(".h5")}


def test_regions_after_kills_of_real_processes_at_random_moments(region_place, region_world, preloaded):
    """Killed while it imports, starts its workers, cuts or publishes; its workers end by themselves."""
    remove(region_place, SEEDS)
    draw = random.Random("kills of workers")
    for kill in range(4):
        slowly = SLOWLY if kill < 2 else ()  # so that workers can be met at work, however busy the machine is
        process = start(*SEEDS.words, *TWO_WORKERS, *slowly, cwd=region_place)
        if kill < 2:
            wait_until(lambda: len(workers_at_work(region_place)) > kill, "workers")  # noqa: B023
        time.sleep(draw.uniform(0, 0.5))
        process.kill()
        assert finish(process).code in (0, -signal.SIGKILL)
        assert_nobody_left(region_place)
    preloaded.run(*SEEDS.words, *TWO_WORKERS, cwd=region_place).expect(0)
    assert_undisturbed(region_place, region_world, SEEDS)


@pytest.mark.parametrize("stage", [*LONG_REGION_STAGES, "neighbours"])
def test_a_rerun_after_kills_at_changes_on_disk_gives_the_same(stage, region_place, region_world, preloaded):
    """Run n dies at its n-th such change, on top of what the runs before it left, until one gets through."""
    step = REGION_CHAIN[stage]
    remove(region_place, step)
    kept: dict = {}
    for point in range(1, CHANGES, STEPS[stage]):
        done = preloaded.run(*step.words, cwd=region_place, signal_at=(point, signal.SIGKILL))
        if done.code == 0:
            break
        assert done.code == -signal.SIGKILL, done
        if (region_place / step.output).exists():  # killed while it cleared up
            assert_same(region_place / step.output, region_world / step.output)
            kept = {}
        found = parts(region_place, step)
        assert kept.items() <= found.items(), "finished shards are not built again"
        kept = found
    assert point > 4
    preloaded.run(*step.words, cwd=region_place).expect(0, out="up to date")
    assert_undisturbed(region_place, region_world, step)


@pytest.mark.parametrize("stage", ["extract-superpixels", "adaptive"])
def test_two_workers_after_a_kill_and_a_stop_give_what_one_gives(stage, region_place, region_world, preloaded):
    step = REGION_CHAIN[stage]
    remove(region_place, step)
    done = preloaded.run(*step.words, *TWO_WORKERS, cwd=region_place, signal_at=(9, signal.SIGKILL))
    assert done.code == -signal.SIGKILL, done
    assert len(parts(region_place, step)) == 1
    assert_nobody_left(region_place)
    if stage == "extract-superpixels":
        preloaded.run(*step.words, *TWO_WORKERS, cwd=region_place, signal_at=(6, signal.SIGTERM)).expect(75)
        assert len(parts(region_place, step)) == 2
        assert_nobody_left(region_place)
    preloaded.run(*step.words, *TWO_WORKERS, cwd=region_place).expect(0, out="wrote")
    assert_undisturbed(region_place, region_world, step)


@pytest.mark.parametrize("stage", ["extract-superpixels", "pseudo-label"])
def test_a_rebuild_killed_at_changes_on_disk_leaves_a_whole_artifact(stage, region_place, region_world, preloaded):
    step = REGION_CHAIN[stage]
    for point in range(2, CHANGES, 7):
        done = preloaded.run(*step.words, "--force", cwd=region_place, signal_at=(point, signal.SIGKILL))
        assert_same(region_place / step.output, region_world / step.output)
        if done.code == 0:
            break
        assert done.code == -signal.SIGKILL, done
        preloaded.run(*step.words, cwd=region_place).expect(0, out="up to date")
        assert_undisturbed(region_place, region_world, step)
    assert point > 4


@pytest.mark.parametrize("stage", [*LONG_REGION_STAGES, "neighbours"])
def test_sigterm_saves_and_the_same_command_goes_on(stage, region_place, region_world, preloaded):
    step = REGION_CHAIN[stage]
    remove(region_place, step)
    saved: dict = {}
    for number in range(2):
        done = preloaded.run(*step.words, cwd=region_place, signal_at=(6, signal.SIGTERM))
        done.expect(75, err=f"stopped after {2 * number + 2} of 6 images; run the same command to continue")
        assert not (region_place / step.output).exists()
        found = parts(region_place, step)
        assert len(found) == number + 1
        assert saved.items() <= found.items(), "finished shards are not built again"
        saved = found
    preloaded.run(*step.words, cwd=region_place).expect(0, out="wrote")
    assert_undisturbed(region_place, region_world, step)


@pytest.mark.parametrize("to_all, number", [(False, signal.SIGTERM), (True, signal.SIGINT)])
def test_a_signal_from_outside_ends_command_and_workers_soon(to_all, number, region_place):
    """SIGTERM to the command, as a batch system sends it; Ctrl-C to the workers too, as a terminal sends it."""
    remove(region_place, SEEDS)
    process = start(*SEEDS.words, *TWO_WORKERS, *SLOWLY, cwd=region_place)
    wait_until(lambda: len(workers_at_work(region_place)) == 2, "two workers")
    if to_all:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    began = time.monotonic()
    finish(process).expect(75, err="of 6 images; run the same command to continue")
    assert_nobody_left(region_place)
    assert time.monotonic() - began < 60
    assert len(parts(region_place, SEEDS)) < 2, "it did not wait for the end"
    assert not (region_place / SEEDS.output).exists()


def test_a_worker_that_dies_is_told_and_leaves_nothing_half_done(region_place, region_world, preloaded):
    remove(region_place, SEEDS)
    command = preloaded.start(*SEEDS.words, *TWO_WORKERS, cwd=region_place)
    wait_until(lambda: workers_at_work(region_place), "a worker")
    os.kill(workers_at_work(region_place)[0], signal.SIGKILL)
    command.finish().expect(1, err="failed: A worker process ended without an answer")
    assert_nobody_left(region_place)
    assert not (region_place / SEEDS.output).exists()
    preloaded.run(*SEEDS.words, cwd=region_place).expect(0, out="wrote")
    assert_undisturbed(region_place, region_world, SEEDS)


@pytest.mark.parametrize("stage", ["extract-superpixels", "pseudo-label"])
def test_a_torn_shard_is_built_again_and_those_of_other_settings_stay(stage, region_place, region_world, preloaded):
    step = REGION_CHAIN[stage]
    remove(region_place, step)
    preloaded.run(*step.words, "--seed", "3", cwd=region_place, signal_at=(6, signal.SIGTERM)).expect(75)
    (other,) = parts(region_place, step)
    preloaded.run(*step.words, cwd=region_place, signal_at=(6, signal.SIGTERM)).expect(75)
    (shard,) = parts(region_place, step).keys() - {other}
    folder = region_place / f"{step.output}.parts"
    (folder / shard).write_bytes((folder / shard).read_bytes()[:-3000])
    done = preloaded.run(*step.words, cwd=region_place).expect(0, out="wrote")
    assert f"{shard} is damaged or of an older version; building it again" in done.out
    assert [path.name for path in folder.iterdir()] == [other]
    shutil.rmtree(folder)
    assert_undisturbed(region_place, region_world, step)


@pytest.mark.parametrize("stage", ["extract-superpixels", "pseudo-label"])
def test_the_second_says_who_is_writing_and_touches_nothing(stage, region_place, region_world, preloaded):
    step = REGION_CHAIN[stage]
    remove(region_place, step)
    first = preloaded.start(*step.words, cwd=region_place, signal_at=(6, signal.SIGSTOP))
    wait_until(first.sleeps, "the first to fall asleep amid its shards")
    second = preloaded.run(*step.words, cwd=region_place)
    second.expect(1, err=f"{step.output} is being written by process {first.pid}")
    assert not (region_place / step.output).exists()
    first.send(signal.SIGCONT)
    first.finish().expect(0, out="wrote")
    assert_undisturbed(region_place, region_world, step)


@pytest.mark.parametrize("stage", ["extract-superpixels", "pseudo-label"])
def test_two_at_once_leave_a_whole_artifact(stage, region_place, region_world, preloaded):
    step = REGION_CHAIN[stage]
    remove(region_place, step)
    both = [preloaded.start(*step.words, cwd=region_place) for _ in range(2)]
    done = [process.finish() for process in both]
    assert sum("wrote" in one.out for one in done) == 1
    for one in done:
        if one.code:
            one.expect(1, err="is being written by")
        elif "wrote" not in one.out:
            one.expect(0, out="up to date")
    assert_undisturbed(region_place, region_world, step)


@pytest.mark.parametrize("stage", ["extract-superpixels", "pseudo-label"])
def test_a_disk_without_room_fails_cleanly_wherever_that_is(stage, region_place, region_world, preloaded, small_disk):
    """Refused where it is known before; else whichever file finds no more inode or no more room."""
    step = REGION_CHAIN[stage]

    def leftovers():
        return [path.name for path in disk.iterdir() if path.name != f"{step.output}.parts"]

    disk = small_disk("size=1m")
    refused = preloaded.run(*step.to(disk / step.output), cwd=region_place)
    refused.expect(1, err="Free some space and run the same command again")
    assert leftovers() == []
    limits = [f"size=64m,nr_inodes={files + 1}" for files in range(2, 20, 2)]
    room = [4, 16, 36, 60, 100, 200, 400, 1024, 4096]
    for how, unchecked in ((limits, False), ([f"size={kib}k,nr_inodes=99" for kib in room], True)):
        for options in how:
            small_disk(options)
            done = preloaded.run(*step.to(disk / step.output), cwd=region_place, unchecked=unchecked)
            if done.code == 0:
                break
            done.expect(1, err="failed: " if unchecked else "No space left on device")
            assert leftovers() == []
        assert options != how[0]
        assert leftovers() == [step.output]
        assert_same(disk / step.output, region_world / step.output)
        preloaded.run("verify", disk / step.output, cwd=region_place).expect(0, out="undamaged")
        (disk / step.output).unlink()
