"""The commands of a run folder: labels that exist, another recipe from a round on, people, faults of run.toml."""

from pathlib import Path

import pytest
from worlds import random_masks, random_round, write_dataset

from alseg_cli.following import run_next
from stages.answering.answer import Answer
from stages.answering.journal import Asked, Finished, with_checksum
from stages.artifacts.journals import journal_path
from stages.recipes.experiment import Wanted, plan_runs
from stages.recipes.following import Following, follow
from stages.recipes.standing import next_command, next_step
from stages.runtime.errors import BadInput, NothingLeft


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a dataset of masks in all splits."""
    folder = tmp_path / "a run"
    folder.mkdir()
    names = [f"i{number}" for number in range(6)]
    splits = dict(zip(names, ["train"] * 4 + ["val", "test"], strict=True))
    write_dataset(folder / "dataset.h5", random_masks(names, (48, 64), 3), 3, splits)
    return folder


def written(run: Path, text: str) -> Following:
    (run / "run.toml").write_text(text)
    return follow(run)


def told(following: Following) -> list[str]:
    """Stage and output of each command."""
    folder = following.folder
    return [f"{command.stage} {command.output.relative_to(folder)}" for command in following.commands]


def test_commands_are_words_with_real_paths(run: Path) -> None:
    found = written(run, 'recipe = "pixelpick"\nanswers = "simulated"\nrounds = 2\nsettings.train.crop = [32, 64]')
    assert told(found)[-5:] == [
        "score round-1/scores.h5",
        "select round-1/queries.h5",
        "annotate-simulate round-1/annotations.h5",
        "train round-1/model.safetensors",
        "evaluate round-1/evaluation.h5",
    ]
    train = found.commands[3].words
    assert train[:3] == ["train", f"{run}/dataset.h5", f"{run}/round-0/annotations.h5"]
    assert train[train.index("--crop") + 1] == "32,64"
    assert train[-2:] == ["-o", f"{run}/round-0/model.safetensors"]


def test_labels_that_exist_replace_the_answers_of_round_0(run: Path) -> None:
    found = written(run, 'recipe = "pixelpick"\nanswers = "people"\nrounds = 2\nlabels = "old.h5"')
    assert told(found) == [
        "train round-0/model.safetensors",
        "evaluate round-0/evaluation.h5",
        "score round-1/scores.h5",
        "select round-1/queries.h5",
        "annotate round-1/annotations.h5",
        "train round-1/model.safetensors",
        "evaluate round-1/evaluation.h5",
    ]
    select, annotate = found.commands[3].words, found.commands[4].words
    assert found.commands[0].words[2] == f"{run}/old.h5"
    for words in (select, annotate):
        assert words[words.index("--annotations") + 1] == f"{run}/old.h5"


@pytest.mark.parametrize(
    ("recipe", "lacks"),
    [("multi-class-query", "class sets of regions"), ("als4gan", "classes of images"), ("pixelpick", None)],
)
def test_labels_from_which_a_recipe_cannot_learn(recipe: str, lacks: str | None, run: Path, tmp_path: Path) -> None:
    made = random_round(tmp_path, run / "dataset.h5", 0)
    made.rename(run / "old.h5")
    text = f'recipe = "{recipe}"\nanswers = "simulated"\nrounds = 2\nlabels = "old.h5"'
    text += "\n[settings.train]\ncrop = [32, 32]"
    if lacks is None:
        assert told(written(run, text))[0] == "train round-0/model.safetensors"
        return
    with pytest.raises(BadInput, match=rf"old\.h5 has no {lacks}, which step [a-z0-9-]+ learns from, so this recipe"):
        written(run, text)
    with pytest.raises(BadInput, match=f"has no {lacks}"):
        plan_runs(Wanted([recipe], run / "dataset.h5", overrides=["train.crop=32,32"], labels=run / "old.h5"))


def test_another_recipe_from_a_round_on(run: Path) -> None:
    """Regions are cut for it, in a folder of its own; its first round reads the model and the ledger before."""
    change = '[[changes]]\nround = 1\nrecipe = "adaptive-superpixel"\n'
    found = written(run, f'recipe = "pixelpick"\nanswers = "simulated"\nrounds = 2\n{change}')
    outputs = told(found)
    assert "extract-superpixels from-round-1/base.h5" in outputs
    assert "select round-0/queries.h5" in outputs
    merging = next(
        command
        for command in found.commands
        if command.stage == "extract-superpixels" and command.output.parent.name == "round-1"
    )
    assert f"{run}/from-round-1/base.h5" in merging.words
    assert f"{run}/round-0/model.safetensors" in merging.words
    simulated = next(each for each in found.commands if each.output == run / "round-1" / "annotations.h5")
    assert simulated.words[simulated.words.index("--annotations") + 1] == f"{run}/round-0/annotations.h5"


def test_a_recipe_that_needs_more_than_the_one_before_wrote_is_refused(run: Path) -> None:
    change = '[[changes]]\nround = 1\nrecipe = "madbal"\n'
    with pytest.raises(BadInput, match=r"from round 1 on reads round-0/support\.safetensors, which the recipe before"):
        written(run, f'recipe = "pixelpick"\nrounds = 2\n{change}')


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "recipe"),
        ('recipe = "pixelpick"\nprofil = "own"', "profil"),
        ('recipe = "pixelpick"\nanswers = "robots"', "answers"),
        ('recipe = "pixelpick"\n[settings.select]\nbuget = 3', "buget"),
        ('recipe = "pixelpick"\n[settings.score]\nmeasure = "none"', "measure"),
        ('recipe = "pixelpick"\n[settings.annotate-simulate]\nerror-rate = 0.1', "error-rate"),
        ('recipe = "pixelpick"\ndataset = "other.h5"', "other.h5"),
    ],
)
def test_faults_of_the_run_file_are_named(text: str, sentence: str, run: Path) -> None:
    with pytest.raises(BadInput) as error:
        written(run, text)
    assert sentence in str(error.value)


def test_a_folder_without_a_run_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no run\.toml\. Pass a run folder written by `alseg init`"):
        follow(tmp_path)


def test_a_run_ends_where_nothing_is_left_to_query(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(run, 'recipe = "pixelpick"\nanswers = "simulated"\nrounds = 4')
    done: list[str] = []

    def nothing_in_round_2(words: list[str]) -> None:
        done.append(f"{words[0]} {Path(words[-1]).parent.name}")
        if done[-1] == "select round-2":
            raise NothingLeft("Nothing left to query.")

    run_next(run, False, 0, nothing_in_round_2)
    assert done[-1] == "select round-2"
    assert capsys.readouterr().out.endswith("Nothing left to query. The run ends here.\n")


def test_status_says_that_a_run_ended_early(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Until the command that found nothing is another one, or the run goes on."""
    following = written(run, 'recipe = "pixelpick"\nanswers = "simulated"\nrounds = 2')

    def nothing_in_round_1(words: list[str]) -> None:
        output = next(each.output for each in following.commands if each.words == words)
        if words[0] == "select" and "round-1" in str(output):
            raise NothingLeft("Nothing left to query.")
        output.parent.mkdir(exist_ok=True)
        output.touch()

    run_next(run, False, 0, nothing_in_round_1)
    coming = next_command(following)
    assert coming is not None
    assert next_step(following, coming) == "finished: Nothing left to query. The run ends here."
    other = written(run, 'recipe = "pixelpick"\nanswers = "simulated"\nrounds = 2\n[settings.select]\nbudget = 2')
    assert next_step(other, next_command(other)).startswith("next: select of round 1")
    run_next(run, False, 0, lambda words: None)
    assert next_step(following, coming).startswith("next: select of round 1")


def test_changes_that_nobody_finished_come_first(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: a journal with an answer after its end, beside the ledger of round 0."""
    following = written(run, 'recipe = "pixelpick"\nrounds = 2')
    for command in following.commands:
        command.output.parent.mkdir(exist_ok=True)
        command.output.touch()
    (page, *_) = [command for command in following.commands if command.stage == "annotate"]
    assert next_command(following) is None
    answer = Answer(query=0, image="i0", y=0, x=0, region=-1, classes=(1,), seconds=1.0, annotator="Ada")
    records = [Asked(queries="a", classes=("b",)), answer, Finished(finished="now"), answer]
    lines = [with_checksum(each.model_dump_json(exclude_defaults=True).encode()) for each in records]
    journal = journal_path(page.output, "0" * 16)
    journal.parent.mkdir()
    journal.write_bytes(b"".join(line + b"\n" for line in lines))
    told = next_step(following, next_command(following))
    assert told.startswith("next: finish the changed answers of round 0: alseg next ")
    assert told.endswith(" --page")
    done: list[str] = []
    run_next(run, False, 0, lambda words: done.append(words[0]))
    assert "annotate" not in done
    assert "Answers of round 0 were changed after Finish." in capsys.readouterr().out
    run_next(run, True, 0, lambda words: done.append(words[0]))
    assert done.count("annotate") == 1
    journal.write_bytes(b"".join(line + b"\n" for line in lines[:-1]))
    assert next_command(following) is None


def test_the_first_round_must_find_something(run: Path) -> None:
    def nothing(words: list[str]) -> None:
        if words[0] == "select":
            raise NothingLeft("Nothing left to query.")

    written(run, 'recipe = "pixelpick"\nanswers = "simulated"\nrounds = 2')
    with pytest.raises(NothingLeft):
        run_next(run, False, 0, nothing)
