"""docs/reproduce.md: estimates by hand, and a column for what was measured here."""

import json

import pytest
import torch

from stages.recipes.tables import PublishedTable, load_table, table_names
from tests.published.steps import flop_counter
from tests.reference import reproduce
from tests.reference.costs import SUSTAINED_FLOPS, estimate, key_of, measured_steps, seconds_per_step, trainings_of

TABLE = {
    "name": "mine",
    "title": "Mine",
    "source": "a paper",
    "dataset": "scenes",
    "profile": "scenes",
    "cost": "pixels",
    "checkpoint": "last",
    "seeds": 3,
    "images": {"train": 10, "val": 6, "test": 5, "size": [48, 64]},
    "labels": ["10", "20"],
}
SHORT = ["train.epochs=2", "train.batch=4", "train.crop=24,32", "train.validate-every=1"]
ROW = {"name": "One", "recipe": "pixelpick", "set": SHORT, "mean": [41.26, float("nan")], "std": [0.5, float("nan")]}


def table_of(*rows):
    return PublishedTable.model_validate(TABLE | {"rows": list(rows)})


def cost(**values):
    return {"batch": 2, "flops": 0.0, "operations": 0, "saved": 0.0, "fixed": 0.5} | values


def test_a_step_takes_the_longest_of_arithmetic_traffic_and_kernels():
    assert seconds_per_step(cost(flops=SUSTAINED_FLOPS), 4) == pytest.approx(2)
    # 1 GiB in float32 for 2 images is 1 GiB in bfloat16 for 4; five times that at 2.01 TB/s
    assert seconds_per_step(cost(saved=1.0), 4) == pytest.approx(5 * 2**30 / 2.01e12)
    assert seconds_per_step(cost(operations=1000, saved=1.0), 4) == pytest.approx(0.01)


@pytest.mark.parametrize("groups, inner", [(1, 8), (8, 1)])
def test_arithmetic_of_dense_and_depthwise_convolutions(groups, inner):
    """2 x 2 images x 10 x 10 places x 8 outputs x 9 x inputs forward, and again for each of the two gradients."""
    layer = torch.nn.Conv2d(8, 8, 3, padding=1, groups=groups, bias=False)
    images = torch.zeros(2, 8, 10, 10, requires_grad=True)
    with flop_counter() as counter:
        layer(images).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 2 * 100 * 8 * 9 * inner


def test_hours_and_memory_of_a_run():
    """3 batches x 2 epochs x 2 rounds of 2 s; a pass takes 2 s / 4 images / 3 x 4 times the pixels = 2/3 s."""
    table = table_of(ROW)
    plan = table.plan(table.rows[0])
    (step,) = trainings_of(plan)
    measured = {key_of(table, plan, step): cost(flops=SUSTAINED_FLOPS, saved=1.0)}
    found = estimate(table, table.rows[0], measured)
    validated, scored, evaluated = 6 * 2 * 2, 10, 2 * 5 * 2
    assert found.steps == 12
    assert found.hours == pytest.approx((12 * 2 + (validated + scored + evaluated) * 2 / 3) / 3600)
    assert found.memory == pytest.approx(0.5 + 4 / 2 * 1.0)
    assert estimate(table, table.rows[0], {}) is None


def test_what_does_not_change_the_cost_does_not_change_the_key():
    keys = []
    for more in ([], ["train.epochs=9", "train.head-lr=0.5", "train.weights=none"], ["train.crop=24,24"]):
        table = table_of(ROW | {"set": [*SHORT, *more]})
        plan = table.plan(table.rows[0])
        keys.append(key_of(table, plan, trainings_of(plan)[0]))
    assert keys[0] == keys[1] != keys[2]


def test_the_column_ours_is_empty_until_something_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "RESULTS", tmp_path)
    table = table_of(ROW, {"name": "Two", "recipe": "full", "labels": ["masks"]})
    assert reproduce.result_lines(table, table.rows[0], {}) == ["| One | 10 | 41.3 ± 0.5 |  |", "|  | 20 |  |  |"]
    assert reproduce.result_lines(table, table.rows[1], {}) == ["| Two | masks |  |  |"]
    rows = {"One": [{"mean": 40.0, "std": 0.25, "runs": 3}, None], "Two": [{"mean": 50.0, "std": None, "runs": 1}]}
    own = {"rows": rows, "weights": ["timm: mobilenetv2_100"], "devices": ["NVIDIA H100"]}
    (tmp_path / "mine.json").write_text(json.dumps(own))
    text = reproduce.section(table, {})
    assert "| One | 10 | 41.3 ± 0.5 | 40.0 ± 0.2 (3 runs) |\n|  | 20 |  |  |" in text
    assert "| Two | masks |  | 50.0 (1 run) |" in text
    assert "Initial weights of ours: timm: mobilenetv2_100; on NVIDIA H100." in text


def test_what_is_recorded_belongs_to_a_row():
    """A row without a measured step has no estimate; `make estimate` adds it and removes what no row has any more."""
    keys = set()
    for table in map(load_table, table_names()):
        for row in table.rows:
            plan = table.plan(row)
            keys |= {key_of(table, plan, step) for step in trainings_of(plan)}
    assert measured_steps().keys() <= keys, "run `make estimate`"
