"""Outputs, options and recipes that cannot be right: exit 2, a sentence that says so, no traceback, nothing written."""

import pickle
from pathlib import Path

import pytest
from commands_support import CHAIN, STAGES, TRAIN

every_stage = pytest.mark.parametrize("stage", STAGES)


@every_stage
@pytest.mark.parametrize("output", ["tiny.toml/x", "tiny.toml/deep/x", "folder"])
def test_an_output_that_cannot_be(stage, output, place, refused):
    (place / "folder").mkdir()
    ending = ".safetensors" if stage == "train" else ".h5"
    if output == "folder":
        (place / f"folder{ending}").mkdir()
    refused(*CHAIN[stage].to(output + ending), says="for the output" if output == "folder" else "Choose another output")


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "prepare"])
def test_an_output_that_is_an_input(stage, place, refused):
    """A slip of the keyboard must not cost a dataset."""
    inputs = [word for word in CHAIN[stage].words[1:-2] if (place / word).is_file()]
    assert inputs
    for name in inputs:
        says = "a model is a safetensors file" if stage == "train" else "input of this stage. Choose another output."
        refused(*CHAIN[stage].to(name), says=says)


def test_a_model_under_a_name_that_is_none(refused):
    refused(*TRAIN, "-o", "m.h5", says="m.h5: a model is a safetensors file. Pass -o m.safetensors.")


@every_stage
def test_unknown_options_and_settings(stage, place, refused):
    words = CHAIN[stage].words
    refused(*words, "--no-such-option", "3", says="--no-such-option")
    (place / "mine.toml").write_text(f'title = "t"\nsource = "s"\n[settings.{stage}]\nno_such_setting = 3\n')
    refused(*words, "--recipe", "mine.toml", says=f"settings.{stage}: unknown setting 'no_such_setting'")
    (place / "mine.toml").write_text('title = "t"\nsource = "s"\n[settings.no-such-stage]\nseed = 3\n')
    refused(*words, "--recipe", "mine.toml", says="there is no such stage")
    refused(*words, "--recipe", "no-such-recipe", says="Unknown recipe")
    refused(*words, "--recipe", "pixelpick", "--profile", "no-such-profile", says="Unknown profile")


@pytest.mark.parametrize(
    "text",
    [
        "title = ",
        "",
        "title = 3",
        'base = "pixelpick"\nrounds = 0',
        'base = "pixelpick"\nno_such_key = 1',
        'base = "no-such-recipe"',
        'base = "mine.toml"',
        "base = 3",
        'base = "pixelpick"\nsettings = 3',
        'base = "pixelpick"\n[settings]\nselect = 3',
        'base = "pixelpick"\nsteps = 3',
        'base = "pixelpick"\nsteps = [3]',
        'base = "pixelpick"\nwithout = 3',
        'base = "pixelpick"\nplugins = "mine.py"',
        'base = "pixelpick"\nprofiles = 3',
        'base = "pixelpick"\n[profiles]\nscenes = 3',
        'base = "pixelpick"\n[profiles.scenes]\nsteps = 3',
        'base = "pixelpick"\n[[steps]]\nname = "queries"\nreads = 3',
        'base = "pixelpick"\n[[steps]]\nname = "more"\nreads = 3',
        'base = "pixelpick"\n[[steps]]\nname = "a"',
        'base = "pixelpick"\n[settings.select]\nbudget = [1, 2]',
        'base = "pixelpick"\n[settings.select]\nfraction = "much"',
    ],
)
def test_a_faulty_recipe(text, place, refused):
    (place / "mine.toml").write_text(text)
    refused("select", "d.h5", "s0.h5", "--recipe", "mine.toml", "-o", "x.h5")
    (place / "mine.toml").write_bytes(b"title = '\xff'")
    refused("select", "d.h5", "s0.h5", "--recipe", "mine.toml", "-o", "x.h5", says="mine.toml is not valid TOML")


@pytest.mark.parametrize(
    "stage, options, says",
    [
        ("prepare", ["--scale", "0"], "scale"),
        ("prepare", ["--scale", "0.5", "--long-side", "32"], "scale, long_side and size are mutually exclusive"),
        ("prepare", ["--long-side", "some"], "long_side"),
        ("train", ["--batch", "1"], "batch"),
        ("train", ["--batch", "2.5"], "batch"),
        ("train", ["--epochs", "0"], "epochs"),
        ("train", ["--crop", "48"], "crop"),
        ("train", ["--crop", "0,0"], "crop"),
        ("train", ["--scale-range", "2,1"], "scale_range"),
        ("train", ["--optimiser", "newton"], "optimiser"),
        ("train", ["--head-lr", "nan"], "head_lr"),
        ("train", ["--head-lr", "inf"], "head_lr"),
        ("train", ["--backbone", "no-such-net"], "no-such-net"),
        ("train", ["--architecture", "no-such-net"], "no-such-net"),
        ("train", ["--weights", "missing.pth"], "missing.pth"),
        ("train", ["--weights", "d.h5"], "d.h5"),
        ("train", ["--device", "cuda"], "No CUDA device is available"),
        ("train", ["--device", "tpu"], "device"),
        ("train", ["--seed", "-1"], "seed"),
        ("train", ["--seed", "1" + "0" * 40], "seed"),
        ("score", ["--measure", "nonsense"], "Unknown measure 'nonsense'"),
        ("score", ["--measure", "random", "--committee", "3"], "committee"),
        ("score", ["--split", "nonsense"], "no images in split 'nonsense'; its splits are test, train, val"),
        ("score", ["--checkpoint", "worst"], "checkpoint"),
        ("score", ["--unit", "region"], "unit"),
        ("score", ["--device", "cuda"], "No CUDA device is available"),
        ("score", ["--seed", "1" + "0" * 40], "seed"),
        ("select", ["--fraction", "7"], "fraction = '7': input should be less than or equal to 1"),
        ("select", ["--fraction", "nan"], "fraction"),
        ("select", ["--rule", "best"], "rule"),
        ("select", ["--budget", "-1"], "budget"),
        ("select", ["--budget", "0"], "budget"),
        (
            "select",
            ["--budget", "4000"],
            "--budget 4000 (24000 pixels in 6 images) exceeds the 18414 pixels left in the pool",
        ),
        ("select", ["--seed", "1" + "0" * 40], "seed"),
        ("select", ["--seed", "5000000000", "--stream", "legacy"], "seed"),
        ("annotate-simulate", ["--error-rate", "2"], "error_rate"),
        ("annotate-simulate", ["--seconds-per-click", "inf"], "seconds_per_click"),
        ("evaluate", ["--scales", "0.5,nan"], "scales"),
        ("evaluate", ["--scales", ","], "scales"),
        ("evaluate", ["--scales", "0.5;1"], "scales"),
        ("evaluate", ["--split", "nonsense"], "no images in split 'nonsense'"),
        ("evaluate", ["--seed", "x"], "seed"),
    ],
)
def test_a_wrong_value(stage, options, says, refused):
    refused(*CHAIN[stage].words, *options, "-o", "x.safetensors" if stage == "train" else "x.h5", says=says)


def test_all_wrong_values_at_once(refused):
    done = refused("select", "d.h5", "s0.h5", "--fraction", "7", "--budget", "-1", "--stream", "best", "-o", "x.h5")
    assert {line.split(" = ")[0] for line in done.err.splitlines()} == {
        "error: select: stream",
        "error: select: budget",
        "error: select: fraction",
    }


def test_weights_that_would_run_code_are_not_loaded(place, refused):
    class Poison:
        def __reduce__(self):
            return Path.touch, (place / "canary",)

    for name in ("weights.pth", "weights.safetensors", "weights.bin"):
        (place / name).write_bytes(pickle.dumps({"state_dict": Poison()}))
        refused(*TRAIN, "--weights", name, "-o", "x.safetensors", says="were not loaded")
    assert not (place / "canary").exists()
    pickle.loads((place / "weights.pth").read_bytes())
    assert (place / "canary").exists(), "the poison is none"


@pytest.mark.parametrize("unit, budget", [("pixel", 3072), ("image", 0)])
def test_nothing_left_to_query(unit, budget, place, preloaded, refused):
    words = ["score", "d.h5", "--measure", "random", "--unit", unit, "-o", "s.h5"]
    preloaded.run(*words, cwd=place).expect(0)
    preloaded.run("select", "d.h5", "s.h5", "--budget", budget, "-o", "q.h5", cwd=place).expect(0)
    preloaded.run("annotate-simulate", "d.h5", "q.h5", "-o", "a.h5", cwd=place).expect(0)
    more = ["select", "d.h5", "s.h5", "--annotations", "a.h5", "-o", "x.h5"]
    refused(*more, says="Nothing left to query: the ledger covers the whole pool.")


def test_a_model_without_best_weights(place, preloaded, refused):
    words = [*TRAIN, "--validation-split", "none", "--epochs", "1", "-o", "n.safetensors"]
    preloaded.run(*words, cwd=place).expect(0, out="No validation: split 'none' has no ground truth")
    refused("score", "d.h5", "--model", "n.safetensors", "--checkpoint", "best", "-o", "x.h5", says="Use last")
    refused("evaluate", "d.h5", "n.safetensors", "--checkpoint", "best", "-o", "x.h5", says="Use last")


def test_a_table_that_may_hold_answers_is_never_replaced(place, preloaded, refused):
    words = ["export-queries", "d.h5", "q1.h5", "-o", "q1.csv"]
    preloaded.run(*words, cwd=place).expect(0, out="wrote")
    preloaded.run(*words, cwd=place).expect(0, out="up to date")
    (place / "q1.csv").write_text((place / "q1.csv").read_text().replace(",,,", ",sky,,", 1))
    refused(*words, says="q1.csv exists and may contain answers")
    refused("export-queries", "d.h5", "q1.h5", "-o", "d.h5", says="d.h5 has an unknown ending")


@pytest.mark.parametrize(
    "words", [["inspect", "s1.h5", "--dataset", "d.h5", "--png"], ["plan", "pixelpick", "d.h5", "-o"]]
)
def test_pictures_and_plans_never_replace_an_artifact(words, place, refused):
    (place / "folder").mkdir()
    for output in ("d.h5", "m.safetensors", "folder", "tiny.toml/x"):
        refused(*words, output, says="Choose another output")
