"""Reference forward passes of the published backbones, under the names of the public code."""

import torch.nn.functional as F
from reference_layers import same

MOBILENET_V2 = ((1, 16, 1, 1, 1), (6, 24, 2, 2, 1), (6, 32, 3, 2, 1), (6, 64, 4, 2, 1), (6, 96, 3, 1, 1),
                (6, 160, 3, 1, 1), (6, 320, 1, 1, 2))  # fmt: skip
"""Expansion, channels, blocks, stride of the first block, dilation: output stride 16 (pixelpick.md 3.1)."""

MOBILENET_V3 = (
    (3, 16, 16, 0, 0, 1, 1),
    (3, 64, 24, 0, 0, 2, 1),
    (3, 72, 24, 0, 0, 1, 1),
    (5, 72, 40, 24, 0, 2, 1),
    (5, 120, 40, 32, 0, 1, 1),
    (5, 120, 40, 32, 0, 1, 1),
    (3, 240, 80, 0, 1, 2, 1),
    (3, 200, 80, 0, 1, 1, 1),
    (3, 184, 80, 0, 1, 1, 1),
    (3, 184, 80, 0, 1, 1, 1),
    (3, 480, 112, 120, 1, 1, 1),
    (3, 672, 112, 168, 1, 1, 1),
    (5, 672, 160, 168, 1, 1, 2),
    (5, 960, 160, 240, 1, 1, 2),
    (5, 960, 160, 240, 1, 1, 2),
)
"""Kernel, expanded channels, channels, squeezed channels, hard-swish, stride, dilation (Howard et al. 2019)."""


def mobilenet_v2(w, x):
    """The output of each feature: the input of a block is padded before its expansion, by its dilation."""
    x = w.conv_norm(x, "backbone.features.0.0", "backbone.features.0.1", 32, 3, stride=2, act=F.relu6)
    maps, number = [x], 0
    for expansion, channels, blocks, first_stride, dilation in MOBILENET_V2:
        for block in range(blocks):
            number += 1
            name, stride = f"backbone.features.{number}.conv", first_stride if block == 0 else 1
            inner, h, place = x.shape[1] * expansion, F.pad(x, (dilation,) * 4), 0
            if expansion > 1:
                h = w.conv_norm(h, f"{name}.0", f"{name}.1", inner, act=F.relu6)
                place = 3
            how = {"stride": stride, "dilation": dilation, "groups": inner, "padding": 0}
            h = w.conv_norm(h, f"{name}.{place}", f"{name}.{place + 1}", inner, 3, act=F.relu6, **how)
            h = w.conv_norm(h, f"{name}.{place + 3}", f"{name}.{place + 4}", channels, act=same)
            x = x + h if stride == 1 and x.shape[1] == channels else h
            maps.append(x)
    return maps


def mobilenet_v3(w, x):
    """The output of each feature of torchvision's MobileNetV3-Large, its last stage dilated; BatchNorm adds 0.001."""

    def unit(x, name, outputs, kernel, act, **how):
        return w.conv_norm(x, f"{name}.0", f"{name}.1", outputs, kernel, eps=1e-3, act=act, **how)

    x = unit(x, "backbone.0", 16, 3, F.hardswish, stride=2)
    maps = [x]
    for number, (kernel, inner, channels, squeezed, swish, stride, dilation) in enumerate(MOBILENET_V3, 1):
        name, act, place, h = f"backbone.{number}.block", F.hardswish if swish else F.relu, 0, x
        if inner != x.shape[1]:
            h, place = unit(h, f"{name}.0", inner, 1, act), 1
        h = unit(h, f"{name}.{place}", inner, kernel, act, stride=stride, dilation=dilation, groups=inner)
        if squeezed:
            place += 1
            s = F.relu(w.conv(h.mean((2, 3), keepdim=True), f"{name}.{place}.fc1", squeezed, bias=True))
            h = h * F.hardsigmoid(w.conv(s, f"{name}.{place}.fc2", inner, bias=True))
        h = unit(h, f"{name}.{place + 1}", channels, 1, same)
        x = x + h if stride == 1 and x.shape[1] == channels else h
        maps.append(x)
    return [*maps, unit(x, "backbone.16", 960, 1, F.hardswish)]


def resnet(w, x, blocks, strides, first, rest, stem, unit, stride_first=False, ceil=False):
    """The outputs of the four stages of a ResNet of bottlenecks.

    ``first`` and ``rest`` are the dilations of the first and the other blocks of each stage; ``stem`` maps images to
    the input of the pool, ``unit(stage, block, part)`` names a convolution and its norm, the parts counted from 1 and 0
    for the shortcut.
    """
    x = F.max_pool2d(stem(x), 3, 2, 1, ceil_mode=ceil)
    maps = []
    for stage in range(4):
        width = 64 * 2**stage
        for block in range(blocks[stage]):
            stride, dilation = (strides[stage], first[stage]) if block == 0 else (1, rest[stage])
            early, late = (stride, 1) if stride_first else (1, stride)
            h = w.conv_norm(x, *unit(stage, block, 1), width, stride=early)
            h = w.conv_norm(h, *unit(stage, block, 2), width, 3, stride=late, dilation=dilation)
            h = w.conv_norm(h, *unit(stage, block, 3), 4 * width, act=same)
            if block == 0:
                x = w.conv_norm(x, *unit(stage, block, 0), 4 * width, stride=stride, act=same)
            x = F.relu(x + h)
        maps.append(x)
    return maps


def torch_names(prefix):
    """Names of torchvision's ResNets."""

    def unit(stage, block, part):
        name = f"{prefix}layer{stage + 1}.{block}."
        return (f"{name}conv{part}", f"{name}bn{part}") if part else (f"{name}downsample.0", f"{name}downsample.1")

    return unit


def long_names(stage, block, part):
    """Names of ALS4GAN's ResNet."""
    name = f"base.layer{stage + 2}.block{block + 1}.{('shortcut', 'reduce', 'conv3x3', 'increase')[part]}"
    return f"{name}.conv", f"{name}.bn"


def deep_stem(w, x):
    """Three 3x3 convolutions of 64, 64 and 128 channels."""
    for place, channels, stride in ((0, 64, 2), (3, 64, 1)):
        name = f"backbone.conv1.{place}", f"backbone.conv1.{place + 1}"
        x = w.conv_norm(x, *name, channels, 3, stride=stride)
    return w.conv_norm(x, "backbone.conv1.6", "backbone.bn1", 128, 3)
