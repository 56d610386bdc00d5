"""The settings of `train`; those of one objective are in its file in stages/training/objectives."""

from typing import Literal, Self

from pydantic import Field, model_validator

from stages.runtime.parts import ARCHITECTURES, OBJECTIVES, Part
from stages.settings.base import EXECUTION, Not, PartSettings, Settings, StageSettings, chosen, group, part_group
from stages.settings.common import Checkpoint, ComputeSettings, EvaluationSize, Undefined
from stages.settings.network import NetworkSettings


class MomentumSettings(Settings):
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum.")


class PolySettings(Settings):
    poly_power: float = Field(0.9, gt=0, description="Power of the schedule.")


class MilestoneSettings(Settings):
    milestones: tuple[int, ...] = Field((21, 41), description="Epochs after which the learning rate drops.")
    milestone_factor: float = Field(0.1, gt=0, le=1, description="Factor on the learning rate at each milestone.")


class FrozenSettings(Settings):
    views: int = Field(
        8,
        ge=0,
        description="Fixed augmented views of each image, the first without augmentation, whose features are computed "
        "once; 0: a new augmentation in each epoch, and no features are kept.",
    )
    features: str | None = Field(
        None,
        min_length=1,
        description="Folder that keeps the features for later rounds and runs with the same backbone, weights, images, "
        "size and augmentation; none: they are kept in memory until the training ends.",
        json_schema_extra=EXECUTION,
    )
    features_gb: float = Field(
        20.0,
        gt=0,
        description="Largest size of that folder in GB. What was unused for longest is removed first.",
        json_schema_extra=EXECUTION,
    )


class OptimisationSettings(Settings):
    """Epochs, batches, learning rates and batch normalisation."""

    epochs: int = Field(50, ge=1, description="Passes over the images with a label.")
    steps_per_epoch: int | None = Field(
        None,
        ge=1,
        description="Steps per epoch; none: one pass over the images with a label (adversarial: over those without a "
        "mask).",
    )
    batch: int = Field(4, ge=2, description="Images per step, over all processes together.")
    optimiser: Literal["adam", "adamw", "sgd"] = Field("adam", description="Optimiser.")
    backbone_lr: float = Field(5e-5, ge=0, description="Peak learning rate of the pretrained backbone.")
    head_lr: float = Field(5e-4, ge=0, description="Peak learning rate of all other parameters.")
    bias_factor: float = Field(
        1.0,
        gt=0,
        description="Factor on the learning rate of the biases of the head's convolutions; other than 1: no weight "
        "decay on them.",
    )
    weight_decay: float = Field(2e-4, ge=0, description="Weight decay: L2 in Adam and SGD, decoupled in AdamW.")
    decayed: Literal["all", "dense"] = Field(
        "all", description="Parameters with weight decay: all, or the weights of convolutions that are not depthwise."
    )
    schedule: Literal["constant", "poly", "milestones", "one-cycle"] = Field(
        "poly", description="Learning-rate schedule."
    )
    lr_floor: float = Field(0.0, ge=0, description="Smallest learning rate.")
    freeze_norm: bool = Field(False, description="Use the pretrained statistics of batch normalisation unchanged.")
    norm_momentum: float | None = Field(
        None, gt=0, le=1, description="Weight of a batch in the running statistics of batch normalisation; none: 0.1."
    )
    learn_norm: bool = Field(
        True, description="Learn scale and shift of batch normalisation; otherwise they keep their initial values."
    )
    freeze: Literal["none", "backbone"] = Field(
        "none",
        description="backbone: only the head learns. The weights and statistics of the backbone stay, and its features "
        "are computed once per view of an image.",
    )
    frozen: FrozenSettings | None = group(freeze="backbone")
    sgd: MomentumSettings | None = group(optimiser="sgd")
    poly: PolySettings | None = group(schedule="poly")
    drops: MilestoneSettings | None = group(schedule="milestones")


class JitterSettings(Settings):
    jitter_strength: tuple[float, float, float, float] = Field(
        (0.8, 0.8, 0.8, 0.2), description="Brightness, contrast, saturation and hue strength of the jitter."
    )


class BlurSettings(Settings):
    blur_sigma: tuple[float, float] = Field((0.1, 2.0), description="Range of the blur's sigma in pixels.")
    blur_kernel: Literal["image", "sigma"] = Field(
        "image",
        description="Side of the blur's kernel: a tenth of the image's, or 3.3 sigma (rounded down, then up to odd; "
        "below 0.607 nothing is blurred).",
    )


class AugmentationSettings(Settings):
    """Augmentation of the training images."""

    crop: tuple[int, int] | None = Field(None, description="height,width of the crop; none: the largest image.")
    scale_range: tuple[float, float] = Field((0.5, 2.0), description="Range of the random scale.")
    scale_step: float = Field(
        0.0, ge=0, description="Step between random scales, from the lowest up, such as 0.25; 0: any scale."
    )
    flip: float = Field(0.5, ge=0, le=1, description="Probability of a left-right flip.")
    rotation: int = Field(0, ge=0, le=180, description="Largest rotation in whole degrees, either way.")
    jitter: float = Field(0.8, ge=0, le=1, description="Probability of colour jitter.")
    grey: float = Field(0.2, ge=0, le=1, description="Probability of a grey image.")
    blur: float = Field(0.5, ge=0, le=1, description="Probability of Gaussian blur.")
    jittered: JitterSettings | None = group(jitter=Not("0"))
    blurred: BlurSettings | None = group(blur=Not("0"))

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        low, high = self.scale_range
        if not 0 < low <= high:
            raise ValueError("scale_range must be two positive numbers, the smaller first")
        if self.blurred is not None and not 0 <= self.blurred.blur_sigma[0] <= self.blurred.blur_sigma[1]:
            raise ValueError("blur_sigma must be two numbers, not negative, the smaller first")
        if self.crop is not None and min(self.crop) < 1:
            raise ValueError("crop must be two positive numbers: height,width")
        if self.jittered is not None:
            strengths = self.jittered.jitter_strength
            if any(strength < 0 for strength in strengths) or strengths[3] > 0.5:
                raise ValueError("jitter_strength must not be negative, and hue not above 0.5")
        return self


class ValidationSettings(Settings):
    """When to validate during training."""

    validation_split: str = Field("val", description="Split for validation; skipped if it has no ground truth.")
    validate_at: EvaluationSize = Field("dataset", description="Size of images and masks, as --at of `evaluate`.")
    validate_crop: int | None = Field(
        None, ge=8, description="Side of the central crop, as --crop of `evaluate`; none: whole images."
    )
    validate_undefined: Undefined = Field(
        "skip", description="Classes without a pixel in the masks, as --undefined of `evaluate`."
    )
    validate_every: int = Field(1, ge=1, description="Epochs between validations; the last epoch always validates.")
    patience: int = Field(0, ge=0, description="Stop after this many validations without improvement; 0: never.")


class ExecutionSettings(ComputeSettings):
    """Where and how fast training runs."""

    workers: int | None = Field(
        None, ge=0, description="Loader processes; none: 0 on CPU, up to 8 on CUDA.", json_schema_extra=EXECUTION
    )
    compile: bool = Field(
        False,
        description="Compile what learns with torch.compile. It takes a minute or more at each start, needs a C++ "
        "compiler (on CUDA also Triton), and changes the last bits.",
        json_schema_extra=EXECUTION,
    )
    checkpoint_seconds: float = Field(
        60.0, ge=0, description="Seconds between resume checkpoints.", json_schema_extra=EXECUTION
    )
    tensorboard: bool = Field(
        False,
        description="Write the history also as event files for TensorBoard, to events/NAME beside the model.",
        json_schema_extra=EXECUTION,
    )


class ClassWeightSettings(PartSettings):
    """Base of the settings of objectives whose cross-entropy can weigh classes."""

    class_weights: Literal["none", "complement", "inverse"] = Field(
        "none", description="Class weights of the loss from label counts: 1 - share, or 1 / share (mean 1)."
    )


class TrainSettings(StageSettings):
    """Settings of `train`."""

    objective: str = chosen(OBJECTIVES, "labels", "What to learn from and what to minimise.")
    checkpoint: Checkpoint = Field("last", description="Weights of --model to start from.")
    cold_start: bool = Field(False, description="Ignore --model and start from the initial weights of the network.")
    learn_void: bool = Field(
        False, description="Learn void from the answers as an extra class, which is excluded from final predictions."
    )
    normalisation: Literal["backbone", "imagenet", "dataset"] = Field(
        "backbone",
        description="Mean and standard deviation for the input: of the pretrained backbone, ImageNet or the dataset.",
    )
    of_objective: PartSettings | None = part_group("objective")
    network: NetworkSettings = group()
    optimisation: OptimisationSettings = group()
    augmentation: AugmentationSettings = group()
    validation: ValidationSettings = group()
    execution: ExecutionSettings = group()

    @property
    def reads_labels(self) -> Part:
        """The objective that reads the labels: ``objective``, or the one that it wraps."""
        own = OBJECTIVES[self.objective]
        return OBJECTIVES[getattr(self.of_objective, own.facts["wraps"])] if own.facts["wraps"] else own

    @model_validator(mode="after")
    def _predict_alike(self) -> Self:
        learned = OBJECTIVES[self.objective].facts["predicts"]
        predicted = ARCHITECTURES[self.network.architecture].facts["predicts"]
        if learned != predicted:
            raise ValueError(
                f"objective {self.objective} learns classes of {learned}, and architecture {self.network.architecture} "
                f"predicts classes of {predicted}; set an architecture that predicts classes of {learned}"
            )
        return self

    @model_validator(mode="after")
    def _may_freeze(self) -> Self:
        facts, frozen = OBJECTIVES[self.objective].facts, self.optimisation.frozen
        if frozen is not None and facts["support"]:
            raise ValueError(f"objective {self.objective} trains beside a frozen network anyway; leave out freeze")
        if frozen is not None and frozen.views and not facts["features"]:
            raise ValueError(
                f"objective {self.objective} needs a new augmentation in each epoch, so no features of fixed views can "
                "be kept; set views 0"
            )
        return self

    @property
    def keeps_features(self) -> bool:
        """Whether features of a frozen backbone are kept, and no folder is chosen for them."""
        frozen = self.optimisation.frozen
        return frozen is not None and frozen.views > 0 and frozen.features is None
