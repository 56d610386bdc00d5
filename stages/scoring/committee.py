"""Query by committee: dropout passes of one network as its members."""

from collections.abc import Iterable

import torch
from torch import Tensor

from stages.scoring.logits import means_over
from stages.scoring.measuring import Measure


def soft_vote(passes: Iterable[Tensor], measure: Measure) -> Tensor:
    """Mean over passes of each pass's own uncertainty, not the uncertainty of the mean; logits -> (B,H,W)."""
    (mean,) = means_over(passes, measure)
    return mean


def hard_vote(passes: Iterable[Tensor], measure: Measure, votes: int) -> Tensor:
    """Number of passes that rank a pixel among their ``votes`` best, (B,H,W) f32.

    A fraction below one vote orders pixels with equal votes (their mean uncertainty, squashed into [0, 0.5)).
    """
    ballots: Tensor | None = None
    total: Tensor | None = None
    for logits in passes:
        scores = measure(logits)
        flat = scores.flatten(1)
        best = flat.topk(min(votes, flat.shape[1]), dim=1).indices
        ballot = torch.zeros_like(flat).scatter_(1, best, 1.0).view_as(scores)
        ballots = ballot if ballots is None else ballots + ballot
        total = scores if total is None else total + scores
    if ballots is None or total is None:
        raise ValueError("a committee needs at least one pass")
    return ballots + 0.5 * total / (1 + total)
