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
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("recipe, lost", [("adaptive-superpixel", "regions"), ("rectangles", "annotations")])
def test_make_rebuilds_what_a_lost_file_takes_with_it(recipe, lost, world, tmp_path, preloaded, program):
    once, first, later = RECIPES[recipe]
    files = [f"run/{name}.h5" for name in once]
    for number, names in enumerate((first, later)):
        files += [f"run/round-{number}/{name}.{'safetensors' if name == 'model' else 'h5'}" for name in names]
    shutil.copy(world / "d.h5", tmp_path)
    words = ["plan", recipe, "d.h5", "--profile", "scenes", "--run", "run", "--rounds", 2, "-o", "run.mk"]
    overrides = [
        word
        for setting in SETTINGS
        if recipe != "rectangles" or "epsilon" not in setting
        for word in ("--set", setting)
    ]
    preloaded.run(*words, *overrides, cwd=tmp_path).expect(0, out=f"wrote run.mk: {len(files)} rules, 2 rounds")

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
