"""The first days: from the anomaly score to the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from stream.experiment.measures.first_days import ANOMALY
from stream.experiment.measures.results import FirstDay, ModelResult
from stream.experiment.report.charts import ASIDE, Series, days, line_chart, linear

_AROUND = 7  # days before and after the change-over that are put side by side


class Side(NamedTuple):
    """Some days before the change-over, or from it on."""

    shown: Sequence[FirstDay]

    @property
    def average_precision(self) -> float:
        """The mean of the days that have one."""
        finite = [day.average_precision for day in self.shown if math.isfinite(day.average_precision)]
        return sum(finite) / len(finite) if finite else math.nan

    @property
    def alert_share(self) -> float:
        """Alerts, of all payments."""
        return sum(day.alerts for day in self.shown) / max(sum(day.transactions for day in self.shown), 1)


class FirstDays(NamedTuple):
    """The change-over of the first model.

    Attributes:
        scored_by: what scored all of them, where nothing changed over.
        change: the first day that the model served most of.
        before, after: some days on either side of it.
    """

    shown: Sequence[FirstDay]
    scored_by: str
    change: str | None
    before: Side
    after: Side
    charts: Sequence[Markup]


def first_days(models: Mapping[str, ModelResult]) -> FirstDays | None:
    """The change-over of the first model day by day, beside the others; None without a day."""
    name, one = next(iter(models.items()))
    shown = one.first_days
    if not shown:
        return None
    change = _change(shown)
    at = change or 0
    return FirstDays(
        shown,
        ANOMALY if shown[0].served == ANOMALY else name,
        None if change is None else shown[change].day,
        Side(shown[max(at - _AROUND, 0) : at]),
        Side(shown[at : at + _AROUND]),
        _charts(models, change),
    )


def _charts(models: Mapping[str, ModelResult], change: int | None) -> list[Markup]:
    name, one = next(iter(models.items()))
    shown = one.first_days
    dates = [each.day for each in shown]
    place = {day: float(at) for at, day in enumerate(dates)}
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
    return [quality, alerts]


def _change(shown: Sequence[FirstDay]) -> int | None:
    """The first day that the model served most of, where the anomaly score had served before."""
    served = [each.served == ANOMALY for each in shown]
    if not served[0] or all(served):
        return None
    return served.index(False)
