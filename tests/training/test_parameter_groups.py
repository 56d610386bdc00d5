"""Which parameters learn how fast and which decay: in groups whose numbers are those of the published trainers."""

import pytest
from torch import nn

from stages.settings.train import OptimisationSettings
from stages.training.optimisers import parameter_groups

RATES = {"backbone_lr": 0.25, "head_lr": 0.5}


class Small(nn.Module):
    """A network with each kind of parameter in its backbone and in its head."""

    def __init__(self):
        super().__init__()
        self.backbone = self.block()
        self.head = self.block()

    def block(self):
        depthwise = nn.Conv2d(4, 4, 3, groups=4, bias=False)
        return nn.Sequential(depthwise, nn.Conv2d(4, 6, 1, groups=2, bias=False), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1))


def found(**values):
    """(learning rate, weight decay or None for the optimiser's) of each parameter by name; each is in one group."""
    network = Small()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = parameter_groups(OptimisationSettings.load(RATES | values), network)
    told = [(names[id(each)], (group["lr"], group.get("weight_decay"))) for group in groups for each in group["params"]]
    assert len(told) == len(dict(told)) == len(names)
    return dict(told)


def test_backbone_and_head_by_default():
    told = found()
    assert {name.split(".")[0]: value for name, value in told.items()} == {
        "backbone": (0.25, None),
        "head": (0.5, None),
    }
    assert len(set(told.values())) == 2


def test_the_biases_of_the_heads_convolutions_alone_learn_faster_and_do_not_decay():
    told, plain = found(bias_factor=2.0), found()
    assert {name for name in told if told[name] != plain[name]} == {"head.3.bias"}  # not those of its norm, head.2
    assert told["head.3.bias"] == (1.0, 0.0)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_dense_convolutions_alone_decay(factor):
    told = found(bias_factor=factor, decayed="dense")
    decays = {name for name, (_, decay) in told.items() if decay is None}
    assert decays == {f"{part}.{place}.weight" for part in ("backbone", "head") for place in (1, 3)}  # 0: depthwise
    assert {decay for name, (_, decay) in told.items() if name not in decays} == {0.0}
    assert {told[name][0] for name in told if name.startswith("backbone")} == {0.25}
    assert told["head.3.bias"][0] == 0.5 * factor


def test_order_of_the_groups_that_checkpoints_keep():
    network = Small()
    groups = parameter_groups(OptimisationSettings.load(RATES | {"bias_factor": 4.0}), network)
    assert [group["lr"] for group in groups] == [0.25, 0.5, 2.0]
    assert [each.shape for each in groups[0]["params"]] == [each.shape for each in network.backbone.parameters()]
