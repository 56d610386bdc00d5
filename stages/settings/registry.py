"""Stage name -> settings model: what a recipe may set and the command line offers."""

from stages.settings.annotate import PeopleSettings
from stages.settings.base import StageSettings
from stages.settings.regions import ClusterSettings, ExtractSettings, PseudoLabelSettings
from stages.settings.stages import (
    AnnotateSettings,
    EvaluateSettings,
    ImportSettings,
    PrepareSettings,
    ScoreSettings,
    SelectSettings,
)
from stages.settings.train import TrainSettings

SETTINGS: dict[str, type[StageSettings]] = {
    "prepare": PrepareSettings,
    "extract-superpixels": ExtractSettings,
    "cluster-regions": ClusterSettings,
    "train": TrainSettings,
    "score": ScoreSettings,
    "select": SelectSettings,
    "annotate-simulate": AnnotateSettings,
    "annotate": PeopleSettings,
    "import-answers": ImportSettings,
    "pseudo-label": PseudoLabelSettings,
    "evaluate": EvaluateSettings,
}
