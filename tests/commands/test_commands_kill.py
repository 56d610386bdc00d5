"""Killed at any moment, stopped by SIGTERM, left with torn files: the same command ends with the same artifact."""

import csv
import hashlib
import io
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from commands_support import CHAIN, STAGES, assert_same, assert_undisturbed, remove
from programs import finish, run, start, wait_until

pytestmark = pytest.mark.slow

KILLS = 3
LONG = ("prepare", "train", "score")  # those that save what they have done so far
CHANGES = 200  # of files and folders: more than any stage makes here


@pytest.mark.parametrize("stage", LONG)
def test_a_rerun_after_kills_at_random_moments_gives_the_same(stage, place, world, preloaded):
    """Processes killed from outside while they work or publish; all kills of a stage hit the same folder."""
    step = CHAIN[stage]
    remove(place, step)
    draw = random.Random(f"kills of {stage}")
    began = time.monotonic()
    preloaded.run(*step.words, cwd=place).expect(0, out="wrote")
    duration = time.monotonic() - began
    kills = 0
    while kills < KILLS:
        remove(place, step)  # where it was faster than its kill
        process = preloaded.start(*step.words, cwd=place)
        time.sleep(draw.uniform(0, duration))
        process.send(signal.SIGKILL)
        kills += process.finish().code == -signal.SIGKILL
    preloaded.run(*step.words, cwd=place).expect(0)
    assert_undisturbed(place, world, step)


@pytest.mark.parametrize("stage", ["prepare", "train"])
def test_a_rerun_after_kills_of_the_program_gives_the_same(stage, place, world):
    """Real `alseg` processes, killed while they import and while they work."""
    step = CHAIN[stage]
    remove(place, step)
    draw = random.Random(f"kills of the program at {stage}")
    for at_work in (False, True):
        remove(place, step)  # where it was faster than its kill
        process = start(*step.words, cwd=place)
        if at_work:
            wait_until(lambda: any(place.glob(f".{step.output}*")) or process.poll() is not None, "a lock")  # noqa: B023
        time.sleep(draw.uniform(0, 0.4))
        process.kill()
        assert finish(process).code in (0, -signal.SIGKILL)
    run(*step.words, cwd=place).expect(0)
    assert_undisturbed(place, world, step)


@pytest.mark.parametrize("stage", STAGES)
def test_a_rerun_after_kills_at_every_change_on_disk_gives_the_same(stage, place, world, preloaded):
    """Run n dies at its n-th change of the disk, on top of what the runs before it left, until one gets through."""
    step = CHAIN[stage]
    remove(place, step)
    for kills in range(CHANGES):
        done = preloaded.run(*step.words, cwd=place, signal_at=(kills + 1, signal.SIGKILL))
        if done.code == 0:
            break
        assert done.code == -signal.SIGKILL, done
    assert kills >= 4
    preloaded.run(*step.words, cwd=place).expect(0, out="up to date")
    assert_undisturbed(place, world, step)


@pytest.mark.parametrize("stage", STAGES)
def test_a_rebuild_killed_at_changes_on_disk_leaves_a_whole_artifact_and_no_litter(stage, place, preloaded):
    """After every kill the old artifact or the new one is in place, and "up to date" clears up."""
    step = CHAIN[stage]
    words = [*step.words, "--epochs", "1", "--checkpoint-seconds", "60"] if stage == "train" else step.words
    preloaded.run(*words, cwd=place).expect(0)
    whole = place.parent / "whole"
    shutil.copytree(place, whole)
    for point in range(1, CHANGES, 5 if stage in LONG else 2):
        done = preloaded.run(*words, "--force", cwd=place, signal_at=(point, signal.SIGKILL))
        assert_same(place / step.output, whole / step.output)
        if done.code == 0:
            break
        assert done.code == -signal.SIGKILL, done
        preloaded.run(*words, cwd=place).expect(0, out="up to date")
        assert_undisturbed(place, whole, step)
    assert point > 4


@pytest.mark.parametrize("stage", LONG)
def test_sigterm_at_every_change_on_disk_saves_and_the_same_command_goes_on(stage, place, world, preloaded):
    """Run n is asked to stop at its n-th change of the disk and exits 75, until one gets through."""
    step = CHAIN[stage]
    remove(place, step)
    stops = 0
    for point in range(1, CHANGES):
        done = preloaded.run(*step.words, cwd=place, signal_at=(point, signal.SIGTERM))
        if done.code == 0:
            break
        if done.code == -signal.SIGTERM:  # there was nothing to save yet, or nothing but clearing up was left
            continue
        done.expect(75, err="run the same command to continue")
        assert not (place / step.output).exists()
        stops += 1
    assert stops > 1
    preloaded.run(*step.words, cwd=place).expect(0, out="up to date")
    assert_undisturbed(place, world, step)


@pytest.mark.parametrize("steps, workers", [(1, 0), (8, 0), (3, 1), (5, 1)])
def test_sigterm_after_a_step_of_a_training_changes_nothing(steps, workers, place, world, preloaded):
    step = CHAIN["train"]
    remove(place, step)
    how = {"cwd": place, "forked_workers": steps != 5}
    done = preloaded.run(*step.words, "--workers", workers, stop_after=steps, **how)
    done.expect(75, err=f"stopped and saved after step {steps};")
    preloaded.run(*step.words, "--workers", workers, **how).expect(0, out="wrote")
    assert_undisturbed(place, world, step)


def test_sigterm_after_the_last_step_of_a_training_finds_it_finished(place, world, preloaded):
    step = CHAIN["train"]
    remove(place, step)
    preloaded.run(*step.words, cwd=place, stop_after=9).expect(0, out="wrote")
    assert_undisturbed(place, world, step)


def test_sigterm_from_outside_stops_a_training_with_its_state_saved(place, preloaded):
    step = CHAIN["train"]
    remove(place, step)
    process = preloaded.start(*step.words, "--epochs", "1000", cwd=place)
    wait_until(lambda: any((place / "m.safetensors.work").glob("step*.pt")), "a checkpoint")
    process.send(signal.SIGTERM)
    process.finish().expect(75, err="run the same command to continue")
    assert not (place / step.output).exists()


@pytest.fixture
def checkpoints(place, preloaded) -> list[Path]:
    """The two checkpoints, oldest first, of a training that was killed."""
    step = CHAIN["train"]
    remove(place, step)
    done = preloaded.run(*step.words, cwd=place, signal_at=(32, signal.SIGKILL))
    assert done.code == -signal.SIGKILL
    found = sorted((place / "m.safetensors.work").glob("step*.pt"))
    assert len(found) == 2
    return found


def mark(checkpoint: Path) -> None:
    """Leaves a sign in the history of a checkpoint, which shows in the CSV of the training that goes on from it."""
    content = torch.load(checkpoint, weights_only=True)
    content["state"]["progress"]["history"].insert(0, {"epoch": 0, "loss": 4711.0})
    buffer = io.BytesIO()
    torch.save(content, buffer)
    checkpoint.write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())


def is_marked(place: Path) -> bool:
    with (place / "m.history.csv").open() as file:
        return next(csv.DictReader(file))["loss"] == "4711.0"


def test_training_goes_on_from_the_newest_checkpoint(checkpoints, place, world, preloaded):
    mark(checkpoints[1])
    preloaded.run(*CHAIN["train"].words, cwd=place).expect(0, out="wrote")
    assert is_marked(place)
    assert_same(place / "m.safetensors", world / "m.safetensors")


def test_a_torn_checkpoint_falls_back_to_the_one_before(checkpoints, place, world, preloaded):
    mark(checkpoints[0])
    checkpoints[1].write_bytes(checkpoints[1].read_bytes()[:-5000])
    preloaded.run(*CHAIN["train"].words, cwd=place).expect(0, out="wrote")
    assert is_marked(place)
    assert_same(place / "m.safetensors", world / "m.safetensors")


def test_without_a_readable_checkpoint_training_starts_anew(checkpoints, place, world, preloaded):
    checkpoints[0].write_bytes(b"")
    checkpoints[1].write_text("no checkpoint")
    preloaded.run(*CHAIN["train"].words, cwd=place).expect(0, out="wrote")
    assert_undisturbed(place, world, CHAIN["train"])


def test_checkpoints_of_other_settings_are_ignored_and_kept_for_their_own_command(checkpoints, place, world, preloaded):
    """Here another number of epochs: the training that was stopped goes on where it was."""
    words = [*CHAIN["train"].words, "--epochs", "1"]
    mark(checkpoints[0])
    mark(checkpoints[1])
    done = preloaded.run(*words, cwd=place)
    done.expect(0, out="note: m.safetensors.work keeps files of runs with other settings (1)")
    assert not is_marked(place)
    assert sorted(checkpoints[0].parent.iterdir()) == checkpoints
    elsewhere = place.parent / "elsewhere.safetensors"
    preloaded.run(*words, "-o", elsewhere, cwd=place).expect(0, out="wrote")
    assert_same(place / "m.safetensors", elsewhere)
    preloaded.run(*CHAIN["train"].words, cwd=place).expect(0, out="wrote")
    assert is_marked(place)
    assert_same(place / "m.safetensors", world / "m.safetensors")
    assert not checkpoints[0].parent.exists()


def test_a_torn_shard_is_built_again(place, world, preloaded):
    step = CHAIN["score"]
    remove(place, step)
    preloaded.run(*step.words, cwd=place, signal_at=(9, signal.SIGTERM)).expect(75)
    shard = min((place / "s1.h5.parts").glob("*.h5"))
    shard.write_bytes(shard.read_bytes()[:-3000])
    preloaded.run(*step.words, cwd=place).expect(0, out="wrote")
    assert_undisturbed(place, world, step)


def test_shards_of_other_settings_are_ignored_and_kept_for_their_own_command(place, world, preloaded):
    step = CHAIN["score"]
    remove(place, step)
    preloaded.run(*step.words, cwd=place, signal_at=(9, signal.SIGTERM)).expect(75)
    shards = sorted((place / "s1.h5.parts").iterdir())
    words = [*step.words, "--measure", "entropy"]
    preloaded.run(*words, cwd=place).expect(0, out="wrote")
    assert sorted((place / "s1.h5.parts").iterdir()) == shards != []
    elsewhere = place.parent / "elsewhere.h5"
    preloaded.run(*words, "-o", elsewhere, cwd=place).expect(0, out="wrote")
    assert_same(place / "s1.h5", elsewhere)
    preloaded.run(*step.words, cwd=place).expect(0, out="wrote")
    assert_undisturbed(place, world, step)
