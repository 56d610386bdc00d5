"""Nested settings with flat names: what applies, what is refused, what is recorded and compared."""

import pickle
from typing import Literal

import pytest
from pydantic import Field

from stages.runtime.errors import BadInput
from stages.runtime.parts import Registry
from stages.settings.base import (
    EXECUTION,
    Not,
    PartSettings,
    Settings,
    StageSettings,
    belongs,
    chosen,
    fields_of,
    group,
    part_group,
)
from stages.settings.evaluate import EvaluateSettings
from stages.settings.train import TrainSettings

TOOLS = Registry("tool", "stages.settings", {"weight": 1})  # a package without parts
TOOLS.loaded = True


class Sharp(PartSettings):
    edge: float = Field(0.5, gt=0, description="Edge.")
    count: int = Field(3, description="Blades.")


class Blunt(PartSettings):
    count: int = Field(7, description="Dents.")


@TOOLS.register("knife", settings=Sharp)
def knife():
    """Cuts."""


@TOOLS.register("hammer", settings=Blunt, weight=5)
def hammer():
    """Hits."""


@TOOLS.register("string")
def string():
    """Ties."""


class Deep(Settings):
    depth: int = Field(1, description="Depth.")


class Pond(Settings):
    water: Literal["salt", "sweet"] = Field("sweet", description="Water.")
    deep: Deep | None = group(water="salt")


class Field_(Settings):
    crop: str | None = Field(None, description="Crop.")


class Work(StageSettings):
    place: Literal["pond", "field", "house"] = Field("pond", description="Place.")
    tool: str = chosen(TOOLS, "knife", "Tool.", also=("hand",))
    speed: float = Field(0.0, ge=0, description="Speed.")
    hands: int = Field(2, description="Hands.", json_schema_extra=EXECUTION)
    of_tool: PartSettings | None = part_group("tool")
    pond: Pond | None = group(place="pond")
    field: Field_ | None = group(place="field")
    fast: Deep | None = group(place=("house", "field"), speed=Not("0"))
    when: Field_ | None = group(weather="dry", place="house")


class TestWhatApplies:
    def test_groups_exist_where_their_conditions_hold(self):
        work = Work()
        assert isinstance(work.of_tool, Sharp)
        assert work.pond is not None
        assert work.pond.deep is None
        assert work.field is None
        assert work.fast is None

    def test_flat_names_reach_groups_however_deep(self):
        work = Work.load({"water": "salt", "depth": "4", "edge": 0.25, "tool": "knife"})
        assert work.pond.deep.depth == 4
        assert work.of_tool.edge == 0.25
        assert work.flat() == {
            "seed": 0,
            "trust": False, "place": "pond", "tool": "knife", "speed": 0.0, "hands": 2,
            "edge": 0.25, "count": 3, "water": "salt", "depth": 4,
        }  # fmt: skip

    def test_one_name_in_two_parts_has_the_default_of_the_chosen_one(self):
        assert Work.load({"tool": "hammer"}).flat()["count"] == 7
        assert Work.load({"tool": "string"}).of_tool is None
        assert Work.load({"tool": "hand"}).of_tool is None

    @pytest.mark.parametrize("zero", [0, 0.0, "0", "0.0"])
    def test_numbers_in_conditions_compare_as_numbers(self, zero):
        assert Work.load({"place": "house", "speed": zero}).fast is None
        assert Work.load({"place": "house", "speed": 1}).fast is not None

    def test_direct_construction_takes_flat_names_too(self):
        assert Work(depth=2, water="salt") == Work.load({"depth": 2, "water": "salt"})
        assert Work() == Work.load({})
        assert pickle.loads(pickle.dumps(Work(edge=2))) == Work(edge=2)


class TestWhatIsRefused:
    def test_what_does_not_apply_says_what_it_belongs_to(self):
        with pytest.raises(BadInput) as error:
            Work.load({"tool": "hammer", "edge": 2, "place": "field", "water": "salt"}, "work")
        assert error.value.faults == [
            "work: edge does not apply to tool hammer; it is for tool knife.",
            "work: water does not apply to place field; it is for place pond.",
        ]

    def test_unknown_names_get_a_suggestion(self):
        with pytest.raises(BadInput, match="unknown setting 'egde'; did you mean edge"):
            Work.load({"egde": 2})

    def test_an_unknown_part_names_the_known_ones(self):
        with pytest.raises(BadInput, match=r"Unknown tool 'knive'\. Did you mean knife\?"):
            Work.load({"tool": "knive", "edge": 3})

    def test_all_faults_come_at_once(self):
        with pytest.raises(BadInput) as error:
            Work.load({"edge": -1, "hands": "many", "nonsense": 3})
        assert len(error.value.faults) == 3

    def test_offered_values_need_not_apply_but_must_exist(self):
        assert Work.load({"tool": "string"}, offered={"edge": 2, "water": "salt"}).flat()["water"] == "salt"
        with pytest.raises(BadInput, match="unknown setting 'nonsense'"):
            Work.load({}, offered={"nonsense": 3})

    def test_explicit_values_win_over_offered_ones(self):
        assert Work.load({"edge": 1}, offered={"edge": 2}).flat()["edge"] == 1


class TestChoosersThatComeLater:
    def test_a_group_waits_until_its_chooser_is_known(self):
        work = Work.load({"place": "house", "crop": "rye"})
        assert work.when.crop == "rye"
        assert work.settled("a.h5", weather="dry").when.crop == "rye"

    def test_explicit_settings_that_turn_out_not_to_apply_are_refused(self):
        work = Work.load({"place": "house", "crop": "rye"})
        with pytest.raises(BadInput, match=r"a\.h5: crop does not apply to place house and weather wet; it is for"):
            work.settled("a.h5", weather="wet")
        offered = Work.load({"place": "house"}, offered={"crop": "rye"})
        assert offered.settled("a.h5", weather="wet").when is None


def test_execution_settings_and_what_does_not_apply_decide_nothing():
    assert Work.load({"hands": 1}).result_settings() == Work().result_settings()
    assert "edge" not in Work.load({"tool": "hammer"}).result_settings()
    assert Work.load({"edge": 9}).defaults()["edge"] == 0.5


def test_every_name_knows_where_it_applies():
    fields = fields_of(Work)
    assert belongs(fields["edge"]) == "tool knife"
    assert belongs(fields["count"]) == "tool hammer, knife"
    assert belongs(fields["depth"]) == "water salt with place pond or any speed except 0 with place house, field"


class Sawing(Settings):
    teeth: int = Field(3, description="Teeth.")


class Planing(Settings):
    depth: int = Field(1, description="Depth.")


class Measured(Settings):
    length: int = Field(1, description="Length.")


class Board(StageSettings):
    saw: bool = Field(False, description="Whether to saw.")
    limit: int | None = Field(None, description="Limit.")
    sawing: Sawing | None = group(saw="True")
    planing: Planing | None = group(saw="False")
    measured: Measured | None = group(limit=Not("None"))


def test_flags_are_told_as_they_are_typed():
    fields = fields_of(Board)
    assert [belongs(fields[name]) for name in ("teeth", "depth", "length")] == ["--saw", "without --saw", "--limit"]
    with pytest.raises(BadInput, match=r"depth does not apply to --saw; use it without --saw\.$"):
        Board.load({"saw": True, "depth": 2})
    with pytest.raises(BadInput, match=r"teeth does not apply without --saw; it is for --saw\.$"):
        Board.load({"teeth": 2})


def test_parts_that_are_named_are_found():
    assert [part.name for part in Work(tool="hammer").parts()] == ["hammer"]
    assert TOOLS["hammer"].facts == {"weight": 5}
    assert TOOLS["hammer"].about == "Hits."


def test_a_part_cannot_take_the_name_of_another():
    with pytest.raises(BadInput, match="unknown keyword colour"):
        TOOLS.register("axe", colour="red")


@pytest.mark.parametrize(
    "stage, values, says",
    [
        (TrainSettings, {"batch": "1"}, "batch = '1': input should be greater than or equal to 2"),
        (TrainSettings, {"device": "tpu"}, "device = 'tpu': input should be 'auto', 'cpu' or 'cuda'"),
        (EvaluateSettings, {"scales": "0.5;1"}, "scales.0 = '0.5;1': input should be a valid number"),
    ],
)
def test_a_fault_is_told_once_without_its_consequences(stage, values, says):
    with pytest.raises(BadInput) as refused:
        stage.load(values)
    (fault,) = refused.value.faults
    assert fault.startswith(says)
