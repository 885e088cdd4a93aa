"""Every setting, where its value comes from, and nothing that reads the world at import.

A value comes from the first of: a flag, the environment (`RIVERWATCH_...`), `riverwatch.toml`, the running
`riverwatch up` (addresses only), the default. Only entry points call `load`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from models.scoring.calibration import NEGATIVE_SAMPLING_RATE
from models.scoring.registry import why_not
from models.snapshots.pickles import has_power
from stream.config.redis_url import redis_url_problem, without_password

PREFIX = "RIVERWATCH_"
CONFIG_FILE = "riverwatch.toml"
OTHERS = ("CONFIG", "HASH_KEY", "HASH_KEY_FILE", "CRASH_AT")  # variables that are no settings

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_LONGEST = 1e12  # seconds, and of any unit: no duration is that long
_DURATION = re.compile(r"^\s*(\d{1,12}(?:\.\d+)?)\s*(ms|s|m|h|d|w)?\s*$")

Share = Annotated[float, Meta(gt=0.0, lt=1.0)]


class SettingsError(Exception):
    """A setting that cannot be used: its message names the setting, its source and what would do."""


def seconds(text: str | float) -> float:
    """A duration in seconds: a number, or a number with ms, s, m, h, d or w.

    >>> seconds("7d"), seconds("250ms"), seconds(3)
    (604800.0, 0.25, 3.0)
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool) and 0.0 <= text < _LONGEST:
        return float(text)
    match = _DURATION.match(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"'{text}' is no duration: write a number and ms, s, m, h, d or w, such as 7d")
    return float(match[1]) * _UNITS[match[2] or "s"]


class Duration(float):
    """Seconds; read from text such as `7d`."""

    __slots__ = ()


class Secret(str):
    """Text that is never shown."""

    __slots__ = ()


def _about(text: str) -> Meta:
    return Meta(description=text)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force. A field's name is its key in `riverwatch.toml` and, in capitals, its variable."""

    kafka_bootstrap: Annotated[str, _about("host:port of Kafka brokers, comma separated")] = "127.0.0.1:9092"
    kafka_security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], _about("how brokers are spoken to")
    ] = "PLAINTEXT"
    kafka_sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], _about("used with SASL_...")
    ] = "PLAIN"
    kafka_sasl_username: Annotated[str, _about("used with SASL_...")] = ""
    kafka_sasl_password: Annotated[Secret, _about("used with SASL_...; from the environment or a file")] = (
        Secret("")
    )
    kafka_ssl_ca_file: Annotated[str, _about("certificate authority of the brokers, a PEM file")] = ""
    redis_url: Annotated[str, _about("redis://, rediss:// or unix://")] = "redis://127.0.0.1:6379/0"
    redis_cluster: Annotated[bool, _about("the URL leads to a Redis Cluster")] = False
    redis_prefix: Annotated[str, _about("put before every key's name")] = "rw"
    redis_replicas: Annotated[
        int,
        Meta(
            ge=0,
            le=9,
            description="nothing leaves before so many replicas of each Redis server have what it rests on: "
            "a failover loses none of it; 0: not waited for",
        ),
    ] = 0
    redis_allow_eviction: Annotated[
        bool,
        _about(
            "work with a Redis that may evict what it holds (maxmemory-policy other than noeviction): no "
            "promise holds where it does, and every status says so"
        ),
    ] = False
    shards: Annotated[
        int,
        Meta(
            ge=1,
            le=1024,
            description="logical shards of the store; fixed for its life; 16 or more on a Cluster",
        ),
    ] = 1
    topic_prefix: Annotated[str, _about("put before every topic's name")] = ""
    partitions: Annotated[
        int, Meta(ge=1, le=4096, description="of transactions, scores and alerts: the most score workers")
    ] = 8
    replication: Annotated[int, Meta(ge=1, le=9, description="replicas of every topic")] = 1
    group_prefix: Annotated[str, _about("consumer groups are PREFIX-score, PREFIX-learn, PREFIX-monitor")] = (
        "riverwatch"
    )
    instance_id: Annotated[
        str, _about("static membership: a name for this worker that a restart keeps; must be unique")
    ] = ""
    session_timeout: Annotated[Duration, _about("a worker silent for so long loses its partitions")] = (
        Duration(10.0)
    )
    heartbeat_interval: Annotated[Duration, _about("how often a worker says it is there")] = Duration(3.0)
    commit_interval: Annotated[
        Duration, _about("acknowledged events are committed so often: what a crash at most delivers again")
    ] = Duration(0.25)
    batch_size: Annotated[int, Meta(ge=1, le=10_000, description="most events a batch")] = 500
    max_event_bytes: Annotated[int, Meta(ge=256, description="a larger event becomes a dead letter")] = 65_536
    future_tolerance: Annotated[
        Duration, _about("an event may be dated so far after its arrival; later ones become dead letters")
    ] = Duration(3600.0)
    decision_ttl: Annotated[
        Duration, _about("decisions are remembered so long: labels find them, duplicates are known")
    ] = Duration(90 * 86400.0)
    decision_log: Annotated[
        Literal["redis", "disk"], _about("where the learner finds features as served: redis, or its own disk")
    ] = "redis"
    duplicate_window: Annotated[
        Duration,
        _about("with decision_log = disk: decisions stay in Redis so long, where duplicates are known"),
    ] = Duration(7 * 86400.0)
    features_in_scores: Annotated[bool, _about("emit the features as served with every decision")] = True
    features_file: Annotated[str, _about("a feature specification (TOML); empty: the default one")] = ""
    model: Annotated[
        str,
        _about(
            "which model is learned and served, and its name on the topic models; `riverwatch experiment` "
            "compares them"
        ),
    ] = "default"
    model_seed: Annotated[int, Meta(ge=0, description="of a model that draws: that of the experiment")] = 1
    model_classes: Annotated[
        str,
        _about(
            "with model = module:function: classes it is made of (module.Class, comma separated), beside "
            "those of the models that riverwatch knows"
        ),
    ] = ""
    model_pickle: Annotated[
        bool, _about("publish and open models that are pickles, which are programs: River's and your own")
    ] = False
    model_key: Annotated[
        Secret, _about("the learner's private key, which signs models: 64 hexadecimal digits (Ed25519)")
    ] = Secret("")
    model_key_file: Annotated[str, _about("a file of the learner's alone (0600) with the model key")] = ""
    model_public_keys: Annotated[
        str,
        _about(
            "whose models are trusted, beside the model key's own: public keys, one a line, in a file or in "
            "the *.pub of a folder"
        ),
    ] = ""
    installation: Annotated[
        str,
        _about(
            "what models of this installation are signed for: others refuse them; empty: the id of the Kafka "
            "cluster and topic_prefix"
        ),
    ] = ""
    model_blob_dir: Annotated[
        str, _about("a folder that all workers share, for snapshots too large for a message")
    ] = ""
    negative_sampling_rate: Annotated[
        Share, _about("share of genuine transactions that is learned (all frauds are)")
    ] = NEGATIVE_SAMPLING_RATE
    maturity: Annotated[
        Duration, _about("a transaction nobody reports for so long counts as genuine (event time)")
    ] = Duration(30 * 86400.0)
    label_wait: Annotated[
        Duration, _about("a label waits so long for its transaction, then becomes a dead letter (event time)")
    ] = Duration(7 * 86400.0)
    snapshot_interval: Annotated[
        Duration, _about("labels are learned, and a model published, at most once in so long")
    ] = Duration(5.0)
    policy: Annotated[Literal["budget", "cost"], _about("decide by an alert budget, or by expected cost")] = (
        "budget"
    )
    review_share: Annotated[Share, _about("budget: share of transactions to review or decline")] = 0.01
    decline_share: Annotated[Share, _about("budget: share of transactions to decline")] = 0.002
    review_cost: Annotated[float, Meta(gt=0, description="cost: of one review, major units")] = 5.0
    decline_cost: Annotated[
        float, Meta(gt=0, description="cost: of declining a genuine payment, as a share of its amount")
    ] = 0.3
    card_numbers: Annotated[
        Literal["refuse", "allow"],
        _about("refuse what shows a card number (13 to 19 digits that pass Luhn, in any field)"),
    ] = "refuse"
    card_number_exempt: Annotated[str, _about("fields of decimal ids that may look like one")] = ""
    metrics_interval: Annotated[Duration, _about("the monitor reports so often (event time)")] = Duration(
        86400.0
    )
    quality_window: Annotated[Duration, _about("and measures quality over so much (event time)")] = Duration(
        14 * 86400.0
    )
    cards_per_day: Annotated[int, Meta(ge=1, description="k of card precision at k: cards checked a day")] = (
        100
    )
    state_dir: Annotated[str, _about("where local state is kept; empty: the user's state folder")] = ""
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], _about("how much is said")] = "INFO"

    def topic(self, name: str) -> str:
        """The full name of a topic."""
        return self.topic_prefix + name

    def custom_classes(self) -> tuple[tuple[str, str], ...]:
        """The classes of a model of the installation's own: module and name of each.

        Raises:
            SettingsError: one of them is no class's full name.
        """
        found = []
        for text in filter(None, map(str.strip, self.model_classes.split(","))):
            module, _, name = text.rpartition(".")
            if not all(map(str.isidentifier, text.split("."))) or not module:
                raise SettingsError(
                    f"model_classes: '{text}' is no class: write module.Class, comma separated"
                )
            if has_power(module):
                raise SettingsError(f"model_classes: '{text}' can do more than a model may: leave it out")
            found.append((module, name))
        return tuple(found)

    def group(self, name: str) -> str:
        """The full name of a consumer group."""
        return f"{self.group_prefix}-{name}"


FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}
RENAMED = {"genuine_rate": "negative_sampling_rate"}
"""Settings by the name they had, each with the one it has: the old one is refused, not ignored."""


def description(name: str) -> str:
    """What a setting means."""
    metas = get_args(FIELDS[name].type)[1:]
    return next(str(meta.description) for meta in metas if meta.description)


class LoadedSettings(msgspec.Struct, frozen=True):
    """Settings, and for each where its value came from."""

    settings: Settings
    sources: dict[str, str]


def _hook(kind: type, value: Any) -> Any:
    if kind is Duration:
        return Duration(seconds(value))
    if kind is Secret:
        if not isinstance(value, str):
            raise ValueError("a secret is text: write it in quotes")
        return Secret(value)
    raise NotImplementedError(kind)


def _convert(name: str, value: Any, source: str) -> Any:
    try:
        return msgspec.convert(value, FIELDS[name].type, strict=False, dec_hook=_hook)
    except (msgspec.ValidationError, ValueError) as error:
        kind = get_args(FIELDS[name].type)[0]
        shown = "(hidden)" if kind is Secret else repr(value)
        would_do = f": one of {', '.join(get_args(kind))}" if get_origin(kind) is Literal else ""
        raise SettingsError(f"{name} = {shown} ({source}): {error}{would_do}") from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: {error}") from error
    for key in found:
        if key in RENAMED:
            raise SettingsError(f"{path}: the setting '{key}' is named '{RENAMED[key]}' now: rename it")
        if key not in FIELDS:
            near = difflib.get_close_matches(key, FIELDS, n=1)
            hint = f"; did you mean {near[0]}?" if near else "; `riverwatch config` lists the settings"
            raise SettingsError(f"{path}: there is no setting '{key}'{hint}")
    return found


def load(
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    config: Path | None = None,
    running: Mapping[str, Any] | None = None,
) -> LoadedSettings:
    """The settings in force.

    Args:
        flags: what the command line gave; None where it gave nothing.
        environ: the environment.
        config: a settings file; by default `riverwatch.toml` where there is one.
        running: what a running `riverwatch up` offers.

    Raises:
        SettingsError: a value, key or file that cannot be used.
    """
    path = config or Path(environ.get(PREFIX + "CONFIG", CONFIG_FILE))
    from_file = _read_toml(path) if config or path.exists() else {}
    for old, new in RENAMED.items():
        if (variable := PREFIX + old.upper()) in environ:
            raise SettingsError(f"{variable}: the variable is named {PREFIX + new.upper()} now: rename it")
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name in FIELDS:
        variable = PREFIX + name.upper()
        if flags.get(name) is not None:
            value, source = flags[name], "flag"
        elif variable in environ:
            value, source = environ[variable], f"environment {variable}"
        elif name in from_file:
            value, source = from_file[name], str(path)
        elif running and name in running:
            value, source = running[name], "running `riverwatch up`"
        else:
            sources[name] = "default"
            continue
        values[name] = _convert(name, value, source)
        sources[name] = source
    settings = Settings(**values)
    if why := redis_url_problem(settings.redis_url):
        raise SettingsError(f"redis_url = (hidden) ({sources['redis_url']}): {why}")
    if why := why_not(settings.model, to_serve=True):
        raise SettingsError(f"model = {settings.model!r} ({sources['model']}): {why}")
    settings.custom_classes()
    if settings.decision_log == "disk" and not settings.features_in_scores:
        raise SettingsError(
            f"decision_log = disk ({sources['decision_log']}) is filled from the topic scores, and "
            f"features_in_scores = False ({sources['features_in_scores']}) leaves out what it has to hold"
        )
    if settings.decline_share > settings.review_share:
        raise SettingsError(
            f"decline_share = {settings.decline_share:g} ({sources['decline_share']}): it is part of "
            f"review_share = {settings.review_share:g} ({sources['review_share']}): set it no higher"
        )
    return LoadedSettings(settings, sources)


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Variables that look like settings and are none: for each a line that names the nearest.

    >>> unknown_variables({"RIVERWATCH_REDIS_ULR": "redis://"})
    ['there is no setting RIVERWATCH_REDIS_ULR; did you mean RIVERWATCH_REDIS_URL?']
    """
    known = {PREFIX + name.upper() for name in (*FIELDS, *RENAMED)} | {PREFIX + name for name in OTHERS}
    lines = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known and not name.startswith(PREFIX + "TEST_"):
            near = difflib.get_close_matches(name, known, n=1)
            lines.append(f"there is no setting {name}" + (f"; did you mean {near[0]}?" if near else ""))
    return lines


def shown(loaded: LoadedSettings) -> list[tuple[str, str, str]]:
    """Name, value and source of each setting, secrets hidden."""
    rows = []
    for name in FIELDS:
        value = getattr(loaded.settings, name)
        if isinstance(value, Secret):
            text = "(hidden)" if value else "(not set)"
        elif name == "redis_url":
            text = without_password(value)
        elif isinstance(value, Duration):
            text = f"{float(value):g}s"
        else:
            text = str(value)
        rows.append((name, text, loaded.sources[name]))
    return rows
