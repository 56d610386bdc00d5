"""Up to date or not: what a second run of a command finds, says and does."""

import os
import shutil

import pytest
from commands_support import CHAIN, STAGES, assert_same, digest, listing

pytestmark = pytest.mark.slow

# a setting that decides the result, and what the rebuild says about it
SETTINGS = {
    "prepare": (["--long-side", "48"], "setting long_side None is now 48"),
    "train": (["--epochs", "1"], "setting epochs 3 is now 1"),
    "score": (["--measure", "entropy"], "setting measure margin is now entropy"),
    "select": (["--fraction", "0.5"], "setting fraction 0.05 is now 0.5"),
    "annotate-simulate": (["--seconds-per-click", "2"], "setting seconds_per_click 1.0 is now 2.0"),
    "evaluate": (["--flip"], "setting flip False is now True"),
}
# settings of where and how fast, which decide nothing
EXECUTION = {
    "prepare": ["--workers", "3"],
    "train": ["--workers", "1", "--device", "cpu", "--checkpoint-seconds", "9"],
    "score": ["--batch", "1", "--device", "cpu"],
    "evaluate": ["--batch", "1", "--device", "cpu"],
}
# an input to change: which one, by what, and the role that the rebuild names
CHANGED = {
    "train": [("d.h5", "dataset"), ("a0.h5", "labels")],
    "score": [("d.h5", "dataset"), ("m.safetensors", "model")],
    "select": [("d.h5", "dataset"), ("s1.h5", "scores"), ("a0.h5", "annotations")],
    "annotate-simulate": [("d.h5", "dataset"), ("q1.h5", "queries"), ("a0.h5", "annotations")],
    "evaluate": [("d.h5", "dataset"), ("m.safetensors", "model")],
}
every_stage = pytest.mark.parametrize("stage", STAGES)


@pytest.fixture(scope="session")
def other_world(tmp_path_factory, preloaded, world):
    """The same commands with another seed."""
    folder = tmp_path_factory.mktemp("other")
    shutil.copy(world / "tiny.toml", folder)
    for step in CHAIN.values():
        preloaded.run(*step.words, "--seed", "1", cwd=folder).expect(0, out="wrote")
    return folder


@every_stage
def test_a_second_run_leaves_everything_untouched(stage, place, preloaded):
    before = listing(place)
    preloaded.run(*CHAIN[stage].words, cwd=place).expect(0, out=f"{CHAIN[stage].output} is up to date\n")
    assert listing(place) == before


@every_stage
def test_a_run_from_another_folder_is_up_to_date_too(stage, place, preloaded):
    """Inputs are recorded relative to the output, so neither the caller's folder nor a move of the whole matters."""
    step = CHAIN[stage]
    moved = place.rename(place.with_name("moved"))
    words = [str(moved / word) if (moved / word).is_file() else word for word in step.words]
    before = listing(moved)
    preloaded.run(*words, cwd=moved.parent).expect(0, out="is up to date")
    preloaded.run("verify", moved / step.output, cwd=moved.parent).expect(0, out="undamaged")
    assert listing(moved) == before


@every_stage
def test_a_touched_input_with_the_same_content_changes_nothing(stage, place, preloaded):
    for path in place.iterdir():
        os.utime(path)
    before = listing(place)
    preloaded.run(*CHAIN[stage].words, cwd=place).expect(0, out="is up to date")
    assert listing(place) == before


@every_stage
def test_a_changed_setting_is_named_and_rebuilds(stage, place, preloaded):
    step = CHAIN[stage]
    options, says = SETTINGS[stage]
    before = digest(place / step.output)
    preloaded.run(*step.words, *options, cwd=place).expect(0, out=f"rebuilding {step.output}: {says}\n")
    assert stage == "annotate-simulate" or digest(place / step.output) != before
    preloaded.run(*step.words, *options, cwd=place).expect(0, out="is up to date")


@every_stage
def test_a_changed_seed_is_named_and_rebuilds(stage, place, preloaded):
    step = CHAIN[stage]
    done = preloaded.run(*step.words, "--seed", "5", cwd=place)
    done.expect(0, out=f"rebuilding {step.output}: seed 0 is now 5\n")
    preloaded.run(*step.words, "--seed", "5", cwd=place).expect(0, out="is up to date")


@pytest.mark.parametrize("stage, name, role", [(stage, *change) for stage in CHANGED for change in CHANGED[stage]])
def test_a_changed_input_is_named_and_rebuilds_or_is_refused(stage, name, role, place, other_world, preloaded):
    """Refused where the other inputs were made from the one that is gone."""
    step = CHAIN[stage]
    before = (place / step.output).read_bytes()
    shutil.copy(other_world / name, place / name)
    preloaded.run("verify", step.output, cwd=place).expect(2, err=f"is stale: its {role} {name} changed since")
    done = preloaded.run(*step.words, cwd=place)
    if done.code == 2:
        done.expect(2, err="was made from another")
        assert (place / step.output).read_bytes() == before
    else:
        done.expect(0, out=f"rebuilding {step.output}: input {role} changed ({name})\n")
        preloaded.run(*step.words, cwd=place).expect(0, out="is up to date")


def test_a_changed_description_rebuilds_the_dataset(place, preloaded):
    (place / "tiny.toml").write_text((place / "tiny.toml").read_text().replace("val = 2", "val = 3"))
    preloaded.run(*CHAIN["prepare"].words, cwd=place).expect(0, out="rebuilding d.h5: input source changed")


@pytest.mark.parametrize("stage", EXECUTION)
def test_where_and_how_fast_a_stage_runs_does_not_rebuild(stage, place, preloaded):
    before = listing(place)
    preloaded.run(*CHAIN[stage].words, *EXECUTION[stage], cwd=place).expect(0, out="is up to date")
    assert listing(place) == before


@every_stage
def test_force_builds_the_same_again(stage, place, world, preloaded):
    step = CHAIN[stage]
    before = (place / step.output).stat().st_mtime_ns
    preloaded.run(*step.words, "--force", cwd=place).expect(0, out=f"wrote {step.output}")
    assert (place / step.output).stat().st_mtime_ns > before
    assert_same(place / step.output, world / step.output)


def test_changed_weights_rebuild_the_model(place, preloaded):
    """A file of first weights is an input like any other."""
    import torch
    from safetensors.torch import load_file, save_file

    prefix = "last.backbone."
    tensors = load_file(place / "m.safetensors")
    backbone = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    save_file(backbone, place / "first.safetensors")
    words = [*CHAIN["train"].words, "--weights", "first.safetensors", "--epochs", "1", "-o", "n.safetensors"]
    preloaded.run(*words, cwd=place).expect(0, out="wrote")
    preloaded.run(*words, cwd=place).expect(0, out="is up to date")
    save_file({name: torch.zeros_like(tensor) for name, tensor in backbone.items()}, place / "first.safetensors")
    preloaded.run(*words, cwd=place).expect(
        0, out="rebuilding n.safetensors: input weights changed (first.safetensors)"
    )
