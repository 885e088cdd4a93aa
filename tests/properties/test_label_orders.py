"""What an entity knows from labels, and what features say of it, is no matter of the order of labels."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from models.features.compute import event_of, features_of, label_delta_of
from models.features.decay import block_weights
from models.features.label_memory import LATEST, WEEK, WEEKS
from models.features.profiles import LabelProfile, ProfileSnapshot, empty, transaction_digest
from models.features.spec import DAY, DEFAULT_SPEC
from stream.adapters.memory.store import MemoryStore
from stream.adapters.redis.store import RedisStore
from stream.ports import EntityRef, LabelUpdate
from tests.support.builders import payment

HALF_LIVES = DEFAULT_SPEC.half_lives
ENTITIES = (("card", "c1"), ("card", "c2"), ("merchant", "m1"))
START = 1.7e9
Store = MemoryStore | RedisStore


class Labelled(NamedTuple):
    """A transaction with all that is ever said of it; `said` in the order of `known_at`."""

    time: float
    card: str
    said: list[bool]


# Mostly close together, some at the same moment, some so far apart that older ones are forgotten.
moments = st.one_of(
    st.floats(0.0, 40 * DAY), st.sampled_from([0.0, 1.0, 5 * DAY]), st.sampled_from([-700 * DAY, 800 * DAY])
)
worlds = st.lists(
    st.builds(
        Labelled,
        moments.map(lambda offset: START + offset),
        st.sampled_from(["c1", "c2"]),
        st.lists(st.booleans(), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=2 * LATEST,
)


def labels_of(world: list[Labelled], chance: random.Random) -> list[LabelUpdate]:
    """All labels of a world, in an order that nothing but chance gives."""
    said = [
        (number, known_at, is_fraud)
        for number, each in enumerate(world)
        for known_at, is_fraud in enumerate(each.said)
    ]
    chance.shuffle(said)
    return [
        LabelUpdate(
            offset,
            f"t{number}",
            is_fraud,
            float(known_at),
            label_delta_of(f"t{number}", world[number].time, is_fraud, DEFAULT_SPEC),
            (EntityRef("card", world[number].card, 0), EntityRef("merchant", "m1", 0)),
            b"",
        )
        for offset, (number, known_at, is_fraud) in enumerate(said)
    ]


def learned(store: Store, labels: Sequence[LabelUpdate], chance: random.Random) -> list[LabelProfile]:
    """What each entity knows after labels that came in batches; some of them twice."""
    begin = 0
    while begin < len(labels):
        end = begin + chance.randint(1, 12)
        store.apply_labels(labels[max(begin - chance.randint(0, 3), 0) : end], learned=0)
        begin = end
    return [store.label_profile(*entity) for entity in ENTITIES]


def of_the_set(world: list[Labelled], entity: tuple[str, str]) -> LabelProfile:
    """What the latest labels of an entity's transactions amount to, without any order of labels."""
    known = sorted(
        (
            (each.time, transaction_digest(f"t{number}"), each.said[-1])
            for number, each in enumerate(world)
            if entity[1] in (each.card, "m1")
        ),
        reverse=True,
    )
    frauds = sum(is_fraud for _, _, is_fraud in known)
    sums: list[float] = []
    for place in range(len(HALF_LIVES)):
        weighed = [(*block_weights(time, HALF_LIVES)[place], is_fraud) for time, _, is_fraud in known]
        latest = max((block for block, _, _ in weighed), default=0.0)
        sums.append(latest)
        for block in (latest, latest - 1.0):
            for wanted in (True, False):
                found = [w for at, w, is_fraud in weighed if (at, is_fraud) == (block, wanted)]
                sums.append(sum(found, 0.0))
    counted: dict[int, list[int]] = {}
    for time, _, is_fraud in known:
        week = int(time // WEEK)
        if is_fraud and week > known[0][0] // WEEK - WEEKS:
            counted.setdefault(week, []).append(int(time - week * WEEK))
    weeks = [float(n) for week, seconds in counted.items() for n in (week, len(seconds), sum(seconds))]
    return LabelProfile(
        0,
        frauds,
        len(known) - frauds,
        tuple(time for time, _, _ in known[:LATEST]),
        tuple(digest + is_fraud for _, digest, is_fraud in known[:LATEST]),
        tuple(weeks),
        tuple(sums),
    )


def told(profiles: list[LabelProfile], at: float) -> list[dict[str, float]]:
    """The features of a payment of each card at a moment."""
    paid = payment(0, start=datetime.fromtimestamp(at, UTC))
    event, nothing = event_of(paid, DEFAULT_SPEC), empty(len(HALF_LIVES))
    *cards, merchant = [ProfileSnapshot(nothing, profile) for profile in profiles]
    return [features_of(paid, event, ("card", "merchant"), (card, merchant), DEFAULT_SPEC) for card in cards]


def test_two_orders_of_the_same_knowledge_give_the_same_profiles_and_features(redis_url: str) -> None:
    def redis_store(shards: int) -> RedisStore:
        store = RedisStore(redis_url, HALF_LIVES, shards, decision_ttl_seconds=600, label_ttl_seconds=600)
        store._shards._client.flushdb()
        return store

    @given(worlds, st.randoms(use_true_random=False), st.sampled_from([-DAY, 0.0, 3600.0, 9 * DAY]))
    @settings(deadline=None, max_examples=60)
    def orders_agree(world: list[Labelled], chance: random.Random, later: float) -> None:
        expected = [of_the_set(world, entity) for entity in ENTITIES]
        moment = max(each.time for each in world) + later
        for _ in range(2):
            labels = labels_of(world, chance)
            in_memory = learned(MemoryStore(HALF_LIVES), labels, chance)
            for shards in (1, 4):
                store = redis_store(shards)
                assert learned(store, labels, chance) == in_memory
                store.close()
            # How many labels had an effect is where in their log a profile stands, not what it knows.
            known = [profile._replace(updates=0) for profile in in_memory]
            assert known == expected
            of_set = [profile._replace(updates=len(profile.times)) for profile in expected]
            assert told(in_memory, moment) == told(of_set, moment)

    orders_agree()
