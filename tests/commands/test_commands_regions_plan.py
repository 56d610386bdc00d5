"""Planned runs on regions: make runs them, and again only what a lost file takes with it."""

import shutil

import pytest
from test_commands_plan import digests, make, told

SETTINGS = [
    "train.epochs=2", "train.batch=2", "train.head-width=16", "train.low-level-width=8", "select.budget=6",
    "annotate-simulate.click-budget=1000", "extract-superpixels.workers=1", "extract-superpixels.count=40",
    # a model of two epochs predicts alike nearly everywhere
    "extract-superpixels.epsilon=0.002",
]  # fmt: skip
RECIPES = {
    "adaptive-superpixel": (
        ["base"],
        ["scores", "queries", "annotations", "model", "evaluation"],
        ["regions", "scores", "queries", "annotations", "pseudo-labels", "model", "evaluation"],
    ),
    "rectangles": (
        ["base"],
        ["scores", "queries", "annotations", "model", "evaluation"],
        ["scores", "queries", "annotations", "model", "evaluation"],
    ),
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed"),
]


def planned(recipe, world, place):
    """The words that plan two rounds of ``recipe`` in ``place``, and the files of the plan."""
    once, first, later = RECIPES[recipe]
    files = [f"run/{name}.h5" for name in once]
    for number, names in enumerate((first, later)):
        files += [f"run/round-{number}/{name}.{'safetensors' if name == 'model' else 'h5'}" for name in names]
    shutil.copy(world / "d.h5", place)
    settings = [each for each in SETTINGS if recipe != "rectangles" or "epsilon" not in each]
    overrides = [word for setting in settings for word in ("--set", setting)]
    words = ["plan", recipe, "d.h5", "--profile", "scenes", "--run", "run", "--rounds", 2, *overrides, "-o", "run.mk"]
    return words, files


@pytest.mark.parametrize("recipe, lost", [("adaptive-superpixel", "regions"), ("rectangles", "annotations")])
def test_make_rebuilds_what_a_lost_file_takes_with_it(recipe, lost, world, tmp_path, preloaded, program):
    words, files = planned(recipe, world, tmp_path)
    preloaded.run(*words, cwd=tmp_path).expect(0, out=f"wrote run.mk: {len(files)} rules, 2 rounds")

    done = make(cwd=tmp_path, program=program)
    done.expect(0)
    assert sorted(told(done, "wrote")) == sorted(files)
    before = digests(tmp_path, files)
    make("-n", cwd=tmp_path, program=program).expect(0, out="Nothing to be done")
    preloaded.run("verify", *files, cwd=tmp_path).expect(0)

    (tmp_path / f"run/round-1/{lost}.h5").unlink()
    done = make(cwd=tmp_path, program=program)
    done.expect(0)
    assert told(done, "wrote") == [f"run/round-1/{lost}.h5"]
    assert set(told(done, "up to date")) == set(files[files.index(f"run/round-1/{lost}.h5") + 1 :])
    assert digests(tmp_path, files) == before
    make("-n", cwd=tmp_path, program=program).expect(0, out="Nothing to be done")

    # where the base is lost, make asks everything again, and nothing else is built
    (tmp_path / "run/base.h5").unlink()
    done = make(cwd=tmp_path, program=program)
    done.expect(0)
    assert told(done, "wrote") == ["run/base.h5"]
    assert digests(tmp_path, files) == before


def test_a_divided_plan_makes_the_files_of_one_that_is_not(world, tmp_path, preloaded, program):
    """Merging, scoring and sieving share predictions, which the last of them removes once its shards are joined."""
    words, files = planned("adaptive-superpixel", world, tmp_path)
    preloaded.run(*words, "--shards", 2, cwd=tmp_path).expect(0, out=f"{len(files)} rules, 6 of them divided, 2 rounds")
    done = make("-j2", cwd=tmp_path, program=program)
    done.expect(0)
    assert sorted(file for file in told(done, "wrote") if file != "shard") == sorted(files)
    divided = ["run/base.h5", *(file for file in files if "evaluation" in file)]
    divided += [f"run/round-1/{name}.h5" for name in ("regions", "scores", "pseudo-labels")]
    wrote = [line.split() for line in done.out.splitlines() if line.startswith("wrote shard ")]
    assert sorted((words[4].rstrip(":"), words[2]) for words in wrote) == sorted(
        (file, share) for file in divided for share in ("0/2", "1/2")
    )
    assert "building the others" not in done.out
    for path in (tmp_path / "run").rglob("*"):
        assert path.suffix not in (".parts", ".shard", ".lock"), path
        assert path.name != "predictions"
    make("-n", cwd=tmp_path, program=program).expect(0, out="Nothing to be done")
    make("-q", cwd=tmp_path, program=program).expect(0)

    before = digests(tmp_path, files)
    preloaded.run(*words, cwd=tmp_path).expect(0, out=f"{len(files)} rules, 2 rounds")
    make("-q", cwd=tmp_path, program=program).expect(0)
    for file in divided:
        (tmp_path / file).unlink()
    done = make(cwd=tmp_path, program=program)
    done.expect(0)
    assert sorted(told(done, "wrote")) == sorted(divided)
    assert digests(tmp_path, files) == before
