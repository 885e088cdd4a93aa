"""The result as one page of HTML that opens anywhere: no script, nothing loaded from elsewhere.

What depends on when and where it ran stands in the last section, `id="run"`; the rest follows from the data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stream.experiment.measures.results import Effect, Experiment, ModelResult
from stream.experiment.report.figures import borne, curves
from stream.experiment.report.first_days import first_days
from stream.experiment.report.formatting import NOTHING, count, figure, money, per_cent

Show = Callable[[float], str]

HEADLINES: tuple[tuple[str, str, Show, str], ...] = (
    ("average_precision", "Average precision", figure, "purity of alerts over all thresholds"),
    ("card_precision_at_100", "Card precision at 100", figure, "defrauded among the day's 100 top cards"),
    ("recall", "Frauds caught", per_cent, "at the alert budget (recall)"),
    ("precision", "Alerts that were right", per_cent, "at the alert budget (precision)"),
    ("money_saved", "Money saved", money, "amounts of the frauds alerted"),
    ("money_lost", "Money lost", money, "amounts of the frauds missed"),
    ("roc_auc", "AUC", figure, "a fraud ranks above a genuine payment"),
    ("expected_calibration_error", "Calibration error", lambda value: figure(value, 4), "0 is perfect"),
)
COLUMNS: tuple[tuple[str, str, Show], ...] = (
    ("average_precision", "average precision", figure),
    ("card_precision_at_100", "card precision", figure),
    ("roc_auc", "AUC", figure),
    ("alert_share", "alerts", per_cent),
    ("precision", "precision", figure),
    ("recall", "recall", figure),
    ("f1", "F1", figure),
    ("accuracy", "accuracy", figure),
    ("expected_calibration_error", "calibration error", lambda value: figure(value, 4)),
    ("money_saved", "saved", money),
    ("money_lost", "lost", money),
    ("money_reviews", "reviews", money),
)
SEGMENT_COLUMNS: tuple[tuple[str, str, Show], ...] = (
    ("average_precision", "average precision", figure),
    ("precision", "precision", figure),
    ("recall", "recall", figure),
    ("money_lost", "lost", money),
)
WORDS = (
    (
        "Average precision",
        "Over all thresholds, how pure the alerts are, averaged over the frauds caught. 1 is "
        "perfect; a model that guesses gets the share of frauds.",
    ),
    (
        "Card precision at 100",
        "If people look at the 100 most suspicious cards of each day: the share of these "
        "100 that were defrauded that day. It cannot exceed what a day has.",
    ),
    ("AUC", "The chance that a fraud scores above a genuine payment."),
    ("Precision", "Of the alerts, the share that were frauds."),
    ("Recall", "Of the frauds, the share that raised an alert."),
    ("F1", "The harmonic mean of precision and recall."),
    ("Accuracy", "The share of payments told right; with few frauds it is close to 1 whatever one does."),
    (
        "Calibration error",
        "How far a score of, say, 20 % is from 20 frauds in 100 such payments, on average.",
    ),
    ("Interval", "The range in which the figure would lie for 95 of 100 other draws of the same cards."),
)

_EFFECTS = 20

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,  # a page is a text file: its last line ends
)
_templates.filters |= {"count": count, "per_cent": per_cent, "money": money, "figure": figure}
_templates.tests["finite"] = math.isfinite


def as_html(found: Experiment, command: str) -> str:
    """The page.

    Args:
        found: the result.
        command: the command line that gave it.
    """
    name, first = next(iter(found.models.items()))
    return _templates.get_template("page.html").render(
        found=found,
        command=command,
        name=name,
        first=first,
        headlines=HEADLINES,
        columns=COLUMNS,
        segment_columns=SEGMENT_COLUMNS,
        words=WORDS,
        nothing=NOTHING,
        curves=curves(found.models),
        borne=borne,
        first_days=first_days(found.models),
        effects=_effects(found.models),
        settings=json.dumps(found.settings, indent=1),
    )


def _effects(models: Mapping[str, ModelResult]) -> list[tuple[str, list[Effect], float]]:
    """The largest effects by model, and the size of the largest."""
    return [
        (name, shown, max(max(abs(each.frauds), abs(each.genuine)) for each in shown) or 1.0)
        for name, one in models.items()
        if (shown := list(one.effects[:_EFFECTS]))
    ]
