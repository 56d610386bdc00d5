"""The settings of every stage but `train`, whose model is long enough for a file of its own."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stages.settings.base import EXECUTION, StageSettings

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]
Checkpoint = Literal["last", "best"]
Side = Annotated[int, Field(ge=8)]
MOST_SECONDS = 1e9
LARGEST_LEGACY_SEED = 4_000_000_000  # NumPy's legacy streams take 32 bits, and the number of the round is added


class PrepareSettings(StageSettings):
    """Settings of `prepare`."""

    scale: float | None = Field(None, gt=0, le=4, description="Factor on both sides of every image and mask.")
    long_side: int | None = Field(
        None, ge=8, description="Length in pixels of the longer side; the other side keeps the aspect (rounded down)."
    )
    size: tuple[Side, Side] | None = Field(
        None, description="Exact height,width of every image and mask; the aspect is not kept."
    )
    workers: int = Field(0, ge=0, description="Decoding threads; 0 means one per core.", json_schema_extra=EXECUTION)

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if sum(value is not None for value in (self.scale, self.long_side, self.size)) > 1:
            raise ValueError("give either scale or long_side or size, only one of them")
        return self


class NetworkUse(StageSettings):
    """What every stage needs that runs a trained network over images."""

    batch: int = Field(4, ge=1, description="Images per forward pass.", json_schema_extra=EXECUTION)
    device: Device = Field("auto", description="Where the network runs.", json_schema_extra=EXECUTION)
    precision: Precision = Field("auto", description="Forward pass; auto is bfloat16 on CUDA and float32 elsewhere.")


class ScoreSettings(NetworkUse):
    """Settings of `score`."""

    unit: Literal["pixel", "region", "image"] = Field(
        "pixel", description="What gets a score; regions and images get the mean over their pixels."
    )
    measure: str = Field(
        "margin",
        description="random, least-confidence, margin, entropy or bvsb; for several classes per image binary-entropy "
        "or binary-margin; higher scores are asked sooner.",
    )
    checkpoint: Checkpoint = Field("last", description="Which weights of the model are used.")
    split: str = Field("train", description="The split whose images are scored.")
    committee: int = Field(0, ge=0, description="Passes with dropout switched on; 0 means one plain pass.")
    vote: Literal["soft", "hard"] = Field(
        "soft", description="Committee: mean of the passes' scores, or votes of each pass for its best pixels."
    )
    votes_per_pass: int = Field(10, ge=1, description="Hard vote: pixels each pass votes for.")
    input_scale: float = Field(1.0, gt=0, le=4, description="Scale of the images that the network sees.")
    maturity: Literal["none", "pixel", "image"] = Field(
        "none",
        description="Add the divergence between the network's prediction and those of its side classifiers: at every "
        "pixel (Jensen-Shannon), or one number per image and classifier as the public code does. Needs support heads.",
    )
    lossiness: bool = Field(False, description="Multiply by exp(predicted lossiness). Needs support heads.")
    grid_scale: float = Field(
        1.0, gt=0, le=1, description="Pixels: queries live on a grid of the image's sides times this, rounded down."
    )
    keep_features: bool = Field(
        False, description="Images, by a classifier of images: also keep its features, which the rule k-centre needs."
    )
    region_score: Literal["mean", "highest"] = Field(
        "mean",
        description="Regions: mean of the measure over the pixels, or that of the best pixel (random: the best of a "
        "number per pixel, so that large regions come sooner).",
    )
    best_pixel: bool = Field(
        False, description="Regions: also keep where each one's best pixel is, which select --answer pixel asks about."
    )
    dtype: Literal["float32", "float16"] = Field("float32", description="How score maps are stored.")
    class_balance: Literal["none", "regions", "pixels", "cluster", "probability"] = Field(
        "none",
        description="Regions: weigh the score by exp(-share) of the predicted class, its share counted in regions "
        "(ClassBal, Cai et al. 2021), in pixels (Kim et al. 2023), or in the regions of the same cluster (Yazdani et "
        "al. 2023); or every pixel by 1 / (1 + strength x mean "
        "probability of its class)^2 (PixBal, Hwang et al. 2023).",
    )
    rescale: bool = Field(
        False,
        description="Regions, but with balance probability: bring the measure to 0 to 1 over all regions before it is "
        "weighed, as the baselines of Hwang et al. 2023 do.",
    )
    balance_strength: float = Field(6.0, ge=0, description="Strength of the balance by probability.")
    void_output: Literal["drop", "keep", "ban"] = Field(
        "drop",
        description="A network that learned void: leave void out of the prediction, keep it, or keep it and give "
        "regions predicted void the score 0.",
    )
    share_scale: float = Field(1.0, ge=0, description="Factor on the share; the public code of Kim et al. has 0.25.")

    @property
    def needs_support(self) -> bool:
        """Whether only a network with support heads can score like this."""
        return self.measure != "random" and (self.lossiness or self.maturity != "none")

    @model_validator(mode="after")
    def _committee_needs_a_measure(self) -> Self:
        if self.committee and self.measure == "random":
            raise ValueError("a committee needs a measure other than random")
        if self.committee and self.unit == "region":
            raise ValueError("a committee scores pixels or images, not regions")
        if self.committee and self.needs_support:
            raise ValueError("a committee has no support heads; leave maturity and lossiness out")
        if (self.best_pixel or self.region_score == "highest") and self.unit != "region":
            raise ValueError("best_pixel and region_score are about regions; set unit region")
        if self.best_pixel and self.measure == "random" and self.region_score == "mean":
            raise ValueError("random numbers per region have no best pixel; set region_score highest")
        if self.region_score == "highest" and self.class_balance == "probability":
            raise ValueError("class_balance probability weighs every pixel; set region_score mean")
        if self.grid_scale != 1 and self.unit != "pixel":
            raise ValueError("grid_scale is about pixels; regions bring the grid they were cut on")
        if self.class_balance != "none" and (self.unit != "region" or self.measure == "random"):
            raise ValueError("class_balance weighs the regions' scores by a measure; set unit region, or balance none")
        return self


class SelectSettings(StageSettings):
    """Settings of `select`."""

    rule: Literal["pool", "reverse-pool", "top", "uniform", "clusters", "k-centre", "answered"] = Field(
        "pool",
        description="pool: draw from the highest-scored share; reverse-pool: highest-scored of a drawn share; "
        "top: highest-scored; uniform: draw from all, whatever the scores; clusters (answer pixel): the highest-scored "
        "of every cluster, by the cluster's share of the budget; k-centre (images): of the highest-scored share those "
        "farthest from what was asked; answered (images): those whose class was answered before, but for the seed set.",
    )
    scope: Literal["image", "dataset"] = Field("image", description="Pixels: rank within each image or over all.")
    budget: int = Field(
        10,
        ge=0,
        description="Pixels: queries per image (scope dataset: on average). Regions and images: in all, 0 = all.",
    )
    answer: Literal["dominant", "class-set", "precise", "pixel"] = Field(
        "dominant",
        description="Regions: ask for the dominant class, all classes, exact labels of every pixel, or the class of "
        "the best pixel (queries of pixels, one per region; the budget is that of pixels).",
    )
    image_answer: Literal["mask", "class", "classes"] = Field(
        "mask", description="Images: ask for the full mask, the class of the image, or all classes in it."
    )
    ratio: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Images: the budget is this share of all images, rounded up, whatever --budget says.",
    )
    seed_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Images, with ratio: ask this share of the budget in round 0 and then query_share of that in every "
        "round, until the budget is spent beside the seed set; none: all at once.",
    )
    query_share: float = Field(
        0.5, gt=0, le=1, description="Images, with seed_share: images per round over the seed set."
    )
    seed_in_selection: bool = Field(False, description="Images, with seed_share: the seed set counts for the budget.")
    cluster_score: Literal["reference", "pixel-mean", "region-mean"] = Field(
        "reference",
        description="clusters: mean score of the regions over their mean size, as the public code has it; mean over "
        "pixels; mean over regions.",
    )
    remainder: Literal["reference", "largest"] = Field(
        "reference",
        description="clusters: what rounding down leaves of the budget goes to the first cluster with the fewest, or "
        "to the largest remainders.",
    )
    redistribution: Literal["best", "reference"] = Field(
        "best",
        description="clusters: what a cluster cannot take in an image goes to the best clusters that can, or is dealt "
        "out and clipped again and again, as the public code does.",
    )
    exclude_queried: float = Field(
        0.5, ge=0, le=1, description="Regions: leave out those of which more than this share was asked before; 1: none."
    )
    fraction: float = Field(0.05, gt=0, le=1, description="The share that the pool rules draw from, or draw.")
    image_share: float = Field(
        1.0, gt=0, le=1, description="Pixels, scope image: spend the whole budget on this share of the images."
    )
    stream: Literal["named", "legacy"] = Field(
        "named",
        description="Random draws: a stream per image, or one legacy NumPy stream over all images in order.",
    )
    exclude_void: bool = Field(
        False,
        description="Pixels: never ask about void. Simulation only: reads the ground truth, which no annotator has.",
    )

    @model_validator(mode="after")
    def _clusters_ask_pixels(self) -> Self:
        if self.rule == "clusters" and (self.answer != "pixel" or self.scope != "image"):
            raise ValueError("the rule clusters asks about pixels of every image; set answer pixel and scope image")
        return self

    @model_validator(mode="after")
    def _legacy_seed(self) -> Self:
        if self.stream == "legacy" and self.seed > LARGEST_LEGACY_SEED:
            raise ValueError(f"the legacy stream takes no seed above {LARGEST_LEGACY_SEED}")
        return self


class AnnotationCost(StageSettings):
    """What answers cost where nobody measured it."""

    seconds_per_click: float = Field(
        1.0,
        ge=0,
        le=MOST_SECONDS,
        description="Annotation seconds of one click (one pixel, one dominant class, one polygon vertex).",
    )
    clicks_per_mask: float = Field(
        1713.0,
        ge=0,
        le=1e9,
        description="Polygon clicks of one full mask; 1713 is the Cityscapes mean (Cai et al. 2021, 5 095 159 / 2975).",
    )
    seconds_per_mask: float = Field(
        5400.0,
        ge=0,
        le=MOST_SECONDS,
        description="Annotation seconds of one full mask; 1.5 h on Cityscapes (Cordts et al. 2016).",
    )


class AnnotateSettings(AnnotationCost):
    """Settings of `annotate-simulate`."""

    error_rate: float = Field(
        0.0, ge=0, le=1, description="Share of the classes named per image and round that are wrong."
    )
    error_from_round: int = Field(1, ge=0, description="First round in which the annotator errs.")
    click_budget: int | None = Field(
        None, ge=1, description="Answer in rank order until this many clicks are spent; none: answer every query."
    )
    click_stop: Literal["reached", "exceeded"] = Field(
        "reached", description="Stop once the click budget is reached, or exceeded (as published for class sets)."
    )
    void_policy: Literal["count", "exclude"] = Field(
        "count",
        description="Dominant class: void votes like a class, or only where a region holds nothing else. Class sets: "
        "void is named like a class, or never.",
    )
    presence_share: float = Field(
        0.05, ge=0, le=1, description="All classes in an image: a class is there from this share of its pixels on."
    )
    trim: int = Field(
        5, ge=0, description="Class sets: side of the square around borders that is not looked at; odd, or 0."
    )

    @model_validator(mode="after")
    def _odd_trim(self) -> Self:
        if self.trim and self.trim % 2 == 0:
            raise ValueError("trim must be odd (its square is centred on the border), or 0 for none")
        return self


class ImportSettings(AnnotationCost):
    """Settings of `import-answers`."""

    annotator: str = Field("person", min_length=1, description="Who answered, where the answers do not say.")
    resize: bool = Field(
        False, description="Resize masks of another size to that of the dataset's images, as prepare resizes masks."
    )


class EvaluateSettings(NetworkUse):
    """Settings of `evaluate`."""

    split: str = Field("test", description="The split that is evaluated.")
    checkpoint: Literal["last", "best", "both"] = Field("both", description="Which weights of each model.")
    choose_on: str | None = Field(
        None,
        description="Choose among all weights given on this split first, and evaluate the chosen alone on the other.",
    )
    flip: bool = Field(False, description="Average the probabilities with those of the mirrored image.")
    scales: tuple[float, ...] = Field((1.0,), min_length=1, description="Average over these input scales, e.g. 0.75,1.")

    @model_validator(mode="after")
    def _positive_scales(self) -> Self:
        if any(not 0.1 <= scale <= 8 for scale in self.scales):
            raise ValueError("scales must lie between 0.1 and 8")
        if self.choose_on == self.split:
            raise ValueError("choose_on must be another split than the one that is reported")
        return self
