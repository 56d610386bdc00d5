"""What the number of threads decides: the last bits of convolutions and group norms, added up in parts, and no others.

Said in docs/explanation/promises.md. Each operation runs several times on the same inputs, with other numbers of
threads.
"""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from worlds import random_masks, write_dataset, write_network, write_superpixels

from stages.artifacts.opening import open_any
from stages.commands import extract_superpixels, score
from stages.networks.build import build_network
from stages.runtime.parts import ARCHITECTURES
from stages.settings.extract_superpixels import ExtractSettings
from stages.settings.network import NetworkSettings
from stages.settings.score import ScoreSettings

THREADS = (2, 3)
SMP = ("fpn", "pspnet", "unet", "upernet")


@pytest.fixture(autouse=True)
def _threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Repeated(TorchDispatchMode):
    """Runs each operation with one and with more threads; ``differing`` are those whose results depend on them."""

    def __init__(self):
        super().__init__()
        self.count = 0
        self.differing: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}

        def fresh(value):
            return value.clone() if isinstance(value, torch.Tensor) else value

        found = []
        for threads in (1, *THREADS):
            torch.set_num_threads(threads)
            found.append(function(*tree_map(fresh, args), **tree_map(fresh, kwargs)))
        torch.set_num_threads(1)
        if isinstance(found[0], torch.Tensor):
            self.count += 1
            if not all(torch.equal(found[0], other) for other in found[1:]):
                self.differing.add(str(function.overloadpacket))
        return function(*args, **kwargs)


@pytest.mark.parametrize("name", [*sorted({"deeplabv2", "deeplabv3", "deeplabv3plus", "fpn-dilated", "lraspp"}), *SMP])
def test_only_convolutions_and_group_norms_of_a_network_depend_on_the_threads(name):
    assert name in ARCHITECTURES
    backbone = "resnet18" if name in (*SMP, "fpn-dilated") else "mobilenetv2_100"
    network = build_network(NetworkSettings(architecture=name, backbone=backbone, weights="none"), 5).eval()
    network.to(memory_format=torch.channels_last)
    images = torch.rand(1, 3, 96, 128).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), Repeated() as repeated:
        network(images)
    assert repeated.count > 50
    assert repeated.differing <= {"aten.conv2d", "aten.group_norm"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("threads")
    masks = random_masks(["a", "b"], (96, 128), 5)
    draw = np.random.default_rng(0)
    images = {name: draw.integers(0, 256, (96, 128, 3), dtype=np.uint8) for name in masks}
    dataset = write_dataset(folder / "d.h5", masks, 5, images=images)
    return folder, dataset, write_superpixels(folder, dataset), write_network(folder / "m.safetensors", dataset)


@pytest.mark.parametrize("values", [{}, {"measure": "entropy", "grid_scale": 0.5}, {"unit": "region"}])
def test_what_follows_the_logits_does_not_depend_on_the_threads(world, monkeypatch, tmp_path, values):
    """Resizing, measures and sums over regions, of the same logits."""
    _, dataset, regions, model = world
    monkeypatch.setattr("stages.networks.predictions.computed_with", lambda use: {})  # the same logits for all
    kept = str(tmp_path / "kept")
    settings = ScoreSettings(predictions=kept, **values)
    adaptive = ExtractSettings(method="adaptive", workers=1, predictions=kept)
    digests = set()
    for threads in (1, *THREADS):
        torch.set_num_threads(threads)
        given = regions if settings.unit == "region" else None
        scores = open_any(score.run(dataset, tmp_path / "s.h5", settings, model, given, force=True)).header
        merged = open_any(
            extract_superpixels.run(dataset, tmp_path / "r.h5", adaptive, regions, model, force=True)
        ).header
        assert scores.versions["threads"] == merged.versions["threads"] == str(threads)
        digests.add((scores.digest, merged.digest))
    assert len(digests) == 1


def test_the_same_number_of_threads_gives_the_same_bytes(world, tmp_path):
    _, dataset, _, model = world
    for threads in (1, 2):
        torch.set_num_threads(threads)
        digests = {
            open_any(score.run(dataset, tmp_path / "s.h5", ScoreSettings(batch=batch), model, force=True)).header.digest
            for batch in (1, 2)
        }
        assert len(digests) == 1
