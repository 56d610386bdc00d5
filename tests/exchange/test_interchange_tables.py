"""Tables as spreadsheets and other tools write them: sets, half-finished work, what is no table."""

import json

import pytest
from exchange_support import exported, imported, refused, rows_of, write_rows, written

from stages.artifacts.annotations import Annotations


class TestTables:
    def test_regions_come_with_their_boxes(self, asked, tmp_path):
        rows = rows_of(asked["dominant"], tmp_path)
        names = ["query", "image", "region", "y0", "x0", "y1", "x1", "class", "seconds", "annotator"]
        assert list(rows[0]) == names
        assert all(int(row["y0"]) <= int(row["y1"]) <= int(row["y0"]) + 7 for row in rows)

    def test_sets_take_several_classes(self, asked, tmp_path):
        one = asked["class-set"]
        rows = rows_of(one, tmp_path)
        cells = ["class2; class0", "void", "skip", "class1;VOID", "", "class3"]
        for row, cell in zip(rows, cells, strict=False):
            row["class"] = cell
        settings = {"seconds_per_click": 4.0, "annotator": "Ada"}
        found = Annotations(imported(one, write_rows(tmp_path / "filled.csv", rows), tmp_path / "a.h5", **settings))
        asked_rows = {int(row["query"]): cell for row, cell in zip(rows, cells, strict=False) if cell}
        expected = {
            "class2; class0": ([1, 0, 1, 0, 0], 255, 1, 2),
            "void": ([0, 0, 0, 0, 1], 255, 2, 1),
            "skip": ([0, 0, 0, 0, 0], 255, 3, 1),
            "class1;VOID": ([0, 1, 0, 0, 1], 255, 1, 2),
            "class3": ([0, 0, 0, 1, 0], 3, 1, 1),
        }
        answers = found.answers
        for row, query in enumerate(sorted(asked_rows)):
            named, label, state, clicks = expected[asked_rows[query]]
            assert answers.class_sets[row].tolist() == named
            assert (answers.label[row], answers.state[row], answers.clicks[row]) == (label, state, clicks)
            assert answers.seconds[row] == 4 * clicks
        assert found.annotators == ["Ada"]
        assert found.header.counts["open"] == len(rows) - 5

    @pytest.mark.parametrize(
        "cell, says",
        [
            ("class0;skip", "is not an answer; use classes, each once, void or skip"),
            ("class0;class0", "is not an answer; use classes, each once, void or skip"),
            ("class0;zebra", "'zebra' is not a class; use class0, .*, void or skip"),
        ],
    )
    def test_sets_that_are_none(self, cell, says, asked, tmp_path):
        one = asked["class-set"]
        rows = rows_of(one, tmp_path)
        rows[3]["class"] = cell
        refused(one, write_rows(tmp_path / "filled.csv", rows), tmp_path / "a.h5", f"line 5: .*{says}")

    @pytest.mark.parametrize(
        "change, says",
        [
            (
                lambda d: d.update(digest="0" * 64),
                r"other queries than .*\. Pass those queries, or fill in a new export\.$",
            ),
            (lambda d: d.pop("queries"), r'has no list "queries" of objects\. Fill in a new export\.$'),
            (lambda d: d["queries"].append(7), r'has no list "queries" of objects\. Fill in a new export\.$'),
            (lambda d: d["queries"][4].update(region=0.5), r"entry 4 of queries: region is 0\.5, not a whole number"),
            (lambda d: d["queries"][4].update(image="three?"), "keep image, region as exported"),
            (lambda d: d["queries"][4].update({"class": 3}), "class is 3, not a name or a list of names"),
            (
                lambda d: d["queries"][4].update({"class": ["class0", "class1"]}),
                "is not an answer; use one class, void or skip",
            ),
            (
                lambda d: d["queries"][4].update({"class": "class0", "seconds": True}),
                r"seconds is True, not a number from 0 to 1e\+09\.$",
            ),
            (lambda d: d["queries"][4].update({"class": "class0", "annotator": "x" * 65}), "annotator 'x+'"),
            (lambda d: d["queries"].append(d["queries"][4]), r"is answered twice\. Keep one of the answers\.$"),
        ],
    )
    def test_json_that_does_not_fit_is_refused(self, change, says, asked, tmp_path):
        one = asked["dominant"]
        document = json.loads(exported(one, tmp_path / "t.json", one.ledger).read_bytes())
        change(document)
        refused(one, written(tmp_path, document), tmp_path / "a.h5", says)

    def test_other_json_is_refused(self, asked, tmp_path):
        for content, says in (
            (
                "[1]",
                r"is neither a COCO document nor a file of labelme or Label Studio\. Check that",
            ),
            ("{", r"is not valid JSON \(.*\)\. Export it again\.$"),
            ("[" * 10**5, r"is not valid JSON \(.*\)\. Export it again\.$"),
        ):
            (tmp_path / "t.json").write_text(content)
            refused(asked["dominant"], tmp_path / "t.json", tmp_path / "a.h5", says)

    def test_a_name_of_nobody_is_refused(self, asked, tmp_path):
        one = asked["dominant"]
        table = exported(one, tmp_path / "t.csv", one.ledger)
        refused(
            one,
            table,
            tmp_path / "a.h5",
            r"must have 1 to 64 printable characters\. Choose another name\.$",
            annotator=" ",
        )
