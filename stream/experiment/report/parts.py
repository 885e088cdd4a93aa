"""The parts of the page that show figures of models."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from html import escape

from stream.experiment.measures.results import (
    Experiment,
    Injected,
    InjectedModel,
    Measures,
    ModelResult,
    Segment,
)
from stream.experiment.report.charts import Series, days, line_chart, linear
from stream.experiment.report.formatting import NOTHING, Html, count, figure, money, per_cent, sure, table

Models = Mapping[str, ModelResult]
Show = Callable[[float], str]

_HEADLINES: tuple[tuple[str, str, Show, str], ...] = (
    ("average_precision", "Average precision", figure, "purity of alerts over all thresholds"),
    ("card_precision_at_100", "Card precision at 100", figure, "defrauded among the day's 100 top cards"),
    ("recall", "Frauds caught", per_cent, "at the alert budget (recall)"),
    ("precision", "Alerts that were right", per_cent, "at the alert budget (precision)"),
    ("money_saved", "Money saved", money, "amounts of the frauds alerted"),
    ("money_lost", "Money lost", money, "amounts of the frauds missed"),
    ("roc_auc", "AUC", figure, "a fraud ranks above a genuine payment"),
    ("expected_calibration_error", "Calibration error", lambda value: figure(value, 4), "0 is perfect"),
)
_COLUMNS: tuple[tuple[str, str, Show], ...] = (
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
_EFFECTS = 20


def cards(named: tuple[str, ModelResult]) -> str:
    """The headline figures of the first model."""
    name, one = named
    shown = "".join(_card(one, *headline) for headline in _HEADLINES)
    top = (
        "Of the hundredth of payments with the highest scores, the mean score is "
        f"{per_cent(one.top_mean_score)} and {per_cent(one.top_fraud_rate)} were frauds."
    )
    return (
        f'<section><h2>{escape(name)}</h2><div class="cards">{shown}</div>'
        f'<p class="soft">Below each figure, the range it would have for 95 of 100 other draws of the cards. '
        f"{escape(top)}</p></section>"
    )


def _card(one: Measures, key: str, title: str, show: Show, meaning: str) -> str:
    interval = one.intervals.get(key)
    between = (
        f"<span>{escape(show(interval.low))} to {escape(show(interval.high))}</span>"
        if interval and math.isfinite(interval.low)
        else ""
    )
    return (
        f'<div class="card"><span class="what">{escape(title)}</span><b>{escape(show(getattr(one, key)))}</b>'
        f"{between}<span>{escape(meaning)}</span></div>"
    )


def _cells(one: Measures) -> list[str]:
    return [Html(sure(show(getattr(one, key)), one.intervals.get(key), show)) for key, _, show in _COLUMNS]


def comparison(models: Models) -> str:
    """All measures of all models, a column for each model."""
    columns = [_cells(one) for one in models.values()]
    rows = [(title, *(column[at] for column in columns)) for at, (_, title, _show) in enumerate(_COLUMNS)]
    return f'<div class="scroll">{table(("", *models), rows)}</div>'


def weeks(models: Models) -> str:
    """All measures of the first model by week; of further models the average precision."""
    name, first = next(iter(models.items()))
    others = {
        other: {week.start: week for week in one.weeks} for other, one in models.items() if other != name
    }
    head = (
        "week from",
        "frauds",
        *(title for _, title, _ in _COLUMNS),
        *(f"{other}: AP" for other in others),
    )
    rows = [
        (
            week.start,
            count(week.frauds),
            *_cells(week),
            *(
                figure(found[week.start].average_precision) if week.start in found else NOTHING
                for found in others.values()
            ),
        )
        for week in first.weeks
    ]
    means = " · ".join(
        f"{escape(each)} {figure(one.mean_weekly_average_precision)}" for each, one in models.items()
    )
    left_out = sum(week.of_known_cards for week in first.weeks)
    dropped = (
        f" {count(left_out)} payments of cards already known defrauded are left out." if left_out else ""
    )
    return (
        f'<p class="soft">Figures of {escape(name)}; mean average precision of the weeks: {means}.{dropped}'
        " Card precision is at 100 cards a day.</p>"
        f'<div class="scroll dense">{table(head, rows)}</div>'
    )


def over_time(models: Models) -> str:
    """Average precision over seven days."""
    names = sorted({day.day for one in models.values() for day in one.days})
    place = {name: float(at) for at, name in enumerate(names)}
    series = [
        Series(name, [(place[day.day], day.average_precision) for day in one.days], at)
        for at, (name, one) in enumerate(models.items())
    ]
    if len(names) <= 1:
        return ""
    return line_chart(
        "Quality over time",
        days("last of seven days", names),
        linear("average precision", [0.0, 1.0]),
        series,
    )


def segments(models: Models) -> str:
    """Quality of the first model by segment."""
    name, one = next(iter(models.items()))
    if not one.segments:
        return ""
    head = ("segment", "payments", "frauds", "average precision", "precision", "recall", "lost")
    body = [_segment(each) for each in one.segments]
    return (
        f'<section><h2>By segment</h2><p class="soft">Figures of {escape(name)}; segments with at least ten '
        f'frauds.</p><div class="scroll">{table(head, body)}</div></section>'
    )


def _segment(each: Segment) -> list[str]:
    measures: tuple[tuple[str, Show], ...] = (
        ("average_precision", figure),
        ("precision", figure),
        ("recall", figure),
        ("money_lost", money),
    )
    return [
        f"{each.name}: {each.value}",
        count(each.transactions),
        count(each.frauds),
        *(Html(sure(show(getattr(each, key)), each.intervals.get(key), show)) for key, show in measures),
    ]


def effects(models: Models) -> str:
    """What each feature adds to the log-odds of frauds, and of genuine payments."""
    found = [(name, one) for name, one in models.items() if one.effects]
    if not found:
        return ""
    parts = []
    for name, one in found:
        shown = one.effects[:_EFFECTS]
        largest = max((max(abs(each.frauds), abs(each.genuine)) for each in shown), default=1.0) or 1.0
        rows = "".join(
            f'<tr><td>{escape(each.feature)}</td><td style="width:48%">'
            f"{_bars(each.frauds / largest, each.genuine / largest)}</td>"
            f"<td>{each.frauds:+.2f}<br>{each.genuine:+.2f}</td></tr>"
            for each in shown
        )
        parts.append(
            f'<figure><h3>{escape(name)}</h3><table class="effects"><tbody>{rows}</tbody></table></figure>'
        )
    return (
        '<section><h2>What each feature contributes</h2><p class="soft">Mean contribution to the log-odds of '
        'fraud, before learning from the payment: <span style="color:var(--c1)">frauds</span> above, '
        '<span style="color:var(--c0)">genuine payments</span> below. A feature earns its keep where the two '
        f'differ; they stand in that order.</p><div class="grid">{"".join(parts)}</div></section>'
    )


def _bars(frauds: float, genuine: float) -> str:
    """Two bars from the middle, each -1 to 1."""
    parts = ['<line class="rule" x1="100" x2="100" y1="0" y2="26"/>']
    for share, colour, top in ((frauds, 1, 3), (genuine, 0, 14)):
        width = abs(share) * 100.0
        left = 100.0 - width if share < 0.0 else 100.0
        parts.append(
            f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="9" style="fill:var(--c{colour})"/>'
        )
    return f'<svg viewBox="0 0 200 26" preserveAspectRatio="none" aria-hidden="true">{"".join(parts)}</svg>'


def drift(found: Experiment) -> str:
    """The alarms that were raised."""
    if not found.alarms:
        told = '<p class="soft">No drift was found: not in amounts, scores, errors or the loss on frauds.</p>'
        return f"<section><h2>Drift</h2>{told}</section>"
    head = ("found", "signal", "model", "since", "before", "after")
    rows = [
        (
            each.found_at.replace("+00:00", ""),
            each.signal,
            each.model or "the input",
            each.since[:10],
            figure(each.before),
            figure(each.after),
        )
        for each in found.alarms
    ]
    return (
        '<section><h2>Drift</h2><p class="soft">Alarms, from the first day of the data, on the '
        "logarithm of amounts, on scores, on the share of decisions that were wrong (error) and on the loss "
        "on frauds: minus the logarithm of their score, 0.7 for a score of 50 %, 4.6 for one of 1 %. Of the "
        "last two only a rise is told.</p>"
        f'<div class="scroll">{table(head, rows)}</div></section>'
    )


def injected(found: Injected) -> str:
    """How the models bore a change."""
    charts = "".join(_borne(name, one, found.at) for name, one in found.models.items())
    rows = [
        (
            name,
            Html(
                "<br>".join(
                    f"{escape(signal)} after {hours:.0f} h" for signal, hours in one.detection_hours.items()
                )
                or "no"
            ),
            str(one.false_alarms),
            figure(one.quality_lost),
            figure(one.quality_lost_frozen),
            _recovered(one),
        )
        for name, one in found.models.items()
    ]
    head = ("model", "noticed", "false alarms", "AP lost", "AP lost, frozen", "recovered")
    return (
        "<section><h2>A change was injected</h2>"
        f'<p class="soft">{escape("; ".join(found.injections))}: {count(found.changed)} payments changed. '
        "Noticed: from the change to the first alarm of each detector; labels of what changed come later. "
        "False alarms: of the whole run without the change. Lost is the mean gap in average precision (AP) "
        "below that run. Recovered: from then on, over a week, within 0.02 of it. The frozen copy stopped "
        "learning on the day of the change.</p>"
        f'<div class="scroll">{table(head, rows)}</div><div class="grid">{charts}</div></section>'
    )


def _recovered(one: InjectedModel) -> str:
    if one.recovered_days is None or one.recovered_label_days is None:
        return "not yet"
    return f"after {one.recovered_days} days, {one.recovered_label_days:.0f} of them with labels"


def _borne(name: str, one: InjectedModel, at: str) -> str:
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
