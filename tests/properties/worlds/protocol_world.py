"""The protocol of a batch under everything that may happen between its steps.

The world is a log in memory, one store, one outbox, and two workers with real pipelines. Hypothesis chooses
what arrives, how batches are cut, who crashes where, which replies are lost, who takes over from whom while
the other sleeps in the middle of a batch, and what the store forgets. At the end everything is drained, and
the judge reads the log, the outbox and the profiles, and nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from stream.adapters.memory.store import MemoryStore
from stream.messages import Transaction
from stream.pipeline import Pipeline
from stream.ports import StaleOwner, StoreBehind
from stream.records import Record
from tests.properties.worlds.protocol_judge import SPEC, Bookkeeper, Case, judge
from tests.properties.worlds.protocol_workers import Model, Worker

START = datetime(2024, 5, 1, tzinfo=UTC)
PARTITIONS = (0, 1)
POINTS = ("looked-up", "profiles-applied", "scored", "recorded", "emitted")
JUNK = (b"{", None, b"[1]", b'{"transaction_id":"t0"}', b'{"a":' * 3000)


class Crash(Exception):  # noqa: N818 - it is what happens, not an error
    """The process is gone."""


class Store(MemoryStore):
    """The store in memory, with fencing tokens that rise as clocks do: also over what the store forgets."""

    issued = 0

    def claim(self, partitions: Iterable[int]) -> dict[int, int]:
        Store.issued += 1
        claimed = dict.fromkeys(partitions, Store.issued)
        self._fencing_tokens.update(claimed)
        return claimed


class World(RuleBasedStateMachine):
    """Everything, and what may happen to it. Subclasses plant a bug."""

    pipeline_class: type[Pipeline] = Pipeline
    store_class: type[Store] = Store

    def __init__(self) -> None:
        super().__init__()
        self.log: dict[int, list[Record]] = {p: [] for p in PARTITIONS}
        self.good: dict[tuple[int, int], Transaction] = {}
        self.committed = dict.fromkeys(PARTITIONS, 0)
        self.store = self.store_class(SPEC.half_lives)
        self.copies: list[Store] = []
        self.excused: set[str] = set()  # recorded in moments that the store has lost
        self.twins: set[str] = set()
        self.epoch = 0
        self.outbox = Bookkeeper()
        self.model = Model(0)
        self.ticks = 0
        self.time = START
        self.workers = [Worker(self, [0]), Worker(self, [1])]
        self.zombies: list[Worker] = []

    def clock(self) -> datetime:
        self.ticks += 1
        return START + timedelta(days=100, seconds=self.ticks)

    def before_work(self, worker: Worker) -> None:
        """For a bug to hook on."""

    # ---- what arrives

    def append(self, partition: int, key: bytes | None, value: bytes | None) -> Record:
        offset = len(self.log[partition])
        record = Record("transactions", partition, offset, int(self.time.timestamp() * 1000), key, value)
        self.log[partition].append(record)
        return record

    @rule(
        cards=st.lists(st.integers(0, 3), min_size=1, max_size=4),
        merchant=st.sampled_from(["m0", "m1"]),
        device=st.sampled_from([None, "d0"]),
        amount=st.integers(1, 10**6),
        step=st.sampled_from([0, 1, 60, 4000, 90_000, -30, -100_000]),
    )
    def pay(self, cards: list[int], merchant: str, device: str | None, amount: int, step: int) -> None:
        self.time = max(self.time, START) + timedelta(seconds=abs(step))
        for card in cards:
            paid = Transaction(
                transaction_id=f"t{len(self.good)}",
                event_time=self.time + timedelta(seconds=min(step, 0)),
                card_id=f"c{card}",
                merchant_id=merchant,
                amount_minor=amount + card,
                currency="EUR",
                device_id=device,
            )
            record = self.append(card % 2, paid.card_id.encode(), msgspec.json.encode(paid))
            self.good[record.partition, record.offset] = paid

    @rule(which=st.integers(0, 50), amount=st.none() | st.integers(1, 10**6))
    def pay_again(self, which: int, amount: int | None) -> None:
        """Upstream sends a transaction once more, perhaps not quite the same."""
        if self.good:
            (partition, _), paid = list(self.good.items())[which % len(self.good)]
            changed = msgspec.structs.replace(paid, amount_minor=amount or paid.amount_minor)
            record = self.append(partition, paid.card_id.encode(), msgspec.json.encode(changed))
            if changed == paid:  # else other content under its id, which is a dead letter
                self.good[partition, record.offset] = changed

    @rule(
        partition=st.sampled_from(PARTITIONS),
        junk=st.integers(0, len(JUNK) - 1),
        key=st.sampled_from([None, b"c0"]),
    )
    def poison(self, partition: int, junk: int, key: bytes | None) -> None:
        self.append(partition, key, JUNK[junk])

    @rule()
    def learn(self) -> None:
        self.model = Model(int(self.model.version[1:]) + 1)

    # ---- who works, and what goes wrong

    def acknowledge(self, worker: Worker) -> None:
        for partition, end in worker.next.items():
            for record in self.log[partition][self.committed[partition] : end]:
                paid = self.good.get((partition, record.offset))
                if paid is None:
                    assert (partition, record.offset) in self.outbox.rejected, (
                        "acknowledged, and no dead letter"
                    )
                elif paid.transaction_id not in self.twins:
                    assert paid.transaction_id in self.outbox.decisions, "acknowledged, and not decided"
            self.committed[partition] = end

    def restart(self, number: int) -> None:
        self.workers[number] = Worker(self, self.workers[number].held)

    def attempt(self, number: int) -> bool:
        worker = self.workers[number]
        try:
            done = worker.work()
        except Crash:
            self.restart(number)
            return False
        except StaleOwner:
            assert self.workers[number] is not worker, "an owner was taken for a stale owner"
            return False
        except StoreBehind:
            if self.workers[number] is worker:
                worker.begin()
            return False
        finally:
            worker.armed.clear()
            worker.connection.faults.clear()
            self.outbox._durable.clear()
        return done and self.workers[number] is worker

    @rule(
        number=st.integers(0, 1),
        sizes=st.tuples(st.integers(0, 5), st.integers(0, 5)),
        acknowledge=st.booleans(),
    )
    def work(self, number: int, sizes: tuple[int, int], acknowledge: bool) -> None:
        self.workers[number].take(sizes)
        if self.attempt(number) and acknowledge:
            self.acknowledge(self.workers[number])

    @rule(
        number=st.integers(0, 1),
        sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
        point=st.sampled_from(POINTS),
    )
    def crash(self, number: int, sizes: tuple[int, int], point: str) -> None:
        def die() -> None:
            raise Crash(point)

        self.workers[number].take(sizes)
        self.workers[number].armed[point] = die
        self.attempt(number)

    @rule(
        number=st.integers(0, 1),
        sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
        call=st.sampled_from(["lookup", "progress", "apply", "record"]),
        when=st.sampled_from(["before", "after"]),
    )
    def lose_reply(self, number: int, sizes: tuple[int, int], call: str, when: str) -> None:
        self.workers[number].take(sizes)
        self.workers[number].connection.faults[call] = when
        self.attempt(number)

    @rule(
        number=st.integers(0, 1),
        sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
        durable=st.integers(0, 6),
    )
    def lose_outbox(self, number: int, sizes: tuple[int, int], durable: int) -> None:
        self.workers[number].take(sizes)
        if self.workers[number].hand:
            self.outbox.fail_next(durable)
            self.attempt(number)

    def hand_over(self, owners: tuple[int, int]) -> None:
        """The group gives each partition to a worker."""
        self.workers = [Worker(self, [p for p in PARTITIONS if owners[p] == n]) for n in (0, 1)]

    @rule(owners=st.tuples(st.integers(0, 1), st.integers(0, 1)), asleep=st.booleans())
    def rebalance(self, owners: tuple[int, int], asleep: bool) -> None:
        for worker in self.workers:
            if asleep:
                worker.take((3, 3))
                self.zombies.append(worker)
            else:
                worker.pipeline.on_revoked(worker.held)
        self.hand_over(owners)

    @rule(which=st.integers(0, 9))
    def wake(self, which: int) -> None:
        """A stale owner goes on: with its batch, its fencing token and what it believes is recorded."""
        if self.zombies:
            zombie = self.zombies.pop(which % len(self.zombies))
            with suppress(StaleOwner, StoreBehind):
                zombie.work()

    @rule(
        number=st.integers(0, 1),
        sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
        point=st.sampled_from(POINTS),
        other=st.tuples(st.integers(0, 5), st.integers(0, 5)),
        acknowledge=st.booleans(),
    )
    def fall_asleep(
        self, number: int, sizes: tuple[int, int], point: str, other: tuple[int, int], acknowledge: bool
    ) -> None:
        """In the middle of a batch a worker sleeps, another takes over and works on, and the first wakes."""

        def sleep() -> None:
            self.hand_over((1 - number, 1 - number))
            self.work(1 - number, other, acknowledge)

        worker = self.workers[number]
        worker.take(sizes)
        worker.armed[point] = sleep
        self.attempt(number)

    @rule(
        number=st.integers(0, 1),
        sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
        point=st.sampled_from(POINTS),
        other=st.tuples(st.integers(1, 5), st.integers(1, 5)),
        acknowledge=st.booleans(),
    )
    def meanwhile(
        self, number: int, sizes: tuple[int, int], point: str, other: tuple[int, int], acknowledge: bool
    ) -> None:
        """In the middle of a batch the other worker does one of its own."""
        worker = self.workers[number]
        worker.take(sizes)
        worker.armed[point] = lambda: self.work(1 - number, other, acknowledge)
        if self.attempt(number) and acknowledge:
            self.acknowledge(worker)

    # ---- the end

    def drain(self) -> None:
        for number in (0, 1):
            self.restart(number)
            worker = self.workers[number]
            for _ in range(1000):
                worker.take((4, 4))
                if not worker.hand:
                    break
                if self.attempt(number):
                    self.acknowledge(worker)
        ends = {p: len(records) for p, records in self.log.items()}
        assert self.committed == ends, "it does not come to an end"

    def teardown(self) -> None:
        self.drain()
        judge(Case(self.log, self.good, self.outbox, self.store, self.excused, self.twins))


class ForgetfulWorld(World):
    """And the store loses its last moments."""

    @rule()
    def remember(self) -> None:
        """What a replica holds between two batches: whatever is applied is also recorded."""
        applied = self.store.progress(PARTITIONS)
        names = [paid.transaction_id for (p, offset), paid in self.good.items() if offset <= applied[p]]
        if None not in self.store.lookup(names):
            self.copies.append(copy.deepcopy(self.store))

    @rule(which=st.integers(0, 3))
    def forget(self, which: int) -> None:
        if self.copies:
            del self.copies[len(self.copies) - which % len(self.copies) :]
        kept = copy.deepcopy(self.copies[-1]) if self.copies else self.store_class(SPEC.half_lives)
        self.excused |= set(self.store._decisions) - set(kept._decisions)
        self.store = kept
        self.epoch += 1

    @rule(number=st.integers(0, 1), point=st.sampled_from(POINTS))
    def forget_in_the_middle(self, number: int, point: str) -> None:
        self.workers[number].take((4, 4))
        self.workers[number].armed[point] = lambda: self.forget(0)
        self.attempt(number)


class TwinWorld(World):
    """And upstream puts a transaction on a second partition too."""

    @rule(which=st.integers(0, 50))
    def pay_elsewhere(self, which: int) -> None:
        if self.good:
            (partition, _), paid = list(self.good.items())[which % len(self.good)]
            record = self.append(1 - partition, paid.card_id.encode(), msgspec.json.encode(paid))
            self.good[record.partition, record.offset] = paid
            self.twins.add(paid.transaction_id)
