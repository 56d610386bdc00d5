import pytest
import torch
from torch import nn

from stages.networks.discriminator import Discriminator


def pairs(batch, classes, *size):
    return torch.cat([torch.randn(batch, classes, *size).softmax(1), torch.rand(batch, 3, *size)], dim=1)


@pytest.mark.parametrize("classes, expected", [(18, 2_775_489), (6, 2_763_201)])
def test_published_number_of_parameters(classes, expected):
    assert sum(parameter.numel() for parameter in Discriminator(classes).parameters()) == expected


def test_published_layers():
    layers = list(Discriminator(6).convolutions)
    kinds = [type(layer) for layer in layers]
    assert kinds == [nn.Conv2d, nn.LeakyReLU, nn.Dropout2d] * 3 + [nn.Conv2d, nn.LeakyReLU]
    convolutions = layers[::3]
    assert [layer.out_channels for layer in convolutions] == [64, 128, 256, 512]
    assert all((layer.kernel_size, layer.stride, layer.padding) == ((4, 4), (2, 2), (1, 1)) for layer in convolutions)
    assert [layer.p for layer in layers[2::3]] == [0.5] * 3
    assert {layer.negative_slope for layer in layers[1::3]} == {0.2}


@pytest.mark.parametrize("size", [(320, 320), (321, 321), (256, 256), (33, 50), (32, 32)])
def test_any_size_gives_a_score_and_features(size):
    logits, features = Discriminator(18).eval()(pairs(2, 18, *size))
    assert logits.shape == (2, 1)
    assert features.shape == (2, 512)
    assert logits.dtype == features.dtype == torch.float32


def test_at_the_published_size_the_mean_is_the_published_pool():
    network = Discriminator(6, width=8).eval()
    images = pairs(2, 6, 320, 320)
    with torch.inference_mode():
        maps = network.convolutions(images)
        assert maps.shape[-2:] == (20, 20)
        pooled = nn.functional.avg_pool2d(maps, 20)[..., 0, 0]
        assert torch.allclose(network(images)[1], pooled, atol=1e-6)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("classes", [6, 18])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_untrained_it_cannot_tell(seed, classes, training):
    torch.manual_seed(seed)
    network = Discriminator(classes).train(training)
    one_hot = nn.functional.one_hot(torch.randint(classes, (4, 64, 64)), classes).movedim(-1, 1).float()
    real = torch.cat([one_hot, torch.rand(4, 3, 64, 64)], dim=1)
    for batch in (pairs(4, classes, 64, 64), real, torch.zeros_like(real)):
        scores = network(batch)[0].sigmoid()
        assert scores.min() > 0.45
        assert scores.max() < 0.55


def test_same_seed_gives_the_same_weights():
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(Discriminator(3, width=4).state_dict())
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_channels_are_dropped_in_training_mode_alone():
    network = Discriminator(3, width=8)
    batch = pairs(2, 3, 32, 32)
    with torch.inference_mode():
        assert not torch.equal(network(batch)[1], network(batch)[1])
        network.eval()
        assert torch.equal(network(batch)[1], network(batch)[1])


def test_a_smaller_width_is_smaller_throughout():
    network = Discriminator(3, width=4)
    logits, features = network(pairs(1, 3, 32, 48))
    assert (logits.shape, features.shape) == ((1, 1), (1, 32))
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_gradients_reach_the_pairs_while_the_weights_are_frozen():
    network = Discriminator(3, width=4).requires_grad_(False)
    batch = pairs(1, 3, 32, 32).requires_grad_()
    network(batch)[1].sum().backward()
    assert batch.grad.any()
