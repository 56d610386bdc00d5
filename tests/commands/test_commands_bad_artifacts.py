"""Artifacts that cannot be right, whole or damaged: exit 2, a sentence that says so, no traceback, nothing written."""

import random
from pathlib import Path

import h5py
import numpy as np
import pytest
from commands_support import CHAIN, NETWORK, STAGES, TRAIN, assert_same, digest, listing
from damage_support import flipped, put, same_content, write_model_of_other_classes
from forged import forge_header
from safetensors.numpy import save_file

from stages.artifacts.header import SCHEMA_VERSION

pytestmark = pytest.mark.slow

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
    done = refused(*put(command, other.name), says="was made from another dataset")
    assert "). Pass the one it was made from, or rebuild it." in done.err


def test_a_ledger_of_another_dataset(place, other, preloaded, refused):
    preloaded.run("score", other, "--measure", "random", "-o", "os.h5", cwd=place).expect(0)
    refused(
        "select", other, "os.h5", "--annotations", "a0.h5", "-o", "x.h5", says="a0.h5 was made from another dataset"
    )


def test_a_model_of_other_classes(place, refused):
    write_model_of_other_classes(place / "n.safetensors", place / "m.safetensors")
    says = (
        "n.safetensors was trained for the classes sky, building, road, sidewalk, ... but d.h5 has sky, building, "
        "road, pavement, ... Pass a model trained on these classes."
    )
    refused("score", "d.h5", "--model", "n.safetensors", "-o", "x.h5", says=says)
    refused("evaluate", "d.h5", "n.safetensors", "-o", "x.h5", says=says)


def test_the_same_model_twice(refused):
    refused(
        "evaluate",
        "d.h5",
        "m.safetensors",
        "m.safetensors",
        "-o",
        "x.h5",
        says="Two of the models are the same. Pass each model once.",
    )


@pytest.mark.parametrize(
    "ledger, problem, remedy",
    [
        ([], "q1.h5: these queries were selected with a ledger.", "Pass the --annotations that select was run with."),
        (
            ["--annotations", "a1.h5"],
            "q1.h5 was made from another annotations (a0.h5, digest",
            "Pass the one it was made from, or rebuild it.",
        ),
    ],
)
def test_queries_without_the_ledger_they_were_chosen_against(ledger, problem, remedy, refused):
    done = refused("annotate-simulate", "d.h5", "q1.h5", *ledger, "-o", "x.h5", says=problem)
    assert remedy in done.err


def test_first_queries_with_a_ledger(refused):
    says = "q0.h5: these queries were selected without a ledger. Omit --annotations."
    refused("annotate-simulate", "d.h5", "q0.h5", "--annotations", "a0.h5", "-o", "x.h5", says=says)


def test_a_ledger_without_a_label(place, refused):
    with h5py.File(place / "a0.h5", "r+") as file:
        file["answers/class"][...] = 255
    refused(
        *TRAIN, "-o", "x.safetensors", says="a0.h5 has no labels: every answer is void. Annotate more before training."
    )


def test_a_ledger_with_labels_in_one_image(place, refused):
    with h5py.File(place / "a0.h5", "r+") as file:
        file["answers/class"][...] = np.where(file["answers/image"][()] == 2, 0, 255)
    says = "a0.h5 has labels in 1 images, but batch normalisation needs at least 2 per process. Annotate more images."
    refused(*TRAIN, "-o", "x.safetensors", says=says)


CONSUMERS = {
    "d.h5": [INPUTS["annotate dataset"][0], INPUTS["evaluate dataset"][0]],
    "s1.h5": [INPUTS["select scores"][0]],
    "q1.h5": [INPUTS["annotate queries"][0]],
    "a0.h5": [INPUTS["select annotations"][0], INPUTS["annotate annotations"][0]],
    "m.safetensors": [INPUTS["evaluate model"][0]],
    "e.h5": [["inspect", "INPUT"]],
}


@pytest.mark.parametrize(
    "right, flips", [("d.h5", 6), ("s1.h5", 5), ("q1.h5", 5), ("a0.h5", 5), ("e.h5", 4), ("m.safetensors", 12)]
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


@pytest.mark.parametrize("stage", STAGES)
def test_a_damaged_output_is_built_again(stage, place, world, preloaded):
    step = CHAIN[stage]
    (place / step.output).write_bytes((place / step.output).read_bytes()[:-100])
    done = preloaded.run(*step.words, cwd=place)
    if step.words[0] == "annotate-simulate":  # nobody can tell any more that no people answered here
        done.expect(2, err=f"{step.output} is damaged and may hold answers given by people")
        (place / step.output).unlink()
        preloaded.run(*step.words, cwd=place).expect(0)
    else:
        done.expect(0, out=f"rebuilding {step.output}: the existing file is damaged")
    assert_same(place / step.output, world / step.output)


def test_a_damaged_image_late_in_the_pool_leaves_no_shards(place, refused):
    with h5py.File(place / "d.h5", "r") as file:
        stored = file["images/train_00005"]
        offset, size = stored.chunks and stored.id.get_chunk_info(0).byte_offset, stored.id.get_chunk_info(0).size
    content = (place / "d.h5").read_bytes()
    (place / "d.h5").write_bytes(flipped(content, offset + size // 2, random.Random(0)))
    says = "d.h5 is damaged at images/train_00005. Check it with `alseg verify` and rebuild it."
    refused("score", "d.h5", "--model", "m.safetensors", "-o", "x.h5", says=says)


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
