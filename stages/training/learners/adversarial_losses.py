"""Learning from unlabelled images with a discriminator of (class map, image) pairs: its inputs, gate and losses.

After Mittal, Tatarchenko & Brox (TPAMI 2021) and Desai & Ghose (WACV 2022); spec als4gan.md section 4, with the
recommended behaviour of its section 7. Real pairs are label maps with their images, fake pairs predictions with theirs.
Losses are computed in f32 at least (f64 stays).

D is the discriminator, G the segmentation network. Nothing here detaches the input of D or freezes D: in the step of G
the caller sets requires_grad of D's parameters to False, in the step of D it detaches the fake pairs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.pixels.void import VOID

# --- input of the discriminator ---------------------------------------------------------------------------------------


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """(B,C,H,W) f32 of labels (B,H,W), integers; 255 = none, with 0 for all classes.

    Raises ValueError for any other label of C or more.
    """
    if bool(((labels >= classes) & (labels != VOID)).any()):  # they would look like pixels without a label
        raise ValueError(f"A label is {classes} or more, but there are only {classes} classes.")
    numbers = torch.arange(classes, dtype=labels.dtype, device=labels.device)
    return (labels.unsqueeze(1) == numbers.view(1, -1, 1, 1)).float()


def pair(classes: Tensor, images: Tensor, valid: Tensor, known: Tensor | None = None) -> Tensor:
    """(B,C+3,H,W) f32 discriminator input: the class map, then the image, both 0 outside the valid area.

    classes (B,C,H,W): probabilities, which pass the gradient on, or `one_hot`; images (B,3,H,W) f32 in [0,1], not
    normalised by a batch (section 7 D8); valid (B,H,W) bool, False in padding, whose softmax would otherwise reveal
    fakes (D7). known (B,H,W) bool: False where the class map is set to 0, see `known_of`.
    """
    shown = valid if known is None else valid & known
    # not a product: 0 times a non-finite prediction is not 0
    visible = torch.where(shown.unsqueeze(1), classes.float(), 0)
    return torch.cat([visible, torch.where(valid.unsqueeze(1), images.float(), 0)], 1)


def known_of(labels: Tensor, valid: Tensor, count: int) -> Tensor:
    """(count,H,W) bool ``known`` for the fakes of a batch: False where a real pair has no label inside its image.

    labels (B,H,W), 255 = none, and valid (B,H,W) bool of the real pairs, B >= 1; fake i takes the holes of real pair
    i mod B. A pixel without a label inside a real image shows the image but no class. Without holes of the same shapes
    in fakes, the discriminator could tell them from real pairs by the holes alone, whatever the prediction. Inside the
    holes G gets no adversarial gradient.
    """
    return ((labels != VOID) | ~valid)[torch.arange(count, device=labels.device) % len(labels)]


# --- the gate ---------------------------------------------------------------------------------------------------------


def accepted(z: Tensor, threshold: float) -> Tensor:
    """(B,) bool: the images whose score z (B,) or (B,1) is above the threshold, strictly.

    z is the discriminator's probability of real, the sigmoid of its score, from a pass in eval mode without gradient
    (section 7 D9).
    """
    return z.reshape(len(z)) > threshold


# --- losses -----------------------------------------------------------------------------------------------------------


def mean_loss(total: Tensor, mass: Tensor) -> Tensor:
    """total / mass, scalars; 0 with a gradient of 0 if the mass, and so the total, is 0 (section 4.2)."""
    # replaces the divisor, not the quotient: the gradient of 0 / 0 would be NaN even if `where` does not choose it
    return total / torch.where(mass > 0, mass, 1)


def self_training_loss(logits: Tensor, accepted: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of -ln p of each pixel's own most likely class, and the number of pixels (i64), for `mean_loss`.

    Over the valid pixels of the accepted images. logits (B,C,H,W), C < 256; accepted (B,) bool; valid (B,H,W) bool. The
    gradient goes through the logits, not through the choice of class. Nothing accepted: 0, 0, and a gradient of 0.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    learned = valid & accepted.view(-1, 1, 1)
    targets = logits.detach().max(1).indices.masked_fill(~learned, VOID)  # ties: the first class
    return F.cross_entropy(logits, targets, ignore_index=VOID, reduction="sum"), learned.sum()


def feature_matching_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Mean over the features of |mean of real - mean of fake|, a scalar; real (R,D), fake (F,D), R and F at least 1.

    The gradient goes to ``fake`` only. It passes through D's parameters on the way to G, so the caller must freeze
    them. Raises ValueError if either has no rows.
    """
    if not len(real) or not len(fake):
        raise ValueError("feature matching needs real and fake pairs")
    real, fake = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in (real.detach(), fake))
    return (real.mean(0) - fake.mean(0)).abs().mean()


def discriminator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """(mean of -ln z over real + mean of -ln(1 - z) over fake) / 2, z = sigmoid(score), a scalar; ln 2 is chance.

    The scores are logits, so that the loss of a confident discriminator is finite, of any shape. Raises ValueError if
    either has no element.
    """
    if not real_scores.numel() or not fake_scores.numel():
        raise ValueError("the discriminator needs real and fake pairs")
    real, fake = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in (real_scores, fake_scores))
    on_real = F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
    return (on_real + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))) / 2


def total_loss(ce: Tensor, fm: Tensor, st: Tensor, fm_weight: float, st_weight: float) -> Tensor:
    """The loss of G, of scalars: cross-entropy + fm_weight * feature matching + st_weight * self-training."""
    return ce + fm_weight * fm + st_weight * st
