"""The watch over logs: what it compares, what it says, and whom it tells."""

from __future__ import annotations

import threading

import pytest

from stream.adapters.redis.logs import LogIdentity
from stream.config.settings import Settings
from stream.ports import DependencyDown, OtherLog
from stream.workers import log_watch
from stream.workers.log_watch import LogWatch


class Logs:
    """What Redis would hold."""

    def __init__(self) -> None:
        self.noted: dict[str, LogIdentity] = {}

    def known(self, _names: object) -> dict[str, LogIdentity]:
        return dict(self.noted)

    def note(self, name: str, topic_id: str) -> LogIdentity:
        return self.noted.setdefault(name, LogIdentity(topic_id))

    def replace(self, name: str, identity: LogIdentity) -> None:
        self.noted[name] = identity


@pytest.fixture
def ids(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    found = {"transactions": "A"}
    monkeypatch.setattr(log_watch, "AdminClient", lambda _: None)
    monkeypatch.setattr(log_watch, "topic_ids", lambda _, topics: {name: found[name] for name in topics})
    return found


def watch(logs: Logs, name: str = "transactions") -> LogWatch:
    return LogWatch(Settings(), logs, [name], every=0.001)  # type: ignore[arg-type]


def test_the_first_to_read_a_log_notes_it_and_another_one_is_refused(ids: dict[str, str]) -> None:
    logs = Logs()
    assert watch(logs).check() == {"transactions": LogIdentity("A")}
    watch(logs).check()
    ids["transactions"] = "B"
    with pytest.raises(
        OtherLog, match=r"its id was A and is B.*Nothing is read.*`riverwatch adopt transactions`"
    ):
        watch(logs).check()
    assert logs.noted["transactions"].topic_id == "A", "a person adopts, and nobody else"


def test_a_broker_that_gives_no_id_is_said_once_and_work_goes_on(
    ids: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    logs, ids["transactions"] = Logs(), ""
    own = watch(logs)
    own.check()
    own.check()
    assert len(caplog.records) == 1
    ids["transactions"] = "A"  # it was made to give ids: from now on they are compared
    own.check()
    ids["transactions"] = "B"
    with pytest.raises(OtherLog):
        own.check()


def test_labels_are_not_said_to_be_adopted(ids: dict[str, str]) -> None:
    logs = Logs()
    logs.noted["labels"], ids["labels"] = LogIdentity("A"), "B"
    with pytest.raises(OtherLog, match="restore the old one") as refused:
        watch(logs, "labels").check()
    assert "adopt" not in str(refused.value)


@pytest.mark.usefixtures("ids")
def test_whoever_reads_is_told_once_and_only_while_it_reads() -> None:
    looks, told, again = iter([None, DependencyDown("away"), OtherLog("made anew")]), [], threading.Event()

    def look() -> None:
        if error := next(looks):  # one look too many ends in StopIteration, and the thread with it
            raise error

    def ended(why: str) -> None:
        told.append(why)
        again.set()

    with watch(Logs()) as own:
        own.tell(ended)
        own.is_read(look)
        assert again.wait(60)
    assert told == ["made anew"]
    assert next(looks, "none") == "none"


@pytest.mark.usefixtures("ids")
def test_a_log_that_ends_before_what_was_worked_on_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_watch, "beyond_end", lambda *_: {1: 40})
    with pytest.raises(
        OtherLog, match=r"transactions\[1\] ends at 40 and was worked on to 50: it lost its tail"
    ):
        watch(Logs()).check_tail("transactions", {0: 9, 1: 50})
