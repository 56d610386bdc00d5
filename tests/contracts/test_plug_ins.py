"""A measure and a rule in a user's file: they run, the artifact records them, and a changed file makes it stale."""

import hashlib

import pytest
from worlds import random_masks, write_dataset, write_network

from stages.artifacts.opening import read_any_header
from stages.artifacts.scores import Scores
from stages.commands import score
from stages.settings.score import ScoreSettings

MEASURE = """
from pydantic import Field

from stages.scoring.measures import CommitteeSettings, measure


class RenyiSettings(CommitteeSettings):
    order: float = Field(2.0, gt=1, description="Order of the entropy.")


@measure("renyi", settings=RenyiSettings)
def renyi(logits, settings):
    \"\"\"Renyi entropy in nats, in [0, ln C].\"\"\"
    return (logits.softmax(1) ** settings.order).sum(1).log() / (1 - settings.order)
"""
PASSES = """
from stages.scoring.logits import means_over, softmax
from stages.scoring.measures import measure


@measure("spread", passes=True)
def spread(passes):
    \"\"\"Largest standard deviation of a class's probability over passes.\"\"\"
    mean, square = means_over(passes, softmax, lambda logits: softmax(logits) ** 2)
    return (square - mean**2).clamp(min=0).sqrt().amax(1)
"""
RULE = """
import numpy as np
from pydantic import Field

from stages.selecting.rules import rule
from stages.settings.base import PartSettings


class TemperedSettings(PartSettings):
    temperature: float = Field(0.1, gt=0, description="Higher: closer to a uniform draw.")


@rule("tempered", settings=TemperedSettings)
def tempered(pool, budget, settings, generator):
    \"\"\"Draw with weights exp(score / temperature), without replacement.\"\"\"
    noise = generator.gumbel(size=len(pool))
    return np.argsort(-(pool.scores / settings.temperature + noise), kind="stable")[:budget]
"""


@pytest.fixture
def world(tmp_path):
    dataset = write_dataset(tmp_path / "d.h5", random_masks(["a", "b"], (32, 32), 3, void=0), 3)
    return tmp_path, dataset, write_network(tmp_path / "m.safetensors", dataset)


@pytest.fixture
def run(preloaded, tmp_path):
    """What a stage says, run in a process of its own that loads the plug-in."""
    return lambda *words: preloaded.run(*words, cwd=tmp_path).expect(0).out


def scoring(world, name, text):
    """The plug-in, the file of scores, and the words that make it."""
    folder, dataset, model = world
    plugin, scores = folder / f"{name}.py", folder / "s.h5"
    plugin.write_text(text)
    words = ["score", dataset, "--model", model, "--plugin", plugin, "--measure", name, "--committee", "2"]
    return plugin, scores, [*words, "--device", "cpu", "-o", scores]


def test_a_measure(world, run):
    plugin, scores, words = scoring(world, "renyi", MEASURE)
    assert "wrote" in run(*words)
    header = read_any_header(scores)
    assert header.inputs["plugin renyi"].digest == hashlib.sha256(plugin.read_bytes()).hexdigest()
    assert header.inputs["plugin renyi"].file == plugin.name
    assert header.versions["plugin renyi"] == "file"
    assert (header.settings["order"], header.settings["committee"]) == (2.0, 2)
    assert Scores(scores).map("a").max() > 0
    assert "is up to date" in run(*words)
    plugin.write_text(f"# another version\n{MEASURE}")
    told = run(*words, "--order", "3")
    assert "setting order 2.0 is now 3.0" in told
    assert f"input plugin renyi changed ({plugin.name})" in told


def test_a_measure_of_passes(world, run):
    _, scores, words = scoring(world, "spread", PASSES)
    assert "wrote" in run(*words)
    assert "plugin spread" in read_any_header(scores).inputs
    assert Scores(scores).map("a").max() > 0


def test_a_rule(world, run):
    folder, dataset, _ = world
    scores = score.run(dataset, folder / "s.h5", ScoreSettings(measure="random"))
    plugin, queries = folder / "tempered.py", folder / "q.h5"
    plugin.write_text(RULE)
    words = ["select", dataset, scores, "--plugin", plugin, "--rule", "tempered", "--budget", "3", "-o", queries]
    assert "6 pixel queries in 2 images" in run(*words)
    header = read_any_header(queries)
    assert header.inputs["plugin tempered"].digest == hashlib.sha256(plugin.read_bytes()).hexdigest()
    assert header.settings["temperature"] == 0.1
    assert "is up to date" in run(*words)
    plugin.write_text(f"{RULE}\n# another version\n")
    told = run(*words, "--temperature", "0.5")
    assert "setting temperature 0.1 is now 0.5" in told
    assert "input plugin tempered changed" in told


def test_a_plug_in_that_is_loaded_and_not_used_leaves_no_trace(world, run):
    folder, dataset, _ = world
    scores = score.run(dataset, folder / "s.h5", ScoreSettings(measure="random"))
    plugin, queries = folder / "tempered.py", folder / "q.h5"
    plugin.write_text(RULE)
    run("select", dataset, scores, "--plugin", plugin, "--rule", "top", "-o", queries)
    assert set(read_any_header(queries).inputs) == {"dataset", "scores"}
