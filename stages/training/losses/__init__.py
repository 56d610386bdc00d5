"""Losses of one class per pixel, one light file each.

A file registers a function; torch is imported inside it:

    from stages.settings.base import PartSettings
    from stages.training.losses import loss

    class SmoothSettings(PartSettings):
        smoothing: float = Field(0.1, ge=0, lt=1, description="Share of the target given to the other classes.")

    @loss("smooth", settings=SmoothSettings)
    def smooth(logits, labels, weights, settings):
        "Cross-entropy with smoothed targets."
        ...
        return total, mass

``logits`` (B,C,H,W) are float32 or float64; ``labels`` (B,H,W) u8, 255 = none; ``weights`` (C,) f32, or None if no
class weights are set; ``settings`` are the loss's own, None if it has none. It returns two scalars: the sum, with
gradient, and the mass. Training descends the sum divided by the mass, both summed over all processes, so that a loss
that sums over pixels becomes the mean over the labelled pixels of the whole batch. Pixels without a label must get a
gradient of exactly 0. Without any label, sum and mass are 0.
"""

from stages.runtime.parts import LOSSES

loss = LOSSES.register
