"""Choices by class, by distance, against void and in seconds, through the commands."""

import numpy as np
import pytest
from commands_support import TRAIN

from stages.artifacts.annotations import Annotations
from stages.artifacts.queries import Queries
from stages.artifacts.scores import Scores

pytestmark = pytest.mark.slow

SCORE = ("score", "d.h5", "--model", "m.safetensors")
SELECT = ("select", "d.h5", "s.h5", "--annotations", "a0.h5")


def test_a_round_by_class_and_one_by_distance(place, preloaded):
    done = preloaded.run(*SCORE, "--keep-classes", "--keep-features", "-o", "s.h5", cwd=place)
    scores = Scores(place / "s.h5")
    share = scores.header.counts["share"]
    nowhere = [name for name, value in share.items() if not value]
    assert nowhere  # after three epochs on 18 pixels
    done.expect(0, out="note: the model predicts ")
    told = done.out.split("predicts ")[1].split(" in no pixel")[0]
    assert sorted(told.split(", ")) == sorted(nowhere)
    assert abs(sum(share.values()) - 1) < 1e-9
    preloaded.run(
        *SELECT, "--rule", "stratified", "--stratified", "1", "--budget", "3", "-o", "q.h5", cwd=place
    ).expect(0)
    queries = Queries(place / "q.h5")
    for number, image in enumerate(queries.ids):
        own = queries.image == number
        asked = scores.predicted(image)[queries.y[own], queries.x[own]]
        assert len(set(asked.tolist())) == min(3, len(np.unique(scores.predicted(image))))
    preloaded.run(*SELECT, "--rule", "diverse", "--budget", "3", "-o", "q.h5", cwd=place).expect(0, out="wrote q.h5")
    assert len(Queries(place / "q.h5")) == 18
    preloaded.run("verify", "s.h5", "q.h5", cwd=place).expect(0)


def test_what_the_scores_lack_is_told(refused):
    asked = ("select", "d.h5", "s1.h5", "--annotations", "a0.h5", "--budget", "3", "-o", "x.h5")
    refused(
        *asked, "--rule", "stratified", says="s1.h5 has no predicted classes. Score with a model and --keep-classes."
    )
    refused(
        *asked, "--rule", "diverse", says="s1.h5 has no features of pixels. Score with a model and --keep-features."
    )
    refused(*SCORE, "--discount-void", "-o", "x.h5", says="did not learn void, which --discount-void needs.")


def test_a_model_that_learnt_void(place, preloaded):
    preloaded.run(*TRAIN, "--learn-void", "--epochs", "1", "-o", "v.safetensors", cwd=place).expect(0, out="wrote")
    maps = []
    for more in ((), ("--discount-void",)):
        done = preloaded.run("score", "d.h5", "--model", "v.safetensors", *more, "-o", "v.h5", cwd=place)
        done.expect(0, out="wrote v.h5" if not more else "setting discount_void False is now True")
        scores = Scores(place / "v.h5")
        maps.append(scores.map(scores.ids[0]))
    assert (maps[1] < maps[0]).all()


def test_a_budget_in_seconds(place, preloaded, refused):
    asked = ("select", "d.h5", "s1.h5", "--annotations", "a0.h5", "-o", "q.h5")
    seconds = float(Annotations(place / "a0.h5").answers.seconds.mean())
    done = preloaded.run(*asked, "--budget-seconds", "20.5", cwd=place)
    done.expect(0, out=f"round 1, {int(20.5 / seconds)} pixel queries in 6 images, about 20 s")
    refused(*asked, "--budget-seconds", "0.1", says="pays for no query: one takes 1 s or more. Raise it.")


def test_noise_that_decays_without_rounds_is_told(place, preloaded):
    preloaded.run(*SCORE, "--keep-classes", "-o", "s.h5", cwd=place).expect(0)
    done = preloaded.run("select", "d.h5", "s.h5", "--rule", "stratified", "--growth", "2", "-o", "q.h5", cwd=place)
    done.expect(0, out="note: --growth has no effect in round 0")
