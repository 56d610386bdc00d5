"""Answers in the journal are protected one by one."""

import pytest
from worlds import random_masks, write_dataset

from stages.answering.answer import Answer
from stages.answering.journal import Journal, read_journal
from stages.answering.questions import Questions
from stages.artifacts.dataset import Dataset
from stages.artifacts.queries import Queries
from stages.commands import score, select
from stages.runtime.errors import BadInput
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings


@pytest.fixture
def kept(tmp_path):
    """(path, questions, answers) of a finished journal with three answers."""
    dataset = write_dataset(tmp_path / "d.h5", random_masks(["a", "b"], (16, 16), 9), 9)
    scores = score.run(dataset, tmp_path / "s.h5", ScoreSettings(measure="random"))
    queries = select.run(dataset, scores, tmp_path / "q.h5", SelectSettings(budget=3))
    with Dataset(dataset) as data, Queries(queries) as asked:
        questions = Questions(data, asked, None)
        journal = Journal(tmp_path / "work" / "journal.jsonl", questions)
        for query in range(3):
            about = questions.place(query)
            journal.append([Answer(query=query, **about, classes=(query + 2,), seconds=1.25, annotator="Grace Hopper")])
        journal.finish()
        journal.close()
        yield journal.path, questions, read_journal(journal.path, questions).answers


def test_any_flipped_bit_is_refused(kept):
    path, questions, answers = kept
    content = path.read_bytes()
    assert [answer.query for answer in answers] == [0, 1, 2]
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :])
        with pytest.raises(BadInput, match="Remove the line: its query is then asked again"):
            read_journal(path, questions)


def test_a_line_that_was_not_finished_is_dropped_at_any_length(kept):
    path, questions, answers = kept
    content = path.read_bytes()
    begin = content.rstrip(b"\n").rfind(b"\n") + 1
    for length in range(begin, len(content)):
        path.write_bytes(content[:length])
        found = read_journal(path, questions)
        assert (found.answers, found.finished, found.length) == (answers, False, begin)


def test_lines_of_older_versions_have_no_checksum(kept):
    path, questions, answers = kept
    lines = [answer.model_dump_json(exclude_defaults=True) + "\n" for answer in answers]
    path.write_text("".join(lines))
    assert read_journal(path, questions).answers == answers
