"""The features of a payment as docs/arithmetic.md publishes them, one kind of entity at a time."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from itertools import takewhile
from math import asin, cos, exp, isnan, log1p, log2, radians, sin, sqrt

from tests.second_judge.arithmetic import (
    DAY,
    HALF_LIVES,
    HOUR,
    WEEK,
    LabelProfile,
    Payment,
    Profile,
    RecentEvent,
    digest,
)

Features = dict[str, float]

GROUPS = 64  # that a category is hashed into
EARTH_KM = 6371.0
_HOUR, _DAY, _WEEK, _MONTH = range(4)  # places of the half-lives
_SPAN = HALF_LIVES[_MONTH] / HALF_LIVES[_HOUR]
_HALVING = 1.0 / (1.0 / HALF_LIVES[_WEEK] - 1.0 / HALF_LIVES[_MONTH])


def of_payment(payment: Payment) -> Features:
    """What needs no profile."""
    found = {
        "amount": payment.amount,
        "hour": payment.time % DAY / HOUR,
        "weekday": (payment.time // DAY + 3.0) % 7.0,
    }
    for name in ("country", "category", "channel"):
        if text := getattr(payment, name):
            found[f"{name}={zlib.crc32(text.encode()) % GROUPS}"] = 1.0
    return found


def of_entity(kind: str, payment: Payment, profile: Profile, labels: LabelProfile) -> Features:
    """What one entity adds, given what was known of it before the payment; names without the kind."""
    found: Features = {}
    if profile.updates:
        for statistic in _STATISTICS[kind]:
            found |= statistic(payment, profile)
    if labels.updates:
        found |= _labels(payment.time, labels)
    return found


def is_of_payment(name: str) -> bool:
    """Whether a feature needs no profile."""
    return "." not in name.partition("=")[0]


def _events(profile: Profile, place: int, time: float) -> float:
    sums = profile.sums[place]
    return sums.count * sums.at(time, HALF_LIVES[place])


def _since(time: float, moment: float) -> float:
    return max(time - moment, 0.0)


def _norm(payment: Payment, profile: Profile) -> Features:
    found = {
        f"outliers.{name}": profile.sums[place].outliers
        * profile.sums[place].at(payment.time, HALF_LIVES[place])
        for place, name in ((_WEEK, "7d"), (_MONTH, "30d"))
    }
    if _events(profile, _MONTH, payment.time) >= 3.0:
        mean, deviation = profile.sums[_MONTH].norm()
        above = log1p(payment.amount) - mean
        found |= {"z.30d": above / deviation, "ratio.30d": exp(above)}
    return found


def _activity(payment: Payment, profile: Profile) -> Features:
    return {
        "count.1h": _events(profile, _HOUR, payment.time),
        "count.1d": _events(profile, _DAY, payment.time),
        "since_first": _since(payment.time, profile.first),
        "since_last": _since(payment.time, profile.last),
    }


def _tempo(payment: Payment, profile: Profile) -> Features:
    usual = _events(profile, _MONTH, payment.time) / _SPAN
    return {"tempo": (_events(profile, _HOUR, payment.time) + 1.0) / (usual + 1.0)}


def _novelty(payment: Payment, profile: Profile) -> Features:
    recent_events, device = profile.recent_events, digest(payment.device)
    found = {
        "merchant_visits": float(
            sum(recent_event.merchant == digest(payment.merchant) for recent_event in recent_events)
        )
    }
    if device and any(recent_event.device for recent_event in recent_events):
        found["device_visits"] = float(sum(recent_event.device == device for recent_event in recent_events))
    return found


def _cards(_: Payment, profile: Profile) -> Features:
    return {"cards": float(len({recent_event.card for recent_event in profile.recent_events}))}


def _travel(payment: Payment, profile: Profile) -> Features:
    last = profile.recent_events[0]
    found: Features = {}
    if payment.country and last.country:
        same = payment.country == last.country.decode(errors="ignore")
        found["country_change"] = 0.0 if same else 1.0
    if payment.latitude is not None and payment.longitude is not None and not isnan(last.latitude):
        far = _kilometres(payment.latitude, payment.longitude, last)
        found["distance"] = far
        found["speed"] = far / (max(abs(payment.time - last.time), 60.0) / HOUR)
    return found


def _kilometres(latitude: float, longitude: float, last: RecentEvent) -> float:
    here, there = radians(latitude), radians(last.latitude)
    across, along = sin((there - here) / 2), sin(radians(last.longitude - longitude) / 2)
    half = across**2 + cos(here) * cos(there) * along**2
    return 2 * EARTH_KM * asin(min(1.0, sqrt(half)))


def _labels(time: float, labels: LabelProfile) -> Features:
    latest = [(at, is_fraud) for at, _, is_fraud in labels.latest()]
    run = list(takewhile(lambda each: each[1], latest))
    found = {"fraud_run": float(len(run))}
    if not labels.frauds:
        return found
    found["recent_frauds"] = float(sum(is_fraud for _, is_fraud in latest[:5]))
    frauds = [at for at, is_fraud in latest if is_fraud]
    weeks = [(week, week * WEEK + seconds / count) for week, count, seconds in labels.fraud_weeks()]
    if frauds or weeks:
        is_older = not frauds or (weeks and weeks[-1][0] < min(frauds) // WEEK)
        found["since_first_fraud"] = _since(time, weeks[-1][1] if is_older else min(frauds))
        found["since_last_fraud"] = _since(time, max(frauds) if frauds else weeks[0][1])
    if run:
        found["run_age"] = _since(time, run[-1][0])
        if len(run) < len(latest):
            found["since_genuine"] = _since(time, max(at for at, is_fraud in latest if not is_fraud))
    moment = max(time, latest[0][0])
    week, month = labels.blocks[_WEEK], labels.blocks[_MONTH]
    recent = week.sums()[0] * week.at(moment)
    frauds_now, genuine_now = (each * month.at(moment) for each in month.sums())
    found["frauds.7d"] = recent
    found["fraud_rate.30d"] = frauds_now / (frauds_now + genuine_now + 1.0)
    if recent > 1e-9 and frauds_now > 1e-9:
        found["fraud_age"] = max(log2(frauds_now / recent) * _HALVING, 0.0)
    return found


_STATISTICS: dict[str, tuple[Callable[[Payment, Profile], Features], ...]] = {
    "card": (_norm, _activity, _tempo, _novelty, _travel),
    "merchant": (_norm, _tempo),
    "device": (_activity, _tempo, _cards),
}
