"""The result as one page of HTML that opens anywhere: no script, nothing loaded from elsewhere.

What depends on when and where it ran stands in the last section, `id="run"`; the rest follows from the data.
"""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path
from string import Template

from stream.experiment.measures.results import Experiment
from stream.experiment.report.charts import ASIDE, Axis, Series, line_chart, linear
from stream.experiment.report.first_days import first_days
from stream.experiment.report.formatting import count, money, per_cent, table
from stream.experiment.report.parts import (
    cards,
    comparison,
    drift,
    effects,
    injected,
    over_time,
    segments,
    weeks,
)

_PAGE = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))

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


def as_html(found: Experiment, command: str) -> str:
    """The page.

    Args:
        found: the result.
        command: the command line that gave it.
    """
    body = "".join(
        (
            _head(found),
            cards(next(iter(found.models.items()))),
            _section("The models side by side", comparison(found.models)) if len(found.models) > 1 else "",
            injected(found.injected) if found.injected else "",
            _curves(found),
            _section("Week by week", weeks(found.models)),
            first_days(found.models),
            segments(found.models),
            effects(found.models),
            drift(found),
            _data(found),
            _again(found, command),
            _words(),
            _run(found),
        )
    )
    return _PAGE.substitute(title=escape(f"Experiment on {found.data}"), body=body)


def _section(title: str, content: str, note: str = "") -> str:
    told = f'<p class="soft">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{told}{content}</section>"


def _head(found: Experiment) -> str:
    name, one = next(iter(found.models.items()))
    share = one.frauds / one.transactions if one.transactions else math.nan
    partial = (
        '<p class="warn">This run was interrupted. What was seen until then is measured, no more.</p>'
        if found.is_partial
        else ""
    )
    lead = (
        f"With an alert budget of {per_cent(found.settings['review_share'])} of payments, the model "
        f"<b>{escape(name)}</b> would have caught <b>{per_cent(one.recall)}</b> of the frauds; "
        f"<b>{per_cent(one.precision)}</b> of its alerts would have been right."
    )
    if math.isfinite(one.money_saved):
        lead += (
            f" It would have stopped frauds of <b>{money(one.money_saved)}</b> and missed "
            f"<b>{money(one.money_lost)}</b>."
        )
    return (
        f"<header><h1>How good it would have been: {escape(found.data)}</h1>"
        f'<p class="soft">{found.evaluated_from} until {found.evaluated_to} (that day not included), '
        f"{count(one.transactions)} payments, {count(one.frauds)} of them frauds ({per_cent(share)}). Every "
        f"payment was scored before anything was known of it; its label was used only once it was "
        f"known ({_when(found)})"
        f"{', and cards known defrauded are left out' if found.settings['drop_known_cards'] else ''}"
        f'.</p>{partial}<p class="lead">{lead}</p></header>'
    )


def _when(found: Experiment) -> str:
    """When labels are known: of topics the log tells, and silence counts in the end; a file may tell."""
    maturity = found.settings.get("maturity")
    if maturity is not None:
        return f"silence counts as genuine after {maturity / 86400:g} days"
    return f"{found.settings['label_delay'] / 86400:g} days later where the data do not say when"


def _curves(found: Experiment) -> str:
    precision_recall = line_chart(
        "Precision and recall",
        linear("recall: share of the frauds caught", [0.0, 1.0]),
        linear("precision", [0.0, 1.0]),
        [
            Series(name, [(each.recall, each.precision) for each in one.precision_recall], at)
            for at, (name, one) in enumerate(found.models.items())
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
                for at, (name, one) in enumerate(found.models.items())
            ),
        ],
    )
    charts = precision_recall + calibration + over_time(found.models)
    return _section("Curves", f'<div class="grid">{charts}</div>')


def _data(found: Experiment) -> str:
    account = found.account
    lines = "".join(f"<li>{escape(line)}</li>" for line in account.lines) or "<li>nothing to clean</li>"
    rows = [
        ("transactions used", count(account.transactions)),
        ("frauds among them", count(account.frauds)),
        ("with a label", count(account.labelled)),
        ("cards", count(account.cards)),
        ("entities with a profile", count(account.entities)),
        ("from", account.first_time),
        ("to", account.last_time),
    ]
    return _section(
        "The data: used, cleaned, discarded",
        f'<div class="scroll">{table(("", ""), rows)}</div><ul class="lines">{lines}</ul>',
    )


def _again(found: Experiment, command: str) -> str:
    settings = json.dumps(found.settings, indent=1)
    return _section(
        "To run it again",
        f"<pre>{escape(command)}</pre><details><summary>Every setting that decides the result, the features "
        f"included</summary><pre>{escape(settings)}</pre></details>",
        "The same data and settings give the same figures, to the last digit.",
    )


def _words() -> str:
    items = "".join(f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>" for word, meaning in WORDS)
    return _section("What the words mean", f"<dl>{items}</dl>")


def _run(found: Experiment) -> str:
    run = found.run
    shown = [(key.replace("_", " "), _value(value)) for key, value in run.items()]
    costs = [
        (name, f"{one.microseconds_per_event:.1f}", f"{one.model_microseconds:.1f}", count(one.learned))
        for name, one in found.models.items()
    ]
    head = ("model", "microseconds an event, all told", "the model's own", "examples learned")
    return (
        '<section id="run"><h2>What it cost, and when it ran</h2>'
        '<p class="soft">CPU of one process: reading, features and profiles, and the model\'s scoring and '
        "learning. These figures differ from run to run; nothing above does.</p>"
        f'<div class="scroll">{table(head, costs)}</div><br>'
        f'<div class="scroll">{table(("", ""), shown)}</div></section>'
    )


def _value(value: object) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else str(value)
