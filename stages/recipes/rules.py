"""The rules of a run: real files as targets, and the command that makes each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stages.artifacts.rounds import round_folder
from stages.recipes.people import ANSWERS, EXPORT, FILES, IMAGES, PAGE, TO_ANSWER
from stages.registry import STAGES
from stages.settings.base import StageSettings


@dataclass(frozen=True)
class Rule:
    """One target: its file, its prerequisites, the parts of its command, and a folder to remove afterwards.

    An option with its value is one part. ``may_end``: if nothing is left to query, the run ends without an error.
    ``awaits``: the prerequisite that people bring. ``reads``: its inputs by role. ``same_as``: the target of another
    rule that makes the same, so that the command need not run. ``shards``: into how many it is divided; 0: not at all.
    """

    target: str
    needs: list[str]
    parts: list[list[str]]
    removed: str = ""
    may_end: bool = False
    awaits: str = ""
    round: int = 0
    reads: Mapping[str, str] = field(default_factory=dict)
    settings: StageSettings | None = None
    same_as: str = ""
    shards: int = 0

    @property
    def by_people(self) -> bool:
        """Whether people work on the target, which is then made once and never again."""
        return self.stage in (PAGE, FILES, EXPORT)

    @property
    def on_answers(self) -> bool:
        """Whether it evaluates on answers instead of masks."""
        return self.stage == "evaluate" and "--annotations" in self.words

    @property
    def on_device(self) -> bool:
        """Whether it runs a network, so that a GPU pays."""
        return self.settings is not None and "device" in self.settings.flat()

    @property
    def stage(self) -> str:
        return self.parts[0][0]

    @property
    def words(self) -> list[str]:
        return [word for part in self.parts for word in part]

    @property
    def shard_prefix(self) -> str:
        """The start of the name of each shard's target, a hidden file beside the target of the rule."""
        folder, slash, name = self.target.rpartition("/")
        return f"{folder}{slash}.{name}."

    @property
    def shard_parts(self) -> list[list[str]]:
        """The parts of the command of a shard but --shard: its output is not the target of its rule."""
        *parts, _ = self.parts
        return [*parts, ["-o", self.target]]


def with_files(rule: Rule, moved: Mapping[str, str]) -> Rule:
    """``rule`` with other files, as it writes them, in the place of the keys of ``moved``."""
    return replace(
        rule,
        target=moved.get(rule.target, rule.target),
        needs=[moved.get(need, need) for need in rule.needs],
        parts=[[moved.get(word, word) for word in part] for part in rule.parts],
        reads={role: moved.get(file, file) for role, file in rule.reads.items()},
    )


def in_folder(rule: Rule, name: str) -> Rule:
    """``rule`` with all files of the run in its folder ``name``."""

    def moved(text: str) -> str:
        return text.replace("$(RUN)/", f"$(RUN)/{name}/")

    return replace(
        rule,
        target=moved(rule.target),
        needs=[moved(need) for need in rule.needs],
        parts=[[moved(word) for word in part] for part in rule.parts],
        removed=moved(rule.removed),
        awaits=moved(rule.awaits),
        reads={role: moved(file) for role, file in rule.reads.items()},
    )


def with_labels(rules: Sequence[Rule], answers: str, labels: str) -> list[Rule]:
    """``rules`` with the ledger ``labels`` in the place of ``answers``, and without what only led to them."""
    removed = {answers}
    for rule in reversed(rules):
        readers = [
            other for other in rules if rule.target in other.needs or (other.awaits and rule.target == exported(other))
        ]
        if rule.target != answers and readers and all(other.target in removed for other in readers):
            removed.add(rule.target)
    return [with_files(rule, {answers: labels}) for rule in rules if rule.target not in removed]


def with_exports(rules: Sequence[Rule]) -> list[Rule]:
    """``rules`` with one before each that awaits answers in files: what people fill in."""
    return [each for rule in rules for each in ([export_rule(rule), rule] if rule.awaits else [rule])]


def export_rule(rule: Rule) -> Rule:
    """The rule of what people fill in before the answers of ``rule`` can be imported."""
    stage = STAGES[FILES]
    files = dict(zip(stage.positional, rule.parts[0][1:], strict=True))
    regions = [part for part in rule.parts if part[0] == "--superpixels"]
    parts = [[EXPORT, files["dataset"], files["queries"]], *regions, ["--images", f"$(RUN)/{IMAGES}"], ["-o", "$@"]]
    needs = [
        need for need in rule.needs if need in (files["dataset"], files["queries"], *(file for _, file in regions))
    ]
    return Rule(exported(rule), needs, parts, round=rule.round)


def exported(rule: Rule) -> str:
    """The file or folder with the queries whose answers ``rule`` imports; empty for other rules."""
    folder, slash, name = rule.awaits.rpartition("/")
    return f"{folder}{slash}{name.replace(ANSWERS, TO_ANSWER, 1)}"


def made_once(rules: Sequence[Rule]) -> list[Rule]:
    """``rules``, where those that make the same as an earlier one name it in ``same_as``.

    Two rules make the same if stage, settings that affect the result, inputs and name of the file are equal: a stage
    computes nothing from anything else. What people work on is nobody else's.
    """
    first: dict[tuple[Any, ...], str] = {}
    original: dict[str, str] = {}
    found = []
    for rule in rules:
        if rule.by_people or rule.settings is None:
            found.append(rule)
            continue
        inputs = sorted((role, original.get(file, file)) for role, file in rule.reads.items())
        name = rule.target.rpartition("/")[2]
        key = rule.stage, name, repr(inputs), repr(sorted(rule.settings.result_settings().items()))
        source = original[rule.target] = first.setdefault(key, rule.target)
        found.append(rule if source == rule.target else replace(rule, same_as=source))
    return found


def with_shared_work(rules: Sequence[Rule]) -> list[Rule]:
    """``rules`` in which predictions of a round, and features of a frozen backbone in all trainings, are computed once.

    Apply it to the rules of all runs together.
    """
    return [with_features(rule) for rule in with_shared_predictions(rules)]


def with_features(rule: Rule) -> Rule:
    """``rule`` with the folder that all trainings keep their features in, if it keeps any and none is chosen."""
    if rule.settings is None or rule.same_as or not rule.settings.keeps_features:
        return rule
    *parts, output = rule.parts
    return replace(rule, parts=[*parts, ["--features", "$(RUN)/features"], output])


def with_shared_predictions(rules: Sequence[Rule]) -> list[Rule]:
    """``rules``, where those of a round that predict alike run their network once; the last removes what was kept."""
    together: dict[tuple[Any, ...], list[int]] = {}
    for index, rule in enumerate(rules):
        alike = None if rule.settings is None or rule.same_as else rule.settings.shared_predictions
        if alike is not None:
            together.setdefault((rule.round, rule.reads["model"], alike), []).append(index)
    found = list(rules)
    for (number, model, _), places in together.items():
        if len(places) > 1:
            run = model.rpartition("/round-")[0] or model.rpartition("/")[0]
            folder = f"{run}/{round_folder(number)}/predictions"
            for index in places:
                *parts, output = found[index].parts
                removed = folder if index == places[-1] else ""
                found[index] = replace(found[index], parts=[*parts, ["--predictions", folder], output], removed=removed)
    return found
