"""An experiment from its plan to its result: a pass (two where a change is injected), then the measures."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from infra import compiled_modules as compiled
from models.features.descriptions import check_crosses
from models.features.spec import DEFAULT_SPEC, FeatureSpec, SpecError, load_spec
from models.scoring.calibration import NEGATIVE_SAMPLING_RATE
from producers.files.cleaning import Cleaning
from producers.sources.open_source import DELAY, Source, SourceError, open_source
from stream.experiment.choose import choose_models
from stream.experiment.engine import Engine, EngineSettings
from stream.experiment.injections import (
    Injection,
    InjectionError,
    Injector,
    frauds_of,
    needs_frauds,
    parse_injection,
)
from stream.experiment.measures.measure import Rules, day_name
from stream.experiment.measures.recovery import injected_of
from stream.experiment.measures.results import Experiment
from stream.experiment.measures.summary import account_of, alarms_of, model_result, span_of, table_of
from stream.experiment.silent_engine import SilentEngine
from stream.experiment.topics.range import TopicRange
from stream.experiment.topics.results import account_with, span_until, told_of
from stream.experiment.topics.source import TopicSource
from stream.policy import Policy

Progress = Callable[[str, int, int | None, float], None]  # stage, done, in all, event time


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do.

    Attributes:
        data: a file, or `simulated:N`; of topics their name.
        topics: the range of them that is read instead; None for other data.
        schema: MAP.toml of a file.
        models: names, or `module:function`.
        features: a feature spec (TOML); None: the default one.
        label_delay: seconds; None: as the mapping says.
        evaluate_from, evaluate_to: midnights (UTC); `to` is not included.
        drop_known_cards: leave out, each day, cards already known defrauded.
        negative_sampling_rate: share of the genuine transactions that is learned.
        seed: of the models that draw, of the simulated world and of the intervals.
        inject: changes, as `stream.experiment.injections` writes them.
        policy: gives the alert budget (`review_share`) and the cost of a review.
        rounds: of the bootstrap; 0 gives no intervals.
    """

    data: str
    topics: TopicRange | None = None
    schema: Path | None = None
    models: tuple[str, ...] = ("default",)
    features: Path | None = None
    label_delay: float | None = None
    evaluate_from: datetime | None = None
    evaluate_to: datetime | None = None
    drop_known_cards: bool = False
    negative_sampling_rate: float = NEGATIVE_SAMPLING_RATE
    seed: int = 1
    inject: tuple[str, ...] = ()
    policy: Policy = Policy()
    rounds: int = 200


def run_experiment(plan: Plan, *, progress: Progress = lambda *_: None) -> Experiment:
    """Run an experiment. Ctrl-C ends the pass, and what was seen until then is measured.

    Raises:
        SourceError, DatasetError, MappingError, SpecError, InjectionError: the plan cannot be followed.
        ModelChoiceError, UnknownModelError, ModelFailedError: a model cannot be had, or raised.
    """
    begun, cpu = time.perf_counter(), time.process_time()
    started = datetime.now(UTC)
    spec = _spec(plan.features)
    injections = [parse_injection(text) for text in plan.inject]
    if plan.evaluate_from and plan.evaluate_to and plan.evaluate_to <= plan.evaluate_from:
        raise SourceError("--evaluate-to: it must lie after --evaluate-from; the day itself is not included")

    undisturbed: Engine | None = None
    if injections:
        undisturbed, _, _, stopped = _pass(plan, spec, (), None, "undisturbed", progress)
        if stopped:
            raise KeyboardInterrupt
    frauds = frozenset[str]()
    if needs_frauds(injections):
        frauds = frauds_of(_source(plan, spec)[0].items)
        if not frauds:
            raise InjectionError(f"--inject {plan.inject[0]!r}: no fraud is known in {plan.data}")
    injector = Injector(injections, frauds)
    stage = "disturbed" if injections else "evaluating"
    engine, source, topics, stopped = _pass(
        plan, spec, injections, injector if injections else None, stage, progress
    )

    rules = Rules(
        drop_known_cards=plan.drop_known_cards,
        label_delay=source.label_delay,
        review_cost=plan.policy.review_cost,
        rounds=plan.rounds,
        seed=plan.seed,
    )
    if not len(engine.times):
        raise SourceError(
            f"{plan.data}: {'stopped before' if stopped else 'it holds not'} one transaction"
            f"{_why_none(topics or source.cleaning)}"
        )
    if injections and not injector.changed and not stopped:
        raise InjectionError(
            f"--inject {plan.inject[0]!r}: it changes nothing: {plan.data} goes from "
            f"{day_name(min(engine.times))} to {day_name(max(engine.times))}"
        )
    table, rows = table_of(engine)
    if not rows.size:
        raise SourceError(
            f"{plan.data}: no transaction has a label that became known; nothing can be measured"
            + (
                " (what nobody reports is assumed genuine after --maturity)"
                if plan.topics is not None
                else ""
            )
        )
    start, end = span_of(engine, plan.evaluate_from, plan.evaluate_to, source.label_delay)
    if isinstance(engine, SilentEngine):
        start, end = span_until(engine, (start, end), begins=plan.evaluate_from, data=plan.data)
    results = {}
    for candidate in engine.candidates:
        if candidate.is_frozen:
            continue
        progress(f"measuring {candidate.name}", 0, None, end)
        results[candidate.name] = model_result(engine, candidate, table, rows, (start, end), rules)
    injected = None if undisturbed is None else injected_of(undisturbed, engine, injections, injector.changed)
    seconds, used = time.perf_counter() - begun, time.process_time() - cpu
    passes = len(engine.times) + (0 if undisturbed is None else len(undisturbed.times))
    return Experiment(
        data=source.name,
        settings=_settings(plan, spec, source),
        is_partial=stopped,
        evaluated_from=day_name(start),
        evaluated_to=day_name(end),
        account=account_with(account_of(engine, source.cleaning), topics, engine),
        models=results,
        alarms=alarms_of(engine),
        injected=injected,
        run={
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "cpu_seconds": round(used, 3),
            "microseconds_per_event": used / passes * 1e6,
            "machine": f"{platform.machine()}, {platform.system()}",
            "python": platform.python_version(),
            "arithmetic": "compiled" if compiled.in_use() else "interpreted",
            "river": version("river"),
            "riverwatch": version("riverwatch"),
        },
    )


def _spec(path: Path | None) -> FeatureSpec:
    if path is None:
        return DEFAULT_SPEC
    spec = load_spec(path)
    try:
        check_crosses(spec)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error
    return spec


def _source(plan: Plan, spec: FeatureSpec) -> tuple[Source, TopicSource | None]:
    """What is gone through; of topics, also what counts their messages."""
    if plan.topics is not None:
        found = TopicSource(plan.topics, spec)
        items, rows = found.items(), plan.topics.records
        return Source(plan.data, items, rows, None, DELAY.total_seconds()), found
    source = open_source(
        plan.data, schema=plan.schema, label_delay=plan.label_delay, seed=plan.seed, every_label=True
    )
    return source, None


def _pass(
    plan: Plan,
    spec: FeatureSpec,
    injections: Sequence[Injection],
    injector: Injector | None,
    stage: str,
    progress: Progress,
) -> tuple[Engine, Source, TopicSource | None, bool]:
    """One pass over the data; whether it was interrupted."""
    source, topics = _source(plan, spec)
    candidates = choose_models(
        plan.models,
        negative_sampling_rate=plan.negative_sampling_rate,
        seed=plan.seed,
        spec=spec,
        policy=plan.policy,
    )
    engine = (Engine if topics is None else SilentEngine)(
        candidates,
        EngineSettings(
            spec=spec,
            negative_sampling_rate=plan.negative_sampling_rate,
            freeze_at=min((each.start.timestamp() for each in injections), default=None),
            explain_from=plan.evaluate_from.timestamp() if plan.evaluate_from else 0.0,
        ),
    )
    items = source.items if injector is None else injector(source.items)
    stopped = False
    try:
        engine.run(
            items,
            progress=lambda done, at: progress(stage, topics.done if topics else done, source.rows, at),
        )
    except KeyboardInterrupt:
        stopped = True
    if isinstance(engine, SilentEngine) and topics is not None:
        engine.correct(topics.corrected)
    return engine, source, topics, stopped


def _why_none(told: TopicSource | Cleaning | None) -> str:
    lines = told.lines()[1:3] if told is not None else []
    return f": {'; '.join(lines)}" if lines else ": the data are empty"


def _settings(plan: Plan, spec: FeatureSpec, source: Source) -> dict[str, Any]:
    """Everything that decides the result, by name."""
    return {
        "data": source.name,
        "schema": plan.schema.name if plan.schema else None,
        "models": plan.models,
        "label_delay": source.label_delay,
        "evaluate_from": f"{plan.evaluate_from:%Y-%m-%d}" if plan.evaluate_from else None,
        "evaluate_to": f"{plan.evaluate_to:%Y-%m-%d}" if plan.evaluate_to else None,
        "drop_known_cards": plan.drop_known_cards,
        "negative_sampling_rate": plan.negative_sampling_rate,
        "review_share": plan.policy.review_share,
        "review_cost": plan.policy.review_cost,
        "seed": plan.seed,
        "bootstrap_rounds": plan.rounds,
        "inject": plan.inject,
        **({} if plan.topics is None else told_of(plan.topics)),
        "features": msgspec.to_builtins(spec),
    }
