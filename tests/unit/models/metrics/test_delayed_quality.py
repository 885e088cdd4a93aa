from __future__ import annotations

import math
import tracemalloc

import pytest

from models.metrics.decision_window import MOST_VALUES, EventDay
from models.metrics.delayed_quality import DelayedQuality, DelayedQualitySettings, ReportedLabel, Scored

DAY = 86400.0


def scored(
    name: str, *, day: float, score: float = 0.5, alerted: bool = False, country: str | None = "FR"
) -> Scored:
    return Scored(name, day * DAY, f"card-{name}", score, alerted, (country,))


def quality(**changes: object) -> DelayedQuality:
    fields = {"horizon": 7 * DAY, "window": 5 * DAY, "segment_names": ("country",), "least_frauds": 1}
    return DelayedQuality(DelayedQualitySettings(**{**fields, **changes}))  # type: ignore[arg-type] # checked by name


def test_young_decision_does_not_count_even_when_its_label_is_known() -> None:
    watched = quality()
    watched.decide(scored("a", day=100.0, alerted=True))
    assert len(watched.label([ReportedLabel("a", True, 101 * DAY)])) == 1
    assert watched.mature() == []
    assert watched.quality().overall.decisions == 0
    watched.decide(scored("b", day=107.1))
    assert [outcome.is_fraud for outcome in watched.mature()] == [True]
    assert watched.quality().overall.recall == 1.0


def test_assumed_label_counts_as_genuine_behind_the_horizon() -> None:
    watched = quality()
    watched.decide(scored("a", day=100.0, alerted=True))
    watched.decide(scored("b", day=107.1))
    (outcome,) = watched.mature()
    assert not outcome.is_fraud
    assert watched.quality().overall.precision == 0.0


def test_label_after_the_horizon_corrects_the_measure() -> None:
    watched = quality()
    watched.decide(scored("a", day=100.0, alerted=True))
    watched.decide(scored("b", day=108.0))
    watched.mature()
    assert watched.quality().overall.frauds == 0
    watched.label([ReportedLabel("a", True, 108.5 * DAY)])
    assert watched.quality().overall.frauds == 1


def test_latest_knowledge_wins_in_any_order_and_only_news_is_an_outcome() -> None:
    watched = quality()
    watched.decide(scored("a", day=100.0))
    labels = [
        ReportedLabel("a", True, 102 * DAY),  # news
        ReportedLabel("a", True, 103 * DAY),  # says the same
        ReportedLabel("a", False, 101 * DAY),  # older
        ReportedLabel("a", False, 104 * DAY),  # news
        ReportedLabel("a", True, 104 * DAY),  # as late, and told later: news
    ]
    assert [outcome.is_fraud for outcome in watched.label(labels)] == [True, False, True]
    assert watched.label(labels[:3]) == []


def test_label_before_its_decision_waits_for_it() -> None:
    watched = quality(waiting=2)
    assert watched.label([ReportedLabel(name, True, 99 * DAY) for name in ("x", "a", "b")]) == []
    assert watched.unmatched == 1  # the oldest went
    for name in ("x", "a", "b"):
        watched.decide(scored(name, day=100.0))
    watched.decide(scored("now", day=107.1))
    watched.mature()
    assert watched.quality().overall.frauds == 2


def test_days_behind_the_window_are_forgotten_and_not_taken_in_again() -> None:
    watched = quality()
    for day in range(100, 130):
        watched.decide(scored(f"t{day}", day=day))
    assert len(watched) == 13  # window, horizon and today
    assert not watched.decide(scored("t100", day=100))
    assert watched.too_old == 1
    watched.mature()
    assert watched.quality().days == 5


def test_redelivered_decision_is_counted_once_on_its_day_and_later() -> None:
    watched = quality()
    for again in (100.0, 100.0, 101.0, 102.0, 103.0):
        watched.decide(scored("a", day=100.0))
        watched.decide(scored(f"other-{again}", day=again))
    assert len(watched) == 1 + 4
    assert watched.duplicates == 4 + 1


def test_beyond_its_capacity_the_window_gets_shorter() -> None:
    watched = quality(capacity=10)
    for number in range(30):
        watched.decide(scored(f"t{number}", day=100 + number / 5))
    assert len(watched) <= 10
    assert watched.dropped == 20
    assert not watched.decide(scored("t0", day=100))  # not new again after its day has gone


def test_one_day_beyond_the_capacity_is_cut() -> None:
    watched = quality(capacity=10)
    for number in range(30):
        assert watched.decide(scored(f"t{number}", day=100))
    assert (len(watched), watched.dropped) == (10, 20)


def test_segments_are_measured_apart_and_their_number_is_bounded() -> None:
    watched = quality(most_segments=2)
    for number in range(3 * MOST_VALUES):
        country = ("FR", "FR", "DE", f"X{number}")[number % 4]
        name = f"t{number}"
        watched.decide(scored(name, day=100, score=0.9, alerted=number % 4 == 0, country=country))
        watched.label([ReportedLabel(name, number % 4 != 2 or number < 10, 101 * DAY)])
    watched.decide(scored("none", day=100, country=None))
    watched.decide(scored("now", day=107.1))
    watched.mature()
    segments = watched.quality().segments
    assert list(segments) == ["country=FR", "country=DE"]
    assert segments["country=FR"].recall == pytest.approx(0.5, abs=0.01)
    assert segments["country=DE"].frauds == 2


def test_nothing_matured_measures_nothing() -> None:
    overall = quality().quality().overall
    assert overall.decisions == 0
    assert math.isnan(overall.average_precision)
    assert math.isnan(overall.card_precision)


def test_closed_day_costs_41_bytes_a_decision_and_one_for_each_segment_name() -> None:
    count = 50_000
    tracemalloc.start()
    day = EventDay(100, 1)
    for number in range(count):
        decision = Scored("", 100 * DAY + number, "", 0.5, False)
        day.add(number * 2**40 + 1, decision, number, (1,))
    open_bytes = tracemalloc.get_traced_memory()[0] / count
    day.close()
    closed_bytes = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    assert open_bytes < 200
    assert closed_bytes < 42 * 1.15  # arrays that grow keep some room


def test_late_decision_of_a_closed_day_is_found_by_its_label() -> None:
    watched = quality()
    for day in (100, 101, 102, 103):
        watched.decide(scored(f"t{day}", day=day))
    watched.decide(scored("late", day=100.5))
    assert (
        len(watched.label([ReportedLabel("late", True, 104 * DAY), ReportedLabel("t100", True, 104 * DAY)]))
        == 2
    )
