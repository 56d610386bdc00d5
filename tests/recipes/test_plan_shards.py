"""`plan --shards`: stages divided among processes, in Makefiles and Snakefiles."""

import shutil
import subprocess

import pytest
from worlds import random_masks, write_dataset

from stages.recipes.experiment import Wanted, plan_runs
from stages.recipes.sharding import parse_shards
from stages.recipes.targets import planned_runs
from stages.runtime.errors import BadInput

TAB = "\t"
SHARED = "$(DATASET) $(RUN)/round-0/model.safetensors"
MAKE_RULES = f"""
$(addprefix $(RUN)/round-1/.scores.h5.,$(SHARDS_3)): $(RUN)/round-1/.scores.h5.%.shard: {SHARED}
{TAB}$(GPU) $(ALSEG) score $(DATASET) --model $(RUN)/round-0/model.safetensors --recipe pixelpick \\
{TAB}  -o $(RUN)/round-1/scores.h5 --shard $(SHARD_OF)

$(RUN)/round-1/scores.h5: {SHARED} $(addprefix $(RUN)/round-1/.scores.h5.,$(SHARDS_3))
{TAB}$(GPU) $(ALSEG) score $(DATASET) --model $(RUN)/round-0/model.safetensors --recipe pixelpick -o $@
{TAB}@touch -c $@
"""
SNAKE_RULES = """
rule make_round_1_scores_shard:
    input:
        'd.h5',
        'run/round-0/model.safetensors',
    output: temp(touch('run/round-1/.scores.h5.{shard}-of-3.shard'))
    retries: 2
    threads: 8
    resources: gpu=1, cpus_per_task=8, mem_mb=32768, runtime=240
    shell: ALSEG + ' score d.h5 --model run/round-0/model.safetensors --recipe pixelpick -o run/round-1/scores.h5 \
--shard {wildcards.shard}/3'


rule make_round_1_scores:
    input:
        'd.h5',
        'run/round-0/model.safetensors',
        expand('run/round-1/.scores.h5.{shard}-of-3.shard', shard=range(3)),
    output: 'run/round-1/scores.h5'
    retries: 2
    threads: 8
    resources: gpu=1, cpus_per_task=8, mem_mb=32768, runtime=240
    shell: ALSEG + ' score d.h5 --model run/round-0/model.safetensors --recipe pixelpick -o {output}'
"""
# Stands in for alseg: notes its last words and writes its output; a shard writes none, and that named FAILS fails
PROGRAM = """#!/bin/sh
for last; do before=$output; output=$last; done
case "$*" in
  *" --shard "*) output=${*% --shard *}; output=${output##* }; echo "$output $last" >> log; test "$last" != "$FAILS";;
  *) echo "$output" >> log; mkdir -p "${output%/*}"; echo whole > "$output";;
esac
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"i{number}" for number in range(6)]
    write_dataset(tmp_path / "d.h5", random_masks(names, (32, 40), 3), 3, {"i4": "val", "i5": "test"})
    (tmp_path / "alseg").write_text(PROGRAM)
    (tmp_path / "alseg").chmod(0o755)
    return tmp_path


def planned(recipes, place, shards, **options):
    wanted = {"rounds": 2, "run": place.relative_to(place) / "run"} | options
    return plan_runs(Wanted(recipes, place.relative_to(place) / "d.h5", shards=parse_shards(shards), **wanted))


def divided(made):
    """Target -> number of shards."""
    return {rule.target.removeprefix("$(RUN)/"): rule.shards for run in made.runs for rule in run.rules if rule.shards}


def make(*words, fails=""):
    """Exit code, and what the program noted."""
    with open("log", "w"):
        pass
    environment = {"PATH": "/usr/bin:/bin", "FAILS": fails}
    command = ["make", "-f", "run.mk", "ALSEG=./alseg", *words]
    code = subprocess.run(command, capture_output=True, timeout=60, env=environment).returncode
    with open("log") as log:
        return code, log.read().splitlines()


def test_a_makefile_has_a_target_per_shard_and_the_stage_after_them(place):
    text = planned(["pixelpick"], place, "3").text
    assert MAKE_RULES in text
    assert "\nSHARDS_3 = 0-of-3.shard 1-of-3.shard 2-of-3.shard\n" in text
    assert "shard" not in planned(["pixelpick"], place, "1").text


def test_a_snakefile_has_a_rule_for_the_shards_and_one_that_joins_them(place):
    text = planned(["pixelpick"], place, "3", format="snakemake").text
    assert SNAKE_RULES in text
    assert "shard" not in planned(["pixelpick"], place, "1", format="snakemake").text


def test_what_comes_after_a_divided_stage_is_no_job_with_what_comes_before(place):
    """Regions, random scores and queries of round 0 run no network, and are one job unless the scores are divided."""
    text = planned(["classbal"], place, "score=2", format="snakemake").text
    groups = {rule.split(":")[0]: rule.partition("group: '")[2].partition("'")[0] for rule in text.split("\nrule ")}
    assert groups["make_base"] == "round-0"
    assert groups["make_round_0_scores"] == groups["make_round_0_scores_shard"] == ""
    assert groups["make_round_0_queries"] == groups["make_round_0_annotations"] == "after_round_0_scores"


def test_stages_that_take_long_are_divided_unless_they_are_named(place):
    every = {"base.h5": 4, "round-0/evaluation.h5": 4, "round-1/evaluation.h5": 4, "round-1/scores.h5": 4}
    assert divided(planned(["classbal"], place, "4")) == every
    assert divided(planned(["classbal"], place, "evaluate=2, score=3")) == {
        "round-0/scores.h5": 3,
        "round-0/evaluation.h5": 2,
        "round-1/scores.h5": 3,
        "round-1/evaluation.h5": 2,
    }
    assert divided(planned(["classbal"], place, "4,evaluate=1")) == {
        target: number for target, number in every.items() if "evaluation" not in target
    }


def test_what_shards_cannot_do_and_what_another_run_makes_stays_whole(place):
    pool = planned(["pixelpick-neighbours"], place, "4", overrides=["pseudo-label.among=pool"])
    assert not any("pseudo-labels" in target for target in divided(pool))
    assert "step pseudo-labels is not divided: with its settings pseudo-label has no --shard" in pool.notes
    image = planned(["pixelpick-neighbours"], place, "4", overrides=["pseudo-label.among=image"])
    assert divided(image)["round-1/pseudo-labels.h5"] == 4
    assert not image.notes
    both = planned(["pixelpick", "random-pixels"], place, "2")
    assert {target: number for target, number in divided(both).items() if target.startswith("random")} == {
        "random-pixels/round-1/evaluation.h5": 2
    }


def test_answers_to_evaluate_on_are_not_divided(place):
    masks = random_masks([f"i{number}" for number in range(6)], (32, 40), 3)
    write_dataset(place / "d.h5", masks, 3, {"i4": "val"})  # no split test, so no masks in it
    made = planned(["pixelpick"], place, "2", people="files")
    assert "agreement" in "".join(rule.target for rule in made.runs[0].rules)
    assert divided(made) == {"round-1/scores.h5": 2}
    assert "step agreement is not divided: with its settings evaluate has no --shard" in made.notes


@pytest.mark.parametrize(
    "text, says",
    [
        *((text, "--shards must be a number from 1 to 1000, STAGE=NUMBER") for text in ("0", "", "x", "-1", "1001")),
        ("score=", "--shards must be a number from 1 to 1000"),
        ("select=4", "'select' cannot be divided. Name any of extract-superpixels, score, pseudo-label, evaluate."),
        ("prepare=4", "'prepare' cannot be divided"),
        ("4,8", "--shards 4,8: two numbers for all stages. Pass one of them."),
        ("score=4,score=8", "two numbers for score"),
        ("pseudo-label=4", "--shards pseudo-label=4: no recipe of this plan has the stage. Leave it out."),
        ("score=4", None),
    ],
)
def test_numbers_of_shards(text, says, place):
    if says is None:
        planned(["pixelpick"], place, text)
        return
    with pytest.raises(BadInput) as error:
        planned(["pixelpick"], place, text)
    assert says in str(error.value)
    assert len(error.value.faults) == 1


def test_a_plan_without_anything_to_divide_is_refused(place):
    with pytest.raises(BadInput, match="no stage of this plan can be divided"):
        planned(["pixelpick-neighbours"], place, "pseudo-label=2", overrides=["pseudo-label.among=pool"])


@pytest.mark.parametrize("format_", ["make", "snakemake"])
def test_status_counts_files_not_shards(format_, place):
    made = planned(["pixelpick"], place, "2", format=format_)
    (place / ("run.mk" if format_ == "make" else "Snakefile")).write_text(made.text)
    (place / "run").mkdir()
    (run,) = planned_runs([place / "run"])
    rules = made.runs[0].rules
    assert [target.path.as_posix() for target in run.targets] == [
        rule.target.replace("$(RUN)", "run") for rule in rules
    ]
    assert [(target.stage, len(target.needs)) for target in run.targets] == [
        (rule.stage, len(rule.needs)) for rule in rules
    ]


@pytest.fixture
def written(place):
    """A place with the Makefile of two rounds of PixelPick, whose scores and evaluations are divided."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    (place / "run.mk").write_text(planned(["pixelpick"], place, "2").text)
    return place


def test_make_runs_shards_first_and_never_again(written):
    code, log = make("-j2")
    assert code == 0
    scores = "run/round-1/scores.h5"
    assert log.index(scores) > max(log.index(f"{scores} {share}") for share in ("0/2", "1/2"))
    assert len(log) == 10 + 3 * 2
    assert make("-q") == (0, [])
    assert make("-j2") == (0, [])
    (written / "d.h5").touch()
    assert len(make()[1]) == 16
    assert len(make("-B")[1]) == 16
    assert make() == (0, [])


def test_a_failed_shard_stops_make_and_both_are_asked_again(written):
    code, log = make("-k", fails="1/2")
    assert code != 0
    assert not (written / "run/round-0/evaluation.h5").exists()
    assert {line for line in log if "evaluation" in line} == {f"run/round-0/evaluation.h5 {n}/2" for n in (0, 1)}
    code, log = make()
    assert code == 0
    assert [line for line in log if "round-0" in line] == [
        f"run/round-0/evaluation.h5{share}" for share in (" 0/2", " 1/2", "")
    ]
    (written / "run/round-1/evaluation.h5").unlink()
    assert make() == (0, [f"run/round-1/evaluation.h5{share}" for share in (" 0/2", " 1/2", "")])


def test_shards_of_a_run_that_has_ended_are_not_begun(written):
    """Nothing is left to query in round 1: what is made of the queries lacks an input, its shards too."""
    program = PROGRAM.replace("for last;", 'case "$1 $*" in "select "*round-1*) exit 3;; esac\nfor last;', 1)
    (written / "alseg").write_text(program)
    code, log = make()
    assert code == 0
    assert log[-1] == "run/round-1/scores.h5" or log[-1].startswith("run/round-0/evaluation.h5")
    assert not any("round-1/evaluation" in line for line in log)
