"""The table of stages, from which commands, plans, recipes, the library and the reference are derived.

Importing it imports neither torch nor any stage; `Stage.run` does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from stages.settings.annotate import PeopleSettings
from stages.settings.annotate_simulate import AnnotateSettings
from stages.settings.base import StageSettings
from stages.settings.cluster_regions import ClusterSettings
from stages.settings.evaluate import EvaluateSettings
from stages.settings.extract_superpixels import ExtractSettings
from stages.settings.import_answers import ImportSettings
from stages.settings.import_labels import ImportLabelsSettings
from stages.settings.import_model import ImportModelSettings
from stages.settings.import_queries import ImportQueriesSettings
from stages.settings.import_regions import ImportRegionsSettings
from stages.settings.predict import PredictSettings
from stages.settings.prepare import PrepareSettings
from stages.settings.pseudo_label import PseudoLabelSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from stages.settings.train import TrainSettings


@dataclass(frozen=True)
class Input:
    """An input of a stage.

    kind: the kind of artifact, several joined by ``|``, or another input (description, folder, answers). positional: an
    argument on the command line, otherwise an option. many: one or more.
    """

    role: str
    kind: str
    help: str
    required: bool = False
    positional: bool = False
    many: bool = False


@dataclass(frozen=True)
class Stage:
    """A command that reads artifacts and writes one.

    writes: the kind of artifact, or file. ending: of its file. torchrun: whether several processes may run it. shards:
    whether processes that know nothing of each other may each do a share of it (--shard).
    plannable: whether a plan can have it as a step. settings_of: another stage, whose settings in recipes and profiles
    are also for this one, as far as it has them.
    """

    name: str
    about: str
    inputs: tuple[Input, ...]
    writes: str
    settings: type[StageSettings] | None
    reads_text: str
    writes_text: str
    ending: str = ".h5"
    output_help: str = "Output file."
    details: str = ""
    torchrun: bool = False
    shards: bool = False
    plannable: bool = True
    settings_of: str = ""

    @property
    def module(self) -> str:
        return f"stages.commands.{self.name.replace('-', '_')}"

    @property
    def run(self) -> Callable[..., Path]:
        """The function of the stage: inputs by role, output, settings, force."""
        return import_module(self.module).run

    @property
    def positional(self) -> tuple[str, ...]:
        return tuple(each.role for each in self.inputs if each.positional)

    @property
    def optional(self) -> tuple[str, ...]:
        return tuple(each.role for each in self.inputs if not each.positional)

    def input(self, role: str) -> Input | None:
        return next((each for each in self.inputs if each.role == role), None)


DATASET = Input("dataset", "dataset", "Dataset written by `prepare`.", required=True, positional=True)
QUERIES = Input("queries", "queries", "Queries to answer.", required=True, positional=True)
LEDGER = Input("annotations", "annotations", "Annotation ledger so far (none in round 0).")
REGIONS = Input("superpixels", "superpixels", "Regions that the scores or queries refer to.")

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "prepare",
            "Check a dataset and pack it into one HDF5 file.",
            (
                Input(
                    "description",
                    "description",
                    "Name of a shipped dataset (camvid, scenes, ...) or path of a TOML file.",
                    required=True,
                    positional=True,
                ),
                Input("root", "folder", "Folder with the files of the dataset."),
            ),
            "dataset",
            PrepareSettings,
            "description and files of a dataset",
            "images, masks if there are any, splits and classes, after checking all of them",
            shards=True,
            plannable=False,
        ),
        Stage(
            "extract-superpixels",
            "Cut images into regions, or merge regions by the predictions of a model.",
            (
                DATASET,
                Input("superpixels", "superpixels", "Base regions to merge (adaptive)."),
                Input("model", "model", "Model whose predictions decide what to merge (adaptive)."),
            ),
            "superpixels",
            ExtractSettings,
            "dataset; to merge: base superpixels and a model",
            "SEEDS, SLIC, LSC, grid or oracle regions, or base regions merged by the predictions of a model",
            shards=True,
        ),
        Stage(
            "import-regions",
            "Use the regions of any other program: numbered maps, or masks as SAM writes them.",
            (
                DATASET,
                Input(
                    "regions",
                    "answers",
                    "A region map per image (.png, .tif, .npy, .pkl), masks (COCO or SAM .json), or folders of them.",
                    required=True,
                    positional=True,
                    many=True,
                ),
            ),
            "superpixels",
            ImportRegionsSettings,
            "dataset, region maps or masks of other programs",
            "regions of [other programs](docs/how-to/other-tools.md#regions-of-other-programs), the rest cut into "
            "superpixels",
            details="Of overlapping masks the smaller one is on top. What no region covers is cut into superpixels "
            "(--rest).",
            plannable=False,
        ),
        Stage(
            "cluster-regions",
            "Cluster regions by pretrained-network features.",
            (
                DATASET,
                Input("superpixels", "superpixels", "Regions to cluster.", required=True, positional=True),
                Input("features", "clusters", "Reuse the features stored in other clusters of these regions."),
            ),
            "clusters",
            ClusterSettings,
            "dataset, superpixels",
            "mini-batch k-means of patch features (VGG16 or any timm network), or random clusters",
        ),
        Stage(
            "train",
            "Train a network on annotations or pseudo-labels.",
            (
                DATASET,
                Input(
                    "labels",
                    "annotations|pseudo_labels",
                    "Annotations or pseudo-labels to learn from.",
                    required=True,
                    positional=True,
                ),
                Input("model", "model", "Model to start from, or to add support heads to."),
            ),
            "model",
            TrainSettings,
            "dataset, annotations or pseudo-labels; optionally a model to start from",
            "last and best weights; training history as CSV and as a plot",
            ending=".safetensors",
            output_help="Output file (.safetensors).",
            details="After a stop, training resumes where it left off and, on a CPU, produces the same bytes.",
            torchrun=True,
        ),
        Stage(
            "import-model",
            "Turn weights that other code wrote into a model.",
            (
                DATASET,
                Input(
                    "weights",
                    "file",
                    "Weights of other code: .pth, .pt, .bin, .safetensors, .npz or a TensorFlow .index.",
                    required=True,
                    positional=True,
                ),
            ),
            "model",
            ImportModelSettings,
            "dataset, a file of weights",
            "a model from the [published code](docs/how-to/published-models.md) of the methods, torchvision or timm",
            ending=".safetensors",
            output_help="Output file (.safetensors).",
            details="Runs no code from the file, and prints which tensors of the network are missing, unexpected or of "
            "another shape.",
            plannable=False,
            settings_of="train",
        ),
        Stage(
            "score",
            "Score every unlabelled pixel, region or image; higher scores are queried first.",
            (
                DATASET,
                Input("model", "model", "Model to score with (not used by measure random)."),
                REGIONS,
                Input("clusters", "clusters", "Clusters of the regions, to divide a budget among."),
                Input(
                    "annotations",
                    "annotations",
                    "Ledger whose pixels region scores exclude, or whose answers are scored (contradiction).",
                ),
            ),
            "scores",
            ScoreSettings,
            "dataset; model, superpixels, clusters and ledger as the settings require",
            "a score per pixel, region or image by any registered measure, with class balance, committee, maturity and "
            "lossiness",
            torchrun=True,
            shards=True,
        ),
        Stage(
            "select",
            "Select the next queries, skipping what was queried before.",
            (
                DATASET,
                Input("scores", "scores", "Scores to rank by.", required=True, positional=True),
                LEDGER,
                REGIONS,
                Input("clusters", "clusters", "Clusters of the regions, whose features spread the queries (k-centre)."),
                Input("gold", "annotations", "Ledger of known answers, a share of which is asked to check people."),
            ),
            "queries",
            SelectSettings,
            "dataset, scores; ledger, superpixels and clusters as the rule requires; known answers",
            "queries of pixels, regions or images by any registered rule, in rank order",
        ),
        Stage(
            "import-queries",
            "Take what another program selected as the next queries.",
            (
                DATASET,
                Input(
                    "selection",
                    "answers",
                    "Pickle, NumPy or text file, or folder of pickles, that names pixels, regions or images.",
                    required=True,
                    positional=True,
                ),
                LEDGER,
                REGIONS,
                Input("order", "file", "Text file with the images in the order of the other program, if not sorted."),
            ),
            "queries",
            ImportQueriesSettings,
            "dataset, selection; ledger so far, superpixels",
            "queries that [other programs](docs/how-to/other-tools.md#published-selections) selected, in their order",
            plannable=False,
        ),
        Stage(
            "annotate-simulate",
            "Answer queries from the ground truth, as an annotator would, and count the cost.",
            (DATASET, QUERIES, LEDGER, REGIONS),
            "annotations",
            AnnotateSettings,
            "dataset, queries; ledger so far, superpixels",
            "the ledger with simulated answers: classes, class sets or masks, annotator errors, cost in clicks and "
            "seconds",
        ),
        Stage(
            "annotate",
            "Answer queries in a browser.",
            (DATASET, QUERIES, LEDGER, REGIONS),
            "annotations",
            PeopleSettings,
            "dataset, queries; ledger so far, superpixels",
            "the ledger with answers given by people in a browser",
            details="Open the printed address. Each answer is saved at once; run the same command again to continue. "
            "The ledger is written when all queries are answered, or on Finish.",
            plannable=False,
        ),
        Stage(
            "export-queries",
            "Write queries for other tools: tables, COCO masks, projects of Label Studio, indexed PNG.",
            (
                DATASET,
                QUERIES,
                REGIONS,
                Input("annotations", "annotations", "Ledger whose answers are filled in."),
                Input("images", "folder", "Folder to write the queried images to, as PNG."),
            ),
            "file",
            None,
            "dataset, queries; superpixels, ledger",
            "queries, open or answered, as CSV, JSON, COCO masks, indexed PNG or names of images",
            output_help="Output, by its ending: .csv, .json, .coco.json, .labelstudio (a project of Label Studio), or "
            "none for a folder of PNG; for queries of images also .npy and .txt; for other programs .points.pkl, "
            ".points.npy, .regions.pkl, .stride-NUMBER.pkl and .ranked.pkl.",
            details="In a table, the column class takes a class name, void or skip, several classes separated by "
            "semicolons. Shapes get the name of their class.",
            plannable=False,
        ),
        Stage(
            "import-answers",
            "Add answers given in other tools to the ledger; unanswered queries stay open.",
            (
                DATASET,
                QUERIES,
                Input(
                    "answers",
                    "answers",
                    "A table (.csv, .json), shapes (COCO, CVAT, labelme, Label Studio), a PNG mask, folders of either, "
                    "or a record of answered points (.pkl).",
                    required=True,
                    positional=True,
                ),
                LEDGER,
                REGIONS,
            ),
            "annotations",
            ImportSettings,
            "dataset, queries, answers; ledger so far, superpixels",
            "the ledger with [answers given in other tools](docs/how-to/other-tools.md) such as CVAT and Label Studio",
            plannable=False,
        ),
        Stage(
            "import-labels",
            "Start from labels that exist already: points, shapes, masks of any program.",
            (
                DATASET,
                Input(
                    "labels",
                    "answers",
                    "Points (.csv), shapes (labelme, COCO or Label Studio .json, CVAT .xml), masks (.png, .tif), or "
                    "folders of them.",
                    required=True,
                    positional=True,
                    many=True,
                ),
                LEDGER,
                Input("names", "file", "CSV with two columns: label in the files, class of the dataset, void or omit."),
                Input(
                    "images",
                    "folder",
                    "Folder with the original images, if the dataset was resized and the labels do not say their size.",
                ),
            ),
            "annotations",
            ImportLabelsSettings,
            "dataset, labels of other programs; ledger so far",
            "a ledger with [labels that exist already](docs/how-to/other-tools.md#labels-that-exist-already): points, "
            "polygons, partial and whole masks",
            details="The first model is trained on the ledger, and select queries nothing that it labels. Put its name "
            "into run.toml (labels) to start a run from it.",
            plannable=False,
            settings_of="score",
        ),
        Stage(
            "pseudo-label",
            "Turn answers into dense labels, by the predictions of a model or by features.",
            (
                DATASET,
                Input("annotations", "annotations", "Ledger with the answers.", required=True, positional=True),
                Input("model", "model", "Model whose predictions are used, or its features (--features model)."),
                Input(
                    "superpixels",
                    "superpixels",
                    "Regions that the answers refer to, or that take one class each (neighbours).",
                ),
            ),
            "pseudo_labels",
            PseudoLabelSettings,
            "dataset, annotations; model, superpixels",
            "dense labels: sieved regions, prototypes with expansion, arg-max within class sets, gated predictions, "
            "labels spread to similar pixels",
            torchrun=True,
            shards=True,
        ),
        Stage(
            "evaluate",
            "Evaluate models on a split, or on new answers: mIoU, IoU per class, accuracy, confusion.",
            (
                DATASET,
                Input("models", "model", "One or more models.", required=True, positional=True, many=True),
                Input(
                    "annotations",
                    "annotations",
                    "Ledger to evaluate on instead of masks: the answers of its last round, which the models did not "
                    "learn from.",
                ),
            ),
            "evaluation",
            EvaluateSettings,
            "dataset, one or more models; ledger to evaluate on answers",
            "mIoU, IoU per class, accuracy and confusion, also as JSON; flips and scales; the best model of one split, "
            "reported on another; without masks, how often the model before agrees with new answers",
            torchrun=True,
            shards=True,
        ),
        Stage(
            "predict",
            "Write the masks that a model predicts for any images.",
            (
                Input("model", "model", "Model to predict with.", required=True, positional=True),
                Input(
                    "images",
                    "dataset|images",
                    "Image files, folders of images, or datasets written by `prepare`.",
                    required=True,
                    positional=True,
                    many=True,
                ),
                Input("annotations", "annotations", "Ledger whose masks of images are not predicted (--pool)."),
            ),
            "folder",
            PredictSettings,
            "model; images, folders or a dataset",
            "masks at the size of the images as indexed or colour PNG, or GeoTIFF where the image is one; "
            "probabilities, overlays, COCO, a table of the share of each class",
            ending="",
            output_help="Folder for the masks.",
            details="Run the same command again after a stop: masks that are there and up to date are kept.",
            plannable=False,
        ),
    )
}

SETTINGS: dict[str, type[StageSettings]] = {
    name: stage.settings for name, stage in STAGES.items() if stage.settings is not None
}
"""Settings model of each stage that has settings."""
