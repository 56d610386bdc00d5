"""Layers for reference forward passes, which draw their weights when they first need them.

A reference forward is written from the specifications with these layers alone. The first pass fills the dictionary
under the names of the public code, with the shapes that the layers ask for; later passes read it. The statistics of
norms are near those of their first input, so that no branch of a network drowns another.
"""

import math

import torch
import torch.nn.functional as F


class Drawn(dict):
    """Tensors by the names of the public code, in torch's layout; their values are those of float32."""

    def __init__(self, seed=0, device="cpu", dtype=torch.float32):
        super().__init__()
        self.generator, self.device, self.dtype = torch.Generator().manual_seed(seed), device, dtype
        self.dilations = {}  # of kernels larger than one

    def keep(self, name, tensor):
        self[name] = tensor.float().to(self.dtype)

    def statistics(self, x, mean, variance):
        """Draw the tensors called ``mean`` and ``variance`` near the statistics of x."""
        if mean not in self and self.device != "meta":
            found, size = x.var((0, 2, 3)) + 1e-3, (x.shape[1],)
            self.keep(mean, x.mean((0, 2, 3)) + found.sqrt() * torch.randn(size, generator=self.generator) / 4)
            self.keep(variance, found * (0.5 + torch.rand(size, generator=self.generator)))
        return self.tensor(mean, (x.shape[1],)), self.tensor(variance, (x.shape[1],))

    def tensor(self, name, shape, deviation=1.0, least=None):
        if name not in self:
            if self.device == "meta":
                self[name] = torch.empty(shape, device="meta")
            elif least is None:
                self.keep(name, deviation * torch.randn(shape, generator=self.generator))
            else:
                self.keep(name, least + torch.rand(shape, generator=self.generator))
        assert tuple(self[name].shape) == tuple(shape), name
        return self[name]

    def conv(self, x, name, outputs, kernel=1, stride=1, dilation=1, groups=1, bias=False, padding=None):
        inside = x.shape[1] // groups
        weight = self.tensor(f"{name}.weight", (outputs, inside, kernel, kernel), math.sqrt(2 / (inside * kernel**2)))
        shift = self.tensor(f"{name}.bias", (outputs,), 0.1) if bias else None
        padding = dilation * (kernel // 2) if padding is None else padding
        if kernel > 1:
            self.dilations[f"{name}.weight"] = dilation
        return F.conv2d(x, weight, shift, stride, padding, dilation, groups)

    def growing(self, x, name, outputs, kernel, stride, padding, output_padding):
        weight = self.tensor(f"{name}.weight", (x.shape[1], outputs, kernel, kernel), 0.05)
        return F.conv_transpose2d(
            x, weight, self.tensor(f"{name}.bias", (outputs,), 0.1), stride, padding, output_padding
        )

    def linear(self, x, name, outputs):
        return x @ self.tensor(f"{name}.weight", (outputs, x.shape[1]), 0.2).T

    def norm(self, x, name, eps=1e-5):
        size = (x.shape[1],)
        weight, bias = self.tensor(f"{name}.weight", size, least=0.5), self.tensor(f"{name}.bias", size, 0.1)
        mean, variance = self.statistics(x, f"{name}.running_mean", f"{name}.running_var")
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps)

    def group_norm(self, x, name, groups):
        size = (x.shape[1],)
        weight, bias = self.tensor(f"{name}.weight", size, least=0.5), self.tensor(f"{name}.bias", size, 0.1)
        return F.group_norm(x, groups, weight, bias)

    def conv_norm(self, x, conv, norm, outputs, kernel=1, eps=1e-5, act=F.relu, **how):
        return act(self.norm(self.conv(x, conv, outputs, kernel, **how), norm, eps))


def same(x):
    return x


def resized(x, like, align_corners):
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=align_corners)
