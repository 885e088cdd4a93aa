"""The part of the page that shows the first days: from the anomaly score to the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from stream.experiment.measures.first_days import ANOMALY
from stream.experiment.measures.results import FirstDay, ModelResult
from stream.experiment.report.charts import ASIDE, Series, days, line_chart, linear
from stream.experiment.report.formatting import NOTHING, count, figure, per_cent, table

_AROUND = 7  # days before and after the change-over that are put side by side


def first_days(models: Mapping[str, ModelResult]) -> str:
    """The change-over of the first model day by day, beside the others; empty without a day."""
    name, one = next(iter(models.items()))
    shown = one.first_days
    if not shown:
        return ""
    dates = [each.day for each in shown]
    place = {day: float(at) for at, day in enumerate(dates)}
    change = _change(shown)
    mark = None if change is None else float(change)
    quality = line_chart(
        "Average precision, day by day",
        days("day", dates),
        linear("average precision of the day", [0.0, 1.0]),
        [
            Series(
                other,
                [
                    (place[each.day], each.average_precision)
                    for each in result.first_days
                    if each.day in place
                ],
                at,
            )
            for at, (other, result) in enumerate(models.items())
        ],
        mark=mark,
    )
    most = max(1.5, *(each.of_budget for each in shown))
    alerts = line_chart(
        "Alerts, day by day",
        days("day", dates),
        linear("alerts, 1 is the budget", [0.0, most], low=0.0),
        [
            Series(name, [(place[each.day], each.of_budget) for each in shown], 0),
            Series("the budget", [(0.0, 1.0), (float(max(len(dates) - 1, 1)), 1.0)], ASIDE, dashed=True),
        ],
        mark=mark,
    )
    return (
        f'<section><h2>The first {len(shown)} days</h2><p class="soft">{_told(name, shown, change)}</p>'
        f'<div class="grid">{quality}{alerts}</div>'
        f"<details><summary>Figures of {escape(name)}, day by day</summary>"
        f'<div class="scroll dense">{_table(shown)}</div></details></section>'
    )


def _change(shown: Sequence[FirstDay]) -> int | None:
    """The first day that the model served most of, where the anomaly score had served before."""
    served = [each.served == ANOMALY for each in shown]
    if not served[0] or all(served):
        return None
    return served.index(False)


def _told(name: str, shown: Sequence[FirstDay], change: int | None) -> str:
    if change is None:
        only = ANOMALY if shown[0].served == ANOMALY else name
        return f"All of them were scored by <b>{escape(only)}</b>."
    before, after = shown[max(change - _AROUND, 0) : change], shown[change : change + _AROUND]
    return (
        f"Before labels come, the anomaly score serves; from {shown[change].day} on (dashed) it is "
        f"<b>{escape(name)}</b>. Of the {len(before)} days before and the {len(after)} from then on: average "
        f"precision {figure(_mean([each.average_precision for each in before]))} and "
        f"{figure(_mean([each.average_precision for each in after]))}, alerts "
        f"{per_cent(_share(before))} and {per_cent(_share(after))} of payments."
    )


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _share(shown: Sequence[FirstDay]) -> float:
    return sum(each.alerts for each in shown) / max(sum(each.transactions for each in shown), 1)


def _table(shown: Sequence[FirstDay]) -> str:
    head = ("day", "served by", "payments", "frauds", "average precision", "AUC", "alerts", "of the budget")
    rows = [
        (
            each.day,
            each.served,
            count(each.transactions),
            count(each.frauds),
            figure(each.average_precision),
            figure(each.roc_auc),
            per_cent(each.alert_share),
            f"{each.of_budget:.2f}" if math.isfinite(each.of_budget) else NOTHING,
        )
        for each in shown
    ]
    return table(head, rows)
