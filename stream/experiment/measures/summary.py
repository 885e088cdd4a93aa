"""From a finished pass to results: what each model was worth, what became of the rows, what drifted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from models.metrics.bootstrap import NAN
from models.metrics.ranking import calibration_curve, precision_recall_curve
from producers.files.cleaning import Cleaning
from stream.experiment.candidate import Candidate
from stream.experiment.engine import Engine
from stream.experiment.measures.first_days import first_days
from stream.experiment.measures.measure import (
    DAY,
    WEEK,
    Rows,
    Rules,
    Scores,
    Table,
    day_name,
    measure,
    over_days,
    segments,
    weeks_from,
    window,
)
from stream.experiment.measures.results import Account, DriftAlarm, Effect, Measures, ModelResult, Week

WARM_UP = 28 * DAY
MOST_EFFECTS = 40
AMOUNT_PARTS = ("lowest fourth", "second fourth", "third fourth", "highest fourth")


def table_of(engine: Engine) -> tuple[Table, Rows]:
    """The transactions whose label became known, and their places among all."""
    fraud = np.frombuffer(engine.fraud, dtype=np.int8)
    rows = np.flatnonzero(fraud >= 0)
    amount = np.frombuffer(engine.amounts)[rows]
    parts: dict[str, tuple[np.ndarray[tuple[int, ...], np.dtype[np.int64]], list[str | None]]] = {}
    if rows.size:
        quarters = np.quantile(amount, [0.25, 0.5, 0.75])
        parts["amount"] = np.searchsorted(quarters, amount), list(AMOUNT_PARTS)
    for name, (codes, values) in engine.segments().items():
        if len(values) > 1:
            parts[name] = codes[rows], values
    table = Table(
        time=np.frombuffer(engine.times)[rows],
        card=np.frombuffer(engine.cards, dtype=np.int64)[rows],
        amount=amount,
        is_fraud=fraud[rows] == 1,
        known_at=np.frombuffer(engine.known_at)[rows],
        money=len(engine.currencies) == 1,
        segments=parts,
    )
    return table, rows


def scores_of(candidate: Candidate, rows: Rows) -> Scores:
    """A model's scores of some transactions."""
    return Scores(
        np.frombuffer(candidate.scores)[rows],
        np.frombuffer(bytes(candidate.alerted), dtype=np.uint8)[rows] == 1,
    )


def span_of(
    engine: Engine, start: datetime | None, end: datetime | None, label_delay: float
) -> tuple[float, float]:
    """What is evaluated: as asked for, else from `seasoned_from` to the end of the last day."""
    last = (max(engine.times) // DAY + 1.0) * DAY
    begins = seasoned_from(engine, last, label_delay) if start is None else start.timestamp()
    ends = last if end is None else end.timestamp()
    return min(begins, ends), ends


def seasoned_from(engine: Engine, end: float, label_delay: float) -> float:
    """When a model has had something to learn from, seconds: four weeks after the first day.

    Of data shorter than twelve weeks the first third is left out, and at least the labels' delay.
    """
    first = min(engine.times) // DAY * DAY
    return first + min(WARM_UP, max((end - first) / 3.0, label_delay) // DAY * DAY)


def model_result(
    engine: Engine,
    candidate: Candidate,
    table: Table,
    rows: Rows,
    span: tuple[float, float],
    rules: Rules,
) -> ModelResult:
    """What one model was worth over a span of time."""
    start, end = span
    scores = scores_of(candidate, rows)
    first = min(engine.times) // DAY * DAY
    spans = weeks_from(start, end)
    windows = [window(table, since, until, rules) for since, until in spans]
    overall = measure(table, scores, windows, rules)
    weeks = [
        Week(
            **_fields(measure(table, scores, [each], rules)),
            start=day_name(since),
            to=day_name(until),
            microseconds_per_event=_cost(engine, candidate, since, until)[0],
        )
        for (since, until), each in zip(spans, windows, strict=True)
    ]
    kept = np.concatenate([each.rows for each in windows]) if windows else np.zeros(0, dtype=np.int64)
    over = np.concatenate([window(table, start - WEEK, start, rules).rows, kept])
    precisions = [week.average_precision for week in weeks if week.frauds]
    cost, own = _cost(engine, candidate, first, end + WEEK)
    anomaly = np.ones(rows.size, dtype=np.bool_)
    if candidate.own_from is not None:
        anomaly = rows < candidate.own_from
    return ModelResult(
        **_fields(overall),
        mean_weekly_average_precision=float(np.mean(precisions)) if precisions else NAN,
        microseconds_per_event=cost,
        model_microseconds=own,
        learned=candidate.learned,
        weeks=tuple(weeks),
        segments=tuple(segments(table, scores, kept, rules)),
        days=tuple(over_days(table, scores, over, max(start - WEEK, first), end)),
        first_days=tuple(
            first_days(table, scores, anomaly, first, name=candidate.name, budget=candidate.budget)
        ),
        precision_recall=tuple(precision_recall_curve(table.is_fraud[kept], scores.score[kept])),
        calibration=tuple(calibration_curve(table.is_fraud[kept], scores.score[kept])),
        effects=_effects(candidate),
    )


def _fields(measures: Measures) -> dict[str, Any]:
    return {name: getattr(measures, name) for name in Measures.__struct_fields__}


def _cost(engine: Engine, candidate: Candidate, start: float, end: float) -> tuple[float, float]:
    """Microseconds of CPU an event from one day to another: with all that is shared, and the model's own."""
    days = [day for day in engine.days if start <= day.time < end]
    after = [day for day in engine.days if day.time >= end]
    if not days:
        return NAN, NAN
    first, last = days[0], (after or [engine.finished])[0]
    events = last.rows - first.rows
    if events <= 0:
        return NAN, NAN
    spent = {name: last.models[name] - first.models.get(name, 0) for name in last.models}
    shared = last.cpu - first.cpu - sum(spent.values())
    own = spent[candidate.name]
    return (max(shared, 0) + own) / events / 1000.0, own / events / 1000.0


def _effects(candidate: Candidate) -> tuple[Effect, ...]:
    genuine, frauds = candidate.effects.counts
    found = [
        Effect(feature=name, frauds=sums[1] / max(frauds, 1), genuine=sums[0] / max(genuine, 1))
        for name, sums in candidate.effects.sums.items()
    ]
    found.sort(key=lambda effect: (-abs(effect.frauds - effect.genuine), effect.feature))
    return tuple(found[:MOST_EFFECTS])


def account_of(engine: Engine, cleaning: Cleaning | None) -> Account:
    """What became of the rows."""
    fraud = np.frombuffer(engine.fraud, dtype=np.int8)
    lines = [] if cleaning is None else cleaning.lines()
    if engine.duplicates:
        lines.append(
            f"{engine.duplicates:,} transactions discarded: their id had come before "
            f"(first {engine.first_duplicate})"
        )
    if engine.unmatched:
        lines.append(f"{engine.unmatched:,} labels left out: no transaction of theirs was waiting for one")
    silent = int(np.count_nonzero(fraud < 0))
    if silent:
        lines.append(f"{silent:,} transactions not measured: no label became known")
    return Account(
        transactions=len(engine.times),
        labelled=int(np.count_nonzero(fraud >= 0)),
        frauds=int(np.count_nonzero(fraud == 1)),
        cards=len(engine.card_codes),
        entities=len(engine.entities),
        duplicates=engine.duplicates,
        unmatched_labels=engine.unmatched,
        first_time=_time(min(engine.times)),
        last_time=_time(max(engine.times)),
        lines=tuple(lines),
    )


def alarms_of(engine: Engine) -> tuple[DriftAlarm, ...]:
    """The drifts that were found, in their order."""
    return tuple(
        DriftAlarm(
            model=model,
            signal=found.signal,
            found_at=_time(found.event_time),
            since=_time(found.since),
            before=found.before,
            after=found.after,
        )
        for model, found in engine.alarms
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
