"""How models bear an injected change: against the same run without it, and against themselves frozen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.metrics.bootstrap import NAN
from models.metrics.drift import DriftFound
from models.metrics.ranking import average_precision
from stream.experiment.candidate import Candidate
from stream.experiment.engine import Engine
from stream.experiment.injections import Injection
from stream.experiment.measures.measure import DAY, WEEK, Scores, Table, day_name
from stream.experiment.measures.results import Injected, InjectedModel
from stream.experiment.measures.summary import scores_of, table_of

WITHIN = 0.02  # of average precision: as good as undisturbed


def injected_of(
    undisturbed: Engine, disturbed: Engine, injections: Sequence[Injection], changed: int
) -> Injected:
    """What came of injections.

    Args:
        undisturbed: the pass without them.
        disturbed: the pass with them, frozen copies included.
        injections: at least one.
        changed: transactions that were.
    """
    at = min(each.start.timestamp() for each in injections)
    frozen = {one.name: one for one in disturbed.candidates if one.is_frozen}
    before = {one.name: one for one in undisturbed.candidates}
    models = {}
    for candidate in disturbed.candidates:
        if not candidate.is_frozen:
            copy = frozen.get(f"{candidate.name} (frozen)")
            models[candidate.name] = _one(
                (undisturbed, before[candidate.name]), (disturbed, candidate), copy, at
            )
    return Injected(
        injections=tuple(each.text for each in injections), at=day_name(at), changed=changed, models=models
    )


def _one(
    reference: tuple[Engine, Candidate],
    run: tuple[Engine, Candidate],
    copy: Candidate | None,
    at: float,
) -> InjectedModel:
    engine, candidate = run
    end = (max(engine.times) // DAY + 1.0) * DAY
    starts = np.arange(at, end - WEEK + 1.0, DAY).tolist()
    undisturbed = _quality(*reference, starts)
    disturbed = _quality(engine, candidate, starts)
    frozen = [NAN] * len(starts) if copy is None else _quality(engine, copy, starts)
    gaps = np.array(undisturbed) - np.array(disturbed)
    recovered = next(
        (place for place in range(len(starts)) if gaps[place] <= WITHIN and _stays(gaps, place)), None
    )
    detection: dict[str, float] = {}
    for found in _alarms(engine, candidate):
        if found.event_time >= at:
            detection.setdefault(found.signal, (found.event_time - at) / 3600.0)
    labels = _first_label(engine, at)
    return InjectedModel(
        detection_hours=detection,
        false_alarms=len(_alarms(*reference)),
        days=tuple(day_name(start + WEEK - DAY) for start in starts),
        undisturbed=tuple(undisturbed),
        disturbed=tuple(disturbed),
        frozen=tuple(frozen),
        quality_lost=_mean(gaps),
        quality_lost_frozen=_mean(np.array(undisturbed) - np.array(frozen)),
        recovered_days=recovered,
        recovered_label_days=None if recovered is None else max(at + recovered * DAY - labels, 0.0) / DAY,
    )


def _alarms(engine: Engine, candidate: Candidate) -> list[DriftFound]:
    return [found for model, found in engine.alarms if model in ("", candidate.name)]


def _first_label(engine: Engine, at: float) -> float:
    """When the first label of a transaction after a time became known; that time where none did."""
    known = np.frombuffer(engine.known_at)[np.frombuffer(engine.times) >= at]
    known = known[np.isfinite(known)]
    return float(known.min()) if known.size else at


def _stays(gaps: np.ndarray[tuple[int, ...], np.dtype[np.float64]], place: int) -> bool:
    """It is no recovery when the days of the following week are worse again on average."""
    return bool(np.nanmean(gaps[place : place + 7]) <= WITHIN)


def _mean(gaps: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    finite = gaps[np.isfinite(gaps)]
    return float(finite.mean()) if finite.size else NAN


def _quality(engine: Engine, candidate: Candidate, starts: Sequence[float]) -> list[float]:
    table, rows = table_of(engine)
    scores = scores_of(candidate, rows)
    return [_average_precision(table, scores, start) for start in starts]


def _average_precision(table: Table, scores: Scores, start: float) -> float:
    within = (table.time >= start) & (table.time < start + WEEK) & np.isfinite(scores.score)
    return average_precision(table.is_fraud[within], scores.score[within])
