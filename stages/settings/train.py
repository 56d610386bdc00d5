"""The settings of `train`: network, optimisation, augmentation, validation, execution."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stages.settings.base import EXECUTION, StageSettings
from stages.settings.network import NetworkSettings
from stages.settings.stages import Checkpoint, Device, Precision

Loss = Annotated[float, Field(ge=0)]


class TrainSettings(NetworkSettings, StageSettings):
    """Settings of `train`; the network's own settings are inherited."""

    objective: Literal["labels", "class-sets", "support", "image-classes", "adversarial"] = Field(
        "labels",
        description="Learn from one class per pixel, or from the classes named together for regions; train support "
        "heads beside the frozen network of --model: side classifiers, their mixing, and where its loss is high; "
        "learn the classes of whole images (architecture classifier); or learn from full masks and all the images "
        "without one, with a discriminator that tells masks from predictions.",
    )
    cold_start: bool = Field(False, description="Leave the weights of --model out and start anew.")
    unlabelled_split: str = Field("train", description="adversarial: the split whose other images have no mask.")
    feature_matching: float = Field(0.1, ge=0, description="adversarial: weight of the feature matching loss.")
    self_training: float = Field(1.0, ge=0, description="adversarial: weight of the loss on accepted predictions.")
    self_training_from: int = Field(1000, ge=0, description="adversarial: steps before that loss counts.")
    gate: float = Field(
        0.6,
        ge=0,
        le=1,
        description="adversarial: a prediction is accepted where the discriminator says more than this.",
    )
    discriminator_lr: float = Field(1e-4, ge=0, description="adversarial: peak learning rate of the discriminator.")
    discriminator_width: int = Field(64, ge=1, description="adversarial: channels of its first convolution.")
    steps_per_epoch: int | None = Field(
        None,
        ge=1,
        description="Steps of an epoch; none: one pass over the images (adversarial: over those without a mask).",
    )
    freeze_norm: bool = Field(
        False, description="Keep batch normalisation as it was pretrained: its statistics are used, not changed."
    )
    bias_factor: float = Field(
        1.0, gt=0, description="Biases of the head learn this times faster than its weights and without weight decay."
    )
    checkpoint: Checkpoint = Field("last", description="Which weights of --model to start from.")
    side_weights: tuple[Loss, Loss, Loss] = Field(
        (0.1, 0.2, 0.3), description="support: weights of the cross-entropies of the three side classifiers."
    )
    side_weight: float = Field(0.5, ge=0, description="support: weight of them together beside the lossiness.")
    frozen_dropout: bool = Field(
        False, description="support: keep dropout in the frozen network, as the public code does; its losses are noisy."
    )
    learn_void: bool = Field(
        False, description="Learn void as a class of its own, where answers say so; it is never predicted as a result."
    )
    single_weight: float = Field(16.0, ge=0, description="class-sets: weight of regions with one class.")
    merged_weight: float = Field(8.0, ge=0, description="class-sets: weight of the merged positive loss.")
    prototype_weight: float = Field(1.0, ge=0, description="class-sets: weight of the prototypical pixel loss.")
    merged_over: Literal["several", "all"] = Field(
        "several", description="class-sets: the merged positive loss is for regions with several classes, or all."
    )
    prototypes_over: Literal["several", "all"] = Field(
        "several", description="class-sets: the prototypical pixel loss is for regions with several classes, or all."
    )
    epochs: int = Field(50, ge=1, description="Passes over the images that carry a label.")
    batch: int = Field(4, ge=2, description="Images per step over all processes together.")
    optimiser: Literal["adam", "adamw", "sgd"] = Field("adam", description="Optimiser.")
    backbone_lr: float = Field(5e-5, ge=0, description="Peak learning rate of the pretrained backbone.")
    head_lr: float = Field(5e-4, ge=0, description="Peak learning rate of everything else.")
    weight_decay: float = Field(2e-4, ge=0, description="L2 inside Adam and SGD, decoupled in AdamW.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD.")
    schedule: Literal["constant", "poly", "milestones", "one-cycle"] = Field(
        "poly", description="Course of the learning rate over the training."
    )
    lr_floor: float = Field(0.0, ge=0, description="No learning rate falls below this.")
    poly_power: float = Field(0.9, gt=0, description="Power of the poly schedule.")
    milestones: tuple[int, ...] = Field((21, 41), description="Epochs after which the rate drops (milestones).")
    milestone_factor: float = Field(0.1, gt=0, le=1, description="Factor at each milestone.")
    norm_momentum: float | None = Field(
        None, gt=0, le=1, description="Weight of a batch in the running statistics of batch normalisation; none: 0.1."
    )
    class_weights: Literal["none", "complement", "inverse"] = Field(
        "none", description="Weights of the cross-entropy from label counts: 1 - share, or 1 / share (mean 1)."
    )

    crop: tuple[int, int] | None = Field(
        None, description="Height,width of the training crop; none: the largest image."
    )
    scale_range: tuple[float, float] = Field((0.5, 2.0), description="Random scale, drawn uniformly between these.")
    scale_step: float = Field(
        0.0, ge=0, description="Draw only scales a multiple of this above the lowest, such as 0.25; 0: any."
    )
    flip: float = Field(0.5, ge=0, le=1, description="Probability of a left-right flip.")
    jitter: float = Field(0.8, ge=0, le=1, description="Probability of colour jitter.")
    jitter_strength: tuple[float, float, float, float] = Field(
        (0.8, 0.8, 0.8, 0.2), description="Brightness, contrast, saturation and hue strength of the jitter."
    )
    grey: float = Field(0.2, ge=0, le=1, description="Probability of turning the image grey.")
    blur: float = Field(0.5, ge=0, le=1, description="Probability of Gaussian blur.")
    blur_sigma: tuple[float, float] = Field(
        (0.1, 2.0), description="Sigma of the blur in pixels, uniform between these."
    )
    blur_kernel: Literal["image", "sigma"] = Field(
        "image",
        description="Side of the blur's kernel: a tenth of the image's, or 3.3 sigma (rounded down, then up to odd; "
        "below 0.607 nothing is blurred).",
    )
    rotation: int = Field(
        0, ge=0, le=180, description="Rotate by a whole number of degrees, uniform up to this both ways."
    )
    normalisation: Literal["backbone", "imagenet", "dataset"] = Field(
        "backbone",
        description="Input mean and deviation: what the pretrained backbone expects, ImageNet's, the data's.",
    )

    validation_split: str = Field("val", description="Split for validation; skipped where it has no masks.")
    validate_every: int = Field(1, ge=1, description="Epochs between validations; the last epoch always validates.")
    patience: int = Field(0, ge=0, description="Stop after this many validations without a better mIoU; 0: never.")

    device: Device = Field("auto", description="Where training runs.", json_schema_extra=EXECUTION)
    precision: Precision = Field("auto", description="Forward pass; auto is bfloat16 on CUDA and float32 elsewhere.")
    workers: int | None = Field(
        None, ge=0, description="Loader processes; none: 0 on CPU, up to 8 on CUDA.", json_schema_extra=EXECUTION
    )
    checkpoint_seconds: float = Field(
        60.0, ge=0, description="Time between resume checkpoints.", json_schema_extra=EXECUTION
    )

    @model_validator(mode="after")
    def _classifier(self) -> Self:
        if (self.objective == "image-classes") != (self.architecture == "classifier"):
            raise ValueError("the objective image-classes and the architecture classifier belong together; set both")
        return self

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        low, high = self.scale_range
        if not 0 < low <= high:
            raise ValueError("scale_range must be two positive numbers, the smaller first")
        if not 0 <= self.blur_sigma[0] <= self.blur_sigma[1]:
            raise ValueError("blur_sigma must be two numbers, not negative, the smaller first")
        if self.crop is not None and min(self.crop) < 1:
            raise ValueError("crop must be two positive numbers: height,width")
        if any(strength < 0 for strength in self.jitter_strength) or self.jitter_strength[3] > 0.5:
            raise ValueError("jitter_strength must not be negative, and hue not above 0.5")
        return self
