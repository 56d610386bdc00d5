"""A measure of several passes with a setting of its own."""

from pydantic import Field

from stages.scoring.measures import PassesSettings, measure


class DisagreementSettings(PassesSettings):
    sharpness: float = Field(1.0, gt=0, description="Power of the spread.")


@measure("disagreement", passes=True, settings=DisagreementSettings)
def disagreement(passes, settings):
    """Largest standard deviation of a class over passes, to the power of the sharpness; -> (B,H,W) f32."""
    total = square = 0
    count = 0
    for logits in passes:
        probability = logits.softmax(1)
        total, square, count = total + probability, square + probability**2, count + 1
    spread = (square / count - (total / count) ** 2).clamp(min=0).sqrt()
    return spread.amax(1) ** settings.sharpness
