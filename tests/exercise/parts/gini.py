"""A measure: one minus the sum of squared probabilities."""

from stages.scoring.measures import measure


@measure("gini")
def gini(logits):
    """1 - sum p^2, in [0, 1 - 1/C]; (B,C,H,W) f32 -> (B,H,W) f32."""
    return 1 - logits.softmax(1).square().sum(1)
