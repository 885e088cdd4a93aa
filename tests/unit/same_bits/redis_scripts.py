"""A random installation on a Redis: what the Lua scripts are asked, and what they answer and leave behind."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, Final

from models.features.decay import weights
from models.features.profiles import Event, label_delta
from stream.adapters.redis.store import RedisStore
from stream.ports import EntityRef, EventUpdate, LabelsBehind, LabelUpdate, StaleOwner, StoreBehind
from tests.unit.same_bits.digest import Digest, plain

PARTITIONS: Final = 4
HALF_LIVES: Final = (60.0, 3600.0, 86_400.0)


class Shards:
    """A random installation: what is asked of Redis, and by question what it answered."""

    def __init__(self, url: str, shards: int) -> None:

        self.chance = Random(shards)
        self.store = RedisStore(
            url, HALF_LIVES, shards, decision_ttl_seconds=900, label_ttl_seconds=900, clock=lambda: 1.7e9
        )
        self.answers: dict[str, Digest] = {}
        self.refused = 0
        self.fencing_tokens = dict(self.ask("claim", lambda: self.store.claim(range(PARTITIONS))))
        self.before: dict[int, int] = {}
        self.ends = dict.fromkeys(range(PARTITIONS), -1)
        self.held = dict(self.ends)  # recorded
        self.updates: list[Any] = []
        self.labels: list[Any] = []
        self.passed = -1
        self.time = 1.7e9

    def below(self, limit: int) -> int:
        return int(self.chance.random() * limit)

    def ask(self, name: str, question: Callable[[], Any]) -> Any:
        """Ask, and take the answer, or why there is none, into the digest."""

        answer: Any = None
        try:
            answer = question()
            told = plain(answer)
        except StaleOwner:
            told = "stale owner"
        except StoreBehind as error:
            told = ["behind", plain(error.starts)]
        except LabelsBehind as error:
            told = ["labels behind", error.start]
        self.refused += answer is None and told is not None
        self.answers.setdefault(name, Digest()).add(repr(told).encode())
        return answer

    def entity(self, kind: str) -> Any:

        max_recent = {"card": 5, "merchant": 0, "device": self.below(3)}[kind]
        many = {"card": 60, "merchant": 12, "device": 30}[kind]
        return EntityRef(kind, f"{kind[0]}{self.below(1 + self.below(many))}", max_recent)

    def events(self) -> None:
        """A new batch; now and then one that was there already, in part, or one that is refused."""

        batch, first = [], dict(self.ends)
        for _ in range(1 + self.below(60)):
            partition = self.below(PARTITIONS)
            self.ends[partition] += 1 + self.below(2)
            late = 90_000 if self.below(30) == 0 else 0
            if self.below(4) == 0:  # else at the same time as the event before
                self.time += self.below(600_000) / 1000 + (40 * 86_400 if self.below(200) == 0 else 0)
            time = self.time - late
            amount = (1 + self.below(9_000) * (1 + 40 * (self.below(25) == 0))) / 100
            kinds = ("card", "merchant", "device")[: 2 + self.below(2)]
            recent_event = b"%d|%d" % (self.below(10**6), partition)
            event = Event(time, amount, math.log1p(amount), weights(time, HALF_LIVES), recent_event)
            batch.append(EventUpdate(partition, self.ends[partition], event, tuple(map(self.entity, kinds))))
        said = {
            p: [self.ends[p]] for p in range(PARTITIONS) if self.ends[p] > first[p] and self.below(4) == 0
        }
        given = [each for each in batch if each[1] not in said.get(each[0], ())]
        rejected, duplicates = (said, {}) if self.below(2) else ({}, said)
        if self.below(6) == 0:
            self.apply(
                "apply stale",
                given,
                {p: fencing_token - 1 for p, fencing_token in self.fencing_tokens.items()},
                self.held,
            )
        if self.below(6) == 0:
            self.apply(
                "apply behind", given, self.fencing_tokens, {p: end + 3 for p, end in self.ends.items()}
            )
        self.apply("apply", given, self.fencing_tokens, self.held, rejected, duplicates)
        if self.below(3) == 0:  # delivered again: all of it, or its end, before and after it is recorded
            again = given[self.below(len(given) or 1) :]
            self.apply("apply again", again, self.fencing_tokens, self.held, rejected, duplicates)
            self.apply("apply again", [*self.updates, *again], self.fencing_tokens, self.held)
        self.updates = given
        self.decide(given)
        if self.below(3):
            self.held = dict(self.ends)
        if self.below(12) == 0:
            fresh = self.ask("claim", lambda: self.store.claim([self.below(PARTITIONS)]))
            self.fencing_tokens.update(fresh)

    def apply(self, name: str, updates: list[Any], fencing_tokens: Any, recorded: Any, *said: Any) -> None:
        rejected, duplicates = said or ({}, {})
        known = sorted({*updates}, key=lambda each: each[:2])
        self.ask(
            name,
            lambda: self.store.apply(
                known,
                ends=self.ends,
                recorded=recorded,
                fencing_tokens=fencing_tokens,
                rejected=rejected,
                duplicates=duplicates,
            ),
        )

    def decide(self, updates: list[Any]) -> None:
        made = [
            (p, f"t{p}-{offset}", b'{"at":[%d,%d,%d]}' % (p, offset, self.below(99)))
            for p, offset, *_ in updates
        ]
        made += [(p, name, b'{"other":%d}' % self.below(99)) for p, name, _ in made if self.below(8) == 0]
        self.ask("record", lambda: self.store.record(made, fencing_tokens=self.fencing_tokens))
        stale = {p: fencing_token - 1 for p, fencing_token in self.fencing_tokens.items()}
        if self.below(5) == 0:
            self.ask("record stale", lambda: self.store.record([(0, "late", b"{}")], fencing_tokens=stale))
        names = [name for _, name, _ in made[::3]] + ["nobody"]
        self.ask("lookup", lambda: self.store.lookup(names))

    def inform(self) -> None:
        """A batch of labels: new ones, corrections, repeats, and such that wait; some come again."""

        offset, batch = self.passed, []
        for _ in range(1 + self.below(20)):
            offset += 1 + self.below(2)
            partition = self.below(PARTITIONS)
            name = f"t{partition}-{self.below(30)}"  # few, so that labels of one meet, also at one time
            at = self.time // 20_000 * 20_000 + self.below(8) * 2500 + self.below(2) / 8
            is_fraud = self.below(3) > 0
            delta, entities = None, ()
            if self.below(4):
                happened = self.time - self.below(10**6) / 8
                delta = label_delta(name, happened, is_fraud, HALF_LIVES)
                entities = tuple(map(self.entity, ("card", "merchant", "device")[: 1 + self.below(3)]))
            raw = b'%d {"is_fraud":%d}' % (offset, is_fraud)
            batch.append(LabelUpdate(offset, name, is_fraud, at, delta, entities, raw))
        store, before, learned = self.store, self.passed, max(self.passed - 30, 0)
        if self.below(5) == 0:
            self.ask("labels behind", lambda: store.apply_labels(batch, learned=learned, passed=offset + 9))
            self.ask("pass behind", lambda: store.advance_labels(offset, passed=offset + 9))
        self.ask("labels", lambda: store.apply_labels(batch, learned=learned, passed=before))
        if self.below(3) == 0:
            again = [*self.labels, *batch][self.below(10) :]
            self.ask("labels again", lambda: store.apply_labels(again, learned=learned, passed=before))
        self.ask("pass", lambda: store.advance_labels(offset, passed=before))
        self.labels, self.passed = batch, offset

    def pending(self) -> None:
        """Look among the pending labels; some leave it."""
        names = [label.transaction_id for label in self.labels]
        waiting = self.ask("waiting", lambda: self.store.pending(names))
        leaving = [(name, raw) for name, raw in zip(names, waiting, strict=True) if raw and self.below(2)]
        leaving += [(name, b"another") for name in names[:1]]
        self.ask("leave", lambda: self.store.remove_pending(leaving))
        expired = self.ask("expired", lambda: self.store.expired(self.time - 2000, 1 + self.below(9)))
        self.ask("leave", lambda: self.store.remove_pending(expired[:2]))

    def end(self) -> None:
        self.ask("counts", self.store.counts)
        self.ask("progress", lambda: self.store.progress(range(PARTITIONS + 1)))
        for kind in ("card", "merchant", "device"):
            for number in range(60):
                name = f"{kind[0]}{number}"
                self.ask("profile", partial(self.store.profile, kind, name))
                self.ask("profile", partial(self.store.label_profile, kind, name))
        self.store.close()


def stored_in(client: Any) -> str:
    """Every key, sorted, with its value and whether it expires."""
    keys = Digest()
    for key in sorted(client.keys("*")):
        kind = client.type(key)
        value: list[Any]
        if kind == b"string":
            value = [client.get(key)]
        elif kind == b"hash":
            value = sorted(client.hgetall(key).items())
        else:
            assert kind == b"zset"
            value = client.zrange(key, 0, -1, withscores=True)
        keys.add(key, kind, repr(plain(value)).encode(), b"%d" % (0 < client.ttl(key) <= 900))
    return keys.told()
