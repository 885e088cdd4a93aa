"""What a fault run does, and when: the same for the same seed."""

from __future__ import annotations

from itertools import cycle
from random import Random
from typing import Final, NamedTuple

from stream.runtime.crash_points import LEARN, SCORE


class Step(NamedTuple):
    """One fault.

    Attributes:
        name: of the method of `Faults` that does it, underscores for spaces.
        seed: of the choices in it.
        points: for `crash points`: of the score and of the learn worker.
    """

    name: str
    seed: int
    points: tuple[str, str] = ("", "")


SHORT: Final = {
    "score worker killed": 1,
    "crash points": 1,
    "redis killed": 1,
    "broker killed": 1,
    "reply cut": 1,
    "bad input": 1,
    "models forged": 1,
    "learner killed": 1,
}
"""About a minute: for every change of the code. What it leaves out has its own test, or is in `LONG`."""

LONG: Final = {
    "score worker killed": 8,
    "score worker killed and restarted": 6,
    "crash points": 9,
    "learner killed": 4,
    "monitor killed": 3,
    "worker joins": 2,
    "worker drained": 2,
    "worker asleep": 2,
    "broker killed": 6,
    "broker restarted": 1,
    "broker away": 1,
    "redis killed": 10,
    "redis restarted": 2,
    "redis full": 1,
    "redis slow": 1,
    "reply cut": 2,
    "bad input": 4,
    "hot card": 1,
    "unknown labels": 1,
    "models forged": 2,
}
"""`crash points` kills three workers at random moments, and two at their points."""

FAILOVER: Final = {"redis failed over": 5, "score worker killed": 1, "learner killed": 1}
"""On a site whose Redis has a replica."""

CLUSTER: Final = {
    "slot moved": 6,
    "master killed": 4,
    "disk full": 2,
    "score worker killed": 1,
    "crash points": 2,
    "learner killed": 2,
}
"""On a site with a Redis Cluster, whose learners keep their decision logs on disk."""

EMPTY: Final = {"redis emptied": 3, "score worker killed": 2, "learner killed": 2}
"""What Kafka holds is put back by `riverwatch rebuild`, under traffic."""

LOG: Final = {
    "transactions aborted": 5,
    "transaction left open": 3,
    "producer fenced": 3,
    "score worker killed": 2,
    "crash points": 1,
    "learner killed": 2,
    "broker killed": 1,
}
"""What producers, operators and brokers do to the topics themselves."""

LOG_SHORT: Final = {
    "transactions aborted": 1,
    "transaction left open": 1,
    "producer fenced": 1,
    "score worker killed": 1,
    "learner killed": 1,
}

EACH: Final = dict.fromkeys(LONG, 1)
"""Every fault once: some four minutes."""


def schedule(seed: int, plan: dict[str, int]) -> list[Step]:
    """The faults of a plan in the order of a seed; each named crash point as often as the plan has steps.

    >>> schedule(7, SHORT) == schedule(7, SHORT)
    True
    """
    chance = Random(seed)
    steps = [Step(name, chance.getrandbits(32)) for name, times in plan.items() for _ in range(times)]
    chance.shuffle(steps)
    scores, learns = cycle(chance.sample(SCORE, len(SCORE))), cycle(chance.sample(LEARN, len(LEARN)))
    return [
        step._replace(points=(next(scores), next(learns))) if step.name == "crash points" else step
        for step in steps
    ]
