"""Settings of the stages that answer queries: what applies depends on the answer that the file of queries asks for."""

import pytest
from worlds import random_masks, write_dataset, write_superpixels

from stages.artifacts.annotations import Annotations
from stages.commands import annotate_simulate, score, select
from stages.runtime.errors import BadInput
from stages.settings.annotate import PeopleSettings
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.import_answers import ImportSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings

CLICKS = {"seconds_per_click"}
ERRORS = {"error_rate", "error_from_round"}
APPLIES = {
    "class": CLICKS | ERRORS,
    "dominant": CLICKS | ERRORS | {"click_stop", "void_policy"},
    "class-set": CLICKS | {"click_stop", "void_policy", "trim"},
    "precise": CLICKS | {"click_stop"},
    "mask": {"clicks_per_mask", "seconds_per_mask"},
    "image-class": CLICKS | ERRORS,
    "image-classes": CLICKS | {"click_stop", "presence_share"},
}
VALUES = {
    "seconds_per_click": 2.0,
    "error_rate": 0.1,
    "error_from_round": 0,
    "click_stop": "exceeded",
    "void_policy": "exclude",
    "trim": 3,
    "clicks_per_mask": 10.0,
    "seconds_per_mask": 20.0,
    "presence_share": 0.2,
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("answer", APPLIES)
def test_a_setting_applies_or_is_refused_with_what_it_is_for(answer, name):
    settings = AnnotateSettings.load({name: VALUES[name]})
    if name in APPLIES[answer]:
        assert settings.settled("q.h5", answer=answer).flat()[name] == VALUES[name]
        return
    with pytest.raises(BadInput) as refused:
        settings.settled("q.h5", answer=answer)
    (fault,) = refused.value.faults
    assert fault.startswith(f"q.h5: {name.replace('_', '-')} does not apply to answer {answer}; it is for ")
    others = {each for each, names in APPLIES.items() if name in names}
    assert set(fault.partition("it is for answer ")[2].rstrip(".").split(", ")) == others


@pytest.mark.parametrize("answer", APPLIES)
def test_a_recipe_for_all_answers_offers_what_applies(answer):
    settings = AnnotateSettings.load({}, offered=VALUES).settled("q.h5", answer=answer)
    assert settings.flat().keys() - {"seed", "trust", "click_budget"} == APPLIES[answer]


def test_what_is_wrong_by_itself_is_refused_before_the_queries_are_read():
    with pytest.raises(BadInput, match=r"trim must be odd \(its square is centred on the border\), or 0 for none$"):
        AnnotateSettings.load({"trim": 4})


@pytest.mark.parametrize("settings", [ImportSettings, PeopleSettings])
def test_the_price_of_masks_is_for_masks(settings):
    given = settings.load({"clicks_per_mask": 7.0})
    assert given.settled("q.h5", answer="mask").mask.clicks_per_mask == 7
    with pytest.raises(BadInput, match="clicks-per-mask does not apply to answer class; it is for answer mask"):
        given.settled("q.h5", answer="class")


@pytest.mark.parametrize(
    ("name", "applies", "told"),
    [
        ("skip_key", "precise", "skip-key does not apply to answer mask; it is for any answer except mask"),
        ("erase_key", "precise", "erase-key does not apply to answer class; it is for answer mask, precise"),
    ],
)
def test_keys_are_for_answers_that_have_their_command(name, applies, told):
    given = PeopleSettings.load({name: "n"})
    assert given.settled("q.h5", answer=applies).flat()[name] == "n"
    with pytest.raises(BadInput, match=told):
        given.settled("q.h5", answer="mask" if name == "skip_key" else "class")


def test_tools_have_keys_only_where_exact_labels_are_painted():
    given = PeopleSettings.load({"keys": "b,e"})
    assert "brush" not in given.settled("q.h5", answer="class").commands()
    with pytest.raises(BadInput, match="key 'b' means class 1 and brush; choose different keys"):
        given.settled("q.h5", answer="precise")


def test_keys_with_two_meanings_are_refused():
    with pytest.raises(BadInput, match="key 'l' means void and later; choose different keys"):
        PeopleSettings.load({"void_key": "l"})


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A dataset, its regions, and queries of pixels (p), regions (r) and masks (m)."""
    folder = tmp_path_factory.mktemp("world")
    data = write_dataset(folder / "d.h5", random_masks(["a", "b"], (32, 40), 3), 3)
    regions = write_superpixels(folder, data)
    made = {
        "p": ("pixel", SelectSettings(budget=4), None),
        "r": ("region", SelectSettings(rule="top", budget=6), regions),
        "m": ("image", SelectSettings(rule="top", budget=1), None),
    }
    for name, (unit, chosen, cut) in made.items():
        scores = score.run(data, folder / f"s{name}.h5", ScoreSettings(measure="random", unit=unit), superpixels=cut)
        select.run(data, scores, folder / f"{name}.h5", chosen, superpixels=cut)
    return folder, data, regions


def answered(world, name, output, regions=None, **values):
    folder, data, _ = world
    settings = AnnotateSettings.load(values)
    return Annotations(annotate_simulate.run(data, folder / f"{name}.h5", output, settings, superpixels=regions))


def test_the_stage_refuses_errors_where_no_class_is_named(world, tmp_path):
    with pytest.raises(BadInput, match=r"m\.h5: error-rate does not apply to answer mask; it is for answer class, "):
        answered(world, "m", tmp_path / "x.h5", error_rate=0.1)
    assert not list(tmp_path.iterdir())


def test_the_ledger_records_and_compares_only_what_applies(world, tmp_path, capsys):
    ledger = answered(world, "p", tmp_path / "x.h5")
    assert ledger.header.settings == {
        "click_budget": None,
        "error_from_round": 1,
        "error_rate": 0.0,
        "seconds_per_click": 1.0,
    }
    capsys.readouterr()
    answered(world, "p", tmp_path / "x.h5")
    assert "is up to date" in capsys.readouterr().out
    answered(world, "p", tmp_path / "x.h5", seconds_per_click=2.0)
    assert "setting seconds_per_click 1.0 is now 2.0" in capsys.readouterr().out


def test_a_ledger_of_older_code_that_records_all_settings_is_up_to_date(world, tmp_path, capsys, monkeypatch):
    """Older code recorded the settings of all answers, whatever was queried."""
    _, _, regions = world
    every = AnnotateSettings.load({}).result_settings()
    assert {"trim", "presence_share", "clicks_per_mask"} <= every.keys()
    every.pop("seed")
    with monkeypatch.context() as patched:
        patched.setattr("stages.artifacts.request.Request.result_settings", lambda self: dict(every))
        old = answered(world, "r", tmp_path / "x.h5", regions)
    assert old.header.settings == every
    capsys.readouterr()
    answered(world, "r", tmp_path / "x.h5", regions)
    assert "is up to date" in capsys.readouterr().out
