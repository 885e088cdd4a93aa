"""Reads the topics and Redis from the side and puts them before the judge: `riverwatch verify`.

It may run beside the workers. What moves is read in an order that keeps the comparison exact: what is
acknowledged and what the store holds first, the topics after it. The topic of scores is read twice: for the
decisions of labelled transactions, then beside the transactions.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from models.features.spec import FeatureSpec
from models.scoring.snapshot import SnapshotRefused
from stream.adapters.clients import recorded_seconds, redis_client
from stream.adapters.kafka.admin import check_topics, committed
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.models import Published, opened
from stream.adapters.kafka.reader import TopicReader
from stream.adapters.kafka.scan import Progress, read_to_end
from stream.adapters.redis.codec import Codec
from stream.adapters.redis.dump import Fences, Held, RedisDump, digest_of
from stream.config.factories import classes_of, feature_spec, limits_of, new_model
from stream.config.settings import Settings, SettingsError
from stream.history.events import NO_FEATURES
from stream.history.labels import ReplayedLabels, Stood
from stream.messages import manifest_decoder
from stream.records import Record
from stream.verify.judge import (
    UNTRUSTED,
    EventJudge,
    Findings,
    LabelsSeen,
    Model,
    Promise,
    Seen,
    judge_labels,
    judge_models,
)

ALWAYS = (float("-inf"), float("inf"))
SAMPLE = 300  # examples whose predictions are compared
_SLACK = 60.0  # seconds that clocks and expiry may differ


class Report(msgspec.Struct, frozen=True):
    """The verdict on every promise."""

    promises: list[Promise]

    @property
    def is_broken(self) -> bool:
        """One promise is broken."""
        return any(promise.verdict == "broken" for promise in self.promises)


class _Sample:
    """A fair sample of examples, the same in every run."""

    def __init__(self) -> None:
        self.rows: list[bytes] = []
        self._seen = 0
        self._chance = random.Random(1)

    def add(self, row: bytes) -> None:
        self._seen += 1
        if len(self.rows) < SAMPLE:
            self.rows.append(row)
        elif (at := self._chance.randrange(self._seen)) < SAMPLE:
            self.rows[at] = row


class _Line(msgspec.Struct, frozen=True):
    transaction_id: str
    features: msgspec.Raw = NO_FEATURES


_line = msgspec.json.Decoder(_Line).decode
_features = msgspec.json.Decoder(dict[str, float]).decode


class Audit:
    """One verification.

    Args:
        settings: addresses, and what the workers run with.
        within: arrival times in Kafka, seconds, from and to: decisions and features are judged in there.
        progress: called now and then with a topic, the messages read and how many it seemed to hold.
    """

    def __init__(
        self, settings: Settings, *, within: tuple[float, float] = ALWAYS, progress: Progress | None = None
    ) -> None:
        self._settings = settings
        self._within = within
        self._progress = progress
        self._spec: FeatureSpec = feature_spec(settings)
        self._codec = Codec(len(self._spec.half_lives))
        self._dump = RedisDump(redis_client(settings), settings.shards, settings.redis_prefix)
        self._client: dict[str, Any] = confluent(settings)
        self._findings = Findings()
        self._limits = limits_of(settings)
        self._labels = ReplayedLabels(
            self._spec, self._limits, settings.genuine_rate, float(settings.decision_ttl)
        )
        self._sample = _Sample()
        self._versions: set[str] = set()
        self._scores_start: dict[int, int] = {}
        self._letters_start = 0
        self._now = time.time()

    def run(self) -> Report:
        """Read everything and judge it.

        Raises:
            DependencyDown, TopicUnreadableError, TopicMismatch: Kafka or Redis does not answer, or has other
                topics than the settings say.
        """
        settings, dump = self._settings, self._dump
        check_topics(settings)
        starts = self._starts("transactions")
        done = committed(settings, settings.group("score"), settings.topic("transactions"), starts)
        labels_start = self._starts("labels")[0]
        self._scores_start = self._starts("scores")
        self._letters_start = self._starts("dead-letters")[0]
        learned_to = committed(settings, settings.group("learn"), settings.topic("labels"), [0])[0]
        fences = dump.fences()
        counts = dump.counts()
        remembered = self._now + _SLACK - recorded_seconds(settings)
        for name, entry in dump.room():
            self._labels.add_waiting(name, entry)
        seen_labels = LabelsSeen(
            _pairs(dump.label_profiles()),
            dump.known(),
            lambda name: fences[dump.shard_of(name)].standings,
            lambda name: fences[dump.shard_of(name)].label_profiles,
        )
        cut_off = [
            f"{self._settings.topic(name)}[{number}] begins at {low}"
            for name, lows in (("transactions", starts), ("scores", self._scores_start))
            for number, low in lows.items()
            if low > 0
        ]
        seen = Seen(
            starts,
            done,
            lambda name, partition: fences[dump.shard_of(name)].events.get(partition, -1),
            _pairs(dump.profiles()),
            digest_of,
            remembered,
            counts,
            ", ".join(cut_off),
        )
        self._judge_fences(fences, done)
        letters = list(self._records("dead-letters"))
        if letters and self._letters_start > 0:
            self._judge_from(letters[0])
        for record in self._records("labels"):
            self._labels.add(record)
        for name, entry in dump.room():  # once more: what came to wait while the log was read
            self._labels.add_waiting(name, entry)
        in_vain = self._label_letters(letters)
        for record in self._records("scores"):
            self._follow(record)
        self._labels.is_whole = labels_start == 0 and (not cut_off or self._find_decisions())
        models, model_text = self._models()
        learner = self._learner(models)
        self._labels.play(learner)
        predictions = "no model was compared"
        if self._labels.is_whole:
            judge_labels(
                self._findings,
                self._labels,
                seen_labels,
                digest=lambda profile: digest_of(self._codec.packed_labels(profile)),
                remembered=self._now + _SLACK - float(settings.decision_ttl),
            )
            predictions = self._judge_model(models, learner)
        self._judge_label_log(learned_to, models, in_vain)
        judge = EventJudge(
            self._findings,
            seen,
            self._labels,
            self._codec,
            spec=self._spec,
            limits=self._limits,
            topic=settings.topic("transactions"),
            within=self._within,
        )
        for record in letters:
            judge.add_dead_letter(record.headers)
        del letters
        self._side_by_side(judge)
        judge.finish()
        self._judge_versions(judge.versions)
        return self._report(judge, predictions, model_text)

    # ---- reading

    def _starts(self, topic: str) -> dict[int, int]:
        with TopicReader(self._settings, self._settings.topic(topic)) as reader:
            return {number: low for number, (low, _) in reader.bounds().items()}

    def _batches(self, topic: str) -> Iterator[list[Record]]:
        return read_to_end(self._client, self._settings.topic(topic), progress=self._progress)

    def _records(self, topic: str) -> Iterator[Record]:
        for batch in self._batches(topic):
            yield from batch

    def _find_decisions(self) -> bool:
        """Decisions of labelled transactions that have gone from the topic: Redis may have them still."""
        missing = list(self._labels.undecided())
        for at in range(0, len(missing), 1000):
            names = missing[at : at + 1000]
            for name, raw in zip(names, self._dump.recorded(names), strict=True):
                if raw is not None:
                    self._labels.add_decision(name, raw.partition(b"\n")[0])
        return next(self._labels.undecided(), None) is None

    def _judge_from(self, first: Record) -> None:
        """A log has lost what came before this record: nothing is missed of events older than it."""
        start, end = self._within
        self._within = (max(start, first.timestamp_ms / 1000.0), end)

    def _follow(self, record: Record) -> None:
        """A decision, for what labels say of it."""
        if self._scores_start.pop(record.partition, 0) > 0:
            self._judge_from(record)
        try:
            line = _line(record.value or b"")
        except msgspec.DecodeError:
            return  # said when the decisions are judged
        value = record.value or b""
        wanted = self._labels.wants(line.transaction_id)
        if wanted and line.features == NO_FEATURES:
            [recorded] = self._dump.recorded([line.transaction_id])
            value = recorded.partition(b"\n")[0] if recorded else value
        if wanted:
            self._labels.add_decision(line.transaction_id, value)
        if line.features != NO_FEATURES:
            self._sample.add(bytes(line.features))

    def _side_by_side(self, judge: EventJudge) -> None:
        """Events and decisions, whichever is behind, so that little has to wait for its counterpart."""
        events, decisions = self._batches("transactions"), self._batches("scores")
        more_events = more_decisions = True
        while more_events or more_decisions:
            if more_events and (judge.wants_events or not more_decisions):
                batch = next(events, None)
                more_events = batch is not None
                for record in batch or ():
                    judge.add_event(record)
            else:
                batch = next(decisions, None)
                more_decisions = batch is not None
                self._decisions(judge, batch or [])

    def _decisions(self, judge: EventJudge, batch: list[Record]) -> None:
        names = [_name(record.value) for record in batch]
        asked = list({name for name in names if name})
        recorded = dict(zip(asked, self._dump.recorded(asked), strict=True)) if asked else {}
        for name, record in zip(names, batch, strict=True):
            judge.add_decision(record, recorded.get(name) if name else None)

    # ---- judging what is not of single events

    def _judge_fences(self, fences: list[Fences], done: dict[int, int]) -> None:
        for shard, fence in enumerate(fences):
            for partition, acknowledged in done.items():
                if fence.events.get(partition, -1) + 1 < acknowledged:
                    self._findings.broken(
                        2,
                        "Redis has applied fewer events than were acknowledged; workers go back by "
                        "themselves, and if it lost all: `riverwatch rebuild`",
                        f"partition {partition}, shard {shard}: {fence.events.get(partition, -1) + 1} of "
                        f"{acknowledged}",
                    )

    def _label_letters(self, letters: list[Record]) -> set[int]:
        """The labels that became dead letters; those that waited in vain are told to the replay."""
        found: set[int] = set()
        for record in letters:
            told = dict(record.headers)
            offset = told.get("offset", b"")
            if told.get("topic") == self._settings.topic("labels").encode() and offset.isdigit():
                if told.get("reason") == b"unknown_transaction" and record.key is not None:
                    last = told.get("waited", offset)
                    self._labels.add_in_vain(record.key.decode(errors="replace"), int(offset), int(last))
                else:
                    found.add(int(offset))
        return found

    def _judge_label_log(self, learned_to: int, newest: Published | None, letters: set[int]) -> None:
        if not self._labels.is_whole:
            self._findings.remark(
                3,
                "labels, or decisions they speak of, have gone from the logs: they cannot be played again",
                unjudged=True,
            )
        for offset in sorted(self._labels.rejected - letters):
            if offset < learned_to:
                what = "a label that cannot be processed has no dead letter"
                self._findings.broken(4, what, f"label {offset}")
        if newest is not None and newest.manifest.next_offset < learned_to:
            self._findings.broken(
                4,
                "labels are acknowledged that no published model has seen",
                f"{newest.manifest.version} and labels up to {learned_to}",
            )
        waiting = sum(not self._labels.is_decided(name) for name, _ in self._labels.unresolved())
        if waiting:
            self._findings.remark(3, f"{waiting:,} labels found no decision: they wait, or are dead letters")

    def _models(self) -> tuple[Published | None, str]:
        """The newest model that can be trusted; whatever cannot is said."""
        newest: Published | None = None
        good = 0
        try:
            key = self._settings.signing_key()
        except SettingsError as error:
            self._findings.remark(6, f"no model was checked: {error}", unjudged=True)
            self._findings.remark(3, "without the key no model was compared")
            return None, "no model"
        refused: set[str] = set()
        trusted: set[str] = set()
        for record in self._records("models"):
            if record.key != self._settings.model.encode() or record.value is None:
                continue
            try:
                published = opened(
                    record.value, key, name=self._settings.model, allowed=classes_of(self._settings)
                )
            except SnapshotRefused as refusal:
                where = f"models offset {record.offset}: {refusal.reason}"
                self._findings.broken(6, UNTRUSTED, where)
                refused.add(_version(record.value))
                continue
            good += 1
            trusted.add(published.manifest.version)
            if newest is None or published.manifest.next_offset >= newest.manifest.next_offset:
                newest = published
        self._versions = refused - trusted
        return newest, f"{good:,} models on the topic, each verified by its signature"

    def _judge_versions(self, used: set[str]) -> None:
        for version in sorted(used & self._versions):
            self._findings.broken(6, "a model that cannot be trusted has decided", version)

    def _learner(self, newest: Published | None) -> _Learner:
        until = 0 if newest is None else newest.manifest.next_offset
        return _Learner(new_model(self._settings, self._spec), until, self._sample.add)

    def _judge_model(self, newest: Published | None, learner: _Learner) -> str:
        manifest = newest.manifest if newest else None
        if newest is None or manifest is None:
            return "no model to compare"
        if manifest.next_offset > self._labels.end:
            what = "a model has learned labels that the log does not hold"
            self._findings.broken(3, what, f"{manifest.version}, and the log ends at {self._labels.end}")
            return "no model to compare"
        compared = judge_models(
            self._findings,
            Model(manifest.version, manifest.learned, newest.model),
            Model(manifest.version, learner.learned, learner.model),
            [_features(row) for row in self._sample.rows],
        )
        return f"{manifest.version}: {manifest.learned:,} examples, {compared:,} predictions compared"

    def _report(self, judge: EventJudge, predictions: str, models: str) -> Report:
        found = self._findings
        judged = {
            1: f"{judge.decided:,} decisions, {judge.repeated:,} sent again as they were",
            2: f"{judge.profiles:,} profiles and the features of {judge.features:,} decisions, to the bit",
            3: f"{len(self._labels):,} labels; {predictions}",
            4: f"{judge.events:,} events = {judge.applied:,} decided + {judge.copies:,} copies + "
            f"{judge.rejected:,} dead letters + {judge.lag:,} to come"
            + (f" + {judge.lost:,} lost" if judge.lost else "")
            + (f" + {judge.outside:,} undecided outside of what is judged" if judge.outside else ""),
            6: models,
        }
        promises = {number: found.promise(number, text) for number, text in judged.items()}
        seen = [promises[number].verdict for number in (1, 2)]
        if "broken" in seen or "not judged" in seen:
            found.remark(5, "what it might have changed shows as promises 1 and 2", unjudged=True)
        promises[5] = found.promise(5, "by its effects: no second decision, no event in a profile twice")
        return Report([promises[number] for number in sorted(promises)])


class _Learner:
    """Learns what the replay says, up to where the published model has learned."""

    def __init__(self, model: Any, until: int, sample: Callable[[bytes], None]) -> None:
        self.model = model
        self.learned = 0
        self._until = until
        self._sample = sample

    def __call__(self, stood: Stood) -> None:
        if stood.features and stood.offset < self._until:
            self.model.learn_one(_features(stood.features), stood.is_fraud)
            self.learned += 1
            self._sample(stood.features)


def _pairs(held: dict[str, Held]) -> dict[str, tuple[int, bytes]]:
    return {name: (updates, digest) for name, (updates, digest) in held.items()}


def _name(value: bytes | None) -> str | None:
    try:
        return _line(value or b"").transaction_id
    except msgspec.DecodeError:
        return None


def _version(value: bytes) -> str:
    try:
        return manifest_decoder.decode(value).version
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
