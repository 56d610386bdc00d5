"""Outputs, options and recipes that cannot be right: exit 2, a sentence that says so, no traceback, nothing written."""

import pickle
from pathlib import Path

import pytest
from commands_support import CHAIN, STAGES, TRAIN

pytestmark = pytest.mark.slow

LARGE = "1" + "0" * 40  # a seed of more than 64 bits
every_stage = pytest.mark.parametrize("stage", STAGES)


@every_stage
@pytest.mark.parametrize(
    "output, says",
    [
        ("tiny.toml/x", "Cannot create the folder tiny.toml: File exists. Choose another output."),
        ("tiny.toml/deep/x", "Cannot create the folder tiny.toml/deep: Not a directory. Choose another output."),
        ("folder", "is a folder. Choose a file name for the output."),
    ],
)
def test_an_output_that_cannot_be(stage, output, says, place, refused):
    (place / "folder").mkdir()
    ending = ".safetensors" if stage == "train" else ".h5"
    if output == "folder":
        (place / f"folder{ending}").mkdir()
    refused(*CHAIN[stage].to(output + ending), says=says)


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "prepare"])
def test_an_output_that_is_an_input(stage, place, refused):
    """A slip of the keyboard must not cost a dataset."""
    inputs = [word for word in CHAIN[stage].words[1:-2] if (place / word).is_file()]
    assert inputs
    for name in inputs:
        says = "input of this stage. Choose another output."
        if stage == "train":
            says = f"{name}: a model is a safetensors file. Pass -o {Path(name).stem}.safetensors."
        refused(*CHAIN[stage].to(name), says=says)


def test_a_model_under_a_name_that_is_none(refused):
    refused(*TRAIN, "-o", "m.h5", says="m.h5: a model is a safetensors file. Pass -o m.safetensors.")


@every_stage
def test_unknown_options_and_settings(stage, place, refused):
    words = CHAIN[stage].words
    refused(*words, "--no-such-option", "3", says="--no-such-option")
    says = f"settings.{stage}: unknown setting 'no_such_setting'; no setting has a similar name (see --help-all)."
    (place / "mine.toml").write_text(f'title = "t"\nsource = "s"\n[settings.{stage}]\nno_such_setting = 3\n')
    refused(*words, "--recipe", "mine.toml", says=says)
    (place / "mine.toml").write_text('title = "t"\nsource = "s"\n[settings.no-such-stage]\nseed = 3\n')
    refused(
        *words, "--recipe", "mine.toml", says="settings.no-such-stage: there is no such stage; choose one of prepare, "
    )
    refused(*words, "--recipe", "no-such-recipe", says="Unknown recipe 'no-such-recipe'. Choose one of ")
    says = "Unknown profile 'no-such-profile'. Choose one of "
    refused(*words, "--recipe", "pixelpick", "--profile", "no-such-profile", says=says)


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
        (
            "prepare",
            ["--scale", "0"],
            "prepare: scale = '0': input should be greater than 0 (Resize factor for both sides",
        ),
        (
            "prepare",
            ["--scale", "0.5", "--long-side", "32"],
            "scale, long_side and size are mutually exclusive; set one of them",
        ),
        ("prepare", ["--long-side", "some"], "long_side = 'some': input should be a valid integer"),
        ("train", ["--batch", "1"], "batch = '1': input should be greater than or equal to 2 (Images per step"),
        ("train", ["--batch", "2.5"], "batch = '2.5': input should be a valid integer"),
        ("train", ["--epochs", "0"], "epochs = '0': input should be greater than or equal to 1 (Passes over"),
        ("train", ["--crop", "48"], "crop.1 = ('48',): field required (height,width of the crop"),
        ("train", ["--crop", "0,0"], "crop must be two positive numbers: height,width"),
        ("train", ["--scale-range", "2,1"], "scale_range must be two positive numbers, the smaller first"),
        ("train", ["--optimiser", "newton"], "optimiser = 'newton': input should be 'adam', 'adamw' or 'sgd'"),
        ("train", ["--head-lr", "nan"], "head_lr = 'nan': input should be a finite number"),
        ("train", ["--head-lr", "inf"], "head_lr = 'inf': input should be a finite number"),
        (
            "train",
            ["--backbone", "no-such-net"],
            "Unknown backbone 'no-such-net'. Pass a name that timm or smp lists.",
        ),
        ("train", ["--architecture", "no-such-net"], "Unknown architecture 'no-such-net'. Choose one of classifier, "),
        (
            "train",
            ["--weights", "missing.pth"],
            "Weights 'missing.pth' cannot be read: No such file or directory. Pass a file with --weights, or --weights "
            "none for random weights.",
        ),
        (
            "train",
            ["--weights", "d.h5"],
            "Weights 'd.h5' were not loaded: the file is damaged or contains more than plain tensors. Pass a file with "
            "--weights, or --weights none for random weights.",
        ),
        ("train", ["--device", "cuda"], "No CUDA device is available. Use --device auto or --device cpu."),
        ("train", ["--device", "tpu"], "device = 'tpu': input should be 'auto', 'cpu' or 'cuda'"),
        ("train", ["--seed", "-1"], "seed = '-1': input should be greater than or equal to 0"),
        ("train", ["--seed", LARGE], f"seed = '{LARGE}': input should be less than 9223372036854775808"),
        ("score", ["--measure", "nonsense"], "Unknown measure 'nonsense'. Choose one of bald, "),
        (
            "score",
            ["--measure", "random", "--committee", "3"],
            "committee does not apply to measure random; it is for measure bald, ",
        ),
        ("score", ["--split", "nonsense"], "d.h5 has no images in split 'nonsense'; its splits are test, train, val."),
        ("score", ["--checkpoint", "worst"], "checkpoint = 'worst': input should be 'last' or 'best'"),
        ("score", ["--unit", "region"], "--unit region requires --superpixels, and vice versa."),
        ("score", ["--device", "cuda"], "No CUDA device is available. Use --device auto or --device cpu."),
        ("score", ["--seed", LARGE], f"seed = '{LARGE}': input should be less than 9223372036854775808"),
        ("select", ["--fraction", "7"], "fraction = '7': input should be less than or equal to 1"),
        ("select", ["--fraction", "nan"], "fraction = 'nan': input should be a finite number"),
        ("select", ["--rule", "best"], "Unknown rule 'best'. Choose one of answered, "),
        ("select", ["--budget", "-1"], "budget = '-1': input should be greater than or equal to 0 (Pixels: "),
        (
            "select",
            ["--budget", "0"],
            "--budget 0 (all) is for regions and images only. Set --budget to 1 or more for pixels.",
        ),
        ("select", ["--seed", LARGE], f"seed = '{LARGE}': input should be less than 9223372036854775808"),
        (
            "select",
            ["--seed", "5000000000", "--stream", "legacy"],
            "stream legacy requires a seed of at most 4294967295",
        ),
        ("annotate-simulate", ["--error-rate", "2"], "error_rate = '2': input should be less than or equal to 1"),
        ("annotate-simulate", ["--seconds-per-click", "inf"], "seconds_per_click = 'inf': input should be a finite"),
        ("evaluate", ["--scales", "0.5,nan"], "scales.1 = 'nan': input should be a finite number"),
        ("evaluate", ["--scales", ","], "scales = (): tuple should have at least 1 item"),
        ("evaluate", ["--scales", "0.5;1"], "scales.0 = '0.5;1': input should be a valid number"),
        (
            "evaluate",
            ["--split", "nonsense"],
            "d.h5 has no images in split 'nonsense'; its splits are test, train, val.",
        ),
        ("evaluate", ["--seed", "x"], "seed = 'x': input should be a valid integer"),
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
        says = (
            f"Weights '{name}' were not loaded: the file is damaged or contains more than plain tensors. "
            "Pass a file with --weights, or --weights none for random weights."
        )
        refused(*TRAIN, "--weights", name, "-o", "x.safetensors", says=says)
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
    refused(*more, says="Nothing left to query: the ledger covers the whole pool.", code=3)


def test_a_model_without_best_weights(place, preloaded, refused):
    words = [*TRAIN, "--validation-split", "none", "--epochs", "1", "-o", "n.safetensors"]
    preloaded.run(*words, cwd=place).expect(0, out="No validation: split 'none' has no ground truth")
    says = "n.safetensors has no best weights, which only training with validation writes. Use last."
    refused("score", "d.h5", "--model", "n.safetensors", "--checkpoint", "best", "-o", "x.h5", says=says)
    refused("evaluate", "d.h5", "n.safetensors", "--checkpoint", "best", "-o", "x.h5", says=says)


def test_a_table_that_may_hold_answers_is_never_replaced(place, preloaded, refused):
    words = ["export-queries", "d.h5", "q1.h5", "-o", "q1.csv"]
    preloaded.run(*words, cwd=place).expect(0, out="wrote")
    preloaded.run(*words, cwd=place).expect(0, out="up to date")
    (place / "q1.csv").write_text((place / "q1.csv").read_text().replace(",,,", ",sky,,", 1))
    refused(*words, says="q1.csv exists and may contain answers. Remove it, or choose another output.")
    says = (
        "d.h5 has an unknown ending. Use .csv, .json, .coco.json, .labelstudio, .npy, .txt, none for a folder of PNG, "
        "or for other programs .points.pkl, .points.npy, .regions.pkl, .stride-NUMBER.pkl or .ranked.pkl."
    )
    refused("export-queries", "d.h5", "q1.h5", "-o", "d.h5", says=says)


@pytest.mark.parametrize(
    "words", [["inspect", "s1.h5", "--dataset", "d.h5", "--png"], ["plan", "pixelpick", "d.h5", "-o"]]
)
def test_pictures_and_plans_never_replace_an_artifact(words, place, refused):
    (place / "folder").mkdir()
    for output, problem in (
        ("d.h5", "d.h5 is an artifact"),
        ("m.safetensors", "m.safetensors is an artifact"),
        ("folder", "folder is a folder"),
        ("tiny.toml/x", "Cannot create the folder tiny.toml: File exists"),
    ):
        refused(*words, output, says=f"{problem}. Choose another output.")
