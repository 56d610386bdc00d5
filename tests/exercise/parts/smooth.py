"""A loss: cross-entropy with smoothed targets."""

from pydantic import Field

from stages.settings.base import PartSettings
from stages.training.losses import loss


class SmoothSettings(PartSettings):
    smoothing: float = Field(0.1, ge=0, lt=1, description="Share of the target given to all classes alike.")


@loss("smooth", settings=SmoothSettings)
def smooth(logits, labels, weights, settings):
    """Cross-entropy with smoothed targets, summed over the labelled pixels, and their number."""
    import torch.nn.functional as F

    targets, smoothing = labels.long(), settings.smoothing
    total = F.cross_entropy(logits, targets, weights, ignore_index=255, reduction="sum", label_smoothing=smoothing)
    return total, (labels != 255).sum()
