"""The account of a run against sets and dictionaries."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from stream.inspect.account import Ledger
from stream.messages import Label, encode
from tests.support.builders import decision, payment

START = datetime(2026, 3, 2, tzinfo=UTC)

names = st.integers(0, 9).map(lambda number: f"t{number}")
places = st.tuples(st.integers(0, 2), st.integers(0, 5))
events = st.dictionaries(places, names | st.none(), max_size=18)  # None: unreadable
dead = st.lists(places, max_size=6)
decided = st.lists(st.tuples(names, st.sampled_from([0.1, 0.2])), max_size=25)
labelled = st.lists(st.tuples(names, st.booleans(), st.integers(1, 5), st.booleans()), max_size=25)


@given(events=events, dead=dead, decided=decided)
def test_account_is_that_of_sets(
    events: dict[tuple[int, int], str | None], dead: list[tuple[int, int]], decided: list[tuple[str, float]]
) -> None:
    ledger = Ledger()
    for (partition, offset), name in sorted(events.items()):
        ledger.add_event(partition, offset, encode({"transaction_id": name}))
    for partition, offset in dead:
        where = [("topic", b"in"), ("partition", b"%d" % partition), ("offset", b"%d" % offset)]
        ledger.add_dead_letter(where, events="in")
    scores: dict[str, list[float]] = {}
    for name, score in decided:
        ledger.add_decision(encode(decision(payment(name, start=START, amount=1), score=score)))
        scores.setdefault(name, []).append(score)
    account = ledger.completeness(dict.fromkeys(range(3), 6))

    buried = {place for place in events if place in dead}
    missing = [place for place in sorted(events) if place not in buried and events[place] not in scores]
    readable = [name for name in events.values() if name is not None]
    assert account.events == len(events)
    assert account.dead_letters == len(buried)
    assert account.missing == len(missing)
    assert account.examples == tuple(missing[:10])
    assert account.decided == len(events) - len(buried) - len(missing)
    assert account.repeated_events == len(readable) - len(set(readable))
    assert account.decisions == len(scores)
    assert account.unexpected == len(set(scores) - set(readable))
    assert account.differing == sum(len(set(found)) > 1 for found in scores.values())
    assert account.duplicates == sum(found.count(found[0]) - 1 for found in scores.values())


@given(decided=decided, labelled=labelled)
def test_truth_is_the_latest_report(
    decided: list[tuple[str, float]], labelled: list[tuple[str, bool, int, bool]]
) -> None:
    ledger = Ledger()
    for name, score in decided:
        ledger.add_decision(encode(decision(payment(name, start=START, amount=1), score=score)))
    truth: dict[str, tuple[int, bool]] = {}
    for name, is_fraud, day, silent in labelled:
        source = "maturity" if silent else "analyst"
        said = is_fraud and not silent
        known_at = datetime(2026, 4, day, tzinfo=UTC)
        label = Label(transaction_id=name, is_fraud=said, known_at=known_at, source=source)
        ledger.add_label(encode(label))
        if not silent and day >= truth.get(name, (0, False))[0]:
            truth[name] = (day, said)
    found = ledger.decisions()
    wanted = {name for name, _ in decided}
    assert found.time.size == len(wanted)
    assert found.is_fraud.sum() == sum(truth.get(name, (0, False))[1] for name in wanted)
    assert sorted(found.known_at[found.known_at == found.known_at]) == sorted(
        datetime(2026, 4, truth[name][0], tzinfo=UTC).timestamp() for name in wanted & truth.keys()
    )
