"""A stage over several processes that know nothing of each other: shares of the work, joined by the plain command."""

import shutil
import signal
from functools import partial

import pytest
from commands_support import CHAIN, REGION_CHAIN, Step, assert_undisturbed, listing, remove
from damage_support import refuse
from programs import wait_until

from stages.registry import STAGES

pytestmark = pytest.mark.slow

EVALUATE = CHAIN["evaluate"]
CASES = {
    "prepare": ("world", CHAIN["prepare"]),
    "score": ("world", CHAIN["score"]),
    "evaluate": ("world", EVALUATE),
    "extract-superpixels": ("region_world", REGION_CHAIN["extract-superpixels"]),
    "adaptive": ("region_world", REGION_CHAIN["adaptive"]),
    "score of regions": ("region_world", REGION_CHAIN["score"]),
    "pseudo-label": ("region_world", REGION_CHAIN["pseudo-label"]),
}
SCORE = CHAIN["score"]  # 6 images in 3 parts


def parts_of(place, step=SCORE):
    """The finished parts: name -> time and content."""
    return {name: found for name, found in listing(place / f"{step.output}.parts").items() if name.endswith(".h5")}


def shard(preloaded, place, text, *words, step=SCORE):
    return preloaded.run(*step.words, *words, "--shard", text, cwd=place)


@pytest.fixture
def without(place):
    """The world without what `score` makes."""
    remove(place, SCORE)
    return place


def test_every_stage_that_takes_shards_is_compared():
    assert {step.words[0] for _, step in CASES.values()} == {name for name, stage in STAGES.items() if stage.shards}


@pytest.mark.parametrize("case", CASES)
def test_joined_shards_are_what_one_process_writes(case, request, tmp_path, preloaded):
    """Also if there are more of them than parts."""
    fixture, step = CASES[case]
    world = request.getfixturevalue(fixture)
    place = shutil.copytree(world, tmp_path / "place")
    remove(place, step)
    for text in ("3/4", "1/4", "0/4", "2/4"):
        done = shard(preloaded, place, text, step=step).expect(0, out=f"wrote shard {text} of {step.output}: ")
        assert not (place / step.output).exists()
    assert "building the others" not in preloaded.run(*step.words, cwd=place).expect(0, out="wrote").out, done.out
    assert_undisturbed(place, world, step)


def test_the_best_weights_are_chosen_over_shards(place, preloaded):
    """All weights are evaluated on both splits."""
    step = Step((*EVALUATE.words[:-2], "--choose-on", "val", "--split", "test", "-o", "x.h5"), "x.h5", ("x.json",))
    words = [*step.words[:-2], "-o", "y.h5"]
    preloaded.run(*words, cwd=place).expect(0, out="wrote")
    for text in ("0/2", "1/2"):
        shard(preloaded, place, text, step=step).expect(0, out="2 of 4 parts\n")
    done = preloaded.run(*step.words, cwd=place).expect(0, out="wrote")
    assert "building the others" not in done.out
    assert (place / "x.json").read_bytes() == (place / "y.json").read_bytes()


def test_what_a_lost_process_did_not_write_is_built_by_the_one_that_joins(without, world, preloaded):
    shard(preloaded, without, "0/2").expect(0, out="wrote shard 0/2 of s1.h5: 2 of 3 parts\n")
    first, _ = sorted((without / "s1.h5.parts").iterdir())
    first.write_bytes(first.read_bytes()[:-100])
    done = preloaded.run(*SCORE.words, cwd=without)
    done.expect(0, out="is damaged or of an older version; building it again\n1 of 3 parts of s1.h5 are finished; bui")
    assert_undisturbed(without, world, SCORE)


def test_more_processes_than_parts_and_nothing_to_do(without, world, preloaded):
    shard(preloaded, without, "4/5").expect(0, out="shard 4/5 of s1.h5: nothing, because there are only 3 parts\n")
    assert not parts_of(without)
    preloaded.run(*SCORE.words, cwd=without).expect(0, out="wrote")
    before = listing(without)
    shard(preloaded, without, "0/5").expect(0, out="s1.h5 is up to date\n")
    assert listing(without) == before
    shard(preloaded, without, "0/2", "--measure", "entropy").expect(0, out="2 of 3 parts")
    done = preloaded.run(*SCORE.words, "--measure", "entropy", cwd=without)
    done.expect(0, out="rebuilding s1.h5: setting measure margin is now entropy\n2 of 3 parts of s1.h5 are finished")
    preloaded.run(*SCORE.words, cwd=without).expect(0, out="wrote")
    assert_undisturbed(without, world, SCORE)


@pytest.mark.parametrize("point", [4, 9, 14, 19])
def test_a_killed_shard_goes_on(point, without, world, preloaded):
    code = preloaded.run(*SCORE.words, "--shard", "0/2", cwd=without, signal_at=(point, signal.SIGKILL)).code
    assert code in (0, -signal.SIGKILL)
    kept = parts_of(without)
    shard(preloaded, without, "0/2").expect(0)
    assert kept.items() <= parts_of(without).items(), "finished parts are not built again"
    shard(preloaded, without, "1/2").expect(0)
    preloaded.run(*SCORE.words, cwd=without).expect(0, out="wrote")
    assert_undisturbed(without, world, SCORE)


def asleep(preloaded, place, *words):
    """A command that sleeps with its lock and the temporary file of a part."""
    for point in range(5, 30):
        process = preloaded.start(*SCORE.words, *words, cwd=place, signal_at=(point, signal.SIGSTOP))
        wait_until(process.sleeps, "the first to fall asleep amid its work")
        if list((place / "s1.h5.parts").glob(".*.partial")):
            return process
        process.send(signal.SIGKILL)
        process.finish()
    raise AssertionError("no part was written")


def test_shards_run_at_once_but_none_twice_and_none_beside_the_join(without, world, preloaded):
    first = asleep(preloaded, without, "--shard", "0/2")
    holder = f"being written by process {first.pid} on "
    refused = partial(refuse, preloaded, without, code=1)
    refused(*SCORE.words, "--shard", "0/2", says=f"Shard 0/2 of s1.h5 is {holder}")
    refused(*SCORE.words, says=f"s1.h5 is being written by shard 0/2 (process {first.pid} on ")
    shard(preloaded, without, "1/2").expect(0, out="wrote shard 1/2")
    first.send(signal.SIGCONT)
    first.finish().expect(0, out="2 of 3 parts")
    assert len(parts_of(without)) == 3
    preloaded.run(*SCORE.words, cwd=without).expect(0, out="wrote")
    assert_undisturbed(without, world, SCORE)


def test_no_shard_starts_while_the_output_is_written(without, world, preloaded):
    first = asleep(preloaded, without)
    refuse(preloaded, without, *SCORE.words, "--shard", "0/2", says=f"being written by process {first.pid} on ", code=1)
    first.send(signal.SIGCONT)
    first.finish().expect(0, out="wrote")
    assert_undisturbed(without, world, SCORE)


@pytest.mark.parametrize("text", ["16/16", "-1/4"])
def test_no_share(text, refused):
    refused(*SCORE.words, "--shard", text, says="--shard must be K/N with K from 0 to N-1, such as 3/16, not ")


def test_an_evaluation_that_is_stopped_goes_on(place, world, preloaded):
    """At the first change of the disk after its first part."""
    remove(place, EVALUATE)
    for point in range(5, 20):
        done = preloaded.run(*EVALUATE.words, cwd=place, signal_at=(point, signal.SIGTERM))
        if parts_of(place, EVALUATE):
            break
    done.expect(75, err="run the same command to continue")
    done = preloaded.run(*EVALUATE.words, cwd=place)
    done.expect(0, out="1 of 2 parts of e.h5 are finished; building the others\nwrote e.h5")
    assert_undisturbed(place, world, EVALUATE)


def test_what_cannot_be_divided(refused):
    refused(
        "prepare", "camvid", "--root", ".", "--download", "--shard", "0/2", "-o", "x.h5", says="Unpack the archives"
    )
    words = [*EVALUATE.words[:-2], "--annotations", "a1.h5", "--shard", "0/2", "-o", "x.h5"]
    refused(*words, says="--shard divides the images of a split, not answers.")


def test_neighbours_are_divided_within_images_only(region_place, preloaded):
    words = [*REGION_CHAIN["neighbours"].words, "--shard", "0/2"]
    refuse(preloaded, region_place, *words, says="--shard cannot divide --among pool")
    preloaded.run(*words, "--among", "image", cwd=region_place).expect(0, out="wrote shard 0/2 of n.h5")


def test_under_torchrun(place, preloaded):
    done = preloaded.run(*SCORE.words, "--shard", "0/2", cwd=place, environment={"WORLD_SIZE": "2"})
    done.expect(2, err="--shard and torchrun both divide the work. Use only one of them.")
