"""Whatever is wrong with what a user gives: exit 2, a sentence that says so, no traceback, nothing written."""

import pickle
import random
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from commands_support import (
    CHAIN,
    NETWORK,
    STAGES,
    TRAIN,
    assert_same,
    digest,
    listing,
)
from damage_support import flipped, put, refuse, same_content, write_model_of_other_classes
from forged import forge_header
from PIL import Image
from safetensors.numpy import save_file

from stages.artifacts.header import SCHEMA_VERSION

KIND_OF = {
    "d.h5": "dataset",
    "s1.h5": "scores",
    "q1.h5": "queries",
    "a0.h5": "annotations",
    "e.h5": "evaluation",
    "m.safetensors": "model",
}
# every input of every stage: the command with INPUT in its place, and the artifact that belongs there
INPUTS = {
    "train dataset": (["train", "INPUT", "a0.h5", *NETWORK, "--epochs", "1", "-o", "x.safetensors"], "d.h5"),
    "train annotations": (["train", "d.h5", "INPUT", *NETWORK, "--epochs", "1", "-o", "x.safetensors"], "a0.h5"),
    "score dataset": (["score", "INPUT", "--model", "m.safetensors", "-o", "x.h5"], "d.h5"),
    "score model": (["score", "d.h5", "--model", "INPUT", "-o", "x.h5"], "m.safetensors"),
    "select dataset": (["select", "INPUT", "s1.h5", "-o", "x.h5"], "d.h5"),
    "select scores": (["select", "d.h5", "INPUT", "-o", "x.h5"], "s1.h5"),
    "select annotations": (["select", "d.h5", "s1.h5", "--annotations", "INPUT", "-o", "x.h5"], "a0.h5"),
    "annotate dataset": (["annotate-simulate", "INPUT", "q1.h5", "--annotations", "a0.h5", "-o", "x.h5"], "d.h5"),
    "annotate queries": (["annotate-simulate", "d.h5", "INPUT", "--annotations", "a0.h5", "-o", "x.h5"], "q1.h5"),
    "annotate annotations": (["annotate-simulate", "d.h5", "q1.h5", "--annotations", "INPUT", "-o", "x.h5"], "a0.h5"),
    "evaluate dataset": (["evaluate", "INPUT", "m.safetensors", "-o", "x.h5"], "d.h5"),
    "evaluate model": (["evaluate", "d.h5", "INPUT", "-o", "x.h5"], "m.safetensors"),
}
every_input = pytest.mark.parametrize("command, right", INPUTS.values(), ids=INPUTS.keys())
every_stage = pytest.mark.parametrize("stage", STAGES)


@pytest.fixture
def refused(place, preloaded):
    """``refused(words..., says=text)``: the command exits 2, says the text, and changes nothing in the folder."""

    return partial(refuse, preloaded, place)


@every_input
def test_an_artifact_of_another_kind(command, right, refused):
    for other, kind in KIND_OF.items():
        if kind != KIND_OF[right]:
            done = refused(*put(command, other))
            assert other in done.err


@every_input
def test_a_file_that_is_no_artifact(command, right, place, refused):
    content = (place / right).read_bytes()
    (place / "cut").write_bytes(content[: len(content) // 2])
    (place / "cut short").write_bytes(content[:-1])
    (place / "empty").write_bytes(b"")
    (place / "text").write_text("round,pixel\n0,17\n")
    (place / "binary").write_bytes(random.Random(0).randbytes(5000))
    (place / "folder").mkdir()
    with h5py.File(place / "plain.h5", "w") as file:
        file["images"] = np.zeros(3)
    save_file({"weight": np.zeros(3, np.float32)}, place / "plain.safetensors")
    given = ["cut", "cut short", "empty", "text", "binary", "folder", "plain.h5", "plain.safetensors", "missing"]
    for name in given:
        done = refused(*put(command, name))
        assert name in done.err


@every_input
def test_an_artifact_of_a_newer_schema(command, right, place, refused):
    forge_header(place / right, schema_version="2.0")
    refused(*put(command, right), says=f"has schema 2.0, newer than the {SCHEMA_VERSION} known here. Update alseg.")


@every_input
def test_an_artifact_of_a_newer_minor_schema_is_read(command, right, place, preloaded):
    forge_header(place / right, schema_version="1.7")
    preloaded.run(*put(command, right), cwd=place).expect(0, out="wrote")


def test_an_artifact_of_an_older_schema_says_what_it_lacks(place, refused):
    path = forge_header(place / "q1.h5", schema_version="1.1")
    with h5py.File(path, "r+") as file:
        del file["queries/cluster"]
    says = f"q1.h5 has no queries/cluster: it was written under schema 1.1, and this is {SCHEMA_VERSION}; run select"
    refused("annotate-simulate", "d.h5", "q1.h5", "--annotations", "a0.h5", "-o", "x.h5", says=says)


@pytest.fixture
def other(place, preloaded) -> Path:
    """Another dataset with the same classes and image ids."""
    preloaded.run("prepare", "tiny.toml", "--seed", "1", "-o", "other.h5", cwd=place).expect(0)
    return place / "other.h5"


@pytest.mark.parametrize("name", ["train dataset", "select dataset", "annotate dataset"])
def test_an_artifact_of_another_dataset(name, other, refused):
    command, _ = INPUTS[name]
    refused(*put(command, other.name), says="was made from another dataset")


def test_a_ledger_of_another_dataset(place, other, preloaded, refused):
    preloaded.run("score", other, "--measure", "random", "-o", "os.h5", cwd=place).expect(0)
    refused(
        "select", other, "os.h5", "--annotations", "a0.h5", "-o", "x.h5", says="a0.h5 was made from another dataset"
    )


def test_a_model_of_other_classes(place, refused):
    write_model_of_other_classes(place / "n.safetensors", place / "m.safetensors")
    says = "Pass a model trained on these classes"
    refused("score", "d.h5", "--model", "n.safetensors", "-o", "x.h5", says=says)
    refused("evaluate", "d.h5", "n.safetensors", "-o", "x.h5", says=says)


def test_the_same_model_twice(refused):
    refused("evaluate", "d.h5", "m.safetensors", "m.safetensors", "-o", "x.h5", says="Pass each model once")


@pytest.mark.parametrize("ledger", [[], ["--annotations", "a1.h5"]])
def test_queries_without_the_ledger_they_were_chosen_against(ledger, refused):
    refused("annotate-simulate", "d.h5", "q1.h5", *ledger, "-o", "x.h5", says="q1.h5")


def test_first_queries_with_a_ledger(refused):
    refused(
        "annotate-simulate",
        "d.h5",
        "q0.h5",
        "--annotations",
        "a0.h5",
        "-o",
        "x.h5",
        says="q0.h5: these queries were selected without a ledger",
    )


def test_a_ledger_without_a_label(place, refused):
    with h5py.File(place / "a0.h5", "r+") as file:
        file["answers/class"][...] = 255
    refused(*TRAIN, "-o", "x.safetensors", says="has no labels: every answer is void. Annotate more")


def test_a_ledger_with_labels_in_one_image(place, refused):
    with h5py.File(place / "a0.h5", "r+") as file:
        file["answers/class"][...] = np.where(file["answers/image"][()] == 2, 0, 255)
    refused(*TRAIN, "-o", "x.safetensors", says="batch normalisation needs at least 2")


CONSUMERS = {
    "d.h5": [INPUTS["annotate dataset"][0], INPUTS["evaluate dataset"][0]],
    "s1.h5": [INPUTS["select scores"][0]],
    "q1.h5": [INPUTS["annotate queries"][0]],
    "a0.h5": [INPUTS["select annotations"][0], INPUTS["annotate annotations"][0]],
    "m.safetensors": [INPUTS["evaluate model"][0]],
    "e.h5": [["inspect", "INPUT"]],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "right, flips", [("d.h5", 10), ("s1.h5", 6), ("q1.h5", 6), ("a0.h5", 8), ("e.h5", 5), ("m.safetensors", 30)]
)
def test_a_flipped_bit_is_noticed_or_without_effect(right, flips, place, world, preloaded):
    """Anywhere in the file, and more often in its first 4 KiB, where the structure lies."""
    draw = random.Random(f"flips in {right}")
    content = (place / right).read_bytes()
    expected = {}
    for command in CONSUMERS[right]:
        preloaded.run(*put(command, right), cwd=place).expect(0)
        expected[command[0]] = (place / "x.h5").exists() and digest(place / "x.h5")
        (place / "x.h5").unlink(missing_ok=True)
    for number in range(flips):
        position = draw.randrange(len(content) if number % 3 else min(4096, len(content)))
        (place / right).write_bytes(flipped(content, position, draw))
        verified = preloaded.run("verify", right, cwd=place)
        verified.expect(0 if same_content(place / right, world / right) else 2)
        for command in CONSUMERS[right]:
            before = listing(place)
            done = preloaded.run(*put(command, right), cwd=place)
            if done.code:
                done.expect(2, err="error: ")
                assert listing(place) == before
            elif expected[command[0]]:
                assert digest(place / "x.h5") == expected[command[0]], f"flip at {position}"
                (place / "x.h5").unlink()


@every_stage
def test_a_damaged_output_is_built_again(stage, place, world, preloaded):
    step = CHAIN[stage]
    (place / step.output).write_bytes((place / step.output).read_bytes()[:-100])
    done = preloaded.run(*step.words, cwd=place)
    done.expect(0, out=f"rebuilding {step.output}: the existing file is damaged")
    assert_same(place / step.output, world / step.output)


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


def test_a_damaged_image_late_in_the_pool_leaves_no_shards(place, refused):
    with h5py.File(place / "d.h5", "r") as file:
        stored = file["images/train_00005"]
        offset, size = stored.chunks and stored.id.get_chunk_info(0).byte_offset, stored.id.get_chunk_info(0).size
    content = (place / "d.h5").read_bytes()
    (place / "d.h5").write_bytes(flipped(content, offset + size // 2, random.Random(0)))
    refused("score", "d.h5", "--model", "m.safetensors", "-o", "x.h5", says="d.h5 is damaged at images/train_00005")


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


PNG = """
name = "mine"
classes = [{ name = "ground", color = [0, 0, 0] }, { name = "thing", color = [255, 255, 255] }]
[splits.train]
images = "{id}.png"
masks = "masks/{id}.png"
"""


@pytest.fixture
def png(place) -> Path:
    """A dataset of files: four images with masks of two classes, described by mine.toml."""
    draw = np.random.default_rng(0)
    root = place / "png"
    (root / "masks").mkdir(parents=True)
    for number in range(4):
        Image.fromarray(draw.integers(0, 256, (32, 48, 3), dtype=np.uint8)).save(root / f"{number}.png")
        Image.fromarray(draw.integers(0, 2, (32, 48), dtype=np.uint8)).save(root / "masks" / f"{number}.png")
    (place / "mine.toml").write_text(PNG)
    return root


PREPARE = ("prepare", "mine.toml", "--root", "png", "-o", "x.h5")


def test_the_dataset_of_files_is_right_as_it_is(png, place, preloaded):
    preloaded.run(*PREPARE, cwd=place).expect(0, out="wrote")


def test_all_faults_of_a_dataset_at_once(png, refused):
    mask = np.array(Image.open(png / "masks" / "0.png"))
    mask[:2] = 7
    Image.fromarray(mask).save(png / "masks" / "0.png")
    Image.fromarray(mask[:-1] % 2).save(png / "masks" / "1.png")
    (png / "masks" / "2.png").unlink()
    (png / "3.png").write_bytes((png / "3.png").read_bytes()[:200])
    done = refused(*PREPARE)
    assert "0.png contains 96 pixels of value 7, which is not in the class table" in done.err
    assert "differ in size" in done.err
    assert "The image png/2.png has no mask png/masks/2.png" in done.err
    assert "png/3.png cannot be decoded" in done.err
    assert len(done.err.splitlines()) == 4


def test_an_empty_split(png, place, refused):
    (place / "mine.toml").write_text(PNG + '[splits.test]\nimages = "test/{id}.png"\n')
    refused(*PREPARE, says="Split test: nothing matches")


@pytest.mark.parametrize(
    "words, says",
    [
        (["mine.toml"], "Pass the folder that contains them with --root"),
        (["mine.toml", "--root", "nowhere"], "--root nowhere is not a folder"),
        (["mine.toml", "--root", "mine.toml"], "--root mine.toml is not a folder"),
        (["nothing.toml"], "There is no file nothing.toml"),
        (["nothing"], "Choose one of camvid"),
        (["d.h5"], "d.h5"),
        (["png"], "Choose one of camvid"),
    ],
)
def test_a_description_or_root_that_is_none(words, says, png, refused):
    refused("prepare", *words, "-o", "x.h5", says=says)


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_helpers_refuse_what_is_no_artifact(command, place, refused):
    (place / "empty").write_bytes(b"")
    (place / "cut.h5").write_bytes((place / "d.h5").read_bytes()[:9000])
    (place / "cut.safetensors").write_bytes((place / "m.safetensors").read_bytes()[:9000])
    for name in ("empty", "cut.h5", "cut.safetensors", "tiny.toml", "missing", "."):
        refused(command, name, says=name)


def test_verify_tells_stale_and_damaged_files_together(place, other, preloaded):
    (place / "d.h5").write_bytes(other.read_bytes())
    (place / "cut.h5").write_bytes((place / "q0.h5").read_bytes()[:-1])
    done = preloaded.run("verify", "s0.h5", "cut.h5", "q0.h5", cwd=place)
    done.expect(2, err="s0.h5 is stale: its dataset d.h5 changed since. Run the stage again.")
    assert "cut.h5" in done.err
