"""A run of people without any mask: answers from files, models evaluated on them, status, report, inspect."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from programs import Preloaded
from worlds import TINY, write_dataset

COLOURS = np.array([[210, 60, 60], [60, 60, 210]])
RUN = """
recipe = "pixelpick"
answers = "files"
rounds = 3

[settings.select]
budget = 4
control = 0.5
repeat = 0.25

[settings.train]
epochs = 1
crop = [32, 32]
"""


@pytest.fixture(scope="module")
def truth() -> dict[str, np.ndarray]:
    columns = {f"i{number}": 6 + 5 * number for number in range(4)}
    return {name: np.tile((np.arange(32) >= start).astype(np.uint8), (32, 1)) for name, start in columns.items()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, truth: dict[str, np.ndarray]) -> Path:
    """A run folder; all images are the pool, and no split has masks."""
    folder = tmp_path_factory.mktemp("without-masks") / "run"
    folder.mkdir()
    images = {name: COLOURS[mask].astype(np.uint8) for name, mask in truth.items()}
    write_dataset(folder / "dataset.h5", truth, 2, None, images)
    tiny = "".join(f"{name} = {json.dumps(value)}\n" for name, value in TINY.items())
    (folder / "run.toml").write_text(RUN + tiny)
    return folder


def fill_in(folder: Path, truth: dict[str, np.ndarray]) -> None:
    """What a person does: names the class of each query, the first one wrongly."""
    with (folder / "to-answer.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert "purpose" not in rows[0]  # nobody is told why
    for number, row in enumerate(rows):
        label = truth[row["image"]][int(row["y"]), int(row["x"])]
        row["class"], row["annotator"] = f"class{label ^ (number == 0)}", "Ada"
    with (folder / "answers.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def test_the_whole_way(preloaded: Preloaded, run: Path, truth: dict[str, np.ndarray]) -> None:
    told = []
    for number in range(3):
        told.append(preloaded.run("next", "run", cwd=run.parent).expect(0, f"Round {number} needs answers").out)
        fill_in(run / f"round-{number}", truth)
    last = preloaded.run("next", "run", cwd=run.parent).expect(0, "finished: run has all its rounds").out
    assert "split 'test' has no masks: each model is evaluated on the answers of the next round" in told[0]
    assert "wrote run/round-0/queries.h5: round 0, 16 pixel queries in 4 images, 8 drawn at random" in told[0]
    assert "round 1, 16 pixel queries in 4 images, 8 drawn at random, 4 asked again" in told[1]
    assert "wrote run/round-1/agreement.h5: agrees with" in told[2]
    assert "of 12 answers of round 1, and with" in told[2]
    assert "wrote run/round-2/agreement.h5: agrees with" in last

    refused = preloaded.run("compare", "run", cwd=run.parent).expect(2)
    assert refused.err.startswith("error: run was not evaluated on masks, because its dataset has none, so it cannot")
    assert "or pass --evaluation agreement, which" in refused.err
    compared = preloaded.run("compare", "run", "--evaluation", "agreement", "--csv", cwd=run.parent).expect(0).out
    assert [line.split(",")[2] for line in compared.splitlines()] == ["clicks", "16", "32"]

    state = json.loads(preloaded.run("status", "run", "--json", cwd=run.parent).expect(0).out)
    assert [each["on_answers"] is None for each in state["rounds"]] == [True, False, False]
    found = state["rounds"][2]["on_answers"]
    assert (found["answers"], found["every"]["queries"], found["control"]["queries"]) == (32, 12, 8)
    assert found["control"]["low"] <= found["control"]["share"] <= found["control"]["high"]
    assert state["forecast"] is None
    (ada,) = state["people"]
    assert (ada["who"], ada["queries"]) == ("Ada, twice", 8)
    shown = preloaded.run("status", "run", cwd=run.parent).expect(0).out
    assert "next round: too few rounds to tell what it brings (2; four with rising cost are needed)" in shown
    assert "answered twice by  queries  equal" in shown

    preloaded.run("report", "run", "-o", "run.html", "--images", 0, cwd=run.parent).expect(0)
    page = (run.parent / "run.html").read_text()
    assert "How often the model of the round before predicted the new answers" in page
    assert '<th scope="row">Ada, twice</th>' in page
    ledger = preloaded.run("inspect", "run/round-2/annotations.h5", cwd=run.parent).expect(0).out
    assert "Ada, twice" in ledger
