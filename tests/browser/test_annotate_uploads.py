"""Uploaded masks without a server: what the dataset ignores, and which files are kept."""

import io
import itertools
import re

import numpy as np
import pytest
from annotate_support import DESCRIPTION
from PIL import Image

from stages.answering.answer import Answer
from stages.answering.browser.masks import MaskFiles
from stages.answering.browser.refused import Refused
from stages.answering.browser.session import Session
from stages.answering.journal import Journal
from stages.answering.questions import Questions
from stages.artifacts.annotations import Annotations
from stages.artifacts.dataset import Dataset
from stages.artifacts.queries import Queries
from stages.commands import annotate, import_answers, prepare, score, select
from stages.settings.annotate import PeopleSettings
from stages.settings.import_answers import ImportSettings
from stages.settings.prepare import PrepareSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings

QUERY = 0


def png(mask):
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


def questions_with(folder, masks, described=DESCRIPTION):
    """Queries of masks in a dataset whose description has this table of masks."""
    folder.mkdir(exist_ok=True)
    (folder / "tiny.toml").write_text(f"{described}\n[masks]\n{masks}\n")
    data = prepare.run(str(folder / "tiny.toml"), None, folder / "d.h5", PrepareSettings())
    scores = score.run(data, folder / "s.h5", ScoreSettings(measure="random", unit="image"))
    queries = select.run(data, scores, folder / "q.h5", SelectSettings(rule="top", budget=6))
    return Questions(Dataset(data), Queries(queries), None)


def painted(questions, value):
    """The true mask of the first query as numbers or colours, with a corner of ``value``."""
    mask = questions.data.mask(questions.image(QUERY)).copy()
    if np.size(value) == 3:
        colours = np.full((256, 3), 255, np.uint8)
        colours[: len(questions.data.palette)] = questions.data.palette
        mask = colours[mask]
    mask[:9, :9] = value
    return mask


@pytest.mark.parametrize(
    "table, value",
    [("ignore = [77, 300]", 77), ('encoding = "color"\nignore = [[1, 2, 3]]', (1, 2, 3))],
    ids=["values", "colours"],
)
def test_what_the_dataset_ignores_is_void(table, value, tmp_path):
    questions = questions_with(tmp_path, table)
    truth = questions.data.mask(questions.image(QUERY)).copy()
    truth[:9, :9] = 255
    masks = MaskFiles(tmp_path / "masks", questions)
    content = png(painted(questions, value))
    digest, _ = masks.take(QUERY, content)
    assert np.array_equal(masks.read(QUERY, digest), truth)
    (tmp_path / f"{questions.image(QUERY)}.png").write_bytes(content)
    made = import_answers.run(
        tmp_path / "d.h5", tmp_path / "q.h5", tmp_path / f"{questions.image(QUERY)}.png", tmp_path / "a.h5",
        ImportSettings(),
    )  # fmt: skip
    assert np.array_equal(Annotations(made).label_map(questions.image(QUERY)), truth)


def test_a_value_that_is_not_ignored_or_means_a_class_is_no_void(tmp_path):
    questions = questions_with(tmp_path, "ignore = [77]")
    with pytest.raises(Refused, match=r"The file contains the values \[78\]"):
        MaskFiles(tmp_path / "masks", questions).take(QUERY, png(painted(questions, 78)))
    # In files of this dataset 2 means void, but in an upload it is the number of a class, and 254 an open pixel
    numbers = itertools.count(10)
    described = re.sub(
        r'(name = "\w+",) color', lambda found: f"{found[1]} values = [{next(numbers)}], color", DESCRIPTION
    )
    questions = questions_with(tmp_path / "other", "ignore = [2, 254]", described)
    masks = MaskFiles(tmp_path / "masks", questions)
    digest, _ = masks.take(QUERY, png(painted(questions, 2)))
    assert (masks.read(QUERY, digest)[:9, :9] == 2).all()
    with pytest.raises(Refused, match="contains open pixels"):
        masks.take(QUERY, png(painted(questions, 254)))


def test_only_masks_that_answers_refer_to_and_begun_ones_are_kept(tmp_path):
    questions = questions_with(tmp_path, "")
    size = questions.data.sizes[questions.image(QUERY)]
    journal = Journal(tmp_path / "w" / "journal-0.jsonl", questions)
    with annotate.stored_masks(journal) as masks:
        session = Session(questions, journal, PeopleSettings().settled(answer="mask"), (), masks)
        situation = session.ask("page", "Ada")
        query = situation["question"]["query"]
        other = (query + 1) % 6

        def upload(number, value):
            return masks.take(number, png(np.full(size, value, np.uint8)))[0]

        def answer(digest):
            about = {"query": query, **questions.place(query), "seconds": 1.0, "annotator": "Ada"}
            session.answer("page", Answer(**about, mask=digest), session.revisions.get(query, 0))

        def kept():
            return {path.name for path in masks.folder.iterdir()}

        waits = upload(other, 5)
        first, unused = upload(query, 1), upload(query, 2)
        answer(unused)
        assert kept() == {f"{query}-{unused}.png", f"{other}-{waits}.png"}
        session.back("page", "Ada", None)
        first = upload(query, 3)
        answer(first)
        assert kept() == {f"{query}-{first}.png", f"{other}-{waits}.png"}
        (masks.folder / "notes.txt").write_text("of the user")
    assert kept() == {f"{query}-{first}.png", f"{other}-{waits}.png", "notes.txt"}
    journal.close()
    again = Journal(journal.path, questions)
    (masks.folder / "upload-x").write_bytes(b"of a server that was killed")
    with annotate.stored_masks(again) as masks:  # the answers before, whose masks are gone, do not count
        assert kept() == {f"{query}-{first}.png", f"{other}-{waits}.png", "notes.txt"}
        assert masks.draft(other) == waits
        again.finish()
    assert kept() == {f"{query}-{first}.png", "notes.txt"}
    again.close()
