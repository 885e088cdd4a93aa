"""Labels of a log, replayed: which waited, which came too late, and what each changed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.builders import START
from tests.unit.stream.history.label_log import Log, reported


def test_labels_that_waited_are_known_by_what_was_called_in() -> None:
    log = Log()
    log.add(reported("a", fraud=False, day=2))
    log.add(reported("a", fraud=True, day=1))
    log.add(reported("a", fraud=False, day=2), waited=1)
    log.add(reported("b", fraud=True, day=1))
    log.add(reported("a", fraud=True, day=3))
    log.decide("a")
    log.decide("b")
    assert log.statuses() == ["pending", "pending", "new", "new", "correction"]
    assert log.labels.updates("card:c1") == 3
    assert log.labels.updates("card:c1", until=3) == 2


@pytest.mark.parametrize("tell", ["room", "letter"])
def test_labels_that_wait_still_or_expired_changed_nothing(tell: str) -> None:
    log = Log()
    log.add(reported("a", fraud=True, day=1))
    log.decide("a")
    if tell == "room":
        log.labels.add_pending("a", b"0 {}")
    else:
        log.labels.add_expired("a", 0, 0)
    assert log.statuses() == ["pending"]
    assert log.labels.known == {}


def test_a_label_that_had_its_standing_before_its_decision_waits_though_no_room_holds_it() -> None:
    log = Log()
    for name in ("before", "after", "called", "beyond"):
        log.add(reported(name, fraud=True, day=1))
    log.add(reported("called", fraud=True, day=1), waited=2)
    log.labels.add_published(3, START.timestamp() + 10.0)
    log.labels.add_published(2, START.timestamp() - 99.0)  # an older model again tells nothing
    log.decide("before", after=10.0)
    log.decide("after", after=20.0)
    log.decide("called", after=20.0)
    log.decide("beyond", after=20.0)
    assert log.statuses() == ["new", "pending", "pending", "new", "new"]
    waiting = [
        name
        for at, name in enumerate(("before", "after", "called", "beyond"))
        if log.labels.is_pending(name, at)
    ]
    assert waiting == ["after"]


def test_a_label_that_came_when_its_decision_was_forgotten_changed_nothing_and_those_before_it_did() -> None:
    log = Log()
    log.add(reported("a", fraud=True, day=1), came=100.0)
    late = log.add(reported("a", fraud=False, day=200), came=2e7)
    log.labels.add_expired("a", late, late)
    log.decide("a")
    assert log.statuses() == ["new", "pending"]


def test_duplicates_and_older_knowledge_change_nothing_and_junk_has_no_status() -> None:
    log = Log()
    log.add(reported("a", fraud=True, day=2))
    junk = log.add(b"junk")
    log.add(reported("a", fraud=False, day=1))
    log.add(reported("a", fraud=True, day=3))
    log.add(reported("a", fraud=False, day=2.5))
    log.add(reported("nobody", fraud=True, day=1))
    log.decide("a")
    assert log.statuses() == ["new", "superseded", "duplicate", "superseded", "pending"]
    assert log.labels.rejected == {junk}
    assert log.labels.known["a"].known_at == (START + timedelta(days=3)).timestamp()


def test_the_label_profile_of_any_moment_is_the_one_of_so_many_labels() -> None:
    log = Log()
    for number in range(5):
        log.add(reported(f"t{number}", fraud=number % 2 == 0, day=1))
        log.decide(f"t{number}")
    log.statuses()
    forwards = [log.labels.profile("card:c1", updates) for updates in range(6)]
    backwards = [log.labels.profile("card:c1", updates) for updates in reversed(range(6))]
    assert forwards == backwards[::-1]
    assert [each and each.frauds for each in forwards] == [0, 1, 1, 2, 2, 3]
    assert log.labels.profile("card:c1", 6) is None
