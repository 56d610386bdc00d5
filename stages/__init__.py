"""Active learning for semantic segmentation as stages over files. Start at `stages.library`.

The names below are loaded when they are first used, so that importing one room of the package loads no other.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.library import (
        annotate,
        annotate_simulate,
        cluster_regions,
        evaluate,
        export_queries,
        extract_superpixels,
        import_answers,
        import_labels,
        import_model,
        import_queries,
        import_regions,
        open_artifact,
        predict,
        prepare,
        pseudo_label,
        score,
        select,
        train,
    )
    from stages.runtime.errors import BadInput, StageFailed, Stopped
    from stages.runtime.parts import ARCHITECTURES, CUTTERS, LOSSES, MEASURES, OBJECTIVES, RULES, load_plugin

__all__ = [
    "ARCHITECTURES",
    "CUTTERS",
    "LOSSES",
    "MEASURES",
    "OBJECTIVES",
    "RULES",
    "BadInput",
    "StageFailed",
    "Stopped",
    "annotate",
    "annotate_simulate",
    "cluster_regions",
    "evaluate",
    "export_queries",
    "extract_superpixels",
    "import_answers",
    "import_labels",
    "import_model",
    "import_queries",
    "import_regions",
    "load_plugin",
    "open_artifact",
    "predict",
    "prepare",
    "pseudo_label",
    "score",
    "select",
    "train",
]

HOMES = {"BadInput": "errors", "StageFailed": "errors", "Stopped": "errors", "load_plugin": "parts"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'stages' has no attribute {name!r}")
    home = HOMES.get(name, "parts" if name.isupper() else "")
    return getattr(import_module(f"stages.runtime.{home}" if home else "stages.library"), name)
