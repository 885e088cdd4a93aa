"""What is lost in Redis, from Kafka again, to the same bits: `riverwatch rebuild`.

While it runs the store refuses every change and workers wait. The logs give everything: decisions from
`scores`, profiles from `transactions` in the order the decisions record, label profiles and knowledge from
`labels` up to what the newest model has learned; the workers then go on from there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

import msgspec

from models.features.compute import features_of
from models.features.spec import FeatureSpec
from models.scoring.snapshot import SnapshotRefused
from stream.adapters.clients import recorded_seconds, redis_client
from stream.adapters.kafka.admin import check_topics, committed
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.models import ModelTopic, trusted
from stream.adapters.kafka.reader import TopicReader
from stream.adapters.kafka.scan import Progress, read_to_end
from stream.adapters.redis.codec import Codec
from stream.adapters.redis.due_queues import RedisDueQueue
from stream.adapters.redis.restore import RedisRestore
from stream.adapters.redis.store import layout_of
from stream.admission import Rejected, admit_label
from stream.config.factories import feature_spec, limits_of
from stream.config.settings import Settings
from stream.decisions import recent_activity
from stream.history.events import NO_FEATURES, Case, ReplayedEvents, Served, Turn, served_decoder
from stream.history.labels import Known, ReplayedLabels, Stood
from stream.learning import JOURNAL_KEPT, NOTHING_KNOWN, SILENCE, is_chosen
from stream.messages import Label, Time, decision_decoder, encode, transaction_decoder
from stream.ports import EntityRef
from stream.records import Record

_BATCH = 1000
_TRIES = 5
_ALERT = b',"alert_id":'
_ACTIVITY = b',"recent_activity":'


class LogIncomplete(Exception):  # noqa: N818 - a state of the logs that a person must decide about
    """The logs do not hold everything any more, so not everything can be rebuilt."""


class Rebuilt(NamedTuple):
    """What was put back.

    Attributes:
        remarks: what could not be as it was, and why.
    """

    decisions: int
    profiles: int
    label_profiles: int
    known: int
    waiting: int
    due: int
    remarks: tuple[str, ...]


class _Line(msgspec.Struct, frozen=True):
    transaction_id: str
    event_time: Time
    origin: tuple[int, int] = (-1, -1)


_line = msgspec.json.Decoder(_Line).decode


class _Named(msgspec.Struct, frozen=True):
    transaction_id: str


_named = msgspec.json.Decoder(_Named).decode


def rebuild(settings: Settings, *, progress: Progress | None = None, allow_gaps: bool = False) -> Rebuilt:
    """Take away what Redis holds under the prefix and put back what the logs say.

    Broken off, it leaves the store closed; run again, it begins anew.

    Args:
        settings: those that the workers run with.
        progress: called now and then with what is worked on, how much of it is done and how much there is.
        allow_gaps: go on although the beginning of a log is gone; profiles then lack what was in it.

    Raises:
        LogIncomplete: the beginning of a log is gone; nothing was changed.
        DependencyDown, TopicUnreadableError, TopicMismatch: Kafka or Redis does not answer, or has other
            topics than the settings say.
    """
    check_topics(settings)
    gone = [
        f"{settings.topic(name)}[{number}] begins at {low}"
        for name in ("transactions", "scores", "labels")
        for number, (low, _) in _bounds(settings, name).items()
        if low > 0
    ]
    if gone and not allow_gaps:
        raise LogIncomplete(
            f"the beginning of a log is gone ({', '.join(gone)}): profiles would lack it; restore "
            "a backup of Redis, or accept that with --allow-gaps"
        )
    spec = feature_spec(settings)
    client = redis_client(settings)
    restore = RedisRestore(client, settings.shards, settings.redis_prefix, layout_of(spec.half_lives))
    queue = RedisDueQueue(client, prefix=settings.redis_prefix)
    for _ in range(_TRIES):
        restore.begin()
        before = _bounds(settings, "scores")
        done = _Once(settings, spec, restore, queue, progress).run()
        # A worker that had recorded before it was stopped may have emitted since: then once more.
        if _bounds(settings, "scores") == before:
            break
    restore.end()
    remarks = (*done.remarks, *(f"the log is cut off: {where}" for where in gone))
    return done._replace(remarks=remarks)


def _bounds(settings: Settings, topic: str) -> dict[int, tuple[int, int]]:
    with TopicReader(settings, settings.topic(topic)) as reader:
        return reader.bounds()


class _Once:
    """One pass over the logs into an empty store."""

    def __init__(
        self,
        settings: Settings,
        spec: FeatureSpec,
        restore: RedisRestore,
        queue: RedisDueQueue,
        progress: Progress | None,
    ) -> None:
        self._settings = settings
        self._spec = spec
        self._restore = restore
        self._queue = queue
        self._progress = progress
        self._limits = limits_of(settings)
        self._codec = Codec(len(spec.half_lives))
        self._labels = ReplayedLabels(spec, self._limits, settings.genuine_rate, float(settings.decision_ttl))
        self._replay = ReplayedEvents(
            spec, self._codec, self._labels.profile, updated=lambda *_: None, read=self._on_read
        )
        self._now = time.time()
        self._events: dict[tuple[int, int], Record] = {}
        self._early: dict[tuple[int, int], tuple[Served, bytes]] = {}
        self._first: dict[int, bytearray] = {}
        self._dead: set[tuple[int, int]] = set()
        self._limit: dict[int, int] = {}
        self._unsaved: list[tuple[str, bytes, int]] = []
        self._late_alerts: dict[str, tuple[bytes, Served]] = {}
        self._counts: Counter[int] = Counter()
        self._copies = self._due = self._recorded = 0
        self._remarks: Counter[str] = Counter()

    def run(self) -> Rebuilt:
        settings = self._settings
        starts = {number: low for number, (low, _) in _bounds(settings, "transactions").items()}
        done = committed(settings, settings.group("score"), settings.topic("transactions"), starts)
        followed = committed(settings, settings.group("learn"), settings.topic("scores"), starts)
        learned_to = self._learned_to()
        tail = self._tail(done)
        for record in self._records("dead-letters"):
            self._letter(record)
        for record in self._records("labels"):
            self._labels.add(record)
        self._published()
        decided = self._follow_scores(followed, tail)
        for partition, acknowledged in done.items():
            self._limit[partition] = self._applied_to(partition, acknowledged, tail, decided)
        label_profiles, known, waiting = self._restore_labels(learned_to)
        self._side_by_side()
        self._finish()
        return Rebuilt(
            self._recorded,
            len(self._replay.profiles()),
            label_profiles,
            known,
            waiting,
            self._due,
            tuple(f"{count:,} x {text}" for text, count in self._remarks.items()),
        )

    # ---- reading

    def _batches(self, topic: str) -> Iterator[list[Record]]:
        return read_to_end(confluent(self._settings), self._settings.topic(topic), progress=self._progress)

    def _records(self, topic: str) -> Iterator[Record]:
        for batch in self._batches(topic):
            yield from batch

    def _learned_to(self) -> int:
        """The first label that the newest trusted model has not learned: the learner goes on from there.

        A model that is new here, or far behind, learns all that is acknowledged first
        (`stream.history.catch_up`).
        """
        settings = self._settings
        topic = ModelTopic(settings, name=settings.model)
        try:
            newest, refused = topic.latest()
        finally:
            topic.close()
        if newest is None and refused:
            return 0
        done = committed(settings, settings.group("learn"), settings.topic("labels"), [0])[0]
        learned_to = newest.manifest.next_offset if newest else 0
        is_near = newest is not None and learned_to + JOURNAL_KEPT >= done
        return learned_to if is_near else done

    def _published(self) -> None:
        """When labels had their standing at the latest: what waited for a decision then, is told by that."""
        key, name = self._settings.signing_key(), self._settings.model
        for record in self._records("models"):
            with suppress(SnapshotRefused):
                manifest, _ = trusted(record.value or b"", key, name=name)
                self._labels.add_published(manifest.next_offset, record.timestamp_ms / 1000.0)

    def _tail(self, done: Mapping[int, int]) -> dict[tuple[int, int], str | None]:
        """The events that are not acknowledged, and whose they are."""
        with TopicReader(self._settings, self._settings.topic("transactions")) as reader:
            return {
                (record.partition, record.offset): _name(record.value)
                for record in reader.until_end(from_offsets=done)
                if record.offset >= done[record.partition]
            }

    def _letter(self, record: Record) -> None:
        told = dict(record.headers)
        partition, offset = told.get("partition", b""), told.get("offset", b"")
        if not (partition.isdigit() and offset.isdigit()):
            return
        if told.get("topic") == self._settings.topic("transactions").encode():
            self._dead.add((int(partition), int(offset)))
        elif told.get("reason") == b"unknown_transaction" and record.key is not None:
            last = told.get("waited", offset)
            self._labels.add_in_vain(record.key.decode(errors="replace"), int(offset), int(last))

    def _follow_scores(
        self, followed: Mapping[int, int], tail: Mapping[tuple[int, int], str | None]
    ) -> set[str]:
        """The decisions of labelled transactions, what falls due, and which of the tail is decided."""
        wanted = {name for name in tail.values() if name}
        decided: set[str] = set()
        due: dict[int, list[tuple[float, str]]] = {}
        for record in self._records("scores"):
            try:
                line = _line(record.value or b"")
            except msgspec.DecodeError:
                continue
            name = line.transaction_id
            if name in wanted:
                decided.add(name)
            if self._labels.wants(name):
                self._labels.add_decision(name, record.value or b"")
            if (
                record.offset < followed.get(record.partition, 0)
                and is_chosen(name, self._settings.genuine_rate)
                and name not in self._labels.silent
            ):
                waiting = due.setdefault(record.partition, [])
                waiting.append((line.event_time.timestamp() + self._settings.maturity, name))
                if len(waiting) == _BATCH:
                    self._queue.add(record.partition, due.pop(record.partition))
                self._due += 1
        for partition, waiting in due.items():
            self._queue.add(partition, waiting)
        return decided

    def _applied_to(
        self,
        partition: int,
        acknowledged: int,
        tail: Mapping[tuple[int, int], str | None],
        decided: set[str],
    ) -> int:
        """The first event of a partition that nobody has seen the outcome of: it is delivered again."""
        limit = acknowledged
        for place in sorted(place for place in tail if place[0] == partition):
            if tail[place] not in decided and place not in self._dead:
                break
            limit = place[1] + 1
        return limit

    # ---- labels

    def _restore_labels(self, learned_to: int) -> tuple[int, int, int]:
        labels, restore = self._labels, self._restore
        journal: list[tuple[str, int, str]] = []
        first = max(learned_to - JOURNAL_KEPT, 0)

        def stood(label: Stood) -> None:
            if first <= label.offset < learned_to:
                journal.append((label.name, label.offset, label.standing[0].upper()))

        known = labels.play(stood, at=learned_to)
        restore.standings(journal)
        ttl = float(self._settings.decision_ttl)
        restore.expiring(
            "k",
            (
                (name, each.stored, left)
                for name, each in known.items()
                if (left := self._left(each, ttl)) > 0
            ),
        )
        count = 0
        profiles: list[tuple[str, bytes]] = []
        for name in labels.entities():
            updates = labels.updates(name, until=learned_to - 1)
            profile = labels.profile(name, updates) if updates else None
            if profile is not None:
                profiles.append((name, self._codec.packed_labels(profile)))
                count += 1
            if len(profiles) == _BATCH:
                restore.profiles("l", profiles)
                profiles.clear()
        restore.profiles("l", profiles)
        if learned_to:
            for shard in range(self._settings.shards):
                fence = learned_to - 1
                restore.fields(shard, "labels", {"standings": fence, "profiles": fence, "passed": fence})
        return count, len(known), self._restore_room(learned_to)

    def _left(self, known: Known, ttl: float) -> int:
        return int(known.came + ttl - self._now)

    def _restore_room(self, learned_to: int) -> int:
        """Labels whose transaction has no decision wait: of each the latest knowledge."""
        room: dict[str, tuple[float, int, int, bytes]] = {}
        for record in self._records("labels"):
            if record.offset >= learned_to:
                continue
            label = admit_label(record, self._limits)
            if isinstance(label, Rejected) or not self._labels.waits(label.transaction_id, record.offset):
                continue
            known_at, name = _known_at(label), label.transaction_id
            before = room.get(name)
            if before is None or known_at >= before[0]:
                room[name] = (known_at, record.offset, record.offset, record.value or b"")
            else:
                room[name] = (*before[:2], record.offset, before[3])
        self._restore.room(
            (name, known_at, (b"%d" % at if at == last else b"%d:%d" % (at, last)) + b" " + value)
            for name, (known_at, at, last, value) in room.items()
        )
        return len(room)

    # ---- events

    def _side_by_side(self) -> None:
        events, decisions = self._batches("transactions"), self._batches("scores")
        more_events = more_decisions = True
        while more_events or more_decisions:
            if more_events and (len(self._events) <= len(self._early) or not more_decisions):
                batch = next(events, None)
                more_events = batch is not None
                for record in batch or ():
                    self._event(record)
            else:
                batch = next(decisions, None)
                more_decisions = batch is not None
                for record in batch or ():
                    self._decision(record)

    def _event(self, record: Record) -> None:
        place = (record.partition, record.offset)
        if place in self._dead:
            return
        found = self._early.pop(place, None)
        if found is None:
            self._events[place] = record
        else:
            self._meet(record, *found)

    def _decision(self, record: Record) -> None:
        try:
            decision = served_decoder.decode(record.value or b"")
        except msgspec.DecodeError:
            return
        partition, offset = decision.origin
        if partition < 0:
            return
        first = self._first.setdefault(partition, bytearray())
        if offset >= len(first):
            first.extend(bytes(offset + 1 - len(first)))
        if first[offset]:
            return
        first[offset] = 1
        event = self._events.pop(decision.origin, None)
        if event is None:
            self._early[decision.origin] = (decision, record.value or b"")
        else:
            self._meet(event, decision, record.value or b"")

    def _meet(self, record: Record, decision: Served, value: bytes) -> None:
        if record.offset >= self._limit[record.partition]:
            self._record_unread(decision, value)
            return
        payment = transaction_decoder.decode(record.value or b"")
        case = Case(record, payment, decision, value, self._spec)
        if case.agrees:
            self._replay.apply(case)
        else:
            self._remarks["decisions name other entities than their events: not in profiles"] += 1
            self._record_unread(decision, value)

    def _on_read(self, case: Case) -> None:
        value, readings = case.value, [reading for reading in case.readings if reading is not None]
        complete = len(readings) == len(case.entities)
        if (
            case.decision.features == NO_FEATURES and complete
        ):  # they are kept off the topic, and follow from it
            features = features_of(case.payment, case.event, case.kinds, tuple(readings), self._spec)
            value = encode(msgspec.structs.replace(decision_decoder.decode(value), features=features))
        if case.decision.action != "approve":
            refs = [EntityRef(kind, "", 0) for kind in case.kinds]
            value += b"\n" + encode(recent_activity(refs, readings) if complete else [])
        self._save(case.decision, value)

    def _record_unread(self, decision: Served, value: bytes) -> None:
        """A decision whose event is delivered again, or is gone: as it was emitted."""
        if decision.action == "approve":
            self._save(decision, value)
        else:
            self._late_alerts[decision.transaction_id] = (value, decision)

    def _save(self, decision: Served, raw: bytes) -> None:
        name = decision.transaction_id
        left = int(decision.decided_at.timestamp() + recorded_seconds(self._settings) - self._now)
        if left <= 0:  # forgotten in its time
            self._counts[self._restore.shard_of(name)] += 1
            return
        self._unsaved.append((name, raw, left))
        if len(self._unsaved) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        for (name, _, _), new in zip(self._unsaved, self._restore.expiring("d", self._unsaved), strict=True):
            self._counts[self._restore.shard_of(name)] += new
            self._recorded += new
        self._unsaved.clear()

    def _finish(self) -> None:
        self._replay.finish(self._on_disorder)
        for decision, value in self._early.values():
            self._record_unread(decision, value)
        self._save_late_alerts()
        self._flush()
        for place, record in self._events.items():
            if place[1] < self._limit[place[0]]:
                if _name(record.value) is None:
                    self._remarks["acknowledged events have neither decision nor dead letter"] += 1
                else:
                    self._copies += 1
        profiles = self._replay.profiles()
        self._restore.profiles("e", profiles.items())
        rejected = sum(offset < self._limit.get(partition, 0) for partition, offset in self._dead)
        fences = {f"fence:{number}": limit - 1 for number, limit in self._limit.items() if limit}
        for shard in range(self._settings.shards):
            counts = {"decided": self._counts[shard]}
            if shard == 0:
                counts |= {"rejected": rejected, "copies": self._copies}
            self._restore.fields(
                shard, "partitions", {name: count for name, count in counts.items() if count} | fences
            )

    def _save_late_alerts(self) -> None:
        """Alerts whose profiles are not read here: what was known of the card stands on the alert."""
        if not self._late_alerts:
            return
        for record in self._records("alerts"):
            name = _name(record.value)
            found = self._late_alerts.pop(name or "", None)
            if found is not None:
                _, decision = found
                head, _, rest = (record.value or b"").partition(_ALERT)
                activity = rest.partition(_ACTIVITY)[2][:-1]
                self._save(decision, head + b"}\n" + activity)
        for value, decision in self._late_alerts.values():
            self._remarks["alerts were not found on their topic: recorded without recent activity"] += 1
            self._save(decision, value + b"\n[]")

    def _on_disorder(self, _name: str, _turn: Turn, _held: int) -> None:
        self._remarks[
            "updates of profiles whose recorded order has gaps: applied as nearly as can be told"
        ] += 1


def _name(value: bytes | None) -> str | None:
    try:
        return _named(value or b"").transaction_id
    except (msgspec.DecodeError, RecursionError):
        return None


def _known_at(label: Label) -> float:
    return NOTHING_KNOWN if label.source == SILENCE else label.known_at.timestamp()
