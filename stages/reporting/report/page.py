"""The page: the collected data as tables and curves in one HTML file."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from stages.reporting.measured import Measured
from stages.reporting.report import heat
from stages.reporting.report.answers import TOLD, Asked, acceptance_of, asked_of, clusters_of, pseudo_labels_of
from stages.reporting.report.charts import Series, line_chart, swatch
from stages.reporting.report.collect import Run
from stages.reporting.report.gallery import Gallery, round_name
from stages.reporting.report.groups import Group, Point, Spread
from stages.reporting.report.heat import HeatCell, heat_cell
from stages.reporting.report.provenance import GONE, STALE, chain, origins
from stages.reporting.report.without_masks import on_top, without_masks
from stages.reporting.verdict import Verdict, datasets_of, judge

TEMPLATES = Path(__file__).parent / "template"
GOAL = 0.95  # of full supervision
MANY_CLASSES = 13  # from this number on, column titles are vertical
LONGEST_SETTING = 160  # characters
# Name, length in seconds, and longest time in seconds for which an axis uses it
TIME_UNITS = (("s", 1.0, 180.0), ("min", 60.0, 10800.0), ("h", 3600.0, float("inf")))
FULL_SWATCH = Markup(
    '<svg class="swatch" viewBox="0 0 30 16" aria-hidden="true"><line class="goal" x1="1" x2="29" y1="8" y2="8"/></svg>'
)


@dataclass(frozen=True)
class Report:
    """The contents of the page.

    `full` is the result on full masks, `galleries` are keyed by run name, `left_out` says what they do not show.
    """

    created: str
    version: str
    command: str
    checkpoint: str
    runs: list[Run]
    groups: list[Group]
    full: Measured | None
    galleries: Mapping[str, Gallery]
    left_out: str

    @property
    def measured(self) -> list[Group]:
        return [group for group in self.groups if group.points]

    @property
    def split(self) -> str:
        return next((entry.split for run in self.runs for entry in run.measured), "")

    def style(self, group: Group) -> int:
        return self.groups.index(group)


def page_text(report: Report) -> str:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"whole": whole, "fixed": fixed, "setting": setting, "round_name": round_name, "when": when}
    environment.globals |= {"swatch": swatch, "stale": STALE, "gone": GONE}
    judged = [found for run in report.runs if (found := without_masks(run, report.checkpoint)) is not None]
    style = Markup(
        resource("style.css") + "\n" + heat.rules(heat.LIGHT_ANCHORS) + on_dark(heat.rules(heat.DARK_ANCHORS))
    )
    script = resource("script.js")
    page = environment.get_template("page.html").render(
        report=report,
        title=", ".join(group.name for group in report.groups),
        style=style,
        script=Markup(script),
        script_hash=Markup(base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()),
        verdict=verdict_on_top(report, judged),
        overview=overview(report),
        spread=any(len(group.runs) > 1 for group in report.measured),
        datasets=len(datasets_of(report.groups)),
        full_swatch=FULL_SWATCH,
        full_time=duration(report.full.seconds) if report.full else "",
        charts=charts(report),
        points=point_rows(report),
        round_tables=[round_table(report, group) for group in report.measured],
        comparison=comparison(report),
        asked=[asked_view(run) for run in report.runs],
        judged=judged,
        galleries=[(run, report.galleries[run.name]) for run in report.runs if run.name in report.galleries],
        palettes={run.name: palette(run) for run in report.runs},
        provenance=[provenance_view(run) for run in report.runs],
    )
    return page.lstrip()  # the template starts with macros


def verdict_on_top(report: Report, judged: Sequence[dict[str, Any]]) -> Verdict:
    """The verdict on mIoU; on the agreement with people if nothing was evaluated on masks."""
    found = judge(report.groups, report.full)
    told = [sentence for view in judged for sentence in on_top(view)]
    return found if report.measured or not told else replace(found, headline=told[0], facts=told[1:])


def resource(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def on_dark(css: str) -> str:
    return f"\n@media screen and (prefers-color-scheme: dark) {{\n{css}\n}}\n"


def whole(value: float | None) -> str:
    """A count without thousands separators, so that it can be copied; a decimal only if it is not whole."""
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value - round(value)) < 1e-6 else f"{value:.1f}"


def fixed(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def setting(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_SETTING else f"{text[:LONGEST_SETTING]}..."


def when(moment: str) -> str:
    """A time from a header, to the minute."""
    return moment[:16].replace("T", " ") + (" UTC" if moment.endswith("+00:00") else "")


def with_spread(value: Spread, digits: int = 2) -> str:
    told = f"{value.mean:.{digits}f}"
    return told if value.deviation is None else f"{told} ± {value.deviation:.{digits}f}"


def duration(seconds: float) -> str:
    """A time in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def overview(report: Report) -> list[dict[str, Any]]:
    """A row per run."""
    rows = []
    for group in report.groups:
        for run in group.runs:
            last = run.measured[-1] if run.measured else None
            header = run.dataset_header
            rows.append(
                {
                    "run": run,
                    "style": report.style(group),
                    "group": group.title if len(group.runs) > 1 else "",
                    "dataset": header.attributes.get("name", "") if header else "",
                    "dataset_file": Path(run.dataset[1].file).name if run.dataset else "",
                    "last": last,
                    "time": duration(last.seconds) if last else "",
                    "of_full": of_full(last.miou, report.full) if last else None,
                    "reached": reached(run, report.full),
                }
            )
    return rows


def of_full(miou: float, full: Measured | None) -> float | None:
    """``miou`` in % of full supervision."""
    return 100 * miou / full.miou if full is not None and full.miou else None


def reached(run: Run, full: Measured | None) -> str:
    """Clicks at which the run first reaches 95 % of full supervision."""
    if full is None or not run.measured:
        return ""
    first = next((entry for entry in run.measured if entry.miou >= GOAL * full.miou), None)
    return "not yet" if first is None else f"{whole(first.clicks)} clicks"


def charts(report: Report) -> list[dict[str, Any]]:
    """mIoU against clicks and against time."""
    if not report.measured:
        return []
    longest = max(point.seconds for group in report.measured for point in group.points)
    unit, size = next((unit, size) for unit, size, most in TIME_UNITS if longest <= most)
    names = ", ".join(group.name for group in report.measured)
    found = []
    for cost, what, label, per in (
        ("clicks", "clicks", "clicks", 1.0),
        ("seconds", "annotation time", f"annotation time ({unit})", size),
    ):
        series = [series_of(group, report.style(group), cost, per) for group in report.measured]
        told = f"mIoU in percent against {what}, of {names}; the numbers are in the table below"
        svg = line_chart(series, goal_lines(report.full), label, f"mIoU on {report.split} (%)", told)
        found.append({"title": f"mIoU against {what}", "svg": svg})
    return found


def series_of(group: Group, style: int, cost: str, per: float) -> Series:
    """The curve of a group over its ``cost`` (an attribute, in units of ``per``), with its seeds if it has several."""

    def over(entry: Point | Measured) -> float:
        return float(getattr(entry, cost)) / per

    points = group.whole_points
    band = [
        (over(point), point.miou.mean - deviation, point.miou.mean + deviation)
        for point in points
        if (deviation := point.miou.deviation) is not None
    ]
    thin = [[(over(entry), entry.miou) for entry in run.measured] for run in group.runs] if len(group.runs) > 1 else []
    return Series(group.title, style, [(over(point), point.miou.mean) for point in points], band, thin)


def goal_lines(full: Measured | None) -> list[tuple[str, float]]:
    if full is None:
        return []
    return [("full supervision", full.miou), ("95 % of it", GOAL * full.miou)]


def point_rows(report: Report) -> list[dict[str, Any]]:
    """The numbers of the curves."""
    return [
        {
            "group": group,
            "style": report.style(group),
            "first": number == 0,
            "point": point,
            "rounds": len(group.points),
            "miou": with_spread(point.miou),
            "epochs": ", ".join(map(str, point.epochs)),
            "of_full": of_full(point.miou.mean, report.full),
        }
        for group in report.measured
        for number, point in enumerate(group.points)
    ]


def round_table(report: Report, group: Group) -> dict[str, Any]:
    """IoU per round (row) and class (column)."""
    classes = classes_of([group])
    return {
        "group": group,
        "style": report.style(group),
        "classes": classes,
        "many": len(classes) >= MANY_CLASSES,
        "rows": [
            {
                "round": point.round,
                "clicks": point.clicks,
                "miou": iou_cell(point.miou),
                "cells": [iou_cell(point.iou.get(name)) for name in classes],
            }
            for point in group.points
        ],
    }


def iou_cell(value: Spread | None, best: bool = False) -> HeatCell:
    if value is None:
        return heat_cell(None)
    return heat_cell(value.mean, hint=with_spread(value), best=best)


def classes_of(groups: Sequence[Group]) -> list[str]:
    """All classes that the groups were measured on, in the order of their datasets."""
    known = dict.fromkeys(name for group in groups for name in group.classes)
    found = dict.fromkeys(name for group in groups for point in group.points for name in point.iou)
    return [*(name for name in known if name in found), *(name for name in found if name not in known)]


def comparison(report: Report) -> dict[str, Any] | None:
    """IoU of classes (rows) and runs (columns) after the last round; the best of each row in bold."""
    groups = report.measured
    if not groups:
        return None
    last = [group.points[-1] for group in groups]
    full = report.full
    rows = []
    for name in [None, *classes_of(groups)]:
        values = [point.miou if name is None else point.iou.get(name) for point in last]
        shown = {round(value.mean, 1) for value in values if value is not None}  # as displayed
        best = max(shown) if len(shown) > 1 else None
        cells = [iou_cell(value, value is not None and round(value.mean, 1) == best) for value in values]
        if full is not None:
            cells.append(heat_cell(full.miou if name is None else full.iou.get(name)))
        rows.append({"name": name, "cells": cells})
    return {
        "groups": [(group, report.style(group), point) for group, point in zip(groups, last, strict=True)],
        "rows": rows,
    }


def asked_view(run: Run) -> dict[str, Any]:
    """Answers of one run: cost, classes, clusters, pseudo-labels and acceptance."""
    ledgers = asked_of(run)
    tables = []
    for classes in dict.fromkeys(tuple(each.classes) for each in ledgers):
        tables.append(share_table([each for each in ledgers if tuple(each.classes) == classes], list(classes)))
    told = [name for name in TOLD if any(name in each.more for each in ledgers)]
    return {
        "run": run,
        "ledgers": ledgers,
        "told": [(TOLD[name][0], [told_text(name, each) for each in ledgers]) for name in told],
        "tables": tables,
        "clusters": clusters_of(run),
        "pseudo": pseudo_labels_of(run),
        "acceptance": acceptance_of(run),
    }


def told_text(name: str, each: Asked) -> str:
    value = each.more.get(name)
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if TOLD[name][1] else whole(value) if isinstance(value, int) else f"{value:.2f}"


def share_table(ledgers: list[Asked], classes: list[str]) -> dict[str, Any]:
    """Share of the answers per round (row) and class (column)."""
    others = [name for name in dict.fromkeys(name for each in ledgers for name in each.named) if name not in classes]
    columns = [*classes, *others]
    shares = [
        [100 * each.named.get(name, 0.0) / each.answers if each.answers else None for name in columns]
        for each in ledgers
    ]
    most = max((value for row in shares for value in row if value is not None), default=100.0)
    return {
        "columns": columns,
        "many": len(columns) >= MANY_CLASSES,
        "masks": [each.counted_masks for each in ledgers if each.counted_masks],
        "rows": [
            {
                "ledger": each,
                "cells": [
                    heat_cell(value, most or 1.0, hint=f"{each.named.get(name, 0.0):.6g} of {each.answers} answers")
                    for name, value in zip(columns, row, strict=True)
                ],
            }
            for each, row in zip(ledgers, shares, strict=True)
        ],
    }


def palette(run: Run) -> list[tuple[str, str]]:
    """Classes and their colours in the overlays."""
    header = run.dataset_header
    if header is None:
        return []
    colours = ["#{:02x}{:02x}{:02x}".format(*(int(part) for part in colour)) for colour in header.attributes["palette"]]
    return list(zip(run.classes, colours, strict=False))


def provenance_view(run: Run) -> dict[str, Any]:
    every = origins(run)
    return {
        "run": run,
        "chains": [(queries, chain(run, queries)) for queries in run.of_kind("queries")],
        "origins": every,
        "known": {origin.short for origin in every},
        "stale": sum(link.state == STALE for origin in every for link in origin.links),
        "gone": sum(link.state == GONE for origin in every for link in origin.links),
    }
