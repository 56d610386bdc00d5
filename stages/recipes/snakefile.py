"""Runs as a Snakefile, for clusters: what each stage needs is in its rule."""

import re
from collections.abc import Sequence
from pathlib import Path

from stages.recipes.makefile import make_path, one_line
from stages.recipes.plan import Run
from stages.recipes.rules import Rule
from stages.runtime.errors import NOTHING_LEFT
from stages.settings.plan_files import PLAN_MARK, SHARD

VARIABLE = re.compile(r"\$\$|\$\(DATASET\)|\$\(RUN\)")
RETRIES = 2  # of stages that run for long: what a scheduler stops goes on where it was


def render_snakefile(
    runs: Sequence[Run], dataset: Path, folder: Path, last: Sequence[Rule] = (), title: str = ""
) -> str:
    """The Snakefile of ``runs``; arguments as those of `stages.recipes.makefile.render`.

    Stages without a network of a round are one group, thus one job, unless they are divided: then each shard is a job.
    Raises BadInput for paths that it cannot hold.
    """
    files = {"$$": "$", "$(DATASET)": make_path(dataset), "$(RUN)": make_path(folder)}
    rules = [(rule, granted(rule, run)) for run in runs for rule in run.rules]
    brief = [rule for rule, _ in rules if rule.same_as] + list(last)
    lines = [
        one_line(f"# {title or runs[0].title}. {PLAN_MARK} for Snakemake 8 or newer:"),
        "#   snakemake -s THIS --cores 2                     run here, or continue",
        "#   snakemake -s THIS --executor slurm --jobs 20    on a cluster",
        "#   snakemake -s THIS -n                            show what is left to do",
        "#   --config alseg=PROGRAM train='torchrun --nproc-per-node 4 -m alseg_cli'",
        f"# Where nothing is left to query, select exits with {NOTHING_LEFT} and its run ends; see --keep-going",
        "",
        'ALSEG = config.get("alseg", "alseg")',
        'TRAIN = config.get("train", ALSEG)',
        "",
        "localrules:",
        *(f"    {name}," for name in ("all", *map(rule_name, brief))),
        *rule_head("all", [rule.target for rule in last] or [end for run in runs for end in run.ends]),
    ]
    for rule, granting in rules:
        lines += shards(rule, granting) if rule.shards else []
        lines += rule_head(rule_name(rule), [rule.same_as] if rule.same_as else rule.needs)
        lines += [f"        expand({shard_file(rule)!r}, shard=range({rule.shards})),"] if rule.shards else []
        lines += [f"    output: {rule.target!r}"]
        lines += link(rule) if rule.same_as else granting + shell(rule)
    for rule in last:
        lines += [*rule_head(rule_name(rule), rule.needs), f"    output: {rule.target!r}", *shell(rule)]
    return VARIABLE.sub(lambda found: files[found[0]], "\n".join(lines)) + "\n"


def rule_head(name: str, needs: Sequence[str]) -> list[str]:
    return ["", "", f"rule {name}:", "    input:", *(f"        {need!r}," for need in needs)]


def link(rule: Rule) -> list[str]:
    """How a file that another rule makes becomes that of this one, with those beside it."""
    place, source = rule.target.rpartition("/")[0], rule.same_as.rpartition(".")[0]
    return [f"    shell: {f'mkdir -p {place} && cp -lf {source}.* {place}/'!r}"]


def shards(rule: Rule, granting: Sequence[str]) -> list[str]:
    """The rule of the shards of a divided stage: each leaves an empty file until the stage has joined them."""
    words = [word for part in rule.shard_parts for word in part]
    command = f"{escaped(words)} --shard {{wildcards.shard}}/{rule.shards}"
    return [
        *rule_head(f"{rule_name(rule)}_shard", rule.needs),
        f"    output: temp(touch({shard_file(rule)!r}))",
        *granting,
        f"    shell: ALSEG + {' ' + command!r}",
    ]


def shard_file(rule: Rule) -> str:
    """The file that says that a shard is done, for any of them."""
    return f"{rule.shard_prefix}{{shard}}-of-{rule.shards}{SHARD}"


def shell(rule: Rule) -> list[str]:
    """The command, in which Snakemake fills in what is in braces."""
    command = escaped(rule.words).replace("$@", "{output}")
    command += f" && rm -rf {rule.removed}" if rule.removed else ""
    return [f"    shell: {'TRAIN' if rule.stage == 'train' else 'ALSEG'} + {' ' + command!r}"]


def escaped(words: Sequence[str]) -> str:
    """``words`` as Snakemake reads them."""
    return " ".join(words).replace("{", "{{").replace("}", "}}")


def granted(rule: Rule, run: Run) -> list[str]:
    """What a rule asks of the scheduler: the join of shards what they do, since it builds those that are missing."""
    needs = run.plan.profile.needs(rule.stage, rule.on_device)
    gpus = f"gpu={needs.gpus}, " if needs.gpus else ""
    memory = 1024 * needs.memory_gb
    return [
        f"    retries: {RETRIES}" if rule.on_device or rule.shards else f"    group: {group(rule, run)!r}",
        f"    threads: {needs.cpus}",
        f"    resources: {gpus}cpus_per_task={needs.cpus}, mem_mb={memory}, runtime={needs.minutes}",
    ]


def group(rule: Rule, run: Run) -> str:
    """The job that runs ``rule`` with others of its round; what comes after a divided stage cannot be one with it."""
    earlier = run.rules[: run.rules.index(rule)]
    divided = [rule_name(each) for each in earlier if each.shards and each.round == rule.round]
    return divided[-1].replace("make_", "after_", 1) if divided else f"{run.name}-round-{rule.round}".lstrip("-")


def rule_name(rule: Rule) -> str:
    """The target as a name."""
    return "make_" + re.sub(r"\W+", "_", rule.target.removeprefix("$(RUN)/").rpartition(".")[0])
