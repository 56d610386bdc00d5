"""Standard output that is full or closed, Ctrl-C around publishing, and names that are too long."""

import os
import signal
import subprocess

import pytest
from commands_support import CHAIN, assert_undisturbed, digest, remove
from programs import ALSEG, ENVIRONMENT, PATIENCE

pytestmark = pytest.mark.slow

SELECT = CHAIN["select"]


def shell(redirection, words, cwd, **how):
    """The exit code of a real `alseg` whose standard streams are redirected, and what it printed to the others."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *ALSEG, *words],
        cwd=cwd,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        **how,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return done.returncode


@pytest.mark.parametrize("redirection", ["> /dev/full", ">&-", "2>&-", "<&- >&- 2>&-", "> /dev/full 2>&1"])
def test_a_stage_whose_lines_cannot_be_printed_ends_well(redirection, place, world):
    remove(place, SELECT)
    assert shell(redirection, SELECT.words, place) == 0
    assert_undisturbed(place, world, SELECT)


def test_a_stage_whose_reader_is_gone_ends_well(place, world):
    remove(place, SELECT)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert shell("", SELECT.words, place, stdout=writer) == 0
    finally:
        os.close(writer)
    assert_undisturbed(place, world, SELECT)


@pytest.mark.parametrize("words", [["inspect", "q1.h5", "--json"], ["verify", "q1.h5"], ["plan", "full", "d.h5"]])
def test_a_command_that_cannot_print_what_it_was_asked_for_fails(words, place):
    assert shell("> /dev/full", words, place) == 1


def test_the_exit_code_of_bad_input_stays_where_nothing_can_be_printed(place):
    assert shell("2> /dev/full", ["select", "d.h5", "no-such.h5", "-o", "x.h5"], place) == 2


@pytest.mark.parametrize("stage", ["select", "annotate-simulate", "evaluate", "score"])
def test_ctrl_c_at_any_change_on_disk_fails_exactly_if_nothing_was_published(stage, place, world, preloaded):
    step = CHAIN[stage]
    codes = []
    for point in range(1, 200):
        remove(place, step)
        done = preloaded.run(*step.words, cwd=place, signal_at=(point, signal.SIGINT))
        codes.append(done.code)
        assert (done.code == 0) == (place / step.output).exists(), f"change {point}: {done}"
        if done.code == 0:
            assert digest(place / step.output) == digest(world / step.output)
            if "interrupted" not in done.out and not (place / f".{step.output}.lock").exists():
                break
    assert len(codes) > 4
    assert codes[0] != 0
    preloaded.run(*step.words, cwd=place).expect(0, out="up to date")
    assert_undisturbed(place, world, step)


LONG = "x" * 300


@pytest.mark.parametrize(
    "words",
    [
        ["prepare", f"{LONG}.toml", "-o", "x.h5"],
        ["prepare", "camvid", "--root", LONG, "-o", "x.h5"],
        ["score", LONG, "-o", "x.h5"],
        ["score", "d.h5", "--model", LONG, "-o", "x.h5"],
        ["score", "d.h5", "--recipe", f"{LONG}.toml", "-o", "x.h5"],
        ["score", "d.h5", "--profile", f"{LONG}.toml", "-o", "x.h5"],
        ["score", "d.h5", "--plugin", f"{LONG}.py", "-o", "x.h5"],
        ["score", "d.h5", "--measure", "random", "-o", LONG],
        ["score", "d.h5", "--measure", "random", "-o", f"{LONG}/x.h5"],
        ["train", "d.h5", "a0.h5", "--weights", LONG, "-o", "x.safetensors"],
        ["train", "d.h5", "a0.h5", "-o", f"{LONG}.safetensors"],
        ["annotate-simulate", "d.h5", "q1.h5", "--annotations", LONG, "-o", "x.h5"],
        ["import-answers", "d.h5", "q0.h5", LONG, "-o", "x.h5"],
        ["export-queries", "d.h5", "q0.h5", "-o", LONG],
        ["export-queries", "d.h5", "q0.h5", "-o", f"{LONG}.csv"],
        ["export-queries", "d.h5", "q0.h5", "--images", LONG, "-o", "x.csv"],
        ["evaluate", "d.h5", LONG, "-o", "x.h5"],
        ["inspect", LONG],
        ["inspect", "d.h5", "--png", LONG],
        ["verify", LONG],
        ["plan", f"{LONG}.toml", "d.h5"],
        ["plan", "full", LONG],
        ["plan", "full", "d.h5", "-o", LONG],
        ["compare", LONG],
        ["report", LONG, "-o", "x.html"],
        ["report", ".", "-o", LONG],
    ],
    ids=lambda words: " ".join(words).replace(LONG, "LONG"),
)
def test_a_name_that_is_too_long_is_a_sentence(words, place, preloaded):
    before = sorted(os.listdir(place))
    done = preloaded.run(*words, cwd=place)
    done.expect(2, err="x" * 200)
    assert sorted(os.listdir(place)) == before
