"""A replay of a file from its beginning, or from where it was interrupted, to its end or to Ctrl-C."""

from __future__ import annotations

import hashlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from models.features.spec import FeatureSpec
from models.scoring.snapshot import RIVER, SigningKey
from producers.sources.open_source import Source, SourceError, open_source
from stream.config.factories import feature_spec
from stream.config.settings import Settings
from stream.config.signing_key import model_key, read_private, signing_key, state_dir
from stream.replay.checkpoint import CheckpointError, Checkpoints
from stream.replay.parts import ReplayCounts
from stream.replay.replay import Replay
from stream.replay.store import DecisionFile, OutputChangedError

Progress = Callable[[str, int, int | None, float], None]  # stage, done, in all, event time

DECIDING: Final = (
    "model", "model_seed", "negative_sampling_rate", "maturity", "label_wait", "decision_ttl", "policy",
    "review_share", "decline_share", "review_cost", "decline_cost", "max_event_bytes", "future_tolerance",
    "card_numbers", "card_number_exempt",
)  # fmt: skip
"""The settings that an output is a function of."""


class FilePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do.

    Attributes:
        data: a file, or `simulated:N`.
        out: where decisions go.
        schema: MAP.toml of a file.
        checkpoint: a folder; None keeps none.
        checkpoint_every: seconds between two checkpoints, > 0.
        label_delay: seconds; None: as the mapping says.
        publish_every: seconds of event time between two models that score; 0: after every label.
        seed: of the simulated world.
    """

    data: str
    out: Path
    schema: Path | None = None
    checkpoint: Path | None = None
    checkpoint_every: float = 60.0
    label_delay: float | None = None
    publish_every: float = 0.0
    seed: int = 1


class Replayed(msgspec.Struct, frozen=True):
    """What was done.

    Attributes:
        resumed_at: transactions that were done already.
        lines: what happened to the rows of a file, for people.
    """

    counts: ReplayCounts
    is_finished: bool
    resumed_at: int
    seconds: float
    lines: list[str]


def replay_file(
    plan: FilePlan,
    settings: Settings,
    *,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = lambda *_: None,
    environ: Mapping[str, str] | None = None,
) -> Replayed:
    """Decide all of a file again, and write the decisions.

    Args:
        plan: what to do.
        settings: as the workers run with.
        stop: asked between two items; what is done is kept, with a checkpoint where the plan names a folder.
        progress: called now and then.
        environ: where the key of hashed columns is looked for.

    Raises:
        SourceError, DatasetError, MappingError, SpecError: the plan cannot be followed.
        CheckpointError, OutputChangedError: the replay cannot be gone on with.
    """
    begun = time.perf_counter()
    spec = feature_spec(settings)
    source = open_source(
        plan.data,
        schema=plan.schema,
        label_delay=plan.label_delay,
        seed=plan.seed,
        environ=environ,
    )
    key = _key(settings) if plan.checkpoint else None
    checkpoints = None
    state = None
    if plan.checkpoint is not None and key is not None:
        checkpoints = Checkpoints(plan.checkpoint, key, _identity(plan, source, settings, spec))
        state = checkpoints.read()
    try:
        length, crc = (state.out_length, state.out_crc) if state else (0, 0)
        out = DecisionFile(plan.out, length=length, crc=crc)
    except OSError as error:
        raise SourceError(f"--out {plan.out}: {error.strerror}") from error
    try:
        replay = Replay(settings, spec, out, publish_every=plan.publish_every, state=state, key=key)
        resumed_at = replay.counts.transactions
        due = time.monotonic() + plan.checkpoint_every

        def pause() -> None:
            nonlocal due
            if checkpoints is not None and key is not None and time.monotonic() >= due:
                checkpoints.write(replay.state(key))
                due = time.monotonic() + plan.checkpoint_every

        is_finished = replay.run(
            islice(source.items, replay.items, None),
            stop=stop,
            progress=lambda done, at: progress("replaying", done, source.rows, at),
            pause=pause,
        )
        if checkpoints is not None and key is not None:
            checkpoints.write(replay.state(key))
    finally:
        out.close()
    lines = source.cleaning.lines() if source.cleaning is not None else []
    if is_finished and not replay.counts.transactions:
        why = "; ".join(lines[1:3]) or "the data are empty"
        raise SourceError(f"{plan.data}: it holds not one transaction: {why}")
    return Replayed(replay.counts, is_finished, resumed_at, time.perf_counter() - begun, lines)


@contextmanager
def told_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM came, while the block lasts; a second one does what it did before."""
    asked = threading.Event()
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(_number: int, _frame: object) -> None:
        restore()
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, ask)
    try:
        yield asked.is_set
    finally:
        restore()


def _key(settings: Settings) -> SigningKey:
    """The key that signs checkpoints: the models' own, or one of this user's, made where there is none."""
    if settings.model_key or settings.model_key_file:
        return signing_key(settings)
    try:
        return read_private(model_key(state_dir(settings)))
    except OSError as error:
        raise CheckpointError(
            f"no key to sign the checkpoint: {error}; set RIVERWATCH_MODEL_KEY_FILE to a file made by "
            "`riverwatch keys new`"
        ) from error


def _identity(plan: FilePlan, source: Source, settings: Settings, spec: FeatureSpec) -> dict[str, str]:
    """By name, what an output is a function of."""
    values = {name: str(getattr(settings, name)) for name in DECIDING}
    features = hashlib.sha256(msgspec.json.encode(spec)).hexdigest()[:16]
    return {
        **_data_identity(plan, source),
        **values,
        "features": features,
        "publish every": str(plan.publish_every),
        "riverwatch": version("riverwatch"),
        "river": RIVER,
    }


def _data_identity(plan: FilePlan, source: Source) -> dict[str, str]:
    delay = str(source.label_delay)
    if source.mapping is None or plan.schema is None:
        return {"data": plan.data, "seed": str(plan.seed), "label delay": delay}
    return {
        "data": f"{source.name} ({_digest(Path(plan.data))})",
        "schema": f"{plan.schema.name} ({_digest(plan.schema)})",
        "label delay": delay,
        "hash key": source.mapping.hash("riverwatch")[:16] if source.mapping.hash else "none",
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


__all__ = ["CheckpointError", "FilePlan", "OutputChangedError", "Replayed", "replay_file", "told_to_stop"]
