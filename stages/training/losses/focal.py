"""Focal loss (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017)."""

from typing import TYPE_CHECKING

from pydantic import Field

from stages.pixels.void import VOID
from stages.settings.base import PartSettings
from stages.training.losses import loss

if TYPE_CHECKING:
    from torch import Tensor


class FocalSettings(PartSettings):
    gamma: float = Field(2.0, ge=0, description="Focus on pixels with a wrong prediction; 0: cross-entropy.")


@loss("focal", settings=FocalSettings)
def focal(
    logits: "Tensor", labels: "Tensor", weights: "Tensor | None", settings: FocalSettings
) -> "tuple[Tensor, Tensor]":
    """Focal loss: cross-entropy with less weight on pixels that are predicted well.

    Returns the sum of -w_y (1 - p_y)^gamma ln p_y over the labelled pixels, and the sum of their weights (without
    weights: their number), as cross-entropy does; the class weights take the place of the paper's alpha.
    """
    import torch
    import torch.nn.functional as F

    labelled = labels != VOID
    targets = labels[labelled].long()
    surprise = F.cross_entropy(logits.permute(0, 2, 3, 1)[labelled], targets, reduction="none")  # -ln p
    # the slope of a power below 1 is infinite at 0, and 0 times infinity is NaN
    doubt = (-torch.expm1(-surprise)).clamp(min=1e-12)  # 1 - p
    factors = torch.ones_like(surprise) if weights is None else weights[targets]
    return (factors * doubt**settings.gamma * surprise).sum(), factors.sum()
