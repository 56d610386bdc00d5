"""How good models and answers of a run are without masks: agreement with new answers, and among people."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.artifacts.evaluation import Evaluation
from stages.artifacts.rounds import round_of
from stages.artifacts.verify import content_faults
from stages.reporting.forecast import Forecast, forecast
from stages.reporting.measured import in_percent
from stages.reporting.people import Agreed
from stages.runtime.errors import BadInput

TWICE, KNOWN = "answered twice by", "known answers, by"  # titles of the tables of people
LOWEST = 3  # classes that are named with the least agreement


@dataclass(frozen=True)
class Sample:
    """Answers that a model was compared with: the share that it predicted, and its 95 % interval, in %."""

    queries: int
    share: float
    low: float | None
    high: float | None

    @property
    def told(self) -> str:
        interval = "" if self.low is None else f" ({self.low:.0f} to {self.high:.0f})"
        return f"{self.share:.1f}{interval}"


@dataclass(frozen=True)
class OnAnswers:
    """The model of the round before beside the answers of ``round``; it learned from ``answers`` of ``clicks``.

    ``every``: all answers. ``control``: those to queries drawn at random, None without any. ``miou`` of these,
    otherwise of all, with its interval; in %.
    """

    round: int | None
    clicks: float
    answers: int
    every: Sample
    control: Sample | None
    miou: Sample | None

    @property
    def fair(self) -> Sample:
        """The sample that the model is judged by."""
        return self.control or self.every


def read_on_answers(path: Path, checkpoint: str = "last") -> OnAnswers | None:
    """What an evaluation on answers says of the weights ``checkpoint``; None for one on masks, and without them.

    BadInput when it is damaged or was changed.
    """
    if wrong := content_faults(Evaluation(path)):
        raise BadInput(wrong)
    with Evaluation(path) as file:
        checkpoints = file.strings("models/checkpoint")
        if file.attributes.get("measured_at") != "answers" or checkpoint not in checkpoints:
            return None
        row = checkpoints.index(checkpoint)
        queries = file.read("answers/queries").tolist()
        columns = [file.read(f"answers/{name}")[row].tolist() for name in ("share", "low", "high")]
        samples = {
            name: Sample(count, 100 * share, in_percent(low), in_percent(high))
            for name, count, share, low, high in zip(file.strings("answers/sample"), queries, *columns, strict=True)
        }
        miou = float(file.read("miou")[row])
        bounds = [in_percent(float(file.read(f"answers/miou_{name}")[row])) for name in ("low", "high")]
        cost = {name: float(file.read(f"cost/{name}")[row]) for name in ("clicks", "answers")}
    return OnAnswers(
        round=round_of(path),
        clicks=cost["clicks"],
        answers=int(cost["answers"]),
        every=samples["all"],
        control=samples.get("control"),
        miou=None if np.isnan(miou) else Sample(samples.get("control", samples["all"]).queries, 100 * miou, *bounds),
    )


def outlook(measured: Sequence[tuple[float, float]], on_answers: Sequence[OnAnswers]) -> tuple[Forecast | None, str]:
    """What the next round is likely to bring, and in words.

    By mIoU on masks, ``measured`` (clicks, mIoU in %) per round, or without any by the agreement with answers: with
    those to queries drawn at random if all rounds have some, otherwise with all of them.
    """
    if measured:
        costs, values = zip(*measured, strict=True)
        found = forecast(costs, values)
        return found, told(found, len(costs), "mIoU")
    if not on_answers:
        return None, ""
    fair = all(each.control is not None for each in on_answers)
    samples = [each.fair if fair else each.every for each in on_answers]
    errors = [0.0 if each.low is None or each.high is None else (each.high - each.low) / 3.92 for each in samples]
    found = forecast([each.clicks for each in on_answers], [each.share for each in samples], errors)
    what = "agreement with answers drawn at random" if fair else "agreement with answers"
    return found, told(found, len(on_answers), what)


def told(found: Forecast | None, rounds: int, what: str) -> str:
    if found is None:
        return f"next round: too few rounds to tell what it brings ({rounds}; four with rising cost are needed)"
    return found.told(what, "clicks")


def people_table(found: Sequence[Agreed], title: str = "who") -> list[dict[str, Any]]:
    """A row per pair of people or person: queries answered twice, share of equal answers, kappa, worst classes.

    ``title`` is the name of the first column.
    """
    return [
        {
            title: each.who,
            "queries": each.queries,
            "equal": f"{100 * each.share:.1f} %",
            "kappa": "" if each.kappa is None else f"{each.kappa:.2f}",
            "least agreed classes": ", ".join(f"{name} {value:.2f}" for name, value in lowest(each)),
        }
        for each in found
    ]


def lowest(found: Agreed) -> list[tuple[str, float]]:
    """The classes with the lowest kappa, below that of all, the lowest first."""
    known = [(name, value) for name, value in found.classes.items() if value is not None]
    below = [each for each in known if found.kappa is not None and each[1] < found.kappa]
    return sorted(below, key=lambda each: each[1])[:LOWEST]
