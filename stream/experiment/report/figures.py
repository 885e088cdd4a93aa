"""The charts of an experiment."""

from __future__ import annotations

import math
from collections.abc import Mapping

from markupsafe import Markup

from stream.experiment.measures.results import InjectedModel, ModelResult
from stream.experiment.report.charts import ASIDE, Axis, Series, days, line_chart, linear

Models = Mapping[str, ModelResult]


def curves(models: Models) -> list[Markup]:
    """Precision against recall, calibration, and quality over time."""
    precision_recall = line_chart(
        "Precision and recall",
        linear("recall: share of the frauds caught", [0.0, 1.0]),
        linear("precision", [0.0, 1.0]),
        [
            Series(name, [(each.recall, each.precision) for each in one.precision_recall], at)
            for at, (name, one) in enumerate(models.items())
        ],
    )
    ticks = [(1e-4, "0.01 %"), (1e-3, "0.1 %"), (1e-2, "1 %"), (1e-1, "10 %"), (1.0, "100 %")]
    same = Series("perfect", [(1e-4, 1e-4), (1.0, 1.0)], ASIDE, dashed=True)
    calibration = line_chart(
        "Calibration: does a score mean what it says?",
        Axis("score", 1e-4, 1.0, ticks, is_log=True),
        Axis("share of frauds", 1e-4, 1.0, ticks, is_log=True),
        [
            same,
            *(
                Series(
                    name,
                    [(each.predicted, each.observed or math.nan) for each in one.calibration],
                    at,
                    dots=True,
                )
                for at, (name, one) in enumerate(models.items())
            ),
        ],
    )
    return [precision_recall, calibration, *_over_time(models)]


def _over_time(models: Models) -> list[Markup]:
    """Average precision over seven days."""
    names = sorted({day.day for one in models.values() for day in one.days})
    place = {name: float(at) for at, name in enumerate(names)}
    series = [
        Series(name, [(place[day.day], day.average_precision) for day in one.days], at)
        for at, (name, one) in enumerate(models.items())
    ]
    if len(names) <= 1:
        return []
    chart = line_chart(
        "Quality over time",
        days("last of seven days", names),
        linear("average precision", [0.0, 1.0]),
        series,
    )
    return [chart]


def borne(name: str, one: InjectedModel, at: str) -> Markup:
    """How a model bore a change: beside the run without it, and a copy that learned no more."""
    return line_chart(
        f"{name}, after {at}",
        days("last of seven days", one.days),
        linear("average precision", [0.0, 1.0]),
        [
            Series("without the change", list(enumerate(one.undisturbed)), 2, dashed=True),
            Series("with it, learning", list(enumerate(one.disturbed)), 0),
            Series("with it, frozen", list(enumerate(one.frozen)), 1),
        ],
    )
