"""Regions and what goes with them, given wrongly: exit 2, one sentence with a remedy, nothing written."""

import random
import shutil

import pytest
from commands_support import REGION_CHAIN, TRAIN, digest, listing
from damage_support import flipped, put, refuse, same_content, write_model_of_other_classes

pytestmark = pytest.mark.slow

ADAPT = ["extract-superpixels", "d.h5", "--method", "adaptive", "--epsilon", "0.01", "--workers", "1", "-o", "x.h5"]
SCORE = ["score", "d.h5", "--unit", "region", "--measure", "bvsb", "-o", "x.h5"]
SELECT = ["select", "d.h5", "rs1.h5", "--rule", "top", "--budget", "8", "-o", "x.h5"]
ANNOTATE = ["annotate-simulate", "d.h5", "rq1.h5", "-o", "x.h5"]
SIEVE = ["pseudo-label", "d.h5", "-o", "x.h5"]
BASE, MERGED, MODEL = ["--superpixels", "r.h5"], ["--superpixels", "g.h5"], ["--model", "m.safetensors"]
LEDGER = ["--annotations", "ra0.h5"]
INPUT = "INPUT"
# every input that regions add to a stage: the command with INPUT in its place, and the artifact that belongs there
INPUTS = {
    "extract dataset": (["extract-superpixels", INPUT, "-o", "x.h5"], "d.h5"),
    "extract superpixels": ([*ADAPT, *MODEL, "--superpixels", INPUT], "r.h5"),
    "extract model": ([*ADAPT, *BASE, "--model", INPUT], "m.safetensors"),
    "score superpixels": ([*SCORE, *MODEL, "--superpixels", INPUT], "g.h5"),
    "select scores": (["select", "d.h5", INPUT, *MERGED, "-o", "x.h5"], "rs1.h5"),
    "select superpixels": ([*SELECT, *LEDGER, "--superpixels", INPUT], "g.h5"),
    "annotate queries": (["annotate-simulate", "d.h5", INPUT, *MERGED, *LEDGER, "-o", "x.h5"], "rq1.h5"),
    "annotate superpixels": ([*ANNOTATE, *LEDGER, "--superpixels", INPUT], "g.h5"),
    "sieve dataset": (["pseudo-label", INPUT, "ra1.h5", *MODEL, "-o", "x.h5"], "d.h5"),
    "sieve annotations": ([*SIEVE, INPUT, *MODEL], "ra1.h5"),
    "sieve model": ([*SIEVE, "ra1.h5", "--model", INPUT], "m.safetensors"),
    "train labels": ([*TRAIN[:2], INPUT, *TRAIN[3:], "-o", "x.safetensors"], "p.h5"),
}
OF_OTHER_KIND = ("d.h5", "r.h5", "rs0.h5", "rq0.h5", "e.h5", "m.safetensors")


@pytest.fixture
def refused(region_place, preloaded):
    """``refused(words..., says=text)``: the command exits 2, says one sentence with the text, and changes nothing."""

    def refused(*words, says, code=2):
        done = refuse(preloaded, region_place, *words, says=says, code=code)
        assert len(done.err.splitlines()) == 1
        assert done.err.startswith("error: ") == (code == 2)
        return done

    return refused


@pytest.mark.parametrize("command, right", INPUTS.values(), ids=INPUTS)
def test_a_file_that_is_not_the_right_one(command, right, region_place, refused):
    others = [name for name in OF_OTHER_KIND if name[:2] != right[:2] and {name, right} != {"r.h5", "g.h5"}]
    for name in random.Random(str(command)).sample(others, 2):
        refused(*put(command, name), says=name)
    content = (region_place / right).read_bytes()
    (region_place / "cut").write_bytes(content[: len(content) // 2])
    for name in ("cut", "missing"):
        refused(*put(command, name), says=name)


@pytest.mark.parametrize(
    "words, says",
    [
        (
            [*ADAPT, *MODEL],
            "Method adaptive merges base regions by the predictions of a model. Pass --superpixels and --model.",
        ),
        (
            [*ADAPT, *BASE],
            "Method adaptive merges base regions by the predictions of a model. Pass --superpixels and --model.",
        ),
        ([*ADAPT, *MERGED, *MODEL], "g.h5 contains merged regions. Pass the base regions they were merged from (r.h5)"),
        ([*ADAPT, *BASE, *MODEL, "--measure", "nonsense"], "Unknown measure 'nonsense'. Choose one of "),
        ([*ADAPT, *BASE, *MODEL, "--epsilon", "-1"], "epsilon"),
        ([*ADAPT, *BASE, *MODEL, "--split", "val"], "split 'val' has 2. Run extract-superpixels with --split val."),
        (
            ["extract-superpixels", "d.h5", *BASE, "-o", "x.h5"],
            "Method seeds uses neither --superpixels nor --model. Omit them.",
        ),
        (
            ["extract-superpixels", "d.h5", "--method", "grid", *MODEL, "-o", "x.h5"],
            "Method grid uses neither --superpixels nor --model. Omit them.",
        ),
        (
            ["extract-superpixels", "d.h5", "--method", "voronoi", "-o", "x.h5"],
            "Unknown cutter 'voronoi'. Choose one of ",
        ),
        (
            ["extract-superpixels", "d.h5", "--split", "nonsense", "-o", "x.h5"],
            "d.h5 has no images in split 'nonsense'; its splits are test, train, val.",
        ),
        (
            ["extract-superpixels", "d.h5", "-o", "s1.h5"],
            "s1.h5 holds scores, not superpixels. Remove it or choose another output.",
        ),
        ([*ADAPT, *BASE, *MODEL, "-o", "r.h5"], "r.h5 is the superpixels input of this stage. Choose another output."),
        ([*SCORE, *MODEL], "--unit region requires --superpixels, and vice versa."),
        (["score", "d.h5", *MODEL, *MERGED, "-o", "x.h5"], "--unit region requires --superpixels, and vice versa."),
        ([*SCORE, *MERGED], "--measure bvsb requires --model; only random does not."),
        ([*SCORE, *MODEL, *MERGED, "--measure", "nonsense"], "Unknown measure 'nonsense'. Choose one of "),
        ([*SCORE, *MODEL, *MERGED, "--split", "val"], "split 'val' has 2. Run extract-superpixels with --split val."),
        (
            ["score", "d.h5", *MODEL, "--class-balance", "pixels", "-o", "x.h5"],
            "class-balance does not apply to unit pixel",
        ),
        (
            [*SCORE, *BASE, "--measure", "random", "--class-balance", "pixels"],
            "class-balance does not apply to measure random",
        ),
        ([*SELECT], "rs1.h5 refers to regions. Pass --superpixels g.h5."),
        ([*SELECT, *BASE], "rs1.h5 was made from another superpixels (g.h5"),
        ([*SELECT, *MERGED, "--answer", "polygon"], "answer"),
        ([*ANNOTATE, *LEDGER], "rq1.h5 refers to regions. Pass --superpixels g.h5."),
        ([*ANNOTATE, *LEDGER, *BASE], "rq1.h5 was made from another superpixels (g.h5"),
        (
            [*ANNOTATE, *MERGED],
            "rq1.h5: these queries were selected with a ledger. Pass the --annotations that select was run with.",
        ),
        ([*ANNOTATE, *LEDGER, *MERGED, "--click-budget", "0"], "click_budget"),
        (
            [*SIEVE, "a1.h5", *MODEL],
            "a1.h5 contains no regions with a class, so there is nothing to sieve. Train on the ledger itself.",
        ),
        ([*SIEVE, "ra1.h5", *MODEL, "--checkpoint", "worst"], "checkpoint"),
        (
            [*SIEVE, "ra1.h5", *MODEL, "-o", "ra1.h5"],
            "ra1.h5 is the annotations input of this stage. Choose another output.",
        ),
        ([*TRAIN[:2], "rs1.h5", "-o", "x.safetensors"], "holds scores, not annotations or pseudo_labels"),
    ],
)
def test_what_does_not_go_together(words, says, refused):
    refused(*words, says=says)


@pytest.mark.parametrize(
    "command", [INPUTS[name][0] for name in ("extract model", "sieve model")] + [[*SCORE, *BASE, "--model", INPUT]]
)
def test_a_model_of_other_classes(command, region_place, refused):
    write_model_of_other_classes(region_place / "n.safetensors", region_place / "m.safetensors")
    refused(*put(command, "n.safetensors"), says="Pass a model trained on these classes")


def test_merged_regions_are_scored_by_the_model_that_merged_them_alone(region_place, other_model, preloaded, refused):
    shutil.copy(other_model, region_place)
    other = ["--model", "n.safetensors"]
    refused(*SCORE, *MERGED, *other, says="g.h5 was made from another model (m.safetensors, digest")
    preloaded.run(*SCORE, *BASE, *other, cwd=region_place).expect(0, out="wrote")
    preloaded.run(*SCORE, *MERGED, "--measure", "random", "-o", "y.h5", cwd=region_place).expect(0, out="wrote")


def test_regions_of_another_split_or_dataset(region_place, preloaded, refused):
    cut = ["--count", "24", "--workers", "1"]
    preloaded.run("extract-superpixels", "d.h5", *cut, "--split", "val", "-o", "v.h5", cwd=region_place).expect(0)
    preloaded.run("prepare", "tiny.toml", "--seed", "1", "-o", "other.h5", cwd=region_place).expect(0)
    preloaded.run("extract-superpixels", "other.h5", *cut, "-o", "o.h5", cwd=region_place).expect(0)
    for command in ([*ADAPT, *MODEL], [*SCORE, *MODEL], [*SCORE, "--measure", "random"]):
        said = (
            "v.h5 holds the regions of split 'val' (2 images), but split 'train' has 6. Run extract-superpixels with "
            "--split train."
        )
        refused(*command, "--superpixels", "v.h5", says=said)
        refused(*command, "--superpixels", "o.h5", says="o.h5 was made from another dataset")
    refused(*SELECT, "--superpixels", "o.h5", says="o.h5 was made from another dataset")
    refused("pseudo-label", "other.h5", "ra1.h5", *MODEL, "-o", "x.h5", says="ra1.h5 was made from another dataset")


@pytest.mark.parametrize("workers", [1, 2])
def test_images_too_small_for_so_many_regions(workers, refused):
    """Found while it cuts, in a worker or not: the shards and the lock go too."""
    words = ["extract-superpixels", "d.h5", "--count", "4000", "--workers", workers, "-o", "x.h5"]
    refused(*words, says="Lower --count, raise --region-pixels")


def test_nothing_left_to_query(region_place, preloaded, refused):
    everything = ["select", "d.h5", "rs0.h5", *BASE, "--budget", "0", "-o", "q.h5"]
    preloaded.run(*everything, cwd=region_place).expect(0, out="round 0, 96 region queries")
    words = ["annotate-simulate", "d.h5", "q.h5", *BASE, "-o", "a.h5"]
    preloaded.run(*words, cwd=region_place).expect(0, out="96 new answers")
    for scores, regions in (("rs0.h5", BASE), ("rs1.h5", MERGED)):
        words = ["select", "d.h5", scores, *regions, "--annotations", "a.h5", "-o", "x.h5"]
        refused(*words, says="Nothing left to query: the ledger covers the whole pool.", code=3)


@pytest.mark.parametrize("right, command", [("g.h5", INPUTS["annotate superpixels"][0]), ("p.h5", ["inspect", INPUT])])
def test_a_flipped_bit_is_noticed_or_without_effect(right, command, region_place, region_world, preloaded):
    """Anywhere in the file, and more often in its first 4 KiB, where the structure lies."""
    draw = random.Random(f"flips in {right}")
    content = (region_place / right).read_bytes()
    for number in range(6):
        position = draw.randrange(len(content) if number % 3 else min(4096, len(content)))
        (region_place / right).write_bytes(flipped(content, position, draw))
        whole = same_content(region_place / right, region_world / right)
        preloaded.run("verify", right, cwd=region_place).expect(0 if whole else 2)
        before = listing(region_place)
        done = preloaded.run(*put(command, right), cwd=region_place)
        if done.code:
            done.expect(2, err="error: ")
            assert listing(region_place) == before
        elif "-o" in command:
            assert digest(region_place / "x.h5") == digest(region_world / "ra1.h5"), f"flip at {position}"
            (region_place / "x.h5").unlink()


def test_a_damaged_output_is_built_again(region_place, region_world, preloaded):
    for name in ("extract-superpixels", "pseudo-label"):
        step = REGION_CHAIN[name]
        (region_place / step.output).write_bytes((region_place / step.output).read_bytes()[:-100])
        done = preloaded.run(*step.words, cwd=region_place)
        done.expect(0, out=f"rebuilding {step.output}: the existing file is damaged")
        assert digest(region_place / step.output) == digest(region_world / step.output)
