"""Plays the decided events of each entity in the order recorded, and compares what was served and is held."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.second_judge import admission, findings
from tests.second_judge.account import Account, Joined
from tests.second_judge.arithmetic import KEPT, LabelProfile, Profile
from tests.second_judge.features import is_of_payment, of_entity, of_payment
from tests.second_judge.findings import Findings
from tests.second_judge.labels import LabelLog

Activity = list[dict[str, Any]]


class Turns:
    """Every decided event at each of its entities.

    One entity's profile depends on its own events alone, and the features of an entity on its profile alone:
    so the entities are played one after the other, and none waits for another.

    Args:
        account: holds the events with their decisions.
        labels: played already.
        activity: of each alert, by transaction.
    """

    def __init__(
        self, account: Account, labels: LabelLog, activity: Mapping[str, Activity], found: Findings
    ) -> None:
        self._account = account
        self._labels = labels
        self._activity = activity
        self._found = found
        self._names: dict[str, int] = {}
        self._entities, self._places, self._numbers = array("q"), array("q"), array("q")
        self._times = array("d")
        self.features = 0

    def add_all(self) -> None:
        """Take every decision in, and compare the features that need no profile."""
        for number in range(len(self._account.joined)):
            case = self._account.case(number)
            if case.features is not None:
                served = {name: value for name, value in case.features.items() if is_of_payment(name)}
                self._compare(case, "", served, of_payment(case.payment))
            for kind, key in case.payment.entities().items():
                _, events, _ = case.entities.get(kind, (key, -1, 0))
                if events >= 0:  # else it was told of its own that an entity is not named
                    name = f"{kind}:{key}"
                    self._entities.append(self._names.setdefault(name, len(self._names)))
                    self._places.append(events)
                    self._times.append(case.decided_at)
                    self._numbers.append(number)

    def play(self, held: dict[str, bytes], *, is_settled: bool) -> None:
        """Play all entities and compare what the decisions say, then what Redis holds.

        Args:
            held: the profiles of Redis, by entity.
            is_settled: every event is acknowledged, so Redis can hold no more than was decided.
        """
        entities = np.frombuffer(self._entities, np.int64)
        order = np.lexsort((np.frombuffer(self._times), np.frombuffer(self._places, np.int64), entities))
        begins = np.searchsorted(entities[order], np.arange(len(self._names) + 1))
        for name, number in self._names.items():
            profile = self._entity(name, order[begins[number] : begins[number + 1]])
            if profile is not None:
                self._compare_held(name, profile, held.get(name), is_settled=is_settled)
        for name in held.keys() - self._names.keys():
            if is_settled:
                self._found.add(findings.PROFILE_AHEAD, f"{name}, of which nothing was decided")

    def _entity(self, name: str, turns: Any) -> Profile | None:
        """The profile of an entity at the end; None where the decisions do not tell the order."""
        kind = name.partition(":")[0]
        profile = Profile()
        for turn in turns:
            before = self._places[turn]
            case = self._account.case(self._numbers[turn])
            if before != profile.updates:
                said = f"{name}: {case.transaction} says {before} where {profile.updates} must stand"
                self._found.add(findings.ORDER, said)
                return None
            self._judge(name, kind, case, profile)
            profile.add(case.payment, KEPT[kind])
        return profile

    def _judge(self, name: str, kind: str, case: Joined, profile: Profile) -> None:
        """A decision against what was known of one of its entities."""
        if kind == "card" and case.transaction in self._activity:
            self._compare_activity(case, profile)
        after = case.entities[kind][2]
        labels = self._labels.profile(name, after)
        if labels is None:
            said = f"{case.transaction}: {name} with {after} of {self._labels.updates(name)}"
            self._found.add(findings.LABELS_AHEAD, said)
        elif case.features is not None:
            prefix = kind + "."
            length = len(prefix)
            served = {
                each[length:]: value for each, value in case.features.items() if each.startswith(prefix)
            }
            self._compare(case, prefix, served, of_entity(kind, case.payment, profile, labels))

    def _compare(self, case: Joined, prefix: str, served: dict[str, float], own: dict[str, float]) -> None:
        self.features += len(own)
        if served == own:
            return
        for each in sorted(served.keys() | own.keys()):
            if served.get(each) != own.get(each):
                where = f"{case.transaction} (event {case.place[0]}/{case.place[1]})"
                said = f"{where}: {served.get(each)!r}, and it is {own.get(each)!r}"
                self._found.add(findings.feature(prefix + each), said)

    def _compare_activity(self, case: Joined, profile: Profile) -> None:
        own: Activity = []
        for recent_event in profile.recent_events:
            told = {
                "event_time": recent_event.time,
                "amount_minor": recent_event.amount_minor,
                "merchant_id": recent_event.merchant_id.decode(errors="ignore"),
            }
            if recent_event.country:
                told["country"] = recent_event.country.decode(errors="ignore")
            own.append(told)
        said = [
            {**each, "event_time": admission.seconds(each["event_time"])}
            for each in self._activity[case.transaction]
        ]
        if said != own:
            self._found.add(findings.ACTIVITY, case.transaction)

    def _compare_held(self, name: str, profile: Profile, raw: bytes | None, *, is_settled: bool) -> None:
        updates = 0 if raw is None else _updates(raw, 1 + raw[0])
        said = f"{name}: {updates} events, {profile.updates} decided"
        if updates > profile.updates:
            if is_settled:
                self._found.add(findings.PROFILE_AHEAD, said)
        elif updates < profile.updates:
            self._found.add(findings.PROFILE_LOST, said)
        elif raw != profile.packed():
            self._found.add(findings.PROFILE, f"{name} after {updates} events")

    def judge_labels(self, held: dict[str, bytes]) -> None:
        """What Redis holds of labels against the whole log of them."""
        for name in sorted({*held, *self._labels.entities()}):
            own: LabelProfile | None = self._labels.profile(name, self._labels.updates(name))
            raw = held.get(name)
            if own is None or (own.packed() if own.updates else None) != raw:
                updates = 0 if raw is None else _updates(raw, 2)
                said = f"{name}: {updates} labels, {self._labels.updates(name)} in the log"
                self._found.add(findings.LABEL_PROFILE, said)


def _updates(raw: bytes, at: int) -> int:
    """How many events, or labels, the bytes of a profile say they hold; their numbers begin at a place."""
    return int(np.frombuffer(raw, "<f8", count=1, offset=at)[0])
