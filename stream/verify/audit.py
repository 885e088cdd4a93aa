"""Reads the topics and Redis from the side and puts them before the judges: `riverwatch verify`.

It may run beside the workers. What moves is read in an order that keeps the comparison exact: what is
acknowledged and what the store holds first, the topics after it. The topic of scores is read twice: for the
decisions of labelled transactions, then beside the transactions.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from confluent_kafka.admin import AdminClient

from stream.adapters.clients import recorded_seconds, redis_client
from stream.adapters.kafka.admin import check_topics, committed, is_another, topic_ids
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.scan import Progress
from stream.adapters.redis.codec import Codec
from stream.adapters.redis.dump import AppliedOffsets, Held, RedisDump, digest_of
from stream.adapters.redis.logs import RedisLogs
from stream.config.factories import limits_of
from stream.config.settings import Settings
from stream.dead_letters import DeadLetter
from stream.decisions import split_recorded
from stream.history.topics import TopicHistory
from stream.records import Record
from stream.verify.event_judge import ALWAYS, EventJudge
from stream.verify.label_judge import LabelsSeen, judge_labels
from stream.verify.model_audit import ModelAudit
from stream.verify.promises import AuditReport, Findings
from stream.verify.seen import Seen
from stream.views import NO_FEATURES, read_served_decision, transaction_id_of

_SLACK = 60.0  # seconds that clocks and expiry may differ
_BATCH = 1000


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
        self._topics = TopicHistory(settings, progress)
        self._spec = self._topics.spec
        self._limits = limits_of(settings)
        self._codec = Codec(len(self._spec.half_lives))
        self._client = redis_client(settings)
        self._dump = RedisDump(self._client, settings.shards, settings.redis_prefix)
        self._findings = Findings()
        self._labels = self._topics.new_labels()
        self._models = ModelAudit(settings, self._spec, self._findings)
        self._now = time.time()

    def run(self) -> AuditReport:
        """Read everything and judge it.

        Raises:
            DependencyDown, TopicMismatch: Kafka or Redis does not answer, or has other topics than the
                settings say.
        """
        settings, topics, labels = self._settings, self._topics, self._labels
        check_topics(settings)
        starts, labels_start = topics.starts("transactions"), topics.starts("labels")[0]
        scores_start, letters_start = topics.starts("scores"), topics.starts("dead-letters")[0]
        done = committed(settings, settings.group("score"), settings.topic("transactions"), starts)
        learned_to = committed(settings, settings.group("learn"), settings.topic("labels"), [0])[0]
        cut_off = [
            f"{settings.topic(name)}[{number}] begins at {low}"
            for name, lows in (("transactions", starts), ("scores", scores_start))
            for number, low in lows.items()
            if low > 0
        ]
        if topics.epochs.newest:
            cut_off.append(f"{settings.topic('transactions')} is in epoch {topics.epochs.newest}")
        self._judge_epoch()
        seen, seen_labels = self._seen(starts, done, ", ".join(cut_off))
        letters = [(record._replace(value=None), letter) for record, letter in topics.dead_letters()]
        if letters and letters_start > 0:
            self._judge_from(letters[0][0])
        for record in topics.records("labels"):
            labels.add(record)
        self._add_waiting()  # once more: what came to wait while the log was read
        unprocessable = {
            letter.offset
            for record, letter in letters
            if letter.topic == "labels" and not labels.add_dead_letter(record.key, letter)
        }
        self._follow_scores(scores_start)
        labels.is_whole = labels_start == 0 and (not cut_off or self._find_decisions())
        self._models.read(topics.records("models"))
        labels.play(self._models.learn)
        predictions = self._judge_labels(seen_labels)
        self._judge_label_log(learned_to, unprocessable)
        judge = self._judge_events(seen, letters)
        self._models.judge_versions(judge.decisions.versions)
        return self._report(judge, predictions)

    # ---- reading

    def _seen(
        self, starts: Mapping[int, int], done: Mapping[int, int], cut_off: str
    ) -> tuple[Seen, LabelsSeen]:
        """What the store holds now."""
        dump = self._dump
        applied_offsets = dump.applied_offsets()
        self._judge_applied_offsets(applied_offsets, done)
        counts = dump.counts()
        self._add_waiting()
        seen_labels = LabelsSeen(
            _pairs(dump.label_profiles()),
            dump.known(),
            lambda name: applied_offsets[dump.shard_of(name)].statuses,
            lambda name: applied_offsets[dump.shard_of(name)].label_profiles,
        )
        seen = Seen(
            starts,
            done,
            lambda name, partition: applied_offsets[dump.shard_of(name)].events.get(partition, -1),
            _pairs(dump.profiles()),
            digest_of,
            self._now + _SLACK - recorded_seconds(self._settings),
            counts,
            cut_off,
            self._topics.epochs,
        )
        return seen, seen_labels

    def _add_waiting(self) -> None:
        for name, entry in self._dump.pending():
            self._labels.add_pending(name, entry)

    def _judge_from(self, first: Record) -> None:
        """A log has lost what came before this record: nothing is missed of events older than it."""
        start, end = self._within
        self._within = (max(start, first.timestamp_ms / 1000.0), end)

    def _follow_scores(self, starts: dict[int, int]) -> None:
        """The decisions of labelled transactions, and examples for models to be compared by."""
        for record in self._topics.records("scores"):
            if starts.pop(record.partition, 0) > 0:
                self._judge_from(record)
            decision = read_served_decision(record.value)
            if decision is None:
                continue  # said when the decisions are judged
            name, value = decision.transaction_id, record.value or b""
            if self._labels.wants(name):
                if decision.features == NO_FEATURES and (recorded := self._dump.recorded([name])[0]):
                    value, _ = split_recorded(recorded)
                self._labels.add_decision(name, value)
            if decision.features != NO_FEATURES:
                self._models.add_example(bytes(decision.features))

    def _find_decisions(self) -> bool:
        """Decisions of labelled transactions that have gone from the topic: Redis may have them still."""
        missing = list(self._labels.undecided())
        for at in range(0, len(missing), _BATCH):
            names = missing[at : at + _BATCH]
            for name, raw in zip(names, self._dump.recorded(names), strict=True):
                if raw is not None:
                    self._labels.add_decision(name, split_recorded(raw)[0])
        return next(self._labels.undecided(), None) is None

    # ---- judging

    def _judge_applied_offsets(self, applied_offsets: list[AppliedOffsets], done: Mapping[int, int]) -> None:
        for shard, applied_offset in enumerate(applied_offsets):
            for partition, acknowledged in done.items():
                applied = applied_offset.events.get(partition, -1) + 1
                if applied < acknowledged:
                    self._findings.broken(
                        2,
                        "Redis has applied fewer events than were acknowledged; workers go back by "
                        "themselves, and if it lost all: `riverwatch rebuild`",
                        f"partition {partition}, shard {shard}: {applied} of {acknowledged}",
                    )

    def _judge_epoch(self) -> None:
        """The logs are those that were worked on, and epochs those that are told of."""
        settings, logs = self._settings, RedisLogs(self._client, self._settings.redis_prefix)
        names = {settings.topic(name): name for name in ("transactions", "labels", "scores", "dead-letters")}
        known = logs.known(names.values())
        for topic, topic_id in topic_ids(AdminClient(confluent(settings)), names).items():
            noted = known.get(names[topic])
            if noted is not None and is_another(noted.topic_id, topic_id):
                self._findings.broken(
                    2,
                    "a topic is not the one that was worked on: it was made anew (`riverwatch adopt`)",
                    f"{topic}: its id was {noted.topic_id} and is {topic_id}",
                )
        events = known.get("transactions")
        if events is not None and events.history().all != self._topics.epochs.all:
            self._findings.broken(
                2,
                "the epochs of transactions in Redis are not those on the topic `drift`",
                f"{events.history().all} and {self._topics.epochs.all}",
            )

    def _judge_labels(self, seen: LabelsSeen) -> str:
        """What labels have made of profiles, knowledge and the model; returns what was compared of models."""
        if not self._labels.is_whole:
            return "no model was compared"
        judge_labels(
            self._findings,
            self._labels,
            seen,
            digest=lambda profile: digest_of(self._codec.packed_labels(profile)),
            remembered=self._now + _SLACK - float(self._settings.decision_ttl),
        )
        return self._models.judge(self._labels)

    def _judge_label_log(self, learned_to: int, unprocessable: set[int]) -> None:
        if not self._labels.is_whole:
            self._findings.remark(
                3,
                "labels, or decisions they speak of, have gone from the logs: they cannot be played again",
                unjudged=True,
            )
        for offset in sorted(self._labels.rejected - unprocessable):
            if offset < learned_to:
                what = "a label that cannot be processed has no dead letter"
                self._findings.broken(4, what, f"label {offset}")
        newest = self._models.newest
        if newest is not None and newest.manifest.next_offset < learned_to:
            self._findings.broken(
                4,
                "labels are acknowledged that no published model has seen",
                f"{newest.manifest.version} and labels up to {learned_to}",
            )
        waiting = sum(not self._labels.is_decided(name) for name, _ in self._labels.unresolved())
        if waiting:
            self._findings.remark(3, f"{waiting:,} labels found no decision: they wait, or are dead letters")

    def _judge_events(self, seen: Seen, letters: Sequence[tuple[Record, DeadLetter]]) -> EventJudge:
        judge = EventJudge(
            self._findings,
            seen,
            self._labels,
            self._codec,
            spec=self._spec,
            limits=self._limits,
            topic=self._settings.topic("transactions"),
            within=self._within,
        )
        for record, _ in letters:
            judge.add_dead_letter(record.headers)

        def decided(batch: list[Record]) -> None:
            names = [transaction_id_of(record.value) for record in batch]
            asked = list({name for name in names if name})
            recorded = dict(zip(asked, self._dump.recorded(asked), strict=True)) if asked else {}
            for name, record in zip(names, batch, strict=True):
                judge.add_decision(record, recorded.get(name) if name else None)

        events, decisions = self._topics.batches("transactions"), self._topics.batches("scores")
        judge.join.read(events, decisions, event=judge.add_event, decided=decided)
        judge.finish()
        return judge

    def _report(self, judge: EventJudge, predictions: str) -> AuditReport:
        found, decisions = self._findings, judge.decisions
        judged = {
            1: f"{decisions.decided:,} decisions, {decisions.duplicates:,} sent again as they were",
            2: f"{judge.profiles:,} profiles and the features of {judge.features:,} decisions, to the bit",
            3: f"{len(self._labels):,} labels; {predictions}",
            4: f"{judge.events:,} events = {judge.applied:,} decided + {judge.duplicates:,} duplicates + "
            f"{judge.rejected:,} dead letters + {judge.lag:,} to come"
            + (f" + {judge.lost:,} lost" if judge.lost else "")
            + (f" + {judge.outside:,} undecided outside of what is judged" if judge.outside else ""),
            6: self._models.text,
        }
        promises = {number: found.promise(number, text) for number, text in judged.items()}
        verdicts = [promises[number].verdict for number in (1, 2)]
        if "broken" in verdicts or "not judged" in verdicts:
            found.remark(5, "what it might have changed shows as promises 1 and 2", unjudged=True)
        promises[5] = found.promise(5, "by its effects: no second decision, no event in a profile twice")
        return AuditReport([promises[number] for number in sorted(promises)])


def _pairs(held: Mapping[str, Held]) -> dict[str, tuple[int, bytes]]:
    return {name: (updates, digest) for name, (updates, digest) in held.items()}
