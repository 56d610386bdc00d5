"""Reference forward passes of the published networks, under the names of the public code.

Each maps weights (`reference_layers.Drawn`), images (B, 3, H, W) and a number of classes to logits (B, C, H, W); those
with support heads to a dictionary of logits, side logits, mixing and lossiness (after the sigmoid).
"""

import torch
import torch.nn.functional as F
from reference_backbones import deep_stem, long_names, mobilenet_v2, mobilenet_v3, resnet, torch_names
from reference_layers import resized

RESNET26 = (2, 2, 2, 2)
STRIDE8 = {"strides": (1, 2, 1, 1), "first": (1, 1, 1, 2), "rest": (1, 1, 2, 4)}
STRIDE16 = {"strides": (1, 2, 2, 1), "first": (1, 1, 1, 1), "rest": (1, 1, 1, 2)}
MSRA = {"strides": (1, 2, 1, 1), "first": (1, 1, 2, 4), "rest": (1, 1, 2, 4), "stride_first": True, "ceil": True}


def plain_stem(w, conv, norm):
    return lambda x: w.conv_norm(x, conv, norm, 64, 7, stride=2)


# --- PixelPick --------------------------------------------------------------------------------------------------------


def pyramid(w, deep, rates=(6, 12, 18)):
    """PixelPick's ASPP."""
    views = [w.conv_norm(deep, "aspp.aspp1.atrous_conv", "aspp.aspp1.bn", 256)]
    for number, rate in enumerate(rates, 2):
        views.append(
            w.conv_norm(deep, f"aspp.aspp{number}.atrous_conv", f"aspp.aspp{number}.bn", 256, 3, dilation=rate)
        )
    pooled = w.conv_norm(deep.mean((2, 3), keepdim=True), "aspp.global_avg_pool.1", "aspp.global_avg_pool.2", 256)
    joined = torch.cat([*views, pooled.expand_as(views[0])], 1)
    return w.conv_norm(joined, "aspp.conv1", "aspp.bn1", 256)


def decoded(w, joined, name):
    h = w.conv_norm(joined, f"{name}.segment_head.0", f"{name}.segment_head.1", 256, 3)
    return w.conv_norm(h, f"{name}.segment_head.4", f"{name}.segment_head.5", 256, 3)


def joined_features(w, shallow, deep):
    low = w.conv_norm(shallow, "low_level_conv.0", "low_level_conv.1", 48)
    return torch.cat([resized(deep, low, True), low], 1)


def pixelpick_deeplab(w, images, classes):
    maps = mobilenet_v2(w, images)
    joined = joined_features(w, maps[3], pyramid(w, maps[17]))
    return resized(w.conv(decoded(w, joined, "seg_head"), "seg_head.classifier", classes, bias=True), images, True)


def pixelpick_fpn(w, images, classes, blocks=RESNET26):
    stem = plain_stem(w, "encoder.base.prefix.conv1", "encoder.base.prefix.bn1")
    maps = resnet(w, images, blocks, **STRIDE8, stem=stem, unit=torch_names("encoder.base."))
    top, total = None, 0
    for number, level in enumerate(reversed(maps)):
        lateral = w.conv(level, f"decoder.lat_layer_{number}", 256, bias=True)
        top = lateral if top is None else resized(top, lateral, False) + lateral
        grown = top
        for step in range(2 if number == 3 else 3):
            name = f"decoder.upsample_blocks_{number}.{step}.block"
            grown = F.relu(w.group_norm(w.conv(grown, f"{name}.0", 128, 3, bias=True), f"{name}.1", 32))
            grown = F.interpolate(grown, scale_factor=2, mode="bilinear", align_corners=False)
        total = total + grown
    return w.conv(total, "decoder.classifier", classes, bias=True)


# --- MADBAL -----------------------------------------------------------------------------------------------------------


def support(w, sides, mixing, deep, images):
    """The maps of MADBAL's support heads from side logits, mixing weights and deep features at one size."""
    mixed = sum(mixing[:, number : number + 1] * side for number, side in enumerate(sides))
    h = torch.cat([mixed, *deep], 1)
    width = 256 if len(deep) == 2 else 512
    h = w.conv(w.conv(h, "loss_pred.0", width, 3, bias=True), "loss_pred.1", 64, 3, bias=True)
    inner = F.relu(w.conv(h, "loss_pred.2.conv1", 64, 3))
    h = h + w.conv(inner, "loss_pred.2.conv2", 64, 3)
    factors = w.linear(F.relu(w.linear(h.mean((2, 3)), "loss_pred.3.fc.0", 4)), "loss_pred.3.fc.2", 64).sigmoid()
    h = w.conv(h * factors[..., None, None], "loss_pred.4", 2, 3, bias=True)
    return {
        "sides": torch.stack([resized(side, images, False) for side in sides], 1),
        "mixing": resized(mixing, images, False),
        "lossiness": resized(h, images, False).sigmoid(),
    }


def madbal_mobilenet_v2(w, images, classes):
    maps = mobilenet_v2(w, images)
    deep = pyramid(w, maps[17])
    joined = joined_features(w, maps[3], deep)
    logits = w.conv(decoded(w, joined, "seg_head"), "seg_head.segment_head.8", classes, bias=True)
    mixing = w.conv(decoded(w, joined, "W_loss_pred"), "W_loss_pred.segment_head.8", 3, bias=True).softmax(1)
    sides = [
        w.conv(maps[3], "middle_conv1", classes, 3, bias=True),
        w.growing(maps[7], "mid_deconv2", classes, 5, 4, 1, 1),
        w.growing(maps[11], "mid_deconv3", classes, 5, 4, 1, 1),
    ]
    return {"logits": resized(logits, images, True)} | support(w, sides, mixing, [resized(deep, joined, True)], images)


def lite_head(w, low, high, name, outputs):
    weighted = w.conv_norm(high, f"{name}.cbr.0", f"{name}.cbr.1", 128)
    weighted = weighted * w.conv(high.mean((2, 3), keepdim=True), f"{name}.scale.1", 128).sigmoid()
    weighted = resized(weighted, low, False)
    return w.conv(low, f"{name}.low_classifier", outputs, bias=True) + w.conv(
        weighted, f"{name}.high_classifier", outputs, bias=True
    )


def torchvision_lraspp(w, images, classes):
    maps = mobilenet_v3(w, images)
    return resized(lite_head(w, maps[4], maps[16], "classifier", classes), images, False)


def madbal_mobilenet_v3(w, images, classes):
    maps = mobilenet_v3(w, images)
    low, high = maps[4], maps[16]
    logits = resized(lite_head(w, low, high, "main_classifier", classes), images, False)
    mixing = lite_head(w, low, high, "W_loss_pred", 3).softmax(1)
    sides = [
        w.conv(maps[6], "middle_conv1", classes, 3, bias=True),
        w.growing(maps[11], "middle_deconv2", classes, 5, 2, 2, 1),
        w.growing(maps[14], "middle_deconv3", classes, 5, 2, 2, 1),
    ]
    reduced = resized(w.conv(high, "loss_pred_conv", 480, 3, bias=True), low, False)
    return {"logits": logits} | support(w, sides, mixing, [low, reduced], images)


def deeplabv3_head(w, deep, name, outputs):
    """torchvision's DeepLabV3 head with rates 12, 24 and 36."""
    views = [w.conv_norm(deep, f"{name}.0.convs.0.0", f"{name}.0.convs.0.1", 256)]
    for number, rate in enumerate((12, 24, 36), 1):
        views.append(
            w.conv_norm(deep, f"{name}.0.convs.{number}.0", f"{name}.0.convs.{number}.1", 256, 3, dilation=rate)
        )
    pooled = w.conv_norm(deep.mean((2, 3), keepdim=True), f"{name}.0.convs.4.1", f"{name}.0.convs.4.2", 256)
    h = w.conv_norm(
        torch.cat([*views, pooled.expand_as(views[0])], 1), f"{name}.0.project.0", f"{name}.0.project.1", 256
    )
    return w.conv(w.conv_norm(h, f"{name}.1", f"{name}.2", 256, 3), f"{name}.4", outputs, bias=True)


def torchvision_resnet(w, images, blocks):
    stem = plain_stem(w, "backbone.conv1", "backbone.bn1")
    return resnet(w, images, blocks, **STRIDE8, stem=stem, unit=torch_names("backbone."))


def torchvision_deeplabv3(w, images, classes, blocks=RESNET26):
    deep = torchvision_resnet(w, images, blocks)[3]
    return resized(deeplabv3_head(w, deep, "classifier", classes), images, False)


def madbal_resnet(w, images, classes, blocks=RESNET26):
    maps = torchvision_resnet(w, images, blocks)
    logits = resized(deeplabv3_head(w, maps[3], "main_classifier", classes), images, False)
    sides = [
        w.conv(maps[0], "middle_conv1", classes, 3, bias=True),
        w.growing(maps[1], "middle_deconv2", classes, 5, 2, 2, 1),
        w.growing(maps[2], "middle_deconv3", classes, 5, 2, 2, 1),
    ]
    mixing = F.interpolate(deeplabv3_head(w, maps[3], "W_loss_pred", 3), sides[0].shape[-2:], mode="nearest").softmax(1)
    reduced = resized(w.conv(maps[3], "loss_pred_conv", 512, 3, bias=True), sides[0], False)
    return {"logits": logits} | support(w, sides, mixing, [reduced], images)


# --- multi-class query ------------------------------------------------------------------------------------------------


def separable(w, x, name, norm, outputs, dilation=1):
    h = w.conv(x, f"{name}.body.0", x.shape[1], 3, dilation=dilation, groups=x.shape[1])
    return w.conv_norm(h, f"{name}.body.1", norm, outputs)


def multi_class_query(w, images, classes, blocks=(3, 4, 6, 3)):
    """Cosines of features and class vectors, which the public code divides by the temperature outside the network."""
    maps = resnet(w, images, blocks, **STRIDE16, stem=lambda x: deep_stem(w, x), unit=torch_names("backbone."))
    shallow, deep = maps[0], maps[3]
    name = "classifier.aspp.convs"
    views = [w.conv_norm(deep, f"{name}.0.0", f"{name}.0.1", 256)]
    for number, rate in enumerate((6, 12, 18), 1):
        views.append(separable(w, deep, f"{name}.{number}.0", f"{name}.{number}.1", 256, rate))
    pooled = w.conv_norm(deep.mean((2, 3), keepdim=True), f"{name}.4.1", f"{name}.4.2", 256)
    h = torch.cat([*views, pooled.expand_as(views[0])], 1)
    h = w.conv_norm(h, "classifier.aspp.project.0", "classifier.aspp.project.1", 256)
    low = w.conv_norm(shallow, "classifier.project.0", "classifier.project.1", 48)
    h = torch.cat([low, resized(h, low, False)], 1)
    h = separable(w, h, "classifier.classifier.0", "classifier.classifier.1", 256)
    h = separable(w, h, "classifier.classifier.3", "classifier.classifier.4", 256)
    vectors = w.tensor("classifier.final.weight", (classes, 256, 1, 1), 0.1)
    cosines = F.conv2d(h / h.norm(dim=1, keepdim=True), vectors / vectors.norm(dim=1, keepdim=True))
    return resized(cosines, images, False)


# --- S4GAN and ALS4GAN ------------------------------------------------------------------------------------------------


def s4gan(w, images, classes, blocks=RESNET26):
    """Four branches have weights, the first two are summed."""
    deep = resnet(w, images, blocks, **MSRA, stem=plain_stem(w, "conv1", "bn1"), unit=torch_names(""))[3]
    branches = [
        w.conv(deep, f"layer5.conv2d_list.{place}", classes, 3, dilation=6 * place + 6, bias=True) for place in range(4)
    ]
    return resized(branches[0] + branches[1], images, True)


def als4gan(w, images, classes, blocks=RESNET26):
    stem = plain_stem(w, "base.layer1.conv1.conv", "base.layer1.conv1.bn")
    deep = resnet(w, images, blocks, **MSRA, stem=stem, unit=long_names)[3]
    branches = [
        w.conv(deep, f"base.aspp.c{place}", classes, 3, dilation=6 * place + 6, bias=True) for place in range(4)
    ]
    return resized(sum(branches), images, True)
