"""Settings: who wins, what is hidden, and what is said of what cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from stream.cli.main import riverwatch
from stream.config.settings import (
    FIELDS,
    RENAMED,
    Duration,
    LoadedSettings,
    Settings,
    SettingsError,
    description,
    load,
    seconds,
    shown,
    unknown_variables,
)

KEY = "6b" * 32


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "riverwatch.toml"


def loaded(toml: str, file: Path, environ: dict[str, str] | None = None, **flags: object) -> LoadedSettings:
    file.write_text(toml, encoding="utf-8")
    return load(flags, environ or {}, config=file)


def refusal(toml: str, file: Path, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        loaded(toml, file, environ)
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_the_nearest_source_wins(file: Path) -> None:
    name, variable = "kafka_bootstrap", "RIVERWATCH_KAFKA_BOOTSTRAP"
    running = {name: "running:1"}
    sources: list[tuple[str, str]] = []
    for flags, environ, toml, offered in (
        ({name: "flag:1"}, {variable: "env:1"}, f'{name} = "file:1"', running),
        ({name: None}, {variable: "env:1"}, f'{name} = "file:1"', running),
        ({}, {}, f'{name} = "file:1"', running),
        ({}, {}, "", running),
        ({}, {}, "", None),
    ):
        file.write_text(toml, encoding="utf-8")
        found = load(flags, environ, config=file, running=offered)
        sources.append((found.settings.kafka_bootstrap, found.sources[name]))
    assert sources == [
        ("flag:1", "flag"),
        ("env:1", f"environment {variable}"),
        ("file:1", str(file)),
        ("running:1", "running `riverwatch up`"),
        ("127.0.0.1:9092", "default"),
    ]


def test_every_setting_has_a_source_and_a_meaning(file: Path) -> None:
    found = loaded("", file)
    assert set(found.sources) == set(FIELDS)
    assert found.settings == Settings()
    assert all(description(name) for name in FIELDS)


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("partitions = 3", encoding="utf-8")
    assert load({}, {"RIVERWATCH_CONFIG": str(other)}).settings.partitions == 3


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.toml: No such file"):
        load({}, {}, config=tmp_path / "gone.toml")


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load({}, {}).settings == Settings()
    (tmp_path / "riverwatch.toml").write_text("partitions = 2", encoding="utf-8")
    assert load({}, {}).settings.partitions == 2


# ---- durations


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250ms", 0.25),
        ("3s", 3.0),
        ("2m", 120.0),
        ("1.5h", 5400.0),
        ("7d", 604_800.0),
        ("2w", 1_209_600.0),
        (" 5 s ", 5.0),
        ("10", 10.0),
        (10, 10.0),
        (0.5, 0.5),
    ],
)
def test_durations_have_units(text: str | float, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "soon", "-5s", "5 parsecs", "1e3s", "s", "9" * 400, -1, 10**400, float("nan"), float("inf"), True],
)
def test_what_is_no_duration_is_refused(text: str | float) -> None:
    with pytest.raises(ValueError, match="is no duration: write a number"):
        seconds(text)


@given(st.integers(0, 10**9), st.sampled_from(["s", "m", "h", "d", "w"]))
def test_a_duration_reads_the_same_from_text_and_from_seconds(number: int, unit: str) -> None:
    of_one = seconds(f"1{unit}")
    assert seconds(f"{number}{unit}") == number * of_one


def test_a_duration_may_come_from_anywhere(file: Path) -> None:
    assert loaded('maturity = "30d"', file).settings.maturity == 30 * 86_400.0
    assert loaded("maturity = 60", file).settings.maturity == 60.0
    from_environment = loaded("", file, {"RIVERWATCH_MATURITY": "2h"}).settings.maturity
    assert from_environment == 7200.0
    assert isinstance(from_environment, Duration)


# ---- what cannot be used


def test_a_typo_is_told_with_the_nearest_name(file: Path) -> None:
    assert refusal('kafka_botstrap = "x"', file).endswith(
        "there is no setting 'kafka_botstrap'; did you mean kafka_bootstrap?"
    )
    assert refusal("zzz = 1", file).endswith("`riverwatch config` lists the settings")


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("partitions = 0", "partitions = 0 ("),
        ("partitions = 2.5", "Expected `int`, got `float`"),
        ("partitions = true", "Expected `int`, got `bool`"),
        ('maturity = "soon"', "is no duration: write a number"),
        ("maturity = -1", "is no duration"),
        ("maturity = nan", "is no duration"),
        ("maturity = [1]", "is no duration"),
        ('log_level = "loud"', "one of DEBUG, INFO, WARNING, ERROR"),
        ("review_share = 1.5", "Expected `float` < 1.0"),
        ("review_share = 0.01\ndecline_share = 0.02", "decline_share = 0.02"),
        ("partitions =", "riverwatch.toml: "),
    ],
)
def test_a_value_that_cannot_be_used_is_told_in_one_line_with_its_source(
    file: Path, toml: str, said: str
) -> None:
    told = refusal(toml, file)
    assert said in told
    assert str(file) in told


def test_a_wrong_variable_is_told_by_its_name(file: Path) -> None:
    told = refusal("", file, {"RIVERWATCH_SHARDS": "many"})
    assert told.startswith("shards = 'many' (environment RIVERWATCH_SHARDS)")


# ---- secrets


def test_secrets_are_never_shown(file: Path) -> None:
    environ = {
        "RIVERWATCH_MODEL_KEY": KEY,
        "RIVERWATCH_KAFKA_SASL_PASSWORD": "hush",
        "RIVERWATCH_REDIS_URL": "rediss://me:p@ss:w%2Frd@cache.example:6379/0?password=hush&db=1",
    }
    rows = {name: text for name, text, _ in shown(loaded("", file, environ))}
    assert rows["model_key"] == rows["kafka_sasl_password"] == "(hidden)"
    assert rows["redis_url"] == "rediss://me:(hidden)@cache.example:6379/0?password=(hidden)&db=1"
    assert {name: text for name, text, _ in shown(loaded("", file))}["model_key"] == "(not set)"


@pytest.mark.parametrize(
    "secret", ["se#cret", "se[cret", "se]cret", "se/cret", "se?cret", "12#cret", "12/cret"]
)
def test_a_redis_url_that_is_read_in_two_ways_is_refused_and_no_part_is_shown(
    file: Path, secret: str
) -> None:
    told = refusal("", file, {"RIVERWATCH_REDIS_URL": f"redis://user:{secret}@cache.example:6379/0"})
    assert "RIVERWATCH_REDIS_URL" in told
    assert "%23 for #, %5B and %5D for [ and ]" in told
    for part in ("user:", "cret", "cache.example"):
        assert part not in told


@pytest.mark.parametrize(
    "url", ["http://cache", "cache:6379", "redis://cache:port/0", "redis://cache:6379/zero", ""]
)
def test_what_is_no_redis_url_is_refused(file: Path, url: str) -> None:
    assert "redis://USER:PASSWORD@HOST:PORT/NUMBER" in refusal("", file, {"RIVERWATCH_REDIS_URL": url})


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis+cluster://:secret@cache:7000",
        "rediss://u:p%23@[::1]:6379/2?ssl_ca_certs=/etc/ca.pem",
        "unix://u:p@/run/redis.sock?db=1",
        "redis://cache:6379/0?password=a/b",
    ],
)
def test_every_form_of_a_redis_url_is_taken(file: Path, url: str) -> None:
    assert loaded("", file, {"RIVERWATCH_REDIS_URL": url}).settings.redis_url == url


def test_an_address_without_a_password_is_shown_whole(file: Path) -> None:
    for url in ("redis://127.0.0.1:6379/0", "redis://cache:6379", "unix:///run/redis.sock"):
        rows = {name: text for name, text, _ in shown(loaded("", file, {"RIVERWATCH_REDIS_URL": url}))}
        assert rows["redis_url"] == url


def test_a_wrong_secret_is_not_told(file: Path) -> None:
    told = refusal('model_key = ["hush"]', file)
    assert "hush" not in told
    assert "(hidden)" in told


def test_topics_and_groups_carry_their_prefix() -> None:
    settings = Settings(topic_prefix="eu.", group_prefix="fraud")
    assert (settings.topic("scores"), settings.group("score")) == ("eu.scores", "fraud-score")


# ---- a setting under the name it had


@pytest.mark.parametrize(("old", "new"), list(RENAMED.items()))
def test_a_setting_under_its_old_name_is_refused_with_the_new_one(file: Path, old: str, new: str) -> None:
    assert refusal(f"{old} = 0.5", file).endswith(f"the setting '{old}' is named '{new}' now: rename it")
    variable, renamed = f"RIVERWATCH_{old.upper()}", f"RIVERWATCH_{new.upper()}"
    assert (
        refusal("", file, {variable: "0.5"}) == f"{variable}: the variable is named {renamed} now: rename it"
    )
    assert unknown_variables({variable: "0.5"}) == [], "it is refused, and not told twice"


@pytest.mark.parametrize("command", ["learn", "rebuild", "experiment"])
def test_a_flag_under_its_old_name_is_refused_with_the_new_one(command: str) -> None:
    for old, new in RENAMED.items():
        flag, renamed = ("--" + name.replace("_", "-") for name in (old, new))
        done = CliRunner().invoke(riverwatch, [command, flag, "0.5"])
        assert (done.exit_code, done.stdout) == (2, "")
        assert f"{flag}: the flag is named {renamed} now: rename it" in done.stderr
