"""An experiment over an installation's own topics finds what one over the same payments in a file finds."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from infra.services import EmbeddedKafka, free_port
from models.features.spec import DEFAULT_SPEC
from producers.sources.open_source import SourceError
from stream.adapters.kafka.client import confluent
from stream.adapters.kafka.scan import TopicUnreadableError, bounds_of, read_spans
from stream.cli.main import riverwatch
from stream.config.settings import Settings, load
from stream.experiment.measures.results import Experiment, without_time
from stream.experiment.run import Plan, run_experiment
from stream.experiment.topics.range import fields_missing, find_range
from stream.messages import Label, Transaction, encode
from tests.support.builders import decision
from tests.support.experiment_topics import (
    A_DAY,
    DAYS,
    PARTITIONS,
    PLAIN,
    START,
    Topics,
    figures,
    items_of,
    of_topics,
    payments_file,
    shuffled,
)
from tests.support.services import KafkaUnderTest, MakeTopics, Unique, create_topics

SPEC = """crosses = []
[[entities]]
kind = "card"
fields = ["card_id"]
statistics = ["norm", "activity", "labels"]
[[entities]]
kind = "merchant"
fields = ["merchant_id"]
statistics = ["norm", "tempo", "labels"]
"""

Make = Callable[..., "Topics"]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(tmp_path_factory.mktemp("broker")) as service:
        yield service


@pytest.fixture
def make(broker: EmbeddedKafka, unique: Unique) -> Make:
    def made(**changed: object) -> Topics:
        prefix = f"{unique('past')}-"
        values = {
            "kafka_bootstrap": broker.bootstrap,
            "topic_prefix": prefix,
            "partitions": PARTITIONS,
            "maturity": "60d",
            **changed,
        }
        parts = {"transactions": PARTITIONS, "scores": PARTITIONS, "labels": 1}
        create_topics(broker.bootstrap, {prefix + name: count for name, count in parts.items()})
        return Topics(load(values, {}).settings)

    return made


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return payments_file(tmp_path_factory.mktemp("file"))


@pytest.fixture(scope="module")
def of_file(file: tuple[Path, Path]) -> Experiment:
    return run_experiment(Plan(data=str(file[0]), schema=file[1], **PLAIN))


def run(topics: Topics, *arguments: str) -> Result:
    return CliRunner().invoke(
        riverwatch,
        [
            *(
                "experiment",
                "--topics",
                "--bootstrap",
                "0",
                "--negative-sampling-rate",
                "0.5",
                "--maturity",
                "60d",
            ),
            *("--kafka-bootstrap", topics.settings.kafka_bootstrap),
            *("--topic-prefix", topics.settings.topic_prefix),
            *arguments,
        ],
    )


def test_topics_give_the_figures_of_the_file_whatever_the_order_of_publishing(
    make: Make, file: tuple[Path, Path], of_file: Experiment
) -> None:
    items = items_of(file)
    topics = make()
    topics.publish(shuffled([each for each in items if isinstance(each, Transaction)], 60))
    topics.publish(shuffled([each for each in items if isinstance(each, Label)], 60))
    assert of_file.models["default"].frauds > 20
    assert figures(of_topics(topics)) == figures(of_file)


def test_what_workers_refuse_and_what_comes_twice_is_counted_and_changes_no_figure(
    make: Make, file: tuple[Path, Path], of_file: Experiment
) -> None:
    items = items_of(file)
    topics = make()
    payment = next(each for each in items if isinstance(each, Transaction))
    topics.send("transactions", None, encode(payment))
    topics.send("transactions", b"x", b"{")
    topics.send("transactions", b"x", encode(payment))
    ahead = msgspec.structs.replace(payment, event_time=datetime(2190, 1, 1, tzinfo=UTC), transaction_id="f")
    topics.send("transactions", ahead.card_id.encode(), encode(ahead))
    topics.send("labels", b"x", b"[]")
    topics.publish(items)
    topics.publish([payment, payment])
    unknown = Label(transaction_id="nobody", is_fraud=True, known_at=START, source="bank")
    topics.publish([unknown, *(each for each in items[-300:] if isinstance(each, Label))])
    found = of_topics(topics)
    assert figures(found) == figures(of_file)
    told = "\n".join(found.account.lines)
    for what in (
        "1 messages discarded: null_key",
        "1 messages discarded: not_json",
        "1 messages discarded: key_mismatch",
        "1 messages discarded: future_time",
        f"2 payments discarded: their id had come before (first {payment.transaction_id})",
        "1 messages discarded: invalid (first " + topics.settings.topic("labels/0@0"),
        "1 labels left out: their payment is not in the range",
        "labels said what was known",
    ):
        assert what in told
    assert (found.account.duplicates, found.account.unmatched_labels) == (2, 1)


def test_a_run_names_the_offsets_with_which_it_can_be_made_again(
    make: Make, file: tuple[Path, Path], tmp_path: Path
) -> None:
    items = items_of(file)
    topics = make()
    topics.publish(items[: len(items) // 2])
    one, two, page = tmp_path / "one.json", tmp_path / "two.json", tmp_path / "page.html"
    begin = ("--evaluate-from", "2026-01-06")
    first = run(topics, *begin, "--json", str(one), "--report", str(page))
    assert first.exit_code == 0, first.output
    topics.publish(items[len(items) // 2 :])
    told = json.loads(one.read_bytes())["settings"]
    spans = told["topics"][topics.settings.topic("transactions")]
    assert sum(high - low for low, high in spans.values()) < DAYS * A_DAY
    again = run(topics, *begin, *told["again"], "--json", str(two))
    assert again.exit_code == 0, again.output
    both = [without_time(json.loads(each.read_bytes())) for each in (one, two)]
    assert both[0] == both[1]
    assert shlex.join(told["again"]) in page.read_text()
    third = tmp_path / "three.json"
    assert run(topics, *begin, "--json", str(third)).exit_code == 0
    assert without_time(json.loads(third.read_bytes())) != both[0]


def test_times_choose_the_payments_that_a_file_of_them_holds(
    make: Make, file: tuple[Path, Path], tmp_path: Path
) -> None:
    topics = make()
    topics.publish(items_of(file))
    part = payments_file(tmp_path, first=2 * A_DAY, last=10 * A_DAY)
    found = of_topics(topics, start=START + timedelta(days=2), end=START + timedelta(days=10))
    assert figures(found) == figures(run_experiment(Plan(data=str(part[0]), schema=part[1], **PLAIN)))


def test_a_change_put_into_topics_is_that_put_into_the_file(make: Make, file: tuple[Path, Path]) -> None:
    topics = make()
    topics.publish(items_of(file))
    changed = {**PLAIN, "inject": ("frauds.amount*0.3 @ 2026-01-13",)}
    found, wanted = (
        of_topics(topics, **changed),
        run_experiment(Plan(data=str(file[0]), schema=file[1], **changed)),
    )
    assert (figures(found), found.injected) == (figures(wanted), wanted.injected)
    assert found.injected is not None
    assert found.injected.changed > 3


def test_payments_that_nobody_reported_are_measured_as_genuine_where_the_horizon_has_passed(
    make: Make, file: tuple[Path, Path]
) -> None:
    items = [each for each in items_of(file) if isinstance(each, Transaction) or each.is_fraud]
    topics = make(maturity="4d")
    topics.publish(items)
    found = of_topics(topics, negative_sampling_rate=1.0)
    assert (found.evaluated_from, found.evaluated_to) == ("2026-01-12", "2026-01-13")
    frauds = {each.transaction_id for each in items if isinstance(each, Label)}
    measured = [
        each
        for each in items
        if isinstance(each, Transaction) and each.event_time >= START + timedelta(days=7)
        if each.event_time < START + timedelta(days=8)
    ]
    one = found.models["default"]
    assert one.transactions == len(measured)
    assert one.frauds == sum(each.transaction_id in frauds for each in measured)
    assert any("measured until 2026-01-13" in line for line in found.account.lines)


def test_a_range_of_which_nothing_can_be_measured_says_what_to_do(
    make: Make, file: tuple[Path, Path]
) -> None:
    topics = make()
    topics.publish([each for each in items_of(file) if isinstance(each, Transaction)])
    result = run(topics)
    assert result.exit_code == 1
    assert "--maturity" in result.output


def test_decisions_give_the_figures_of_their_payments(
    make: Make, file: tuple[Path, Path], tmp_path: Path
) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text(SPEC)
    items = items_of(file)
    topics = make()
    topics.publish(items)
    for offset, each in enumerate(each for each in items if isinstance(each, Transaction)):
        for _ in range(1 + (offset % 5 == 0)):
            topics.send(
                "scores",
                each.card_id.encode(),
                encode(decision(each, model_version="default@0", origin=(0, offset))),
            )
    topics.send("scores", b"x", b"junk")
    topics.flush()
    decided = of_topics(topics, features=spec, events="scores")
    assert figures(decided) == figures(of_topics(topics, features=spec))
    assert decided.account.duplicates == DAYS * A_DAY / 5
    assert any("1 messages discarded: invalid" in line for line in decided.account.lines)


def test_decisions_that_do_not_tell_what_features_need_are_refused(make: Make) -> None:
    topics = make()
    topics.send("scores", b"x", b"junk")
    topics.flush()
    result = run(topics, "--events", "scores")
    assert result.exit_code == 1
    assert "a decision does not tell latitude, longitude" in result.output
    assert fields_missing(DEFAULT_SPEC, DEFAULT_SPEC) == ["latitude", "longitude"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "the range has no message: the topic is empty"),
        (("--offsets", "transactions=0:1"), "has 3 partitions, and 1 are named"),
        (("--offsets", "transactions=0:5,0:0,0:0"), "holds 0:0 now, and 0:5 is asked for"),
        (("--offsets", "nonsense"), "write TOPIC=LOW:HIGH"),
        (("--from", "2026-02-01", "--to", "2026-01-01"), "--to: it must lie after --from"),
        (("payments.csv",), "--topics and DATA do not go together"),
        (("--label-delay", "2d"), "--topics and --label-delay do not go together"),
    ],
)
def test_a_range_that_cannot_be_read_is_refused_in_one_line(
    make: Make, arguments: tuple[str, ...], said: str
) -> None:
    result = run(make(), *arguments)
    assert result.exit_code in (1, 2)
    assert said in result.output


def test_options_of_topics_without_topics_are_refused() -> None:
    result = CliRunner().invoke(riverwatch, ["experiment", "simulated:100", "--from", "2026-01-01"])
    assert "go with --topics" in result.output
    assert "name DATA, or --topics" in CliRunner().invoke(riverwatch, ["experiment"]).output


def test_a_missing_topic_and_a_silent_broker_are_said(make: Make) -> None:
    settings = make().settings
    elsewhere = msgspec.structs.replace(settings, topic_prefix="elsewhere-")
    with pytest.raises(TopicUnreadableError, match="has no topic elsewhere-transactions"):
        find_range(elsewhere)
    nowhere = confluent(msgspec.structs.replace(settings, kafka_bootstrap=f"127.0.0.1:{free_port()}"))
    with pytest.raises(TopicUnreadableError, match="did not give topic transactions"):
        bounds_of(nowhere, "transactions", patience=1.0)


def test_progress_goes_over_the_messages_of_the_range(make: Make, file: tuple[Path, Path]) -> None:
    topics = make()
    topics.publish([each for each in items_of(file) if isinstance(each, Transaction)])
    topics.publish([Label(transaction_id="p1", is_fraud=True, known_at=START, source="bank")] * 3000)
    seen: list[tuple[int, int | None]] = []
    plan = Plan(data="topic", topics=find_range(topics.settings), **PLAIN)
    with pytest.raises(SourceError):
        run_experiment(plan, progress=lambda _stage, done, total, _at: seen.append((done, total)))
    assert {total for _, total in seen} == {DAYS * A_DAY}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def read_in_turns(settings: Settings, topic: str) -> dict[int, list[int]]:
    """Offsets as they come where partitions take turns, so that the others have to wait."""
    spans = bounds_of(confluent(settings), topic)
    turns, found = 0, {number: list[int]() for number in spans}

    def wanted() -> set[int]:
        nonlocal turns
        turns += 1
        return {turns // 2 % len(spans)}

    for batch in read_spans(confluent(settings), topic, spans, wanted=wanted):
        for record in batch:
            found[record.partition].append(record.offset)
    return found


@pytest.mark.guarantee
def test_partitions_that_are_told_to_wait_are_read_once_and_whole(
    kafka: KafkaUnderTest, make_topics: MakeTopics, unique: Unique
) -> None:
    topic, count = unique("waits"), 30_000
    make_topics({topic: PARTITIONS})
    settings = load({"kafka_bootstrap": kafka.bootstrap}, {}).settings
    topics = Topics(settings)
    for number in range(count):
        topics.send(topic, b"%d" % number, b"x" * 200)
    topics.flush()
    found = read_in_turns(settings, topic)
    assert sum(map(len, found.values())) == count
    assert all(offsets == list(range(len(offsets))) for offsets in found.values())


@pytest.mark.guarantee
def test_a_real_kafka_gives_the_figures_of_the_file(
    kafka: KafkaUnderTest,
    make_topics: MakeTopics,
    unique: Unique,
    file: tuple[Path, Path],
    of_file: Experiment,
    tmp_path: Path,
) -> None:
    prefix = f"{unique('past')}-"
    make_topics({f"{prefix}transactions": PARTITIONS, f"{prefix}labels": 1})
    values = {"kafka_bootstrap": kafka.bootstrap, "topic_prefix": prefix, "maturity": "60d"}
    topics = Topics(load(values, {}).settings)
    topics.publish(shuffled(items_of(file), 60), in_time=True)
    assert figures(of_topics(topics)) == figures(of_file)

    start = START + timedelta(days=8)
    ranged = find_range(topics.settings, start=start)
    assert A_DAY * 4 < ranged.records < A_DAY * 5, "what came before is not read"
    part = payments_file(tmp_path, first=8 * A_DAY)
    of_part = run_experiment(Plan(data=str(part[0]), schema=part[1], **PLAIN))
    assert figures(run_experiment(Plan(data="topic", topics=ranged, **PLAIN))) == figures(of_part)
    with pytest.raises(SourceError, match="holds nothing from"):
        find_range(topics.settings, start=START + timedelta(days=99))
