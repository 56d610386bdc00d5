"""Reference forward pass of TensorFlow's DeepLabV3+ on Xception-65, under its names and in its layout of kernels."""

import torch
import torch.nn.functional as F
from reference_layers import Drawn, resized, same

MIDDLE = 16
"""Units of the middle flow."""


class TensorFlowDrawn(Drawn):
    """Kernels are (height, width, inputs, outputs), depthwise ones (height, width, inputs, 1)."""

    def conv(self, x, name, outputs, kernel=1, stride=1, dilation=1, bias=False, **_):
        weight = self.tensor(
            f"{name}/weights", (kernel, kernel, x.shape[1], outputs), (2 / x.shape[1] / kernel**2) ** 0.5
        )
        shift = self.tensor(f"{name}/biases", (outputs,), 0.1) if bias else None
        if kernel > 1:
            self.dilations[f"{name}/weights"] = dilation
        return F.conv2d(x, weight.permute(3, 2, 0, 1), shift, stride, dilation * (kernel // 2), dilation)

    def depthwise(self, x, name, stride=1, dilation=1):
        weight = self.tensor(f"{name}/depthwise_weights", (3, 3, x.shape[1], 1), 0.5)
        self.dilations[f"{name}/depthwise_weights"] = dilation
        return F.conv2d(x, weight.permute(2, 3, 0, 1), None, stride, dilation, dilation, groups=x.shape[1])

    def norm(self, x, name, eps):
        size = (x.shape[1],)
        gamma, beta = (
            self.tensor(f"{name}/BatchNorm/gamma", size, least=0.5),
            self.tensor(f"{name}/BatchNorm/beta", size, 0.1),
        )
        mean, variance = self.statistics(x, f"{name}/BatchNorm/moving_mean", f"{name}/BatchNorm/moving_variance")
        shape = (1, -1, 1, 1)
        scaled = (x - mean.view(shape)) / (variance.view(shape) + eps).sqrt()
        return scaled * gamma.view(shape) + beta.view(shape)

    def unit(self, x, name, outputs, kernel=1, eps=1e-5, act=F.relu, **how):
        return act(self.norm(self.conv(x, name, outputs, kernel, **how), name, eps))

    def separable(self, x, name, outputs, eps=1e-5, act=F.relu, **how):
        h = act(self.norm(self.depthwise(x, f"{name}_depthwise", **how), f"{name}_depthwise", eps))
        return self.unit(h, f"{name}_pointwise", outputs, eps=eps, act=act)


def module(w, x, name, channels, stride=1, dilation=1, skip="conv", act_first=True):
    """Three separable convolutions, and the output of the second without activation."""
    h, second = x, None
    for place, outputs in enumerate(channels, 1):
        how = {
            "stride": stride if place == 3 else 1,
            "dilation": dilation,
            "eps": 1e-3,
            "act": same if act_first else F.relu,
        }
        h = w.separable(F.relu(h) if act_first else h, f"{name}/separable_conv{place}", outputs, **how)
        second = h if place == 2 else second
    if skip == "conv":
        h = h + w.unit(x, f"{name}/shortcut", channels[-1], eps=1e-3, act=same, stride=stride)
    elif skip == "sum":
        h = h + x
    return h, second


def xception65(w, images):
    """The second separable convolution of the second block (stride 4), and the deepest map (stride 16)."""
    name = "xception_65/"
    x = w.unit(images, f"{name}entry_flow/conv1_1", 32, 3, eps=1e-3, stride=2)
    x = w.unit(x, f"{name}entry_flow/conv1_2", 64, 3, eps=1e-3)
    shallow = None
    for block, channels in enumerate((128, 256, 728), 1):
        path = f"{name}entry_flow/block{block}/unit_1/xception_module"
        x, second = module(w, x, path, (channels,) * 3, stride=2)
        shallow = second if block == 2 else shallow
    for unit in range(1, MIDDLE + 1):
        x, _ = module(w, x, f"{name}middle_flow/block1/unit_{unit}/xception_module", (728,) * 3, skip="sum")
    x, _ = module(w, x, f"{name}exit_flow/block1/unit_1/xception_module", (728, 1024, 1024))
    path = f"{name}exit_flow/block2/unit_1/xception_module"
    x, _ = module(w, x, path, (1536, 1536, 2048), dilation=2, skip="none", act_first=False)
    return shallow, x


def deeplab_xception65(w, images, classes):
    """Logits; convolutions of the head are normalised and activated after each of their two parts."""
    shallow, deep = xception65(w, images)
    pooled = w.unit(deep.mean((2, 3), keepdim=True), "image_pooling", 256)
    views = [pooled.expand(-1, -1, *deep.shape[-2:]), w.unit(deep, "aspp0", 256)]
    views += [w.separable(deep, f"aspp{number}", 256, dilation=6 * number) for number in (1, 2, 3)]
    h = w.unit(torch.cat(views, 1), "concat_projection", 256)
    low = w.unit(shallow, "decoder/feature_projection0", 48)
    h = torch.cat([resized(h, low, True), low], 1)
    for place in (0, 1):
        h = w.separable(h, f"decoder/decoder_conv{place}", 256)
    return resized(w.conv(h, "logits/semantic", classes, bias=True), images, True)
