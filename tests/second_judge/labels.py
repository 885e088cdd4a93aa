"""What the log of labels amounts to: each label its status, once, in the order of the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.second_judge import admission, findings
from tests.second_judge.arithmetic import LabelDelta, LabelProfile
from tests.second_judge.findings import Findings
from tests.second_judge.topics import Record


class Decided(NamedTuple):
    """What a label needs of the decision on its transaction."""

    event_time: float
    entities: tuple[str, ...]


class _Label(NamedTuple):
    offset: int
    transaction: str
    is_fraud: bool
    known_at: float


class LabelLog:
    """Takes the labels and their dead letters, then gives the label profile of any entity after n labels."""

    def __init__(self, rules: admission.Rules) -> None:
        self._rules = rules
        self._labels: list[_Label] = []
        self._refused: dict[int, str] = {}
        self._waited: dict[str, int] = {}
        self._deltas: dict[str, list[LabelDelta]] = {}
        self._profiles: dict[str, LabelProfile] = {}
        self.end = 0

    def add(self, record: Record) -> None:
        """The next record of the topic."""
        self.end = record.offset + 1
        verdict = admission.label(record, self._rules)
        if verdict.reason:
            self._refused[record.offset] = verdict.reason
            return
        fields = verdict.fields
        # What is assumed is older than all that anybody may know.
        known_at = 0.0 if fields["source"] == "maturity" else fields["known_at"]
        name = fields["transaction_id"]
        self._labels.append(_Label(record.offset, name, fields["is_fraud"], known_at))
        if waited := record.header("waited"):
            self.add_waited(name, int(waited))

    def add_waited(self, transaction: str, offset: int) -> None:
        """The labels of a transaction found no decision up to an offset."""
        self._waited[transaction] = max(offset, self._waited.get(transaction, -1))

    def judge_letters(self, letters: dict[int, str], acknowledged: int, found: Findings) -> None:
        """Whether each label that must be refused was, and no other."""
        for offset, reason in letters.items():
            own = self._refused.get(offset, "")
            if reason == "unknown_transaction" and not own:
                continue
            if not own:
                found.add(findings.REFUSED, f"label {offset}, {reason}")
            elif own != reason and not {own, reason} <= admission.MALFORMED:
                found.add(findings.OTHER_REASON, f"label {offset}: {reason}, and it is {own}")
        for offset, reason in self._refused.items():
            if offset < acknowledged and offset not in letters:
                found.add(findings.NO_LETTER, f"label {offset}, {reason}")

    def play(self, decided: Callable[[str], Decided | None]) -> None:
        """Let every label have its effect, given the decision on a transaction, if there is one."""
        known: dict[str, tuple[bool, float]] = {}
        for offset, name, is_fraud, known_at in self._labels:
            before = known.get(name)
            if before is not None and before[0] == is_fraud:
                known[name] = (is_fraud, max(before[1], known_at))  # says nothing new
                continue
            if before is not None and known_at < before[1]:
                continue  # overruled by what is known already
            decision = decided(name) if offset > self._waited.get(name, -1) else None
            if decision is None:
                continue  # it waits, and has its effect when it stands in the log again
            known[name] = (is_fraud, known_at)
            for entity in decision.entities:
                adds = LabelDelta(name, decision.event_time, is_fraud, before is not None)
                self._deltas.setdefault(entity, []).append(adds)

    def entities(self) -> list[str]:
        """Those that have labels."""
        return list(self._deltas)

    def updates(self, entity: str) -> int:
        """How many labels an entity has in all."""
        return len(self._deltas.get(entity, ()))

    def profile(self, entity: str, updates: int) -> LabelProfile | None:
        """The label profile after so many labels, None where there never were as many; not to be changed."""
        known = self._deltas.get(entity, [])
        if updates > len(known):
            return None
        profile = self._profiles.get(entity)
        if profile is None or profile.updates > updates:
            profile = self._profiles[entity] = LabelProfile()
        for each in known[profile.updates : updates]:
            profile.add(each)
        return profile
