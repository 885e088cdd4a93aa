"""Reads the topic of models, learns the log of labels again, and puts both before the judge of models."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from models.features.spec import FeatureSpec
from models.scoring.snapshot import SnapshotRefused
from stream.adapters.kafka.models import PublishedModel, opened, trust_of, trusted
from stream.config.factories import new_model
from stream.config.settings import Settings, SettingsError
from stream.history.labels import ReplayedLabels, ResolvedLabel
from stream.messages import manifest_decoder
from stream.records import Record
from stream.verify.model_judge import JudgedModel, judge_models
from stream.verify.promises import UNTRUSTED, Findings
from stream.views import UNREADABLE, features_of_json

BUILT = 3  # of the newest models on the topic, as many are tried until one can be built
SAMPLE = 300  # examples whose predictions are compared


class ModelAudit:
    """Promise 6, and of promise 3 what is in the published model.

    Args:
        settings: those that the workers run with.
        spec: the features.
        findings: take what is broken.

    Attributes:
        newest: the newest model that can be trusted, after `read`.
        text: what was looked at, in figures.
    """

    def __init__(self, settings: Settings, spec: FeatureSpec, findings: Findings) -> None:
        self._settings = settings
        self._findings = findings
        self._sample = _Sample()
        self._refused: set[str] = set()
        self._model: Any = new_model(settings, spec)
        self._learned = 0
        self.newest: PublishedModel | None = None
        self.text = "no model"

    def add_example(self, features: bytes) -> None:
        """Features as served, JSON: the predictions for some of them are compared."""
        self._sample.add(features)

    def read(self, records: Iterable[Record]) -> None:
        """The topic of models: find the newest that can be trusted; whatever cannot is said."""
        settings, good = self._settings, 0
        try:
            trust = trust_of(settings)
        except SettingsError as error:
            self._findings.remark(6, f"no model was checked: {error}", unjudged=True)
            self._findings.remark(3, "without the key no model was compared")
            return
        refused: set[str] = set()
        versions: set[str] = set()
        newest: list[tuple[int, int, bytes]] = []
        for record in records:
            if record.key != settings.model.encode() or record.value is None:
                continue
            try:
                manifest, _ = trusted(record.value, trust)
            except SnapshotRefused as refusal:
                self._findings.broken(6, UNTRUSTED, f"models offset {record.offset}: {refusal.reason}")
                refused.add(_version(record.value))
                continue
            good += 1
            versions.add(manifest.version)
            newest = sorted([*newest, (manifest.next_offset, record.offset, record.value)])[-BUILT:]
        for _, offset, value in reversed(newest):
            try:
                self.newest = opened(value, trust)
                break
            except SnapshotRefused as refusal:
                self._findings.broken(6, UNTRUSTED, f"models offset {offset}: {refusal.reason}")
        self._refused = refused - versions
        self.text = f"{good:,} models on the topic, each verified by its signature"

    def learn(self, resolved: ResolvedLabel) -> None:
        """The next label of the log: learned as far as the published model has learned."""
        until = 0 if self.newest is None else self.newest.manifest.next_offset
        if resolved.features and resolved.offset < until:
            self._model.learn_one(features_of_json(resolved.features), resolved.is_fraud)
            self._learned += 1
            self._sample.add(resolved.features)

    def judge(self, labels: ReplayedLabels) -> str:
        """Compare the newest model with the one learned here; returns what was compared, in figures."""
        if self.newest is None:
            return "no model to compare"
        manifest = self.newest.manifest
        if manifest.next_offset > labels.end:
            what = "a model has learned labels that the log does not hold"
            self._findings.broken(3, what, f"{manifest.version}, and the log ends at {labels.end}")
            return "no model to compare"
        compared = judge_models(
            self._findings,
            JudgedModel(manifest.version, manifest.learned, self.newest.model),
            JudgedModel(manifest.version, self._learned, self._model),
            [features_of_json(row) for row in self._sample.rows],
        )
        return f"{manifest.version}: {manifest.learned:,} examples, {compared:,} predictions compared"

    def judge_versions(self, used: set[str]) -> None:
        """No decision may name a version that was refused."""
        for version in sorted(used & self._refused):
            self._findings.broken(6, "a model that cannot be trusted has decided", version)


class _Sample:
    """A fair sample of examples, the same in every run (reservoir sampling, Vitter 1985)."""

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


def _version(value: bytes) -> str:
    try:
        return manifest_decoder.decode(value).version
    except UNREADABLE:
        return ""
