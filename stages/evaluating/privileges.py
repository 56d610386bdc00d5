"""Weights chosen by masks that nobody would have: what artifacts record of it as `oracle_privilege`."""

import json
from collections.abc import Collection

from stages.artifacts.dataset import Dataset
from stages.settings.base import StageSettings, fields_of
from stages.settings.evaluate import EvaluateSettings
from stages.settings.score import ScoreSettings


def usual_split(data: Dataset, stage: str, settings: type[StageSettings]) -> str:
    """The split that ``stage`` works on unless told otherwise: what the dataset says, else the default."""
    defaults = json.loads(data.attributes.get("defaults", "{}"))
    (_, field), *_ = fields_of(settings)["split"]
    return str(defaults.get(stage, {}).get("split", field.default))


def choosing_privileges(
    data: Dataset, split: str, pool: Collection[str] | None = None, reported: str | None = None
) -> list[str]:
    """What is privileged about choosing weights on ``split``, in words.

    ``pool`` are the splits that answers were bought in, ``reported`` is the split that is reported; None stands for the
    usual ones of the dataset.
    """
    pool = [usual_split(data, "score", ScoreSettings)] if pool is None else pool
    reported = usual_split(data, "evaluate", EvaluateSettings) if reported is None else reported
    found = [f"weights chosen on masks of the pool (split {split})"] if split in pool else []
    return found + ([f"weights chosen on the reported split ({split})"] if split == reported else [])


def recorded_privilege(privileges: Collection[str]) -> dict[str, str]:
    """The attribute to record, none without a privilege: so artifacts without one keep their digest."""
    return {"oracle_privilege": "; ".join(dict.fromkeys(privileges))} if privileges else {}
