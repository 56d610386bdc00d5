"""Published tables: those shipped are valid and planned, faults are told in a sentence each."""

import math

import pytest

from stages.datasets.description import load_description
from stages.recipes.profile import load_profile
from stages.recipes.tables import load_table, table_names
from stages.runtime.errors import BadInput

HEAD = """
title = "Pixels"
source = "a paper"
dataset = "scenes"
profile = "scenes"
cost = "pixels"
checkpoint = "last"
images = {{ train = 4, size = [48, 64] }}
labels = ["10", "20"]
{more}
[[rows]]
name = "One"
recipe = "pixelpick"
{row}
"""


def written(folder, row="", more=""):
    path = folder / "mine.toml"
    path.write_text(HEAD.format(row=row, more=more))
    return str(path)


@pytest.mark.parametrize("name", table_names())
class TestEveryTable:
    def test_its_rows_plan_with_as_many_rounds_as_labels(self, name):
        table = load_table(name)
        for row in table.rows:
            plan = table.plan(row)
            assert table.rounds_of(row, plan) in (None, len(table.labels_of(row)))
            assert plan.recipe.rounds != "budget" or len(table.labels_of(row)) == 1
            if row.full:
                assert len(table.labels_of(table.row(row.full))) == 1

    def test_its_dataset_is_the_one_that_its_profile_and_command_prepare(self, name):
        table = load_table(name)
        assert table.prepare.startswith(f"alseg prepare {table.dataset} --root FOLDER ")
        assert load_profile(table.profile).fits(table.dataset)
        assert load_description(table.dataset).name == table.dataset
        splits = load_description(table.dataset).split_names
        assert all(getattr(table.images, split) for split in splits)


def test_published_numbers_are_those_of_the_papers():
    """Spot checks against the tables in the READMEs: CamVid at 100 pixels, MADBAL's ResNet-50 at 40."""
    camvid = load_table("pixelpick-camvid")
    row = camvid.row("MobileNetV2")
    assert dict(zip(camvid.labels, camvid.published(row), strict=True))["100"] == (55.9, 0.1)
    assert camvid.published(row)[0] == (45.5, None)
    assert camvid.seeds_of(row) == 5
    assert camvid.published(camvid.row("mobilenetv2-full")) == [(58.2, 0.6)]
    madbal = load_table("madbal-cityscapes")
    assert madbal.published(madbal.row("MobileNetV2"))[1] == (59.0, 0.3)
    unread = load_table("als4gan-ucm")
    assert all(unread.published(row) == [(None, None)] for row in unread.rows)


def test_a_table_without_numbers_is_valid(tmp_path):
    table = load_table(written(tmp_path))
    assert table.name == "mine"
    assert table.published(table.rows[0]) == [(None, None)] * 2
    assert table.seeds_of(table.rows[0]) == 1
    assert table.prepare == "alseg prepare scenes -o scenes.h5"  # of the profile
    assert load_table(written(tmp_path, more='prepare = "mine"')).prepare == "mine"
    table = load_table(written(tmp_path, "mean = [nan, 50.0]\nstd = [nan, nan]"))
    assert table.published(table.rows[0]) == [(None, None), (50.0, None)]
    assert math.isnan(table.rows[0].mean[0])


@pytest.mark.parametrize(
    "row, says",
    [
        ('set = ["train.no_such=1"]', "row 'One': --set train.no_such=1: write STAGE.NAME=VALUE"),
        ('set = ["train.epochs=0"]', "row 'One': train: epochs = '0': input should be greater than or equal to 1"),
        ("mean = [50.0]", "row 'One': mean has 1 numbers for 2 labels; write one each, nan for one that was not"),
        ("mean = [50.0, 51.0]\nstd = [1.0]", "row 'One': std has 1 numbers for 2 labels"),
        ("mean = [50.0, 151.0]", "151 is no number of percent. Write one in 0 to 100, or nan"),
        ('full = "Two"', "row 'One': full names 'Two', which is no row of this table; name one."),
        ('evaluation = "stage1-evaluation"', "recipe pixelpick has no step 'stage1-evaluation' that evaluates"),
        ("seed = 3", "unknown setting"),
        ('[[rows]]\nname = "one "\nrecipe = "pixelpick"', "row 'one ': the name is used twice"),
        ('[[rows]]\nname = "Two"\nrecipe = "pixelpik"', "row 'Two': Unknown recipe 'pixelpik'. Did you mean pixelpick"),
        ('[[rows]]\nname = "a\\nb"\nrecipe = "full"', "has a line break or control character. Remove it."),
    ],
)
def test_faults_of_a_table_are_told(row, says, tmp_path):
    with pytest.raises(BadInput) as caught:
        load_table(written(tmp_path, row))
    assert any(says in fault for fault in caught.value.faults), caught.value.faults
    assert all(fault.startswith(str(tmp_path)) for fault in caught.value.faults)


def test_an_unknown_table_names_the_shipped_ones():
    with pytest.raises(BadInput, match=r"Unknown table 'pixelpick-camvi'\. Did you mean pixelpick-camvid"):
        load_table("pixelpick-camvi")
